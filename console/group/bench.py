"""Measures a group: its head runs vLLM's benchmark against its own server, as for a run of one machine."""

from __future__ import annotations

from collections.abc import Callable

from console.client.remote.backend import RemoteBackend
from console.client.remote.line import Line
from console.core.bench import BenchPlan, BenchProgress, BenchResult
from console.core.errors import NotRunningError
from console.group.driver import target_of
from console.io.groups import GroupRecord

__all__ = ["bench_group"]


async def bench_group(
    record: GroupRecord,
    plan: BenchPlan,
    on_progress: Callable[[BenchProgress], None] | None = None,
    on_result: Callable[[BenchResult], None] | None = None,
) -> BenchResult:
    """Measure the server of a group, with a line of its own to the head, where the result is kept too.

    Raises:
        RemoteError: there is no way to the head, or it ended meanwhile.
        NotRunningError: nothing runs there.
        ConsoleError: as for a run of one machine.
    """
    spec, head = record.spec, record.group.nodes[0]
    if record.group.over or not head.run:
        raise NotRunningError("Nothing is running", f"{spec.id}: {record.group.state}", "See: dsv4-console status")
    line = Line(target_of(spec, 0))
    try:
        return await RemoteBackend(line).bench(head.run, plan, on_progress, on_result)
    finally:
        await line.close()
