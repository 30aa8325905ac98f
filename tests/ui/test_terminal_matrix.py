"""The console in tmux: every way out of it leaves a clean terminal, and no way of looking at it breaks it."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.tmux import Tmux

CLEAN = "0 0 1"
ROOT = Path(__file__).parents[2]
WAIT_S = 60.0
TRUE_COLOR = re.compile(r"[34]8;2;(\d+);(\d+);(\d+)")
PALETTE_COLOR = re.compile(r"[34]8;[25];")
Open = Callable[..., Tmux]


@pytest.fixture
def console() -> Iterator[Open]:
    """Opens the scripted console in tmux; all are closed when the test ends."""
    opened: list[Tmux] = []

    def start(*words: str, width: int = 80, height: int = 24, **env: str) -> Tmux:
        """With environment variables of the program; an empty one is unset."""
        unset = [word for name, value in env.items() if not value for word in ("-u", name)]
        given = [f"{name}={value}" for name, value in env.items() if value]
        command = ["env", *unset, *given, sys.executable, "-m", "tests.ui.demo", *words]
        line = f"cd {shlex.quote(str(ROOT))} && {shlex.join(command)}"
        terminal = Tmux(line, dict(os.environ), width, height)
        opened.append(terminal)
        return terminal

    yield start
    for terminal in opened:
        terminal.close()


def program(terminal: Tmux) -> psutil.Process:
    """The console, under the shell of the pane."""
    found = [child for child in psutil.Process(terminal.pid).children(recursive=True) if "python" in child.name()]
    assert len(found) == 1, found
    return found[0]


def test_left_by_key(console: Open) -> None:
    terminal = console("serve", "lines=200")
    terminal.see("READY", WAIT_S)
    assert terminal.state() == "1 1 0", "mouse, alternate screen, no cursor"
    terminal.keys("q")
    terminal.see("Leave the console?")
    terminal.keys("Enter")
    terminal.see("exit=0")
    assert terminal.state() == CLEAN


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=str
)
def test_left_by_a_signal_in_a_log_storm(console: Open, number: int, code: int) -> None:
    terminal = console("serve", "lines=2000")
    terminal.see("READY", WAIT_S)
    program(terminal).send_signal(number)
    screen = terminal.see(f"exit={code}")
    assert "Traceback" not in screen
    assert terminal.state() == CLEAN


def test_killed_it_needs_a_reset_and_a_reset_suffices(console: Open) -> None:
    terminal = console("serve")
    terminal.see("READY", WAIT_S)
    program(terminal).kill()
    terminal.see("exit=137")
    assert terminal.state() != CLEAN, "nothing can clean up after SIGKILL"
    terminal.run("respawn-pane", "-k", "reset; echo after=$?; exec sleep 600")
    terminal.see("after=0")
    assert terminal.state() == CLEAN


def test_the_pane_is_closed(console: Open) -> None:
    terminal = console("serve", "lines=200")
    terminal.see("READY", WAIT_S)
    process = program(terminal)
    terminal.close()
    assert process.wait(30) is not None or not process.is_running()


def test_a_line_drops_and_another_attaches_at_another_size(console: Open) -> None:
    terminal = console("serve", "lines=200", width=100, height=30)
    terminal.see("READY", WAIT_S)
    first = terminal.attach(100, 30)
    terminal.until("the first client is there", lambda: b"READY" in first.got)
    first.drop()
    assert program(terminal).is_running()
    second = terminal.attach(160, 50)
    terminal.until("it is painted at 160 columns", lambda: max(map(len, terminal.text.splitlines())) > 140)
    terminal.see("q quit")
    second.send(b"2")
    terminal.see("following")
    second.drop()
    third = terminal.attach(64, 24)
    terminal.until("it is painted at 64 columns", lambda: max(map(len, terminal.text.splitlines())) <= 64)
    terminal.see("s stop  q quit  ? help")
    third.drop()


def test_a_storm_of_sizes_in_a_storm_of_lines(console: Open) -> None:
    terminal = console("serve", "lines=5000")
    terminal.see("READY", WAIT_S)
    for _ in range(8):
        for width, height in ((80, 24), (40, 10), (200, 60), (61, 20), (120, 21)):
            terminal.resize(width, height)
    terminal.resize(40, 10)
    terminal.see("60")
    terminal.resize(200, 60)
    terminal.until("it fills 200 columns", lambda: max(map(len, terminal.text.splitlines())) > 180)
    terminal.resize(80, 24)
    terminal.see("s stop  q quit  ? help")
    terminal.keys("2")
    terminal.see("following")
    lines = terminal.text.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert program(terminal).is_running()


@pytest.mark.parametrize("size", [(160, 50), (70, 22)])
def test_after_another_size_nothing_is_left_of_it(console: Open, size: tuple[int, int]) -> None:
    terminal = console("serve")
    terminal.see("READY", WAIT_S)
    terminal.resize(*size)
    terminal.until("it is painted anew", lambda: len(terminal.text.rstrip().splitlines()) == size[1])
    terminal.keys("q")
    terminal.see("Leave the console?")
    terminal.keys("Enter")
    assert terminal.see("exit=0").split() == ["exit=0"]
    assert terminal.state() == CLEAN


def test_no_colour(console: Open) -> None:
    terminal = console("serve", NO_COLOR="1")
    screen = terminal.see("● READY", WAIT_S)
    assert "▲" in screen, "what is not well has its glyph"
    hues = {match for match in TRUE_COLOR.findall(terminal.colored) if len(set(match)) > 1}
    assert hues == set(), "greys only"


@pytest.mark.parametrize("term", ["linux", "vt100"])
def test_sixteen_colours(console: Open, term: str) -> None:
    terminal = console("serve", TERM=term, COLORTERM="")
    screen = terminal.see("READY", WAIT_S)
    assert screen.isascii(), "its font has no bars"
    assert not PALETTE_COLOR.search(terminal.colored)
    terminal.keys("h")
    terminal.see("why")


def test_256_colours_without_colorterm(console: Open) -> None:
    terminal = console("serve", COLORTERM="")
    terminal.see("● READY", WAIT_S)
    assert "38;5;" in terminal.colored
    assert not TRUE_COLOR.search(terminal.colored)


@pytest.mark.parametrize("words", [(), ("--ascii",)], ids=["glyphs", "ascii"])
def test_a_locale_without_utf_8(console: Open, words: tuple[str, ...]) -> None:
    terminal = console("serve", *words, LC_ALL="C", LANG="C", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0")
    screen = terminal.see("READY", WAIT_S)
    assert screen.isascii() is bool(words)
    assert ("* READY" if words else "● READY") in screen
    assert "\\u" not in screen
    assert "�" not in screen


def test_without_the_mouse(console: Open) -> None:
    terminal = console("serve", "--no-mouse")
    terminal.see("READY", WAIT_S)
    assert terminal.state() == "0 1 0"
