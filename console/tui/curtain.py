"""What stands on the screen while the console is still being loaded: what runs here, from the runs' own records.

Textual and the rest take about half a second to import. Whoever opens the console at night wants one answer first, "is
it up", and the records have it: they are read and painted before anything else is imported. So nothing heavy may be
imported here. The full screen then paints over it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["EMPTY", "hand_over", "lines", "raised"]

RUNS_READ = 8
"""Newest launches that are looked at."""
RECORD_BYTES_MAX = 262_144
COLUMNS_MIN, ROWS_MIN = 60, 20
"""Below that the console itself has only a sentence to say."""
EMPTY = "\x1b[0m\x1b[2J\x1b[999;1H"
"""Nothing on it, and the cursor at its last row. A terminal that was resized meanwhile may show rows of the alternate
screen above what stood there before (tmux 3.3a does, for any that lie above the cursor)."""
OPEN, CLOSE = "\x1b[?1049h\x1b[?25l\x1b[H\x1b[2J", f"{EMPTY}\x1b[?1049l\x1b[?25h"
"""Alternate screen, without a cursor and cleared; and back."""


class _Screen:
    """Whether the curtain is what stands on it."""

    raised = False


_screen = _Screen()


@contextmanager
def raised(runs: Path, version: str, *, host: str = "") -> Iterator[None]:
    """Show it while the body loads, until `hand_over`; whatever happens, the terminal is left as it was.

    Args:
        runs: the directory of runs.
        version: of this program.
        host: name of another machine whose runs they are; then none are read here.
    """
    handle = sys.stdout.fileno()
    size = _size(handle)
    if size is None:
        yield
        return
    kept = None
    with suppress(termios.error):
        kept = termios.tcgetattr(handle)
        quiet = [*kept[:3], kept[3] & ~(termios.ECHO | termios.ICANON), *kept[4:]]
        # Keys typed meanwhile must not appear on the screen: they wait for the console.
        termios.tcsetattr(handle, termios.TCSANOW, quiet)
    before = {number: signal.signal(number, _end) for number in (signal.SIGTERM, signal.SIGHUP)}
    _screen.raised = True
    try:
        found = [] if host else live(runs)
        text = "\r\n".join(lines(found, version, time.time(), *size, host=host))
        _write(handle, OPEN + text)
        yield
    finally:
        if _screen.raised:
            _write(handle, CLOSE)
        _screen.raised = False
        for number, handler in before.items():
            if signal.getsignal(number) is _end:
                signal.signal(number, handler)
        if kept is not None:
            with suppress(termios.error):
                termios.tcsetattr(handle, termios.TCSANOW, kept)


def hand_over() -> None:
    """The console paints from now on, and leaves the screen itself."""
    _screen.raised = False


def _end(number: int, frame: object) -> NoReturn:
    """A signal ends the program, the terminal clean."""
    raise SystemExit(143 if number == signal.SIGTERM else 129)


def _size(handle: int) -> tuple[int, int] | None:
    """Columns and rows; `None` where nothing may be painted."""
    try:
        columns, rows = os.get_terminal_size(handle)
    except OSError:
        return None
    plain = os.environ.get("TERM", "dumb") == "dumb"
    return None if plain or columns < COLUMNS_MIN or rows < ROWS_MIN else (columns, rows)


def _write(handle: int, text: str) -> None:
    with suppress(OSError):
        os.write(handle, text.encode("ascii", "replace"))


def live(folder: Path) -> list[dict[str, Any]]:
    """Records of the newest runs whose supervisor lives, newest first; a damaged one is passed over."""
    try:
        newest = sorted(folder.iterdir(), reverse=True)[:RUNS_READ]
    except OSError:
        return []
    found = []
    for run in newest:
        with suppress(OSError, ValueError):
            with (run / "run.json").open("rb") as file:
                record = json.loads(file.read(RECORD_BYTES_MAX))
            if isinstance(record, dict) and Path(f"/proc/{record.get('supervisor_pid')}").exists():
                found.append(record)
    return found


def lines(
    runs: list[dict[str, Any]], version: str, now_s: float, columns: int, rows: int, *, host: str = ""
) -> list[str]:
    """What is shown, in ASCII: the terminal's abilities are not known yet.

    Args:
        runs: records as `live` gives them.
        version: of this program.
        now_s: Unix time.
        columns: of the terminal.
        rows: of the terminal.
        host: as for `raised`.
    """
    shown = [f" dsv4-console {version}", ""]
    if host:
        shown.append(f" on {host}: connecting")
    elif not runs:
        shown.append(" No server of this console is running here.")
    for record in runs[: (rows - 6) // 4]:
        name, state = (_plain(record.get(key)) for key in ("profile_name", "state"))
        shown.append(f" {name}: {state}{_age(record, now_s)}")
        for key in ("profile_title", "url", "reason"):
            if text := _plain(record.get(key)):
                shown.append(f"   {text}")
    shown += ["", " Opening the console ..."]
    return [line[: columns - 1] for line in shown]


def _age(record: dict[str, Any], now_s: float) -> str:
    began = record.get("server_started_s") or record.get("created_s")
    if not isinstance(began, (int, float)):
        return ""
    minutes = max(int(now_s - began) // 60, 0)
    return f", started {minutes // 60} h {minutes % 60:02} min ago"


def _plain(value: object) -> str:
    """Without anything that a terminal would obey."""
    return "".join(char if " " <= char <= "~" else "?" for char in str(value or ""))
