"""What is left out of an update makes no difference to the terminal: both ways are played to a small one of our own."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.color import ColorSystem
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual._compositor import ChopsUpdate, LayoutUpdate
from textual.geometry import Region
from textual.strip import Strip

from console.tui.changed import Changed, Shown, turned

WIDTH, HEIGHT = 12, 4
SEQUENCE = re.compile(r"\x1b\[([\d;]*)([A-Za-z])|(\n)|(.)", re.S)
CONSOLE = Console(color_system="truecolor", force_terminal=True, width=WIDTH, height=HEIGHT)
STYLES = [
    Style.parse(text)
    for text in ("#112233 on #000000", "#445566 on #000000", "#112233 on #111111", "bold #112233 on #000000", "none")
]


class Small:
    """Cells with the codes that they were written with; a wide character takes two."""

    def __init__(self) -> None:
        self.cells: dict[tuple[int, int], tuple[str, frozenset[str]]] = {}

    def feed(self, data: str) -> Small:
        x = y = 0
        on: dict[str, str] = {}
        for numbers, letter, newline, char in SEQUENCE.findall(data):
            if letter == "H":
                y, x = (int(part) - 1 for part in numbers.split(";"))
            elif letter == "C":
                x += int(numbers)
            elif letter == "m":
                if numbers.split(";")[0] in ("0", ""):
                    on = {}
                for kind in re.findall(r"(?:^|;)([34]8);2;(\d+;\d+;\d+)", numbers):
                    on[kind[0]] = kind[1]
                if numbers.split(";")[0] == "1":
                    on["bold"] = "1"
            elif newline:
                y, x = y + 1, 0
            elif char:
                self.cells[y, x] = (char, frozenset(f"{k}={v}" for k, v in on.items()))
                for extra in range(1, cell_len(char)):
                    self.cells[y, x + extra] = ("", frozenset())
                x += cell_len(char)
        return self


def strip_of(pieces: list[tuple[str, int]], width: int) -> Strip:
    return Strip([Segment(text, STYLES[n]) for text, n in pieces]).adjust_cell_length(width, STYLES[0])


TEXT = st.text(alphabet=st.sampled_from("ab ─█●日"), min_size=1, max_size=5)
PIECES = st.lists(st.tuples(TEXT, st.integers(0, len(STYLES) - 1)), min_size=1, max_size=4)
FULL = st.lists(PIECES, min_size=HEIGHT, max_size=HEIGHT)
SPAN = st.tuples(st.integers(0, HEIGHT - 1), st.sampled_from([0, 4, 8]), PIECES)
UPDATES = st.lists(st.one_of(FULL.map(lambda rows: ("full", rows)), SPAN.map(lambda s: ("span", s))), max_size=6)


def update_of(kind: str, value):
    if kind == "full":
        return LayoutUpdate([[strip_of(row, WIDTH)] for row in value], Region(0, 0, WIDTH, HEIGHT))
    y, x, pieces = value
    chops = [{0: None, 4: None, 8: None} for _ in range(HEIGHT)]
    chops[y][x] = strip_of(pieces, 4)
    return ChopsUpdate(chops, [(y, x, x + 4)], [[4, 8, 12]] * HEIGHT)


@given(FULL, UPDATES)
@settings(max_examples=200, deadline=None)
def test_the_terminal_shows_the_same(first, updates) -> None:
    whole, less, shown = Small(), Small(), Shown()
    for kind, value in [("full", first), *updates]:
        whole.feed(update_of(kind, value).render_segments(CONSOLE))
        less.feed(Changed(update_of(kind, value), shown).render_segments(CONSOLE))
        if "日" not in str((first, updates)):
            assert less.cells == whole.cells
    again = Changed(update_of("full", first), shown).render_segments(CONSOLE)
    assert less.feed(again).cells == Small().feed(update_of("full", first).render_segments(CONSOLE)).cells


@given(FULL)
@settings(max_examples=50, deadline=None)
def test_what_is_there_is_not_sent_again(rows) -> None:
    shown = Shown()
    assert Changed(update_of("full", rows), shown).render_segments(CONSOLE)
    assert Changed(update_of("full", rows), shown).render_segments(CONSOLE) == ""
    shown.forget()
    assert Changed(update_of("full", rows), shown).render_segments(CONSOLE)


def test_colours_of_the_terminal_at_hand() -> None:
    console = Console(color_system="standard", force_terminal=True, width=WIDTH, height=HEIGHT)
    assert console._color_system is ColorSystem.STANDARD
    style = Style(color="#a1b2c3", bgcolor="#030201", bold=True)  # Textual keeps the codes that a style had first
    rows = [[Strip([Segment("a", style)])]] * HEIGHT
    said = Changed(LayoutUpdate(rows, Region(0, 0, 1, HEIGHT)), Shown()).render_segments(console)
    assert "38;" not in said
    assert "\x1b[1;" in said


def test_only_the_colour_that_differs_is_sent() -> None:
    one, other = "\x1b[38;2;1;2;3;48;2;0;0;0m", "\x1b[38;2;9;9;9;48;2;0;0;0m"
    assert turned(one, other) == "\x1b[38;2;9;9;9m"
    assert turned(one, one) == ""
    assert turned("", one) == "\x1b[0m" + one
    assert turned("\x1b[1;38;2;1;2;3;48;2;0;0;0m", other) == "\x1b[0m" + other
    assert turned("\x1b[36;40m", "\x1b[37;40m") == "\x1b[0m\x1b[37;40m"
