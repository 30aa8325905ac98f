"""Trials of other settings with a supervisor of its own and a scripted server, interrupted at every step."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from console.client.backend import LocalBackend
from console.client.session import connect
from console.client.trial import RefusedError, TrialLine, changed_spec
from console.core.errors import NotRunningError, UsageError
from console.core.lifecycle import Timing
from console.core.models import ProfileChange, ServerState, TrialPhase
from console.core.profile import RestartPolicy
from console.io import runs, trials
from console.io.runs import LaunchSpec
from tests.process.test_supervisor import WAIT_S, Lab, Started, lose

QUICK = Timing(drain_timeout_s=1.0, stop_timeout_s=2.0, ready_timeout_s=20.0)


@pytest.fixture
async def lab(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lab]:
    lab = Lab(monkeypatch)
    try:
        yield lab
    finally:
        await lab.close()


def change(after: int = 16) -> tuple[ProfileChange, ...]:
    return (ProfileChange(key="serve.max_num_seqs", before=8, after=after),)


def spec_of(fake: Started, after: int = 16, **env: str) -> LaunchSpec:
    spec = changed_spec(fake.run, fake.info, change(after))
    return msgspec.structs.replace(spec, env={**spec.env, **{f"FAKE_VLLM_{k.upper()}": v for k, v in env.items()}})


async def line(fake: Started, lease_s: float = 60.0) -> TrialLine:
    return TrialLine(await connect(fake.run), lease_s=lease_s)


async def ready(lab: Lab, timing: Timing = QUICK, **fake: object) -> Started:
    started = await lab.start(timing, **fake)
    await started.state(ServerState.READY)
    return started


async def old_serves(lab: Lab, fake: Started) -> None:
    """The settings from before serve, and nothing says otherwise."""
    if fake.lost:
        async with asyncio.timeout(WAIT_S):
            while not runs.is_live(fake.info):  # between two supervisors nothing of it may run
                await asyncio.sleep(0.02)
        fake = await lab.follow(fake.run, await LocalBackend().attach(fake.run.id))
    await fake.until(
        lambda s: s.status.state is ServerState.READY and s.trial is not None and s.trial.phase is TrialPhase.REVERTED,
        "the old settings",
    )
    assert "--max-num-seqs" not in fake.info.argv
    assert "--max-num-seqs" not in fake.run.read_launch().argv
    assert fake.info.trial == ()
    assert trials.read_trial(fake.run) is None
    assert fake.info.server_pid is not None
    command = Path(f"/proc/{fake.info.server_pid}/cmdline").read_text()
    assert "--max-num-seqs" not in command, "as the server was really started"


async def test_tried_settings_serve_and_are_kept_by_word(lab: Lab) -> None:
    fake = await ready(lab)
    before = fake.info.server_pid
    async with await line(fake) as trial:
        await trial.serving()
        await trial.attempt(change(), spec_of(fake))
        info = fake.info
        assert info.server_pid != before
        assert "--max-num-seqs 16" in " ".join(info.argv)
        assert info.max_num_seqs == 16
        assert info.trial == change()
        assert "--max-num-seqs" not in fake.run.read_launch().argv, "not before the word"
        await trial.keep()
    kept = fake.info
    assert kept.trial == ()
    assert kept.max_num_seqs == 16
    assert "--max-num-seqs" in fake.run.read_launch().argv
    assert trials.read_trial(fake.run) is None
    await fake.until(lambda s: s.trial and s.trial.phase is TrialPhase.KEPT, "the word of it")
    await fake.session.restart(0.0)
    await fake.until(lambda s: fake.info.server_pid not in (None, kept.server_pid), "another server")
    await fake.state(ServerState.READY)
    assert fake.info.max_num_seqs == 16
    assert any(event.startswith("trial: kept") for event in fake.events)


async def test_tried_settings_are_taken_back_by_word(lab: Lab) -> None:
    fake = await ready(lab)
    async with await line(fake) as trial:
        await trial.serving()
        await trial.attempt(change(), spec_of(fake))
        await trial.revert("it lost")
        await old_serves(lab, fake)
    assert fake.last.trial is not None
    assert fake.last.trial.why == "it lost"


async def test_several_settings_one_after_another_go_back_to_the_first(lab: Lab) -> None:
    fake = await ready(lab)
    async with await line(fake) as trial:
        await trial.serving()
        for after in (16, 32):
            await trial.attempt(change(after), spec_of(fake, after))
            assert fake.info.max_num_seqs == after
        await trial.revert("neither")
        await old_serves(lab, fake)


@pytest.mark.parametrize("step", ["draining", "starting", "serving"])
async def test_a_client_that_goes_away_takes_its_settings_with_it(lab: Lab, step: str) -> None:
    fake = await ready(lab, load_s=2.0)
    trial = await line(fake)
    session = trial.session
    await session.attempt(change(), spec_of(fake), 60.0)
    await fake.until(lambda s: s.trial is not None and s.trial.phase == step, step)
    await session.close()
    await old_serves(lab, fake)
    assert any(event.kind == "trial" and "went away" in event.text for event in fake.run.events())


async def test_a_client_that_says_nothing_loses_its_lease(lab: Lab) -> None:
    fake = await ready(lab)
    session = await connect(fake.run)
    await session.attempt(change(), spec_of(fake), 1.0)
    await old_serves(lab, fake)
    assert fake.last.trial is not None
    assert "not heard of" in fake.last.trial.why
    await session.close()


FAULTS: dict[str, dict[str, str]] = {
    "crashes in its start": {"crash_at": "memory", "error": "oom"},
    "refuses the arguments": {"crash_at": "arguments", "error": "arguments"},
    "crashes when it is ready": {"exit_after_s": "1"},
}


@pytest.mark.parametrize(
    ("fault", "policy"),
    [("crashes in its start", RestartPolicy.NEVER), *((fault, RestartPolicy.ALWAYS) for fault in FAULTS)],
)
async def test_settings_that_do_not_serve_go_back(lab: Lab, fault: str, policy: RestartPolicy) -> None:
    fake = await ready(lab, msgspec.structs.replace(QUICK, restart=policy))
    async with await line(fake) as trial:
        await trial.serving()
        spec = spec_of(fake, **FAULTS[fault])
        if fault == "crashes when it is ready":
            await trial.attempt(change(), spec)
            await fake.until(lambda s: s.trial and s.trial.phase is TrialPhase.REVERTING, "its end")
            with pytest.raises(UsageError, match=r"taken back|no settings|not ready"):
                await trial.keep()
        else:
            with pytest.raises(RefusedError):
                await trial.attempt(change(), spec)
        await trial.back()
        await old_serves(lab, fake)
    assert not any(snapshot.status.over for snapshot in fake.snapshots), "nobody was told of an end"


async def test_settings_that_are_not_ready_in_time_go_back(lab: Lab) -> None:
    fake = await ready(lab)
    async with await line(fake) as trial:
        spec = spec_of(fake, hang_at="weights")
        spec = msgspec.structs.replace(spec, timing=msgspec.structs.replace(spec.timing, ready_timeout_s=2.0))
        with pytest.raises(RefusedError, match="does not serve"):
            await trial.attempt(change(), spec)
        await trial.back()
        await old_serves(lab, fake)


async def test_a_command_that_cannot_be_started_goes_back(lab: Lab) -> None:
    fake = await ready(lab)
    async with await line(fake) as trial:
        spec = spec_of(fake)
        with pytest.raises(RefusedError):
            await trial.attempt(change(), msgspec.structs.replace(spec, argv=("/nonexistent/vllm", *spec.argv[1:])))
        await trial.back()
        await old_serves(lab, fake)


@pytest.mark.parametrize("step", ["draining", "starting", "serving", "reverting"])
async def test_a_killed_supervisor_leaves_the_old_settings(lab: Lab, step: str) -> None:
    fake = await ready(lab, load_s=2.0)
    session = await connect(fake.run)
    await session.attempt(change(), spec_of(fake), 60.0)
    if step == "reverting":
        await fake.until(lambda s: s.trial is not None and s.trial.phase == "serving", "serving")
        await session.revert("enough")
    await fake.until(lambda s: s.trial is not None and s.trial.phase == step, step)
    pid = fake.info.supervisor_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await _until_lost(fake)
    await session.close()
    await old_serves(lab, fake)
    assert fake.info.supervisor_pid != pid


async def _until_lost(fake: Started) -> None:
    async with asyncio.timeout(WAIT_S):
        while not fake.lost:
            await asyncio.sleep(0.02)


async def test_supervisor_and_guardian_killed_leave_the_old_settings_to_the_next_console(lab: Lab) -> None:
    fake = await ready(lab)
    session = await connect(fake.run)
    await session.attempt(change(), spec_of(fake), 60.0)
    await fake.until(lambda s: s.trial is not None and s.trial.phase is TrialPhase.SERVING, "serving")
    lose(fake.info)
    await _until_lost(fake)
    await session.close()
    await old_serves(lab, fake)


async def test_a_supervisor_killed_after_the_word_keeps(lab: Lab) -> None:
    fake = await ready(lab)
    async with await line(fake) as trial:
        await trial.attempt(change(), spec_of(fake))
        await trial.keep()
        pid = fake.info.supervisor_pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(NotRunningError):
            await trial.attempt(change(), spec_of(fake))
    await _until_lost(fake)
    again = await lab.follow(fake.run, await LocalBackend().attach(fake.run.id))
    await again.state(ServerState.READY)
    assert again.info.max_num_seqs == 16
    assert again.info.trial == ()


async def test_a_stop_ends_a_trial_and_the_server(lab: Lab) -> None:
    fake = await ready(lab)
    async with await line(fake) as trial:
        await trial.attempt(change(), spec_of(fake))
        await fake.session.stop(0.0)
        end = await fake.over()
    assert end.status.state is ServerState.STOPPED
    await fake.until(lambda s: s.trial and s.trial.phase is TrialPhase.REVERTED, "the end of the trial")
    there, back = (event.data for event in fake.run.events() if event.kind == "settings")
    assert there["serve"]["max_num_seqs"] == 16
    assert (there["before"], there["serve"]) == (back["serve"], back["before"])
    assert fake.info.trial == ()
    assert "--max-num-seqs" not in fake.info.argv
    assert trials.read_trial(fake.run) is None


async def test_a_restart_in_the_middle_goes_back(lab: Lab) -> None:
    fake = await ready(lab)
    async with await line(fake) as trial:
        await trial.attempt(change(), spec_of(fake))
        await fake.session.restart(0.0)
        await old_serves(lab, fake)


REFUSED = {
    "another url": ("url", "http://127.0.0.1:1"),
    "another model": ("model", "other"),
}


@pytest.mark.parametrize("case", list(REFUSED))
async def test_what_a_trial_may_not_change(lab: Lab, case: str) -> None:
    fake = await ready(lab)
    async with await line(fake) as trial:
        name, value = REFUSED[case]
        with pytest.raises(UsageError, match="may not change"):
            await trial.attempt(change(), msgspec.structs.replace(spec_of(fake), **{name: value}))
        with pytest.raises(UsageError, match="no settings are being tried"):
            await trial.keep()
    assert fake.last.trial is None


async def test_one_trial_at_a_time(lab: Lab) -> None:
    fake = await ready(lab)
    async with await line(fake) as first, await line(fake) as second:
        await first.attempt(change(), spec_of(fake))
        with pytest.raises(UsageError, match="another trial is under way"):
            await second.attempt(change(32), spec_of(fake, 32))
        with pytest.raises(UsageError, match="another client"):
            await second.session.hold()
        await first.revert("enough")
        await old_serves(lab, fake)
