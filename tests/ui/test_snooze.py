"""Hints that are put aside: asked for how long, counted, listed, brought back, and kept for the next console."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from console.core.errors import StateError
from console.core.models import Level
from console.core.snooze import Snooze
from tests.fakes.backend import NOW_S, RAISE, READY, RUN, attached, history, snapshot
from tests.ui.screen_text import running, text, wait_for, wait_text
from tests.ui.states import HALF_HOUR, MANY, STATES


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        ("3", Snooze(hint=RAISE.id, level=Level.WARN, since_s=NOW_S, until_s=NOW_S + 1800)),
        ("enter", Snooze(hint=RAISE.id, level=Level.WARN, since_s=NOW_S, until_s=NOW_S + 1800)),
        ("1", Snooze(hint=RAISE.id, level=Level.WARN, since_s=NOW_S, until_s=NOW_S + 3600)),
        ("r", Snooze(hint=RAISE.id, level=Level.WARN, since_s=NOW_S, started_s=READY.started_s)),
    ],
)
async def test_a_hint_is_put_aside_for_so_long(key: str, wanted: Snooze) -> None:
    backend, session = attached(history(), snapshot())
    async with running(backend) as pilot:
        await wait_text(pilot, "▲ 1 hint")
        await pilot.press("h", "n")
        await wait_text(pilot, "Snooze “Raise max_num_seqs 32 → 64”?", "for 1 hour", "until the server starts again")
        assert not session.put_aside
        await pilot.press(key)
        await wait_for(pilot, lambda: session.put_aside == (wanted,), "kept with the run")
        await wait_text(pilot, "1 snoozed, nothing else to say")
        assert "1 hint" not in text(pilot.app)


async def test_it_can_be_refused() -> None:
    backend, session = attached(history(), snapshot())
    async with running(backend) as pilot:
        await wait_text(pilot, "▲ 1 hint")
        await pilot.press("h", "n")
        await wait_text(pilot, "Snooze “")
        await pilot.press("escape")
        await wait_for(pilot, lambda: "Snooze “" not in text(pilot.app), "closed")
        assert not session.put_aside


async def test_those_that_are_aside_are_counted_listed_and_brought_back() -> None:
    backend = STATES["hints-snoozed"]()
    async with running(backend) as pilot:
        await wait_text(pilot, "Hints 2", "1 snoozed", "1 of 3", "✖ 2 hints")
        await pilot.press("h", "u")
        await wait_text(pilot, "◌ Raise max_num_seqs", "snoozed, 29m00s left", "4 of 4")
        await pilot.press("n")
        await wait_for(pilot, lambda: backend.sessions[RUN.id].put_aside == (), "brought back")
        await wait_text(pilot, "✖ 3 hints")


async def test_another_console_finds_it_and_it_ends_with_time_a_restart_or_when_it_gets_worse() -> None:
    backend, session = attached(snapshot())
    session.put_aside = (HALF_HOUR,)
    async with running(backend) as pilot:
        await wait_text(pilot, "1 snoozed, nothing else to say")
        session.push(snapshot(seq=2, time_s=NOW_S + 1, hints=(replace(RAISE, level=Level.BAD),)))
        await wait_text(pilot, "✖ 1 hint")
        session.push(snapshot(seq=3, time_s=NOW_S + 2))
        await wait_text(pilot, "1 snoozed, nothing else to say")
        session.push(snapshot(seq=4, time_s=NOW_S + 1800))
        await wait_text(pilot, "▲ 1 hint")
    backend, session = attached(snapshot(hints=MANY))
    session.put_aside = (Snooze(hint=RAISE.id, level=Level.WARN, since_s=NOW_S - 60, started_s=READY.started_s),)
    async with running(backend) as pilot:
        await wait_text(pilot, "1 snoozed", "✖ 2 hints")
        session.push(snapshot(seq=2, time_s=NOW_S + 9, hints=MANY, status=replace(READY, started_s=NOW_S + 5)))
        await wait_text(pilot, "✖ 3 hints")


async def test_a_snooze_that_could_not_be_kept_is_told_and_the_hint_stays() -> None:
    backend, session = attached(snapshot())
    session.refuse = StateError("The snooze could not be kept", "no space left on device", "Free some disk space.")
    async with running(backend) as pilot:
        await wait_text(pilot, "▲ 1 hint")
        await pilot.press("h", "n")
        await wait_text(pilot, "Snooze “")
        await pilot.press("1")
        await wait_text(pilot, "✖ The snooze could not be kept", "no space left on device")
        await pilot.press("escape")
        await wait_text(pilot, "▲ 1 hint")


async def test_why_says_the_figures_the_rule_and_its_times() -> None:
    async with running(STATES["hint-unjudged"](), (100, 30)) as pilot:
        await wait_text(pilot, "○ Idle and costing money")
        await pilot.press("h", "enter")
        await wait_text(pilot, "Missing  a price per hour")
