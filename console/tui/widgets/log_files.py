"""Lines of the log to a new file, and to the clipboard where they are not too many; and what is said then."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

from textual.widget import Widget

from console.core.errors import StateError
from console.io.logexport import write_lines
from console.tui.glyphs import safe

__all__ = ["CLIPBOARD_BYTES_MAX", "write_and_tell"]

CLIPBOARD_BYTES_MAX = 64 * 1024
"""More is not sent: terminals cut or refuse it (xterm takes 100 kB of base64, 75 kB of text)."""


def write_and_tell(widget: Widget, run_id: str, kind: str, lines: Iterable[str], clipboard: str = "") -> None:
    """Write a file in a thread, then say where it is, or why it is not.

    Args:
        widget: whose worker this is.
        run_id: whose log it is.
        kind: a part of the file's name.
        lines: of the file.
        clipboard: sent to the terminal too, unless it is too long; empty for a file alone.
    """

    async def write() -> None:
        try:
            path, count = await asyncio.to_thread(write_lines, run_id or "log", kind, lines)
        except (OSError, StateError) as error:
            widget.notify(safe(str(error)), title="Not written", severity="error", markup=False)
            return
        _tell(widget, path, count, clipboard)

    widget.run_worker(write(), group="log-write", exit_on_error=False)


def _tell(widget: Widget, path: Path, count: int, clipboard: str) -> None:
    lines = f"{count:,} line{'' if count == 1 else 's'}"
    title, text = "Written", f"{lines} in {path}"
    if len(clipboard.encode(errors="replace")) > CLIPBOARD_BYTES_MAX:
        text = f"{lines}, too long for a clipboard, in {path}"
    elif clipboard:
        widget.app.copy_to_clipboard(clipboard)
        title, text = "Copied", f"{lines}: sent to the terminal's clipboard, and in {path}"
    widget.notify(safe(text), title=title, markup=False)
