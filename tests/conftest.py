"""Settings of every test: float64 at hand, no silent rank promotion, full matmul precision, shapes checked."""

import os

os.environ.setdefault("JAX_NUM_CPU_DEVICES", "4")  # for the sharding tests, before jax is first used

import jax
from jaxtyping import install_import_hook

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "highest")

# The modules whose rules are annotated with shapes. The others' arguments are users': there our own errors speak.
with install_import_hook(["jaxbp._activations", "jaxbp._connections", "jaxbp._losses"], "beartype.beartype"):
    import jaxbp  # noqa: F401
