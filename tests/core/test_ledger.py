"""The ledger of measured starts: its key, what it expects, and how it says it."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from console.core.fit import FitSummary
from console.core.ledger import (
    STARTS_COUNTED,
    STARTS_KEPT,
    LedgerEntry,
    Measured,
    added,
    expectation,
    gpu_name,
    key_name,
    ledger_key,
    measured,
    measured_text,
    newest_match,
    time_left_s,
)
from console.core.models import GpuReading, Phase, PhaseTime, ServerState, ServerStatus
from console.core.phases import StartFacts
from console.core.profile import EngineKind, EngineSection, ModelSection, Profile, ProfileSection, ServeSection

PROFILE = Profile(
    profile=ProfileSection(title="t"),
    model=ModelSection(id="org/model"),
    serve=ServeSection(tensor_parallel_size=4, data_parallel_size=2),
)
CPU = replace(PROFILE, engine=EngineSection(kind=EngineKind.CPU))
KEY = ledger_key(PROFILE, "0.32.0", "NVIDIA H200")
PHASES = (PhaseTime(phase=Phase.CONFIG, seconds=10.0), PhaseTime(phase=Phase.WEIGHTS, seconds=30.0))


def start(ready_s: float = 40.0, time_s: float = 1_795_000_000.0, **changes: Any) -> Measured:
    return replace(Measured(time_s=time_s, ready_s=ready_s, phases=PHASES), **changes)


def status(**changes: Any) -> ServerStatus:
    return replace(ServerStatus(state=ServerState.LOADING, started_s=100.0), **changes)


@pytest.mark.parametrize(
    "change",
    [
        {"max_model_len": 4096},
        {"tensor_parallel_size": 8},
        {"kv_cache_dtype": "fp8"},
        {"enforce_eager": True},
        {"speculative_config": {"method": "mtp"}},
        {"extra": {"kv-cache-memory-bytes": 1}},
    ],
)
def test_what_changes_memory_or_time_is_another_key(change: dict[str, Any]) -> None:
    other = ledger_key(replace(PROFILE, serve=replace(PROFILE.serve, **change)), "0.32.0", "NVIDIA H200")
    assert other != KEY
    assert key_name(other) != key_name(KEY)


@pytest.mark.parametrize("change", [{"port": 9000}, {"host": "0.0.0.0"}, {"tool_call_parser": "x"}])
def test_what_does_not_is_the_same_key(change: dict[str, Any]) -> None:
    assert ledger_key(replace(PROFILE, serve=replace(PROFILE.serve, **change)), "0.32.0", "NVIDIA H200") == KEY


def test_checkpoint_engine_and_gpu_are_in_the_key() -> None:
    assert KEY.gpu_count == 8
    revised = replace(PROFILE, model=replace(PROFILE.model, revision="abc"))
    assert ledger_key(revised, "0.32.0", "NVIDIA H200").checkpoint == "org/model@abc"
    assert ledger_key(PROFILE, "0.33.0", "NVIDIA H200") != KEY
    assert ledger_key(PROFILE, "0.32.0", "NVIDIA H100") != KEY


def test_no_secret_is_in_the_key() -> None:
    secret = replace(PROFILE, env={"HF_TOKEN": "hf_x"}, serve=replace(PROFILE.serve, extra={"api-key": "sk-x"}))
    assert ledger_key(secret, "0.32.0", "NVIDIA H200") == KEY


def test_the_gpu_is_what_nvml_calls_the_first() -> None:
    assert gpu_name(CPU, (GpuReading(index=0, name="NVIDIA H200"),)) == "CPU"
    assert gpu_name(PROFILE, (GpuReading(index=0), GpuReading(index=1, name="NVIDIA H200"))) == "NVIDIA H200"
    assert gpu_name(PROFILE, None) == "none"


def test_a_start_is_kept_only_if_it_was_followed() -> None:
    facts = StartFacts(weights_gib=39.7, kv_available_gib=83.0, kv_cache_tokens=8_700_000, max_concurrency=8.3)
    ready = status(state=ServerState.READY, ready_s=140.0, phases=PHASES)
    kept = measured(ready, facts, "run-1")
    assert kept is not None
    assert (kept.ready_s, kept.weights_gib, kept.kv_gib, kept.kv_tokens) == (40.0, 39.7, 83.0, 8_700_000)
    assert (kept.run, kept.time_s, kept.phases) == ("run-1", 140.0, PHASES)
    for broken in (replace(ready, ready_s=None), replace(ready, started_s=None), replace(ready, phases=())):
        assert measured(broken, facts, "run-1") is None


def test_the_oldest_starts_go() -> None:
    entry: LedgerEntry | None = None
    for number in range(STARTS_KEPT + 3):
        entry = added(entry, KEY, start(float(number)))
    assert entry is not None
    assert [kept.ready_s for kept in entry.starts] == [float(n) for n in range(3, STARTS_KEPT + 3)]
    # An entry of another key (a collision, or a file put there by hand) is not mixed in.
    assert len(added(entry, replace(KEY, gpu="other"), start()).starts) == 1


def test_expectation_is_the_median_of_the_newest() -> None:
    times = [900.0, *[40.0, 50.0, 60.0, 70.0, 45.0][:STARTS_COUNTED]]
    found = expectation(LedgerEntry(key=KEY, starts=tuple(start(seconds) for seconds in times)))
    assert found is not None
    assert found.ready_s == 50.0
    assert found.starts == STARTS_COUNTED
    assert found.phases == PHASES
    assert expectation(None) is None
    assert expectation(LedgerEntry(key=KEY)) is None


def test_the_newest_match_may_be_of_another_engine() -> None:
    old = LedgerEntry(key=KEY, starts=(start(time_s=1.0),))
    new = LedgerEntry(key=replace(KEY, engine_version="0.33.0"), starts=(start(time_s=2.0),))
    other = LedgerEntry(key=replace(KEY, gpu="x"), starts=(start(time_s=3.0),))
    empty = LedgerEntry(key=KEY)
    assert newest_match((empty, old, new, other), KEY) == old
    assert newest_match((empty, old, new, other), replace(KEY, engine_version=""), any_engine=True) == new
    assert newest_match((), KEY) is None


@pytest.mark.parametrize(
    ("changes", "now_s", "left_s"),
    [
        ({"phase": Phase.CONFIG}, 104.0, 36.0),
        ({"phase": Phase.WEIGHTS, "phases": PHASES[:1]}, 120.0, 20.0),
        # Longer than expected: about to end.
        ({"phase": Phase.WEIGHTS, "phases": PHASES[:1]}, 500.0, 0.0),
        # A phase that earlier starts did not have.
        ({"phase": Phase.DOWNLOAD, "phases": PHASES[:1]}, 120.0, 30.0),
        ({"phase": None}, 104.0, None),
        ({"phase": Phase.CONFIG, "started_s": None}, 104.0, None),
        ({"phase": Phase.CONFIG, "ready_s": 140.0}, 150.0, None),
    ],
)
def test_time_left(changes: dict[str, Any], now_s: float, left_s: float | None) -> None:
    assert time_left_s(PHASES, status(**changes), now_s) == left_s
    assert time_left_s((), status(**changes), now_s) is None


def test_the_sentence_has_date_figures_and_the_estimates_error() -> None:
    entry = LedgerEntry(
        key=KEY, starts=(start(weights_gib=40.0, kv_gib=80.0, kv_tokens=8_000_000, max_concurrency=7.6),)
    )
    estimate = FitSummary(weights_gib_per_gpu=39.0, kv_gib_per_gpu=84.0, kv_tokens=8_400_000)
    text = measured_text(entry, estimate)
    assert text.startswith("measured here 2026-11-18 with vLLM 0.32.0: weights 40.00 GiB, KV cache 80.00 GiB")
    assert "8,000,000 tokens, 7.6 requests of full length, ready after 40 s" in text
    assert text.endswith("; the estimate differs by weights -2.5%, KV cache +5.0%, tokens +5.0%")
    assert "differs" not in measured_text(entry)
    # Weights of a tiny model round to nothing, and what the log did not say is left out.
    little = LedgerEntry(key=KEY, starts=(start(weights_gib=0.0),))
    assert measured_text(little, estimate).endswith("weights 0.00 GiB, ready after 40 s")
