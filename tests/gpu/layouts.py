"""The parts of `python -m tests.gpu.flash`: one shipped profile each, served with dummy weights.

Separate from the steps, since predictions are made from the same rows on a machine without a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from console.core.overrides import apply_overrides
from console.core.profile import Profile
from console.core.profile_read import read_profile
from tests.gpu import models

__all__ = ["LAYOUTS", "WITHOUT_MULTICAST", "Layout", "changes", "shipped"]

PROFILES = Path(__file__).parents[2] / "profiles"


class Layout(NamedTuple):
    """One part."""

    key: str
    """Number of GPUs and how the model is spread over them."""
    profile: str
    shape: str = "v4-flash"
    starts: bool = True
    """What the profile and the failure catalogue say of it."""
    is_default: bool = True
    """Done where no parts are named."""
    spread: int | None = None
    """Tensor parallel ranks in place of the profile's: as much of its settings as fewer GPUs can show."""

    @property
    def gpus(self) -> int:
        """As many as the profile is for."""
        return int(self.key.partition("-")[0])


LAYOUTS: dict[str, Layout] = {
    row.key: row
    for row in (
        Layout("2-tp", "2xh200-native-v4-flash"),
        Layout("2-dep", "2xh200-native-v4-flash-dep"),
        Layout("2-pro-cut", "8xh200-native-v4-pro", "v4-pro-for-two-cut", is_default=False, spread=2),
        Layout("4-tep", "4xh200-fp8-v4-flash"),
        Layout("4-dep", "4xh200-native-v4-flash-dep"),
        Layout("4-tp", "4xh200-native-v4-flash-tp"),
        Layout("8-tep", "8xh200-native-v4-flash"),
        Layout("8-dep", "8xh200-native-v4-flash-dep"),
        Layout("8-tp", "8xh200-native-v4-flash-tp"),
        Layout("8-pro-cut", "8xh200-native-v4-pro", "v4-pro-cut"),
        Layout("8-pro", "8xh200-native-v4-pro", "v4-pro", is_default=False),
        Layout("8-pro-dep", "8xh200-native-v4-pro-dep", "v4-pro", starts=False, is_default=False),
    )
}
"""By key: `tp` tensor parallel, `tep` with expert parallel, `dep` data parallel attention with expert parallel."""

WITHOUT_MULTICAST: Mapping[str, str] = {
    "NCCL_NVLS_ENABLE": "0",
    "NVSHMEM_DISABLE_NVLS": "1",
    "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1",
    "VLLM_ALLREDUCE_USE_FLASHINFER": "0",
    "VLLM_ALLREDUCE_USE_SYMM_MEM": "0",
    "VLLM_FLASHINFER_ALLREDUCE_BACKEND": "trtllm",
    "VLLM_USE_NCCL_SYMM_MEM": "0",
}
"""Keeps every library that vLLM 0.26 uses from NVLink multicast: NCCL, NVSHMEM, PyTorch, and FlashInfer's `mnnvl`."""


def shipped(layout: Layout) -> Profile:
    """The profile as it is in the repository, on the layout's GPUs."""
    profile = read_profile((PROFILES / f"{layout.profile}.toml").read_text(encoding="utf-8"), layout.profile)
    return apply_overrides(profile, spread(layout))


def spread(layout: Layout) -> dict[str, Any]:
    """What puts a profile on fewer GPUs than it is for."""
    if layout.spread is None:
        return {}
    return {"hardware.count": layout.gpus, "serve.tensor_parallel_size": layout.spread}


def changes(layout: Layout, directory: Path) -> dict[str, Any]:
    """What `--set` must change of the profile: the model's place, dummy weights, and a size where layers are cut."""
    found: dict[str, Any] = {"model.id": str(directory), "serve.load_format": "dummy", **spread(layout)}
    if layout.shape.endswith("-cut"):
        # A table of known models would take it for the whole one.
        found |= {"model.weights_gb": (models.weights_bytes(layout.shape) or 0) / 1e9}
    return found
