"""A snooze belongs to the run: the next console finds it, two consoles do not lose each other's."""

from __future__ import annotations

import pytest

from console.client.session import connect
from console.core.errors import StateError
from console.core.models import Level, ServerState
from console.core.snooze import Snooze
from console.io.runs import RunDir
from console.io.snoozes import FILE_NAME
from tests.process.test_supervisor import Lab, lab

__all__ = ["lab"]


def snooze(hint: str) -> Snooze:
    return Snooze(hint=hint, level=Level.WARN, since_s=1.0, until_s=1801.0)


async def test_it_survives_the_console_and_two_consoles_share_it(lab: Lab) -> None:
    started = await lab.start()
    await started.state(ServerState.READY)
    first, second = await connect(started.run), await connect(started.run)
    assert first.snoozes() == ()
    assert await first.snooze(snooze("a")) == (snooze("a"),)
    assert await second.snooze(snooze("b")) == (snooze("a"), snooze("b"))
    await first.close()
    await second.close()
    third = await connect(RunDir(started.run.path))
    assert third.snoozes() == (snooze("a"), snooze("b"))
    assert await third.wake("a") == (snooze("b"),)
    (started.run.path / FILE_NAME).unlink()
    (started.run.path / FILE_NAME).mkdir()
    with pytest.raises(StateError, match=FILE_NAME):
        await third.snooze(snooze("c"))
    await third.close()
