"""The commands of a checkout: `python -m experiments` lists what is in `jaxbp/experiments`, and `.NAME` runs one."""

from pathlib import Path

# The commands are part of the package, so that the wheel has them, and nothing else is called `experiments` there. Here
# their folders are this package's path, so that the names to type need neither the folder nor the package. Code
# imports by the real path: by this one a module would be there twice.
_HOUSE = Path(__file__).resolve().parents[1] / "jaxbp" / "experiments"
__path__ = [str(_HOUSE / folder) for folder in ("", "claims", "benchmarks", "tools")]
