"""The loop of `apply` and `tune` on a scripted server, with a scripted measurement: what is kept and what goes back."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable

import pytest

from console.client.session import connect
from console.client.trial import TrialLine
from console.client.tuning import Tuner
from console.core.bench import BenchPoint, Shape
from console.core.errors import ConsoleError, NotRunningError
from console.core.lifecycle import Timing
from console.core.models import ProfileChange, RunInfo, ServerState
from console.core.tune_parameters import chosen
from console.core.tune_report import Step, TuneReport
from console.core.tuning import Bounds, Search, Verdict, Workload
from console.io.runs import LaunchSpec
from tests.process.test_supervisor import Lab, Started
from tests.process.test_trial import change, old_serves

QUICK = Timing(drain_timeout_s=1.0, stop_timeout_s=2.0, ready_timeout_s=20.0)
WORK = Workload(shape=Shape.CHAT, concurrency=16, requests=16)


class Scripted:
    """Measures what a function of the sequence cap says. `fault` may do something at a repeat."""

    def __init__(self, rate: Callable[[int], float], fault: Callable[[RunInfo], None] | None = None) -> None:
        self.rate = rate
        self.fault = fault
        self.measured: list[int] = []
        self.warm: list[int] = []

    async def warm_up(self, info: RunInfo, spec: LaunchSpec) -> None:
        self.warm.append(info.max_num_seqs or 8)

    async def repeat(self, info: RunInfo, spec: LaunchSpec, seed: int, progress: Callable[[float], None]) -> BenchPoint:
        cap = info.max_num_seqs or 8
        if self.fault is not None:
            self.fault(info)
        self.measured.append(cap)
        progress(1.0)
        rate = self.rate(cap) * (1 + 0.002 * seed)
        return BenchPoint(
            shape=WORK.shape,
            concurrency=WORK.concurrency,
            seed=seed,
            started_s=1.0,
            duration_s=1.0,
            completed=16,
            requests_per_s=1.0,
            output_tokens_per_s=rate,
            total_tokens_per_s=rate,
            ttft_mean_s=0.05,
        )


@pytest.fixture
async def lab(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lab]:
    lab = Lab(monkeypatch)
    try:
        yield lab
    finally:
        await lab.close()


async def yes(report: TuneReport) -> bool:
    return True


async def no(report: TuneReport) -> bool:
    return False


async def by_itself(report: TuneReport) -> bool:
    return bool(report.winner)


async def ready(lab: Lab, **fake: object) -> Started:
    started = await lab.start(QUICK, **fake)
    await started.state(ServerState.READY)
    return started


async def loop(fake: Started, measure: Scripted, steps: list[Step] | None = None) -> tuple[TrialLine, Tuner]:
    line = TrialLine(await connect(fake.run))
    return line, Tuner(line, fake.run, measure, WORK, (steps if steps is not None else []).append)


async def test_apply_keeps_what_won(lab: Lab) -> None:
    fake = await ready(lab)
    measure, steps = Scripted(lambda cap: 100.0 * cap), list[Step]()
    line, tuner = await loop(fake, measure, steps)
    async with line:
        report = await tuner.apply(change(16), by_itself)
    assert report.kept
    assert report.winner == change(16)
    assert report.gain is not None
    assert round(report.gain.ratio, 3) == 2
    assert measure.measured == [8, 8, 8, 16, 16, 16]
    assert measure.warm == [8, 16]
    assert fake.info.max_num_seqs == 16
    assert fake.info.trial == ()
    kinds = [step.kind for step in steps]
    assert kinds == ["measure", *["repeat"] * 3, "restart", "serving", "measure", *["repeat"] * 3, "verdict", "keep"]


LOSERS: dict[str, tuple[Callable[[int], float], Verdict]] = {
    "it lost": (lambda cap: 1000.0 / cap, Verdict.LOST),
    "noise": (lambda cap: 1000.0, Verdict.NOISE),
}


@pytest.mark.parametrize("case", list(LOSERS))
async def test_apply_takes_back_what_did_not_win(lab: Lab, case: str) -> None:
    fake = await ready(lab)
    rate, verdict = LOSERS[case]
    line, tuner = await loop(fake, Scripted(rate))
    async with line:
        report = await tuner.apply(change(16), by_itself)
        assert report.attempts[0].verdict is verdict
        assert not report.kept
        await old_serves(lab, fake)


async def test_the_operators_word_counts_more_than_the_verdict(lab: Lab) -> None:
    fake = await ready(lab)
    line, tuner = await loop(fake, Scripted(lambda cap: 1000.0))
    async with line:
        report = await tuner.apply(change(16), yes)
    assert report.kept
    assert fake.info.max_num_seqs == 16
    line, tuner = await loop(fake, Scripted(lambda cap: 100.0 * cap))
    async with line:
        report = await tuner.apply(change(32), no)
    assert report.winner
    assert not report.kept
    assert fake.info.max_num_seqs == 16


async def test_settings_that_do_not_start_are_a_failed_attempt(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = await ready(lab)
    broken = (ProfileChange(key="env.FAKE_VLLM_CRASH_AT", after="memory"),)
    line, tuner = await loop(fake, Scripted(lambda cap: 1000.0))
    async with line:
        report = await tuner.apply(broken, yes)
        assert report.attempts[0].verdict is Verdict.FAILED
        assert report.attempts[0].why
        assert not report.kept
    await fake.until(lambda s: s.status.state is ServerState.READY and s.trial and s.trial.phase == "reverted", "old")


async def test_a_server_that_dies_under_the_load_goes_back(lab: Lab) -> None:
    fake = await ready(lab)

    def fault(info: RunInfo) -> None:
        if info.max_num_seqs == 16 and info.server_pid is not None:
            os.kill(info.server_pid, signal.SIGKILL)
            raise ConsoleError("The benchmark failed", "connection refused")

    line, tuner = await loop(fake, Scripted(lambda cap: 100.0 * cap, fault))
    async with line:
        report = await tuner.apply(change(16), yes)
        assert report.attempts[0].verdict is Verdict.FAILED
        await old_serves(lab, fake)


async def test_a_benchmark_that_fails_goes_back(lab: Lab) -> None:
    fake = await ready(lab)

    def fault(info: RunInfo) -> None:
        if info.max_num_seqs == 16:
            raise ConsoleError("The benchmark failed", "no module named pandas")

    line, tuner = await loop(fake, Scripted(lambda cap: 100.0 * cap, fault))
    async with line:
        report = await tuner.apply(change(16), yes)
        assert "no module named pandas" in report.attempts[0].why
        await old_serves(lab, fake)


async def test_a_baseline_that_cannot_be_measured_changes_nothing(lab: Lab) -> None:
    fake = await ready(lab)

    def fault(info: RunInfo) -> None:
        raise ConsoleError("The benchmark failed")

    before = fake.info.server_pid
    line, tuner = await loop(fake, Scripted(lambda cap: 1.0, fault))
    with pytest.raises(ConsoleError, match="benchmark failed"):
        async with line:
            await tuner.apply(change(16), yes)
    assert fake.info.server_pid == before
    assert fake.last.trial is None


async def test_a_cancelled_loop_goes_back(lab: Lab) -> None:
    fake = await ready(lab)
    at_it = asyncio.Event()

    def fault(info: RunInfo) -> None:
        if info.max_num_seqs == 16:
            at_it.set()
            raise asyncio.CancelledError

    async def work() -> None:
        line, tuner = await loop(fake, Scripted(lambda cap: 100.0 * cap, fault))
        async with line:
            await tuner.apply(change(16), yes)

    with pytest.raises(asyncio.CancelledError):
        await work()
    assert at_it.is_set()
    await old_serves(lab, fake)


async def test_a_lost_supervisor_ends_the_loop_and_the_old_settings_serve(lab: Lab) -> None:
    fake = await ready(lab)

    def fault(info: RunInfo) -> None:
        if info.max_num_seqs == 16 and info.supervisor_pid is not None:
            os.kill(info.supervisor_pid, signal.SIGKILL)

    line, tuner = await loop(fake, Scripted(lambda cap: 100.0 * cap, fault))
    with pytest.raises(NotRunningError):
        async with line:
            await tuner.apply(change(16), yes)
    await fake.until(lambda _: fake.lost, "the loss")
    await old_serves(lab, fake)


def search(fake: Started, *names: str) -> Search:
    return Search(profile=fake.run.read_launch().profile, parameters=chosen(names), concurrency=16)


async def test_tune_finds_keeps_and_reports(lab: Lab) -> None:
    """The cap is unset here, which for the CPU build is 128: halves of it are tried, and the best is taken up again."""
    fake = await ready(lab)
    measure = Scripted(lambda cap: 1000.0 if cap >= 16 else 500.0)
    line, tuner = await loop(fake, measure)
    start = search(fake, "max_num_seqs")
    profile = fake.run.read_launch().profile
    assert profile.serve.max_num_seqs is None
    proposal = (ProfileChange(key="serve.max_num_seqs", after=16),)
    poor = (ProfileChange(key="serve.max_num_seqs", after=4),)
    start = Search(profile=profile, parameters=start.parameters, concurrency=16, proposals=(proposal, poor))
    async with line:
        report = await tuner.tune(start, Bounds(), by_itself)
    assert [attempt.verdict for attempt in report.attempts] == [
        Verdict.WON,
        *[Verdict.LOST] * (len(report.attempts) - 1),
    ]
    assert len(report.attempts) >= 2
    assert "noise" in report.why
    assert report.kept
    assert fake.info.max_num_seqs == 16, "taken up again after the last trial lost"


async def test_tune_without_a_word_leaves_what_served(lab: Lab) -> None:
    fake = await ready(lab)
    line, tuner = await loop(fake, Scripted(lambda cap: 100.0 * cap))
    start = search(fake, "max_num_batched_tokens")
    async with line:
        report = await tuner.tune(start, Bounds(attempts=1), no)
        assert report.why == "1 trials were made"
        assert not report.kept
        await old_serves(lab, fake)


async def test_a_bound_ends_a_trial_in_the_middle(lab: Lab) -> None:
    fake = await ready(lab, load_s=3.0)
    line, tuner = await loop(fake, Scripted(lambda cap: 100.0 * cap))
    start = search(fake, "max_num_batched_tokens")
    async with line:
        report = await tuner.tune(start, Bounds(seconds=1.0), by_itself)
        assert "bound" in report.attempts[0].why
        assert "longer than" in report.why
        await old_serves(lab, fake)
