"""Runs the app in a real terminal and leaves that terminal as it was, whatever happens."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from console.client.api import Backend
from console.core.preferences import Preferences
from console.io.paths import make_private_dir, state_dir
from console.tui.curtain import hand_over

__all__ = ["run_tui"]

DEFAULTS = Preferences()
FRAMES_PER_S = "120"
"""Of Textual, which paints at its next frame: 4 ms after a key in the middle, and not 8. Nothing is painted without
cause."""
YOUNG, GENERATIONS, SELDOM = 5_000, 20, 100_000
"""Thresholds of the garbage collector (`gc.set_threshold`)."""
LOG_NAME = "console.log"
PLAIN_TERMINALS = frozenset({"linux", "vt100", "vt102", "vt220", "dumb"})
"""Values of TERM whose fonts lack the bars of charts: they get ASCII, as with `--ascii`."""


@contextlib.contextmanager
def guarded_stderr(log_path: Path | None) -> Iterator[None]:
    """Textual paints on a copy of fd 2, as UTF-8; fd 2 itself goes to a file, or without one nowhere.

    So nothing that a native library prints lands on the screen, and glyphs survive a locale that is not UTF-8.
    """
    painted = os.dup(2)
    kept_stream = sys.__stderr__
    target = Path(os.devnull) if log_path is None else log_path
    with target.open("ab") as log, os.fdopen(painted, "w", encoding="utf-8", errors="replace") as stream:
        if log_path is not None:
            log_path.chmod(0o600)
        sys.stderr.flush()
        os.dup2(log.fileno(), 2)
        sys.__stderr__ = stream  # type: ignore[misc]
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                stream.flush()
            os.dup2(painted, 2)
            sys.__stderr__ = kept_stream  # type: ignore[misc]


@contextlib.contextmanager
def ending_with_terminal() -> Iterator[None]:
    """Nothing can be painted or put back on a terminal that is gone: that ends the console and is no defect of it."""
    try:
        yield
    except OSError:
        from console.tui.terminal_app import GONE_CODE, terminal_gone

        if terminal_gone(sys.__stdin__):
            raise SystemExit(GONE_CODE) from None
        raise


def forgive_mouse_bytes() -> None:
    """After a tmux reattach the mouse may speak X10, whose bytes are no UTF-8 past column 95: read them as `�`.

    Textual's Linux driver dies of them (issue 6668 there).
    """
    import codecs

    from textual.drivers import linux_driver

    def forgiving(encoding: str) -> Any:
        make = codecs.getincrementaldecoder(encoding)
        return lambda: make(errors="replace")

    vars(linux_driver)["getincrementaldecoder"] = forgiving


def run_tui(
    backend: Backend,
    *,
    initial_profile: str | None = None,
    attach_run: str | None = None,
    ascii_glyphs: bool = False,
    mouse: bool = True,
    replay: bool = False,
    preferences: Preferences = DEFAULTS,
    host: str = "",
    hosts: Sequence[str] = (),
    at_end: Callable[[], Awaitable[None]] | None = None,
) -> int:
    """Run the console until it is left; gives the exit code.

    Args:
        backend: profiles, engines and runs.
        initial_profile: profile to select in the picker.
        attach_run: run to attach to at once.
        ascii_glyphs: draw with ASCII only, also where the terminal is known to have little more.
        mouse: listen to the mouse; without it no mouse sequence is sent to the terminal at all.
        replay: the backend plays a recording: nothing is written, not even a log.
        preferences: theme, keys, and whether anything may be changed from here.
        host: the machine that the backend is of, if not this one.
        hosts: machines whose runs it has too; with them the fleet is opened first.
        at_end: what has to be done before the event loop ends.

    Raises:
        console.core.errors.StateError: the state directory is not writable.
    """
    log_path = None if replay else make_private_dir(state_dir()) / LOG_NAME
    with ending_with_terminal(), guarded_stderr(log_path):
        # Importing makes only objects that stay: collecting in between costs a tenth of the time to the first paint.
        gc.disable()
        os.environ.setdefault("TEXTUAL_FPS", FRAMES_PER_S)
        from console.tui.app import ConsoleApp
        from console.tui.terminal_app import GONE_CODE, terminal_gone

        gc.freeze()
        # A collection of everything takes 15 to 40 ms, and came every 1.4 s: a key that came just then showed late. The
        # app does it while nobody types.
        gc.set_threshold(YOUNG, GENERATIONS, SELDOM)
        gc.enable()
        forgive_mouse_bytes()
        app = ConsoleApp(
            backend,
            initial_profile=initial_profile,
            attach_run=attach_run,
            ascii_glyphs=ascii_glyphs or os.environ.get("TERM") in PLAIN_TERMINALS,
            replay=replay,
            preferences=preferences,
            host=host,
            hosts=hosts,
            at_end=at_end,
        )
        hand_over()
        result = app.run(mouse=mouse)
        code = GONE_CODE if terminal_gone(sys.__stdin__) else app.return_code or 0
    return result if isinstance(result, int) else code
