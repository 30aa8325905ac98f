"""GPUs of one server among those of its machine."""

from __future__ import annotations

import pytest

from console.core.gpuchoice import chosen, visible_to
from tests.fakes.backend import gpus

EIGHT = gpus(8)


@pytest.mark.parametrize(
    ("visible", "left"),
    [
        (None, range(8)),
        ("4,5,6,7", range(4, 8)),
        ("7, 2", (2, 7)),
        ("0,1,x,3", (0, 1)),
        ("GPU-3,GPU-5", (3, 5)),
        ("MIG-1-2", range(8)),
        ("", range(8)),
    ],
)
def test_what_cuda_leaves(visible: str | None, left: object) -> None:
    assert [gpu.index for gpu in chosen(EIGHT, visible)] == list(left)  # type: ignore[call-overload]


def test_the_profile_counts_before_the_shell() -> None:
    assert visible_to({"CUDA_VISIBLE_DEVICES": "1"}, {"CUDA_VISIBLE_DEVICES": "2"}) == "1"
    assert visible_to({}, {"CUDA_VISIBLE_DEVICES": "2"}) == "2"
    assert visible_to({}, {}) is None
