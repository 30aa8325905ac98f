"""Hints provoked on the real engine: each appears within its stated time and goes with the change that it proposes.

Three starts of one small server, each with what the one before was told to change: a cap of two requests at a time, a
KV cache of 2,048 tokens, and at last one that needs no change, has too little to do, and is stopped as idle.
"""

from __future__ import annotations

from typing import Any

import pytest

from console.client import recordings
from console.core.hints import explain_rules
from console.core.timeline import Timeline
from tests.e2e.world import Headless, World, load, wait_for

pytestmark = [pytest.mark.real, pytest.mark.alone, pytest.mark.timeout(900)]

SLACK_S = 60.0
"""Beyond a rule's window and hold: a starved machine answers late, and its samples have gaps."""
RULES = {doc.id: doc for doc in explain_rules()}
CAP = ("raise-max-num-seqs", "sequence-cap")
"""One or the other, by how busy the cores are."""
KV_FULL = "kv-cache-full"
LOAD_TOO_SMALL = "load-too-small"
IDLE = "idle-spend"
CONTEXT_UNUSED = "context-unused"
CLIENTS = 16
SMALL_CACHE = ("serve.num_gpu_blocks_override=64", "serve.block_size=32", "serve.max_model_len=1024")
ONE_CORE = "env.VLLM_CPU_OMP_THREADS_BIND=0"
"""Clients that rest between their answers then leave the machine room."""
PRICE = "cost.usd_per_hour=36"
WARN_S, STOP_S = 10, 45
RAISED = "serve.max_num_seqs=16"
"""What the hint at the cap proposes for 16 clients."""


def stated_s(*rules: str) -> float:
    """Seconds after which one of these rules must have fired."""
    return max(RULES[rule].window_s + RULES[rule].hold_s for rule in rules)


def told(headless: Headless, *rules: str) -> dict[str, Any]:
    """The first hint of one of these rules, if it was told."""
    hints = [line["hint"] for line in headless.of("hint") if line["hint"]["id"] in rules]
    return hints[0] if hints else {}


def engine(headless: Headless) -> dict[str, Any]:
    """The newest figures of vLLM that were told."""
    found = [line["snapshot"]["engine"] for line in headless.of("status") if line["snapshot"].get("engine")]
    return found[-1] if found else {}


def wait_told(headless: Headless, *rules: str) -> dict[str, Any]:
    """Wait for one of these hints, for as long as its rule may take."""
    hint: dict[str, Any] = wait_for(f"{' or '.join(rules)}", lambda: told(headless, *rules), stated_s(*rules) + SLACK_S)
    return hint


def wait_over(headless: Headless, *rules: str) -> None:
    """Wait until none of these hints stands any more."""

    def gone() -> bool:
        began = [line["hint"]["id"] for line in headless.of("hint")]
        ended = [line["id"] for line in headless.of("hint-over")]
        return all(began.count(rule) == ended.count(rule) for rule in rules)

    clear_s = max(RULES[rule].window_s + RULES[rule].clear_s for rule in rules)
    wait_for(f"{' and '.join(rules)} to go", gone, clear_s + SLACK_S)


def applied(hint: dict[str, Any]) -> str:
    """The hint's change as `--set` takes it."""
    (change,) = hint["change"]
    return f"{change['key']}={change['after']}"


def start(world: World, *settings: str) -> Headless:
    headless = world.headless(ONE_CORE, PRICE, *settings)
    headless.wait_ready()
    return headless


def stop(headless: Headless) -> None:
    headless.interrupt()
    assert headless.wait_end() == 0


def test_the_sequence_cap_and_the_prefix_cache(world: World) -> None:
    """Two requests at a time for 16 clients; then the same prompt from all, which the prefix cache knows."""
    headless = start(world, "serve.max_num_seqs=2")
    with load(world.url, CLIENTS) as statuses:
        hint = wait_told(headless, *CAP)
        (change,) = hint["change"]
        assert (change["key"], change["before"]) == ("serve.max_num_seqs", 2)
        assert f"serve.max_num_seqs={change['after']}" == RAISED
        wait_for("a queue behind both slots", lambda: behind_the_cap(headless), 60.0)
        missed = wait_for("lookups in the prefix cache", lambda: "prefix_cache_hit_rate" in engine(headless), 30.0)
        assert missed
        assert engine(headless)["prefix_cache_hit_rate"] < 0.2
    assert set(statuses) == {200}
    with load(world.url, CLIENTS, prompt_words=100, max_tokens=2, same=True):
        wait_for("hits in the prefix cache", lambda: engine(headless).get("prefix_cache_hit_rate", 0) > 0.5, 120.0)
    wait_over(headless, *CAP)
    stop(headless)
    assert_it_replays(world, hint["id"])


def assert_it_replays(world: World, hint_id: str) -> None:
    """Played again, the run comes up, has this hint when it had it, and ends; its log comes by its own stamps."""
    (path,) = (path for path in world.runs.iterdir() if path.is_dir())
    recording = recordings.find(str(path))
    assert recording.missing == ()
    timeline = Timeline(recording)
    title = RULES[hint_id].title
    hinted = next(e.time_s for e in recording.events if e.kind == "hint" and e.text.startswith(title))
    moments = [timeline.snapshot(at, 1) for at in (recording.begin_s + 1, hinted + 1, recording.end_s)]
    assert [moment.status.state for moment in moments] == ["starting", "ready", "stopped"]
    assert hint_id in {hint.id for hint in moments[1].hints}
    assert [done.phase for done in moments[1].status.phases][-1] == "server"
    lines = [timeline.lines_until(at) for at in (recording.begin_s, hinted, recording.end_s)]
    assert lines[0] < lines[1] < lines[2] == len(recording.log.texts)


def behind_the_cap(headless: Headless) -> bool:
    """Both slots were seen busy with others waiting; with several busy processes most scrapes fall between bursts."""
    figures = [line["snapshot"].get("engine") or {} for line in headless.of("status")]
    return any(each.get("running") == 2 and each.get("waiting") and each.get("ttft") for each in figures)


def test_the_kv_cache_then_too_little_and_nothing_to_do(world: World) -> None:
    """With its change the same load goes well; four clients that rest are too few; and an idle server is stopped."""
    kv_change = the_kv_cache(world)
    nothing_to_do(world, kv_change)


def the_kv_cache(world: World) -> str:
    """With the cap raised as proposed the same clients wait at it no more, but a small cache preempts them."""
    headless = start(world, RAISED, *SMALL_CACHE)
    with load(world.url, CLIENTS):
        hint = wait_told(headless, KV_FULL)
        unused = wait_told(headless, CONTEXT_UNUSED)
        assert applied(unused) == "serve.max_model_len=512"
        wait_for("preemptions", lambda: engine(headless).get("preemptions_total", 0) > 0, 30.0)
    assert any("preempt" in line.lower() for line in hint["evidence"])
    assert not told(headless, *CAP), "the cap was raised"
    wait_over(headless, CONTEXT_UNUSED)
    wait_over(headless, KV_FULL)
    stop(headless)
    return applied(hint)


def nothing_to_do(world: World, kv_change: str) -> None:
    """The last start."""
    headless = start(
        world, *SMALL_CACHE, kv_change, f"supervise.idle_warn_s={WARN_S}", f"supervise.idle_stop_s={STOP_S}"
    )
    with load(world.url, CLIENTS):
        preempted = wait_for(
            "figures", lambda: engine(headless).get("requests_finished_total") and engine(headless), 90.0
        )
        begun = preempted["requests_finished_total"]
        seen = len(headless.of("status"))
        wait_for(
            "as many samples as the rule needs",
            lambda: len(headless.of("status")) > seen + stated_s(KV_FULL),
            stated_s(KV_FULL) + 2 * SLACK_S,
        )
        assert engine(headless)["requests_finished_total"] > begun
        assert not told(headless, KV_FULL), "fewer at a time fit into the cache"
    with load(world.url, 4, rest_s=7.0):
        wait_told(headless, LOAD_TOO_SMALL)
    wait_over(headless, LOAD_TOO_SMALL)
    idle = wait_told(headless, IDLE)
    assert any("for nothing" in line for line in idle["evidence"])
    assert headless.wait_end(STOP_S + 2 * SLACK_S) == 0
    assert f"stopped: idle for {STOP_S}s: stopped to save $36.00/h" in headless.said
    spent = headless.of("summary")[-1]["money"]
    assert spent["seconds"]["serving"] > stated_s(KV_FULL)
    assert STOP_S <= spent["seconds"]["idle"] <= spent["total_s"]
    assert spent["usd_per_million"] > 0
    assert not world.engine_processes()
