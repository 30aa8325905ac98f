"""A start as one bar, and what its log has counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from console.core.models import GpuReading, Phase, PhaseTime, ServerState, ServerStatus
from console.core.startview import LINES_MAX, StartCounters, memory_filled, start_progress

LOGS = Path(__file__).parent.parent / "data" / "logs"
USUAL = (
    PhaseTime(phase=Phase.CONFIG, seconds=10.0),
    PhaseTime(phase=Phase.WEIGHTS, seconds=60.0),
    PhaseTime(phase=Phase.GRAPHS, seconds=30.0),
)


def loading(phase: Phase | None, done: float = 0.0, **changes: object) -> ServerStatus:
    phases = (PhaseTime(phase=Phase.CONFIG, seconds=done),) if done else ()
    return ServerStatus(state=ServerState.LOADING, started_s=100.0, phase=phase, phases=phases, **changes)


def test_elapsed_usual_left_and_share() -> None:
    found = start_progress(USUAL, loading(Phase.WEIGHTS, 10.0), 140.0)
    assert found is not None
    assert (found.elapsed_s, found.usual_s, found.left_s) == (40.0, 100.0, 60.0)
    assert found.share == pytest.approx(0.4)
    assert found.late_s == 0.0


def test_a_start_that_takes_longer_says_by_how_much_and_never_that_it_is_over() -> None:
    found = start_progress(USUAL, loading(Phase.GRAPHS, 10.0), 400.0)
    assert found is not None
    assert found.left_s == 0.0
    assert found.share == 0.99
    assert found.late_s == pytest.approx(200.0)


def test_the_share_never_falls_while_a_start_runs_as_usual() -> None:
    shares = []
    for second in range(100):
        phase = Phase.CONFIG if second < 10 else Phase.WEIGHTS if second < 70 else Phase.GRAPHS
        done = {Phase.CONFIG: 0.0, Phase.WEIGHTS: 10.0, Phase.GRAPHS: 70.0}[phase]
        found = start_progress(USUAL, loading(phase, done), 100.0 + second)
        assert found is not None
        assert found.share is not None
        shares.append(found.share)
    assert shares == sorted(shares)
    assert shares[50] == pytest.approx(0.5)


def test_without_earlier_starts_nothing_is_guessed() -> None:
    found = start_progress((), loading(Phase.WEIGHTS), 140.0)
    assert found is not None
    assert (found.elapsed_s, found.usual_s, found.left_s, found.share) == (40.0, None, None, None)
    assert start_progress(USUAL, ServerStatus(), 1.0) is None
    assert start_progress(USUAL, loading(Phase.SERVER, ready_s=130.0), 140.0) is None


def counted(lines: list[str]) -> dict[Phase, str]:
    counters = StartCounters()
    for text in lines:
        counters.feed(text)
    return counters.texts()


def test_a_recorded_start_of_a_gpu_is_counted() -> None:
    texts = counted((LOGS / "h100-0.26.0" / "startup-ready.log").read_text(encoding="utf-8").splitlines())
    assert "GiB per worker" in texts[Phase.WEIGHTS]
    assert "torch.compile" in texts[Phase.COMPILE]
    assert "GiB for the KV cache" in texts[Phase.MEMORY]
    assert "tokens" in texts[Phase.MEMORY]
    assert "captured in" in texts[Phase.GRAPHS]


SHARDS = "(Worker pid=2) Loading safetensors checkpoint shards:  50% Completed | {}/46 [00:50<00:00,  1.1s/it]"
BANNER = "(APIServer pid=1) INFO 11-18 12:00:01 [api_utils.py:286] vLLM server version 0.33.0, serving model m"


def test_a_new_start_in_the_same_log_begins_anew() -> None:
    assert counted([BANNER, SHARDS.format(23)])[Phase.WEIGHTS] == "shard 23/46"
    assert Phase.WEIGHTS not in counted([BANNER, SHARDS.format(23), BANNER])
    assert counted([BANNER, SHARDS.format(23), BANNER, SHARDS.format(2)])[Phase.WEIGHTS] == "shard 2/46"


def test_a_long_log_is_not_read_on_but_the_next_start_is() -> None:
    noise = ["(APIServer pid=1) INFO:     127.0.0.1 - GET /metrics"] * LINES_MAX
    assert Phase.WEIGHTS not in counted([BANNER, *noise, SHARDS.format(4)])
    texts = counted([BANNER, SHARDS.format(46), *noise, BANNER, SHARDS.format(4)])
    assert texts[Phase.WEIGHTS] == "shard 4/46"


def test_memory_that_is_filled_counts_only_gpus_that_tell_both() -> None:
    gib = 1024**3
    known = GpuReading(index=0, memory_used_bytes=12 * gib, memory_total_bytes=80 * gib)
    assert memory_filled((known, known, GpuReading(index=2, memory_total_bytes=80 * gib))) == (24.0, 160.0)
    assert memory_filled(None) is None
    assert memory_filled((GpuReading(index=0),)) is None
