"""A hint's change tried from the terminal UI: shown, asked, watched, kept, taken back, given up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from textual.pilot import Pilot

from console.core.bench import BenchPoint, Shape
from console.core.errors import NotRunningError
from console.core.tune_report import Step, TuneReport
from console.core.tuning import Attempt, Verdict, Workload, gain_of
from tests.fakes.backend import RAISE, RUN, FakeBackend
from tests.ui.screen_text import running, text, wait_for, wait_text
from tests.ui.states import STATES

STEPS = [
    Step(kind="measure", text="what serves now: warming up"),
    Step(kind="repeat", text="what serves now: repeat 1 of 3: 1,224 output tok/s, TTFT 1,044 ms"),
    Step(kind="restart", text="requests finish, then it starts with max_num_seqs 32 → 64"),
]


def points(rate: float) -> tuple[BenchPoint, ...]:
    return tuple(
        BenchPoint(
            shape=Shape.CHAT,
            concurrency=16,
            seed=seed,
            started_s=1.0,
            duration_s=10.0,
            completed=64,
            requests_per_s=1.0,
            output_tokens_per_s=rate + seed,
            total_tokens_per_s=rate,
        )
        for seed in range(3)
    )


def backend(won: bool = True) -> FakeBackend:
    fake = STATES["hints-many"]()
    before, after = points(1224), points(3904 if won else 1225)
    gain = gain_of(before, after)
    change = RAISE.change
    attempt = Attempt(change=change, verdict=Verdict.WON if won else Verdict.NOISE, gain=gain, points=after)
    fake.experiment_steps = STEPS
    fake.experiment_report = TuneReport(
        id="x-apply",
        created_s=1.0,
        run_id="r",
        profile_name="flash-4xh200",
        workload=Workload(),
        before=before,
        attempts=(attempt,),
        winner=change if won else (),
        gain=gain if won else None,
        saved="/profiles/flash-4xh200.toml",
    )
    return fake


def told(pilot: Pilot[Any], words: str) -> bool:
    return any(words in f"{note.title} {note.message}" for note in pilot.app._notifications)


@pytest.mark.parametrize(
    ("won", "key", "word"),
    [(True, "k", "Kept"), (True, "b", "Taken back"), (False, "b", "Taken back")],
)
async def test_a_hint_is_tried_and_the_operator_has_the_word(won: bool, key: str, word: str) -> None:
    fake = backend(won)
    async with running(fake) as pilot:
        await wait_text(pilot, "3 hints")
        await pilot.press("h")
        await wait_text(pilot, "A apply")
        await pilot.press("A")
        await wait_text(pilot, "- serve.max_num_seqs = 32", "+ serve.max_num_seqs = 64", "73 requests")
        assert not fake.experiments
        await pilot.press("y")
        gain = "3.19× output tok/s" if won else "1× output tok/s"
        await wait_text(
            pilot, "repeat 1 of 3: 1,224", "it starts with max_num_seqs", gain, "k  keep it", "b  take it back"
        )
        await pilot.press(key)
        await wait_for(pilot, lambda: told(pilot, word), word)
    assert fake.experiments == [(RUN.id, RAISE.change)]


async def test_it_can_be_given_up_and_escape_is_not_a_word() -> None:
    fake = backend()
    fake.experiment_hold = asyncio.Event()
    async with running(fake) as pilot:
        await wait_text(pilot, "3 hints")
        await pilot.press("h", "A")
        await wait_text(pilot, "Try this change on flash-4xh200?")
        await pilot.press("y")
        await wait_text(pilot, "esc or x gives up")
        await pilot.press("k")  # no question yet
        await pilot.press("escape")
        await wait_for(pilot, lambda: told(pilot, "Given up"), "given up")


async def test_not_now_and_nothing_to_apply() -> None:
    fake = backend()
    async with running(fake) as pilot:
        await wait_text(pilot, "3 hints")
        await pilot.press("h", "A")
        await wait_text(pilot, "Try this change")
        await pilot.press("n", "down")
        await wait_text(pilot, "2 of 4")
        await wait_for(pilot, lambda: "A apply" not in text(pilot.app), "off the key bar")
        await pilot.press("A")
    assert fake.experiments == []


async def test_an_error_says_what_to_do() -> None:
    fake = backend()
    fake.experiment_error = NotRunningError("The supervisor was lost", "killed", "Another one takes the settings back.")
    async with running(fake) as pilot:
        await wait_text(pilot, "3 hints")
        await pilot.press("h", "A", "y")
        await wait_text(pilot, "The supervisor was lost", "takes the settings back")
