"""Which processes' lines are shown: a list that marks them, over the log, which changes at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen

from console.tui.actions import bindings_for
from console.tui.keymap import keys_for
from console.tui.paint import Line, clip, line
from console.tui.widgets.panel import Panel
from console.tui.widgets.select_list import SelectList

__all__ = ["ChooseProcesses"]

KEYS = (
    ("processes.choose", "choose"),
    ("processes.only", "only this"),
    ("processes.all", "all"),
    ("processes.done", "done"),
)
"""Told of under the list."""


def machines_of(names: Iterable[str]) -> dict[str, frozenset[str]]:
    """The processes of each machine, where there are several: `node-a/Worker_TP0` is one of `node-a`."""
    found: dict[str, set[str]] = {}
    for name in names:
        host, slash, _ = name.partition("/")
        if slash:
            found.setdefault(host, set()).add(name)
    return {host: frozenset(each) for host, each in found.items()} if len(found) > 1 else {}


class Words(Panel):
    """One line of text."""

    def __init__(self, text: str, role: str) -> None:
        super().__init__()
        self._text, self._role = text, role

    def paint(self, width: int, height: int) -> list[Line]:
        return [line((clip(self._text, width), self._role))]


class ChooseProcesses(ModalScreen[None]):
    """Names with a mark.

    Args:
        counts: lines of each process; `""` stands for lines that name none.
        chosen: shown now; empty means all.
        changed: told every choice.
    """

    BINDINGS: ClassVar[list[BindingType]] = [*bindings_for("processes"), *bindings_for("list")]

    def __init__(
        self, counts: dict[str, int], chosen: frozenset[str], changed: Callable[[frozenset[str]], None]
    ) -> None:
        super().__init__()
        self._counts = counts
        self._chosen = set(chosen) if chosen else set(counts)
        self._changed = changed
        self._machines = machines_of(counts)

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Words("Which processes?", "strong")
            yield SelectList(self._row, "No line names a process yet.", id="runs")
            yield Words(keys_for(*KEYS), "muted")

    def on_mount(self) -> None:
        """In the order of their first line, in a group each machine before all of them."""
        rows = self.query_one(SelectList)
        rows.show([*self._machines, *self._counts])
        rows.focus()

    def _row(self, key: str, width: int, chosen: bool) -> Line:
        names = self._names(key)
        on = names <= self._chosen
        count = sum(self._counts[name] for name in names)
        shown = f"{key}: all of it" if key in self._machines else key or "no process named"
        return line(
            ("▸ " if chosen else "  ", "accent"),
            ("✓ " if on else "  ", "ok"),
            (f"{clip(shown, 28):<29}", "strong" if on else "muted"),
            (f"{count:>11,} line{'s' if count != 1 else ''}", "muted"),
        )

    def _names(self, key: str) -> frozenset[str]:
        """The processes that a row stands for."""
        return self._machines.get(key) or frozenset({key})

    def _tell(self) -> None:
        everything = not self._chosen or self._chosen >= set(self._counts)
        self._changed(frozenset() if everything else frozenset(self._chosen))
        self.query_one(SelectList).repaint()

    def action_choose(self) -> None:
        """This one, or not; without any all are shown."""
        key = self.query_one(SelectList).selected_key
        if key is not None:
            names = self._names(key)
            self._chosen = self._chosen - names if names <= self._chosen else self._chosen | names
            self._tell()

    def action_only(self) -> None:
        """None but this one."""
        key = self.query_one(SelectList).selected_key
        if key is not None:
            self._chosen = set(self._names(key))
            self._tell()

    def action_all(self) -> None:
        """Every process."""
        self._chosen = set(self._counts)
        self._tell()

    def action_done(self) -> None:
        """Back."""
        self.dismiss(None)
