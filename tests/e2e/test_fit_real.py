"""The predicted KV cache against the line that a real engine prints, for each kind of attention."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from console.core.fit import GIB
from console.core.fit.caches import CacheSettings, make_plan
from console.core.fit.config import architecture_from_config
from console.core.logparse import parse_line
from console.core.phases import PhaseTracker
from console.core.profile import EngineKind
from console.io.checkpoint import read_checkpoint
from console.io.tinymodel import make_model
from tests.e2e.world import READY_TIMEOUT_S, Headless, World, wait_for

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

CONTEXT = 1024
SHAPES = {
    "tiny-llama": (),
    "tiny-mla": (),
    # Its engine loads a V4 and cannot answer, so that it need not become ready here.
    "tiny-v4": ("serve.kv_cache_dtype=fp8", "serve.block_size=256"),
}


def facts(world: World, headless: Headless) -> Callable[[], Any]:
    """Tokens and concurrency as the log has them."""

    def check() -> Any:
        if headless.child.poll() is not None:
            raise AssertionError(f"it ended before it had a KV cache:\n{headless.said}")
        for log in world.runs.glob("*/server.log"):
            tracker = PhaseTracker()
            for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
                tracker.feed(parse_line(line))
            if tracker.facts.kv_cache_tokens is not None:
                return tracker.facts
        return None

    return check


NEEDS_AVX512 = pytest.mark.skipif(
    "avx512f" not in Path("/proc/cpuinfo").read_text(encoding="utf-8"),
    reason="vLLM 0.32 packs V4's weights by a kernel that its CPU build has for AVX-512 alone",
)


@pytest.mark.parametrize(
    "shape", [pytest.param(shape, marks=NEEDS_AVX512 if shape == "tiny-v4" else ()) for shape in SHAPES]
)
def test_the_prediction_is_what_the_engine_prints(shape: str, world: World, tmp_path: Path) -> None:
    folder = make_model(tmp_path / shape, shape)
    known = architecture_from_config(read_checkpoint(folder).config)
    plan = make_plan(
        known,
        CacheSettings(kv_dtype="fp8" if shape == "tiny-v4" else "auto", kind=EngineKind.CPU, steps_in_flight=1),
    )
    headless = world.headless(
        f"model.id={folder}", "model.architecture=", f"serve.max_model_len={CONTEXT}", *SHAPES[shape]
    )
    printed = wait_for("the size of the KV cache", facts(world, headless), READY_TIMEOUT_S)
    assert printed.kv_cache_tokens == plan.tokens(GIB, CONTEXT)
    assert printed.max_concurrency == pytest.approx(plan.concurrency(GIB, CONTEXT), abs=0.005)
    headless.interrupt()
    headless.interrupt()
    headless.wait_end()
