"""Copying that can be relied on: a terminal's clipboard (OSC 52) does not answer, so a file holds the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from console.tui.fmt import home_short

if TYPE_CHECKING:
    from console.tui.app import ConsoleApp

__all__ = ["copy_command"]


async def copy_command(app: ConsoleApp, name: str, line: str) -> None:
    """Send the command of a profile to the clipboard and into a file, and say both.

    Raises:
        console.core.errors.StateError: the file cannot be written; the clipboard has it.
    """
    app.copy_to_clipboard(line)
    path = await app.backend.keep_command(name, line)
    app.notify(
        f"Sent to the terminal's clipboard, which does not answer. It is also in {home_short(path)}",
        title="Command copied",
        markup=False,
    )
