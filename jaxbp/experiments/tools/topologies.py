"""Accelerators that need not be there: what is compiled for, with whose compiler, and how much memory each has."""

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

GIBI = 2**30


@dataclass(frozen=True)
class Topology:
    """Devices that share the work.

    Attributes:
        platform: Whose compiler it takes, a key of `PLATFORMS`.
        shape: How the devices are arranged, as the compiler wants it.
        devices: How many there are.
        memory: Of each, in bytes, as the maker says; the program and the runtime leave a little less.
    """

    platform: str
    shape: str
    devices: int
    memory: int


@dataclass(frozen=True)
class Platform:
    """A compiler.

    Attributes:
        package: The module that it comes with.
        extra: What to install for it.
        environment: What has to be set before jax is imported, so that it looks for no device and no metadata server.
    """

    package: str
    extra: str
    environment: dict[str, str]


PLATFORMS = {
    "tpu": Platform(
        "libtpu",
        "tpu",
        {
            "TPU_SKIP_MDS_QUERY": "1",
            "TPU_WORKER_HOSTNAMES": "localhost",
            "TPU_ACCELERATOR_TYPE": "v5litepod-4",
            "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # the lock is for who runs on a TPU
        },
    ),
    "cuda": Platform("jax_cuda12_plugin", "cuda", {"CUDA_VISIBLE_DEVICES": ""}),
}

H100: dict[str, Any] = {
    "gpu_device_info": {
        "threads_per_block_limit": 1024,
        "threads_per_warp": 32,
        "shared_memory_per_block": 49152,
        "shared_memory_per_core": 233472,
        "shared_memory_per_block_optin": 232448,
        "threads_per_core_limit": 2048,
        "core_count": 132,
        "fpus_per_core": 128,
        "block_dim_limit_x": 2**31 - 1,
        "block_dim_limit_y": 65535,
        "block_dim_limit_z": 65535,
        "memory_bandwidth": 3_352_320_000_000,
        "l2_cache_size": 50 * 2**20,
        "clock_rate_ghz": 1.98,
        "device_memory_size": 84_942_979_072,
        "registers_per_core_limit": 65536,
        "registers_per_block_limit": 65536,
        "cuda_compute_capability": {"major": 9},
    },
    "platform_name": "CUDA",
    "dnn_version_info": {"major": 9, "minor": 10, "patch": 0},
    "device_description_str": "NVIDIA H100 80GB HBM3",
}
"""The card, in the words of XLA's `GpuTargetConfigProto`: with it no driver has to be asked."""

TOPOLOGIES = {
    "v5e:2x2": Topology("tpu", "v5e:2x2", 4, 16 * GIBI),
    "v5e:4x4": Topology("tpu", "v5e:4x4", 16, 16 * GIBI),
    "v6e:2x2": Topology("tpu", "v6e:2x2", 4, 32 * GIBI),
    "v5p:2x2x1": Topology("tpu", "v5p:2x2x1", 4, 95 * GIBI),
    "h100": Topology("cuda", "1x1x1", 1, H100["gpu_device_info"]["device_memory_size"]),
    "h100:4": Topology("cuda", "1x1x4", 4, H100["gpu_device_info"]["device_memory_size"]),
}


def installed(platform: str) -> bool:
    """Whether the compiler of a platform is there."""
    return importlib.util.find_spec(PLATFORMS[platform].package) is not None


def to_install(platform: str, asked: Iterable[str]) -> str:
    """What a platform lacks, and which of the topologies that were asked for it costs, in a sentence."""
    of = PLATFORMS[platform]
    return (
        f"{of.package} is not installed, so nothing is compiled for {', '.join(asked)}: pip install 'jaxbp[{of.extra}]'"
    )


def devices_of(topology: Topology) -> list[Any]:
    """The devices, which can be compiled for and not run on."""
    from jax.experimental import topologies

    if topology.platform == "tpu":
        return list(topologies.get_topology_desc(platform="tpu", topology_name=topology.shape).devices)
    card = {"target_config": textproto(H100), "topology": topology.shape}
    return list(topologies.get_topology_desc(platform="cuda", topology_name="h100", **card).devices)


def textproto(values: dict[str, Any]) -> str:
    """A dictionary in the text format of protocol buffers.

    Example:
        >>> textproto({"name": "card", "version": {"major": 9}})
        'name: "card" version { major: 9 }'
    """
    return " ".join(
        f"{name} {{ {textproto(value)} }}"
        if isinstance(value, dict)
        else f'{name}: "{value}"'
        if isinstance(value, str)
        else f"{name}: {value}"
        for name, value in values.items()
    )
