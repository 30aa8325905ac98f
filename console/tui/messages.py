"""What the workers tell the widgets. Messages that only say "look again" collapse into one."""

from __future__ import annotations

from textual.message import Message

__all__ = ["LogGrew", "Scrolled", "SnapshotArrived"]


class _Latest(Message):
    """Of several waiting, only the newest is handled: it points at data that is kept elsewhere."""

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, type(self))


class SnapshotArrived(_Latest):
    """The run's model has a newer snapshot, event or loss."""


class LogGrew(_Latest):
    """The log buffer has more lines."""


class Scrolled(_Latest):
    """The reader has moved in the log."""
