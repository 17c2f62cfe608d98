"""How the documentation is built: `make docs`, offline, with every warning an error."""

import hashlib
import os
import shutil
import sys
from pathlib import Path

import jaxbp

HERE = Path(__file__).parent
SOURCE = HERE.parent / "jaxbp"
BUILT = HERE.parent / "build" / "docs"
sys.path.insert(0, str(HERE / "_sphinx"))
# examples are run from a checkout: the same jaxbp, and `python -m experiments`, in the processes that execute them
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
os.environ["JAX_PLATFORMS"] = "cpu"

project = "jaxbp"
version = release = jaxbp.__version__
html_title = f"jaxbp {version}"
root_doc = "index"
exclude_patterns = ["_sphinx", "_static"]
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "myst_nb",
    "reference",
    "mathml",
    "made",
    "source",
]

# What was executed is kept for as long as neither the page nor the library has changed.
_sources = sorted(path for path in SOURCE.rglob("*") if path.suffix in {".py", ".css", ".js", ".toml"})
SOURCES_DIGEST = hashlib.sha256(b"".join(path.read_bytes() for path in _sources)).hexdigest()[:16]
for kept in [*BUILT.glob("executed-*"), *BUILT.glob("made-*")]:
    if not kept.name.endswith(SOURCES_DIGEST):
        shutil.rmtree(kept)
# and whoever builds has no part in it: kernels have a profile of their own, which says only what goes wrong
_profile = BUILT / "ipython" / "profile_default"
_profile.mkdir(parents=True, exist_ok=True)
(_profile / "ipython_kernel_config.py").write_text("c.IPKernelApp.log_level = 'ERROR'\n", encoding="utf-8")
os.environ["IPYTHONDIR"] = str(_profile.parent)
nb_execution_mode = "cache"
nb_execution_cache_path = str(BUILT / f"executed-{SOURCES_DIGEST}")
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_execution_in_temp = True
nb_mime_priority_overrides = [("html", "text/html", 0)]
nb_ipywidgets_js = {}  # nothing is loaded from elsewhere
nb_merge_streams = True
made_folder = str(BUILT / f"made-{SOURCES_DIGEST}")

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
maximum_signature_line_length = 88
python_display_short_literal_types = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_attr_annotations = False
toc_object_entries_show_parents = "hide"

# `name` in a docstring is a link where there is such a thing, and code where there is none.
default_role = "py:obj"
smartquotes_action = "D"  # dashes alone: Φ' is no apostrophe
nitpicky = True
nitpick_ignore_regex = [
    ("py:obj", r"(?s).*"),
    # what belongs to others, or is an alias whose meaning the text says, has no page here
    ("py:.*", r"(?!jaxbp\.).*"),
    ("py:.*", r"jaxbp\..*\._.*"),
    ("py:.*", r"jaxbp\._.*"),
]

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
copybutton_exclude = ".linenos, .gp, .go"
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True
pygments_style = "friendly"
pygments_dark_style = "github-dark"
