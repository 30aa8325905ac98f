"""A slow line: what moves by itself waits for the terminal, keys do not, and nobody waits for ever."""

from __future__ import annotations

from console.tui.line_pace import ANSWER_S, FIRST_S, PROMPT_S, Pace
from tests.fakes.backend import NOW_S, attached, snapshot
from tests.ui.screen_text import running, text, wait_text


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_fast_terminal_holds_nothing_up() -> None:
    clock = Clock()
    pace = Pace(clock)
    assert pace.ask()
    clock.now += PROMPT_S / 2
    pace.answered()
    assert not pace.behind
    assert not pace.waiting


def test_a_slow_one_rests_as_long_as_it_took() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.ask()
    clock.now += 3.0
    pace.answered()
    assert pace.behind
    clock.now += 2.9
    assert pace.behind
    clock.now += 0.2
    assert not pace.behind
    assert pace.ask()
    assert pace.behind, "it is known to answer, so its answer is waited for"
    assert not pace.ask(), "one question at a time"


def test_an_answer_that_is_lost_is_waited_for_no_longer_than_a_while() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.ask()
    pace.answered()
    pace.ask()
    clock.now += ANSWER_S + 0.1
    assert not pace.behind
    assert pace.ask(), "it is asked again"


def test_one_that_never_answers_is_asked_once() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.answered()
    assert not pace.behind, "an answer to nothing says nothing"
    pace.ask()
    assert pace.behind
    clock.now += FIRST_S + 0.1
    assert not pace.behind
    assert not pace.ask()


def test_the_first_answer_may_come_late() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.ask()
    clock.now += FIRST_S + 3.0
    assert not pace.behind
    pace.answered()
    assert pace.behind, "the line is slow"
    clock.now += FIRST_S + 3.1
    assert pace.ask()


async def test_figures_wait_and_keys_do_not() -> None:
    clock = Clock()
    backend, session = attached(snapshot())
    async with running(backend) as pilot:
        await wait_text(pilot, "READY", "1h42m")
        app = pilot.app
        app.pace = Pace(clock)
        app.pace.ask()
        app.pace.answered()
        app.pace.ask()
        session.push(snapshot(seq=2, time_s=NOW_S + 3600.0))
        await pilot.press("2")
        await wait_text(pilot, "following")
        assert "1h42m" in text(app) or "2h42m" in text(app)
        await pilot.press("question_mark")
        await wait_text(pilot, "Keys")
        await pilot.press("escape", "1")
        app.pace.answered()
        await wait_text(pilot, "2h42m")
        app.pace.ask()
        session.push(snapshot(seq=3, time_s=NOW_S + 7200.0))
        for _ in range(20):
            await pilot.pause(0.02)
        assert "2h42m" in text(app), "it waits"
        app.pace.answered()
        await wait_text(pilot, "3h42m")
