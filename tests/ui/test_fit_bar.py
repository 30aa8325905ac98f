"""The bar of weights, KV cache, reserve and free memory, as lines."""

from __future__ import annotations

from msgspec.structs import replace

from console.client.api import FitSummary
from console.core.models import Phase, PhaseTime, ServerState, ServerStatus
from console.tui.paint import line_width, plain
from console.tui.widgets.fit_bar import fit_lines
from console.tui.widgets.phases import phase_lines

FIT = FitSummary(
    weights_gib_per_gpu=40.0,
    kv_gib_per_gpu=80.0,
    reserve_gib_per_gpu=5.0,
    total_gib_per_gpu=140.0,
    kv_tokens=8_000_000,
    context=131_072,
    max_context=1_048_576,
    max_concurrency=12.4,
    verdict="fits",
)
USUAL = (PhaseTime(phase=Phase.CONFIG, seconds=10.0), PhaseTime(phase=Phase.WEIGHTS, seconds=30.0))


def said(fit: FitSummary, width: int = 78) -> list[str]:
    lines = fit_lines(fit, width, "4 × H200", True)
    assert all(line_width(line) <= width for line in lines)
    return [plain(line) for line in lines]


def test_concurrency_and_the_longest_context_stand_below_the_verdict() -> None:
    lines = said(FIT)
    assert lines[1] == "  12.4 requests of 131,072 tokens at once   longest context 1,048,576"
    assert "in each of 8 engines" in said(replace(FIT, engines=8, max_concurrency=250.4, max_context=None))[1]
    assert "250 requests" in said(replace(FIT, max_concurrency=250.4))[1]


def test_what_was_measured_here_is_said_before_the_bar() -> None:
    lines = said(replace(FIT, measured="measured here 2026-11-18 with vLLM 0.32.0: " + "figures, " * 12))
    assert lines[2].startswith("✓ measured here 2026-11-18")
    assert any("█" in line and "▓" in line for line in lines[3:6])


def test_the_bar_shows_what_is_missing() -> None:
    lines = said(replace(FIT, weights_gib_per_gpu=150.0, kv_gib_per_gpu=0.0, verdict="does not fit"))
    assert any("missing 15" in line for line in lines)


def status(now_s: float) -> list[str]:
    loading = ServerStatus(state=ServerState.LOADING, started_s=0.0, phase=Phase.WEIGHTS, phases=USUAL[:1])
    return [plain(line) for line in phase_lines(loading, now_s, 78, USUAL)]


def test_a_phase_never_claims_to_be_over_before_the_log_says_so() -> None:
    late = status(500.0)
    assert any("~99%" in line and "~0s left" in line for line in late)
    assert late[1].startswith("▸ ready")
    assert "~99%  longer than usual  usually 40s, 7m40s late" in late[1]
    early = status(16.0)
    assert any("~20%" in line and "~24s left" in line for line in early)
    assert early[1].startswith("▸ ready")
    assert "~40%  about 24s left  usually 40s" in early[1]
