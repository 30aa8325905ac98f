"""One part within its time, and the cleaning up after it: what all parts have in common."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from types import FrameType

from tests.gpu import smi
from tests.gpu.report import PartOver, Report
from tests.gpu.world import World

__all__ = ["CLEAN_S", "FREE_S", "do", "over"]

CLEAN_S, FREE_S = 60.0, 30.0
"""At most, for ending what is left, and for the GPUs' memory to come back."""


def over(number: int, _frame: FrameType | None) -> None:
    """The alarm, or whoever started this, ends the part."""
    raise PartOver(signal.Signals(number).name)


def do(
    world: World,
    name: int | str,
    title: str,
    work: Callable[[World, Report], None],
    limit_s: float,
    *,
    keep: str | None = None,
) -> bool:
    """One part and the cleaning up after it. `False` if it was told to end.

    Args:
        keep: profile whose server is left to the next part.
    """
    report = Report(world.out, name, title)
    world.folder = report.folder
    world.deadline = time.monotonic() + limit_s
    goes_on = True
    before = world.memory_before_mib
    try:
        signal.setitimer(signal.ITIMER_REAL, limit_s)
        work(world, report)
    except PartOver as end:
        goes_on = str(end) == "SIGALRM"
    except Exception as error:
        print(f"part {name}: {type(error).__name__}: {error}", flush=True)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        signal.setitimer(signal.ITIMER_REAL, CLEAN_S + FREE_S)
        world.deadline = time.monotonic() + CLEAN_S
        with report.step("nothing is left") as row:
            killed = world.close(keep=keep if goes_on else None)
            if keep is not None and goes_on:
                row["says"] = "the server is left to the next part"
            else:
                row["killed"] = killed
                took, used = smi.wait_free(before, FREE_S)
                row["says"] = f"killed: {len(killed)}; GPU memory {before:.0f} MiB before, {used:.0f} after"
                if killed or took is None:
                    row["wrong"] = f"left: {killed}, {used:.0f} MiB of GPU memory"
    except PartOver:
        goes_on = False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    report.close()
    return goes_on
