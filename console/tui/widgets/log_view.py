"""The log as a scrolling view over the shared buffer: lines are painted when they come into sight, never before.

Not RichLog or Log: those keep styled lines (56 MiB for 20,000), measure each write, and move the text under a reader.
"""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from console.tui.log_buffer import LogBuffer
from console.tui.log_lines import painted
from console.tui.messages import Scrolled
from console.tui.paint import Line, Span, cut, line, pad, rule
from console.tui.widgets.panel import Panel, to_strip

__all__ = ["LogTail", "LogView", "search_hits"]

SHOWN_WIDTH_MAX = 4_200
"""Furthest that one can scroll to the right, in cells."""


def search_hits(lines: list[str], text: str, first_line: int, start: int = 0) -> list[int]:
    """Numbers of the lines that hold `text`, capitals or not, from index `start` on."""
    wanted = text.casefold()
    return [first_line + i for i in range(start, len(lines)) if wanted in lines[i].casefold()]


class LogView(ScrollView, can_focus=True, inherit_bindings=False):
    """Scrolls over a `LogBuffer`. Follows the end until the reader goes up; then nothing moves under them."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "scroll_up", show=False),
        Binding("down,j", "scroll_down", show=False),
        Binding("pageup,b", "page_up", show=False),
        Binding("pagedown,space", "page_down", show=False),
    ]

    DEFAULT_CSS = "LogView { overflow-y: scroll; overflow-x: auto; }"

    def __init__(self, *, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self.buffer: LogBuffer | None = None
        self.following = True
        self.raw = False
        self.seen_line = 0
        """Newest line when following ended."""
        self.needle = ""
        self.marked: int | None = None
        """Number of the line that a search or a jump points at."""
        self._first_line = 1
        self._scrolling_self = False

    @property
    def new_lines(self) -> int:
        """Lines that came since following ended."""
        if self.following or self.buffer is None:
            return 0
        return max(self.buffer.last_line - self.seen_line, 0)

    def show(self, buffer: LogBuffer) -> None:
        """Read from this buffer."""
        self.buffer = buffer
        self.sync()

    def sync(self) -> None:
        """The buffer has changed, or the view came into sight."""
        buffer = self.buffer
        if buffer is None or not self.size.width:
            return
        size = Size(min(buffer.width + 4, SHOWN_WIDTH_MAX), max(len(buffer.lines), 1))
        dropped = buffer.first_line - self._first_line
        self._first_line = buffer.first_line
        grew = size.height != self.virtual_size.height
        if size != self.virtual_size:
            self.virtual_size = size
        if self.following:
            self._go(size.height)
            if grew or dropped:
                self.refresh()
        elif grew:
            bottom = self.scroll_offset.y + self.scrollable_content_region.height
            if size.height <= bottom:
                self.refresh()

    def _go(self, y: float) -> None:
        self._scrolling_self = True
        self.scroll_to(y=y, animate=False, force=True, immediate=True)
        self._scrolling_self = False

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if not self._scrolling_self:
            self.set_following(new_value >= self.max_scroll_y)
        self.post_message(Scrolled())

    def set_following(self, on: bool) -> None:
        """Follow the end, or stay where the reader is."""
        if on == self.following or self.buffer is None:
            return
        self.following = on
        self.buffer.hold = not on
        self.seen_line = self.buffer.last_line

    def go_end(self) -> None:
        """To the end, and follow it."""
        self.set_following(True)
        self._go(self.virtual_size.height)

    def go_top(self) -> None:
        """To the first line that is kept."""
        self.set_following(False)
        self._go(0)

    def go_line(self, number: int) -> None:
        """Show this line, marked, a third from the top."""
        if self.buffer is None:
            return
        self.set_following(False)
        self.marked = number
        self._go(max(number - self.buffer.first_line - self.size.height // 3, 0))
        self.refresh()

    def toggle_raw(self) -> None:
        """Whole lines, or short ones."""
        self.raw = not self.raw
        self.scroll_to(x=0, animate=False)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        left, top = self.scroll_offset
        width = self.scrollable_content_region.width
        buffer = self.buffer
        index = top + y
        if buffer is None or index >= len(buffer.lines):
            return Strip.blank(width, self.visual_style.rich_style)
        spans = painted(buffer.lines[index], self.raw)
        if self.needle:
            spans = _highlight(spans, self.needle)
        if self.marked == buffer.first_line + index:
            spans = tuple((text, role if role == "match" else f"+{role}") for text, role in pad(spans, left + width))
        strip = to_strip(self, spans, max(left + width, 1))
        return strip.crop(left, left + width)


def _highlight(spans: Line, needle: str) -> Line:
    wanted = needle.casefold()
    out: list[Span] = []
    for text, role in spans:
        folded = text.casefold()
        if wanted not in folded or len(folded) != len(text):
            out.append((text, role))
            continue
        at = 0
        while (found := folded.find(wanted, at)) >= 0:
            out += [(text[at:found], role), (text[found : found + len(wanted)], "match")]
            at = found + len(wanted)
        out.append((text[at:], role))
    return tuple(span for span in out if span[0])


class LogTail(Panel):
    """The newest lines, always in sight on the overview."""

    buffer: LogBuffer | None = None

    def show(self, buffer: LogBuffer) -> None:
        """Show the end of this buffer."""
        self.buffer = buffer
        self.repaint()

    def paint(self, width: int, height: int) -> list[Line]:
        buffer = self.buffer
        count = len(buffer.lines) if buffer else 0
        note = line((f"{buffer.last_line:,} lines" if buffer and count else "", "muted"))
        out = [rule("Log", width, note)]
        if buffer is None or not count:
            return [*out, line(("  nothing yet", "muted"))]
        shown = [text for text in buffer.lines[-4 * max(height, 1) :] if text.strip()][-max(height - 1, 1) :]
        return [*out, *(cut(painted(text, False), width) for text in shown)][: max(height, 2)]
