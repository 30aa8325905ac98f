"""The log with its search and a line that says where one is: following, or how much is new below."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.events import Key
from textual.widgets import Input

from console.tui.actions import bindings_for
from console.tui.log_buffer import LogBuffer
from console.tui.messages import Scrolled
from console.tui.paint import Line, Span, line, spread
from console.tui.widgets.log_view import LogView, search_hits
from console.tui.widgets.panel import Panel

__all__ = ["LogPane"]


SIDE_COLUMNS = 20


class LogStatus(Panel):
    """One line under the log."""

    left: Line = ()
    right: Line = ()

    def show(self, left: Line, right: Line) -> None:
        """Say this."""
        self.left, self.right = left, right
        self.repaint()

    def paint(self, width: int, height: int) -> list[Line]:
        return [spread(self.left, self.right, width)]


class SearchInput(Input):
    """Leaves with escape or enter; an empty search ends the search."""

    async def _on_key(self, event: Key) -> None:
        if event.key in ("escape", "tab"):
            event.stop()
            event.prevent_default()
            self.display = False
            self.screen.query_one("#log-view").focus()


class LogPane(Vertical):
    """The tab `Logs`."""

    BINDINGS: ClassVar[list[BindingType]] = bindings_for("logs")

    def __init__(self, *, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self._hits: list[int] = []
        self._counted_to = 0
        self._wanted_line: int | None = None
        self._missing_line: int | None = None
        """A line that was asked for and is no longer in memory."""

    def compose(self) -> ComposeResult:
        yield LogView(id="log-view")
        yield SearchInput(placeholder="search the log", id="log-search", compact=True)
        yield LogStatus(id="log-status")

    def on_mount(self) -> None:
        """The search line appears when asked for."""
        self.query_one("#log-search").display = False

    @property
    def view(self) -> LogView:
        """The scrolling part."""
        return self.query_one("#log-view", LogView)

    def show(self, buffer: LogBuffer) -> None:
        """Show what the buffer has now."""
        if self.view.buffer is not buffer:
            self.view.show(buffer)
        self.view.sync()
        self._count()
        if self._wanted_line is not None and buffer.line(self._wanted_line) is not None:
            self.view.go_line(self._wanted_line)
            self._wanted_line = None
        elif self._wanted_line is not None and buffer.lines and self._wanted_line < buffer.first_line:
            self._missing_line, self._wanted_line = self._wanted_line, None
        self.show_status()

    def jump_to(self, number: int) -> None:
        """Show this line as soon as it is read."""
        self._wanted_line, self._missing_line = number, None
        if self.view.buffer is not None:
            self.show(self.view.buffer)

    def _count(self) -> None:
        buffer, needle = self.view.buffer, self.view.needle
        if buffer is None or not needle:
            return
        while self._hits and self._hits[0] < buffer.first_line:
            del self._hits[: search_start(self._hits, buffer.first_line)]
        start = max(self._counted_to + 1 - buffer.first_line, 0)
        self._hits += search_hits(buffer.lines, needle, buffer.first_line, start)
        self._counted_to = buffer.last_line

    def on_scrolled(self, event: Scrolled) -> None:
        """Say where the reader is now."""
        self.show_status()

    def show_status(self) -> None:
        """Say where the reader is."""
        view = self.view
        buffer = view.buffer
        if buffer is None:
            return
        left: list[Span] = []
        if view.following:
            left = [("● following", "ok"), (f"  {buffer.last_line:,} lines", "muted")]
        else:
            at = buffer.first_line + round(view.scroll_y)
            left = [(f"line {at:,} of {buffer.last_line:,}", "muted")]
            if view.new_lines:
                left.append((f"  ▼ {view.new_lines:,} new", "accent"))
        if self._missing_line is not None:
            left = [(f"line {self._missing_line:,} is further up: dsv4-console logs", "warn")]
        elif buffer.first_line > 1:
            left.append((f"  from line {buffer.first_line:,} on; all: dsv4-console logs", "muted"))
        right: list[Span] = []
        if view.needle:
            total = len(self._hits)
            place = (
                f"{self._hits.index(view.marked) + 1} of {total}" if view.marked in self._hits else f"{total:,} found"
            )
            right = [(f"/{view.needle}  ", "match"), (f" {place}", "muted" if total else "warn")]
        if view.raw:
            right.append(("   as written", "muted"))
        self.query_one("#log-status", LogStatus).show(line(*left), line(*right))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Going on with a search needs one."""
        return bool(self.view.needle) if action == "match" else True

    def action_search(self) -> None:
        """Open the search line."""
        field = self.query_one("#log-search", Input)
        field.display = True
        field.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Search, from the end back."""
        event.stop()
        self.view.needle = event.value.strip()
        self._hits, self._counted_to = [], 0
        self.query_one("#log-search").display = False
        self.view.focus()
        self._count()
        self.view.marked = None
        if self._hits:
            self.action_match(-1)
        self.view.refresh()
        self.show_status()
        self.screen.refresh_bindings()

    def action_match(self, step: int) -> None:
        """Go to the next or previous line that matches; past the last begins with the first."""
        view = self.view
        if not self._hits or view.buffer is None:
            return
        here = view.marked if view.marked is not None else view.buffer.last_line + 1
        after = [hit for hit in self._hits if (hit > here if step > 0 else hit < here)]
        target = (after[0] if step > 0 else after[-1]) if after else self._hits[0 if step > 0 else -1]
        view.go_line(target)
        self.show_status()

    def action_top(self) -> None:
        """To the start."""
        self.view.go_top()
        self.show_status()

    def action_follow(self) -> None:
        """To the end, following."""
        self._missing_line = None
        self.view.go_end()
        self.view.marked = None
        self.show_status()

    def action_sideways(self, step: int) -> None:
        """Long lines go on to the right."""
        self.view.scroll_relative(x=step * SIDE_COLUMNS, animate=False)

    def action_raw(self) -> None:
        """Whole lines, or short ones."""
        self.view.toggle_raw()
        self.show_status()


def search_start(hits: list[int], first_line: int) -> int:
    """How many hits lie before `first_line`."""
    return next((i for i, hit in enumerate(hits) if hit >= first_line), len(hits))
