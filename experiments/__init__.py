"""What is made with jaxbp: the chapter's claims, benchmarks and tools, and what they share in `common`."""

from pathlib import Path

# `python -m experiments.NAME` runs NAME from whichever folder it is in; code imports it by its real path
__path__ += [str(Path(__file__).parent / folder) for folder in ("claims", "benchmarks", "tools")]
