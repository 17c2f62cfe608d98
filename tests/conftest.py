"""Settings of every test: float64 at hand, no silent rank promotion, full matmul precision, shapes checked."""

import gc
import os
from collections import Counter
from importlib.metadata import version

# Before jax is first used: devices for the sharding tests, and machine code that is compiled faster than it runs, since
# the tests compile thousands of programs and run each once: in one piece, for splitting a program to compile it on many
# threads takes more time than compiling it. XLA's own passes stay as they are. XLA aborts at a flag that it does not
# know, hence the version beside those that are internal.
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "4")
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    + (
        " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
        if version("jaxlib") == "0.10.2"
        else ""
    ),
)

import sys

import jax
from jaxtyping import install_import_hook

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "highest")

# The modules whose rules are annotated with shapes. The others' arguments are users': there our own errors speak.
ANNOTATED = [
    "activations",
    "losses._loss",
    "losses._named",
    *(f"connections.{kind}" for kind in ("_bias", "_dense", "_identity", "_scale")),
]
with install_import_hook([f"jaxbp.{name}" for name in ANNOTATED], "beartype.beartype"):
    import jaxbp  # noqa: F401

unknown = [name for name in ANNOTATED if f"jaxbp.{name}" not in sys.modules]
assert not unknown, f"the hook looked for modules that are gone: {unknown}"


def pytest_configure(config):
    config.option.loadscopereorder = False  # by the order below


def pytest_collection_modifyitems(items):
    """What clears all that JAX keeps comes first, then the files with most tests: one worker runs all of a file."""
    sizes = Counter()
    for item in items:
        many = item.path.suffix == ".md" or getattr(getattr(item, "function", None), "is_hypothesis_test", False)
        sizes[item.path] += 30 if many else 1
    clear = {item.path for item in items if item.get_closest_marker("clears_what_jax_keeps")}
    items.sort(key=lambda item: (item.path not in clear, -sizes[item.path], item.path))


def pytest_collection_finish():
    gc.freeze()  # modules stay, so that no collection has to walk through them
    gc.set_threshold(1000, 10, 100)  # programs stay too, and most of what is collected among them is little
