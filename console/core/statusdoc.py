"""What `status --json` prints once and `watch --json` prints per tick, as one type: docs/status.md is made from it."""

from __future__ import annotations

import msgspec

from console.core.models import Money, RunInfo, Snapshot

__all__ = ["StatusDocument"]


class StatusDocument(msgspec.Struct, frozen=True, kw_only=True):
    """One run as it stands now. These fields are always there."""

    state: str
    """A `ServerState`, or `lost` (ended with nobody there to see how) or `unsupervised` (runs, its supervisor does
    not)."""
    run: RunInfo
    """What was launched."""
    supervised: bool
    """Whether its supervisor runs."""
    serving: bool
    """Whether the server's process runs."""
    log: str
    """Path of the server's log."""
    money: Money | None = None
    """What it has cost so far; `null` where nothing was counted."""
    snapshot: Snapshot | None
    """The newest tick; `null` where no supervisor answers."""
    others: tuple[str, ...] = ()
    """Ids of other runs that are alive, where none was named."""
