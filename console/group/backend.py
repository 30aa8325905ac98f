"""A backend whose runs are also the groups that were started here, each as one.

The screen paints before it is asked for anything: what it needs is loaded then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from console.client.api import Backend, Session
from console.core.groupwords import no_trial
from console.core.models import RunInfo

if TYPE_CHECKING:
    from console.io.groups import GroupDir, GroupRecord

__all__ = ["with_groups"]

ABOUT_ONE = frozenset({"replan", "experiment", "bench", "bench_results"})
"""Calls of a backend whose first argument is the id of a run."""

HISTORY_S = 86_400.0
"""Of the machines' pasts: as far back as charts look."""


class _Groups:
    """See `with_groups`."""

    def __init__(self, inner: Backend) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        found = getattr(self._inner, name)
        return self._about_one(name, found) if name in ABOUT_ONE else found

    async def runs(self) -> tuple[RunInfo, ...]:
        """Groups that are not over, then runs of this machine that are no part of one of them."""
        groups = await asyncio.to_thread(_live)
        alone = [run for run in await self._inner.runs() if run.place is None or run.place.group not in groups]
        return (*groups.values(), *alone)

    async def attach(self, run_id: str) -> Session:
        """Attach to a group as a whole, or to a run."""
        found = await asyncio.to_thread(_group, run_id)
        if found is None:
            return await self._inner.attach(run_id)
        from console.group.session import GroupSession

        return cast("Session", await GroupSession.open(found[0], HISTORY_S))

    def _about_one(self, name: str, inner: Callable[..., Any]) -> Callable[..., Any]:
        """A group is measured from its head; nothing is tried on it."""

        async def call(*arguments: Any, **named: Any) -> Any:
            run_id = arguments[0] if arguments else named.get("run_id")
            found = None if run_id is None else await asyncio.to_thread(_group, str(run_id))
            if found is None:
                return await inner(*arguments, **named)
            if name == "bench_results":
                return ()
            record = found[1]
            if name != "bench":
                raise no_trial(record.spec.profile_name, record.spec.id, record.spec.hosts)
            from console.group.bench import bench_group

            return await bench_group(record, *arguments[1:], **{k: v for k, v in named.items() if k != "run_id"})

        return call


def _live() -> dict[str, RunInfo]:
    """Groups that are not over, newest first."""
    from console.io.groups import list_groups

    found = [record for _, record in list_groups() if not record.group.over]
    if not found:
        return {}
    from console.group.session import run_of

    return {record.spec.id: run_of(record) for record in found}


def _group(run_id: str) -> tuple[GroupDir, GroupRecord] | None:
    """The group of this id; `None` where it is none of a group."""
    from console.io.groups import list_groups

    return next((pair for pair in list_groups() if pair[1].spec.id == run_id), None)


def with_groups(inner: Backend) -> Backend:
    """This backend, with groups that were started here as runs of their own."""
    return cast("Backend", _Groups(inner))
