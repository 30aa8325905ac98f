"""The log as a scrolling view over the shared buffer: lines are painted when they come into sight, never before.

Not RichLog or Log: those keep styled lines (56 MiB for 20,000), measure each write, and move the text under a reader.
Its place is a line, not an offset: rows may come and go above it, and it stays.
"""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.events import Resize
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.scrollbar import ScrollBarRender
from textual.strip import Strip

from console.core.logrows import Rows
from console.tui.log_buffer import LogBuffer
from console.tui.log_lines import highlighted, painted, with_fold, with_mark, wrapped_rows
from console.tui.log_search import LogSearch
from console.tui.messages import Scrolled
from console.tui.paint import Line, cut, line, pad, rule
from console.tui.widgets.panel import Panel, to_strip

__all__ = ["LogTail", "LogView"]

SHOWN_WIDTH_MAX = 4_200
"""Furthest that one can scroll to the right, in cells."""
POINTER, RANGE = "▸", "▌"

Spot = tuple[int, int]
"""A row on the screen: the line's number, and which of its wrapped rows."""


class PlainBar(ScrollBarRender):
    """A scrollbar whose ends are whole cells."""

    VERTICAL_BARS: ClassVar[list[str]] = [" "] * 8


class LogView(ScrollView, can_focus=True, inherit_bindings=False):
    """Scrolls over a `LogBuffer`. Follows the end until the reader goes up; then nothing moves under them."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "step(-1)", show=False),
        Binding("down,j", "step(1)", show=False),
        Binding("pageup,b", "page(-1)", show=False),
        Binding("pagedown,space", "page(1)", show=False),
    ]

    DEFAULT_CSS = "LogView { overflow-y: scroll; overflow-x: auto; }"

    def __init__(self, *, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self.buffer: LogBuffer | None = None
        self.rows = Rows()
        self.following = True
        self.raw = False
        self.wrap = False
        self.seen_line = 0
        """Newest line when following ended."""
        self.search: LogSearch | None = None
        self.marked: int | None = None
        """Number of the line that a search, a jump or the cursor points at."""
        self.range_from: int | None = None
        """Where the range begins that is being marked; it ends at `marked`."""
        self.top_line = 1
        """The line at the top: the reader's place."""
        self._rewinds = 0
        self._scrolling_self = False
        self._spots: list[Spot] = []
        self._sight: object = None

    @property
    def new_lines(self) -> int:
        """Lines that came since following ended."""
        if self.following or self.buffer is None:
            return 0
        return max(self.buffer.last_line - self.seen_line, 0)

    @property
    def range(self) -> tuple[int, int] | None:
        """First and last line of the marked range."""
        if self.range_from is None or self.marked is None:
            return None
        return min(self.range_from, self.marked), max(self.range_from, self.marked)

    @property
    def _height(self) -> int:
        return max(self.scrollable_content_region.height, 1)

    def on_mount(self) -> None:
        """Textual draws the ends of a scrollbar with blocks."""
        if getattr(self.app, "ascii_glyphs", False):
            self.vertical_scrollbar.renderer = PlainBar  # type: ignore[misc]

    def show(self, buffer: LogBuffer) -> None:
        """Read from this buffer."""
        self.buffer = buffer
        self.rows.clear()
        self.sync()

    def sync(self) -> None:
        """The buffer or what is shown of it has changed, or the view came into sight."""
        buffer = self.buffer
        if buffer is None or not self.size.width:
            return
        if buffer.rewinds != self._rewinds:
            self._rewinds = buffer.rewinds
            self.rows.clear()
            self._mind_what_is_gone(buffer.last_line)
        self.rows.update(buffer.store)
        count = len(self.rows)
        last_top = self._last_top()
        size = Size(
            self.size.width if self.wrap else min(buffer.store.width + 8, SHOWN_WIDTH_MAX),
            max(last_top + self._height, 1),
        )
        self._scrolling_self = True  # a smaller size scrolls by itself, and that is no wish to go anywhere
        if size != self.virtual_size:
            self.virtual_size = size
        self._scrolling_self = False
        self._go(last_top if self.following else min(self.rows.index_of(self.top_line), max(count - 1, 0)))
        self._look()

    def _mind_what_is_gone(self, last_line: int) -> None:
        """A replay went back: a place that is not there yet becomes the end."""
        if self.marked is not None and self.marked > last_line:
            self.marked = self.range_from = None
        self.rows.opened = {number for number in self.rows.opened if number <= last_line}
        if self.top_line > last_line:
            self.set_following(True)

    def _last_top(self) -> int:
        """The row at the top when the newest one is at the bottom."""
        count, height = len(self.rows), self._height
        if not self.wrap:
            return max(count - height, 0)
        used = 0
        for index in range(count - 1, -1, -1):
            used += len(self._wrapped(self.rows.numbers[index]))
            if used > height:
                return min(index + 1, count - 1)
        return 0

    def _look(self) -> None:
        """Work out what is in sight; draw if that is other than before."""
        buffer = self.buffer
        if buffer is None:
            return
        spots: list[Spot] = []
        index = round(self.scroll_y)
        while len(spots) < self._height and index < len(self.rows):
            number = self.rows.numbers[index]
            spots += [(number, i) for i in range(len(self._wrapped(number)))] if self.wrap else [(number, 0)]
            index += 1
        self._spots = spots[: self._height]
        sight = (
            tuple(self._spots), self.raw, self.wrap, self.marked, self.range_from, self.search,
            tuple(self._last_under(number) for number, _ in self._spots), buffer.rewinds,
            self.search and len(self.search.hits), buffer.unread and self.rows.is_gap(self.top_line),
        )  # fmt: skip
        if sight != self._sight:
            self._sight = sight
            self.refresh()

    def _last_under(self, number: int) -> int:
        part = self.buffer.store.part_of(number) if self.buffer is not None else None
        return part.facts.last_under(number) if part is not None and self.rows.fold else 0

    def _go(self, y: int) -> None:
        self._scrolling_self = True
        self.scroll_to(y=y, animate=False, force=True, immediate=True)
        self._scrolling_self = False

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if not self._scrolling_self:
            self.set_following(new_value >= self.max_scroll_y)
            self._keep_place()
        self._look()
        self.post_message(Scrolled())

    def _keep_place(self) -> None:
        index = round(self.scroll_y)
        if index < len(self.rows):
            self.top_line = self.rows.numbers[index]

    def on_resize(self, event: Resize) -> None:
        """Other rows fit, or wrap otherwise; the cursor stays in sight."""
        self.sync()
        if self.range_from is not None:
            self.move_cursor(0)

    def set_following(self, on: bool) -> None:
        """Follow the end, or stay where the reader is."""
        if self.buffer is None or on == self.following:
            return
        self.following = on
        self.buffer.hold = not on
        self.seen_line = self.buffer.last_line
        self._keep_place()

    def go_end(self) -> None:
        """To the newest line, following."""
        self.set_following(True)
        self.sync()

    def go_top(self) -> None:
        """To the first row."""
        self.set_following(False)
        self._go(0)
        self._keep_place()

    def go_line(self, number: int) -> None:
        """Show this line, marked, a third from the top; open the row that it is folded under."""
        if self.buffer is None:
            return
        self.set_following(False)
        head = self.buffer.store.head(number)
        if self.rows.fold and head != number and head not in self.rows.opened:
            self.rows.toggle(self.buffer.store, head)
        self.marked = number
        index = self.rows.index_of(number)
        self.top_line = self.rows.numbers[max(index - self._height // 3, 0)] if len(self.rows) else 1
        self.sync()

    def change(self) -> None:
        """What is shown of the log has changed: the place stays."""
        self.rows.clear()
        self.sync()

    def toggle_raw(self) -> None:
        """Whole lines, or short ones."""
        self.raw = not self.raw
        self.scroll_to(x=0, animate=False)
        self.sync()

    def toggle_wrap(self) -> None:
        """Break long lines, or let them go on to the right."""
        self.wrap = not self.wrap
        self.scroll_to(x=0, animate=False)
        self.sync()

    def toggle_fold(self) -> None:
        """Fold the row that is pointed at or open it; without one the first in sight that has something folded."""
        if self.buffer is None:
            return
        seen = [number for number, piece in self._spots if not piece]
        pointed = self.buffer.store.head(self.marked) if self.marked is not None else None
        wanted = [pointed] if pointed in seen else seen
        target = next((number for number in wanted if self._last_under(number)), None)
        if target is not None:
            self.set_following(False)
            self.rows.toggle(self.buffer.store, target)
            self.marked = target
            self.sync()

    def action_step(self, step: int) -> None:
        """Scroll by a row; while marking, the end of the range moves."""
        if self.range_from is not None:
            self.move_cursor(step)
        else:
            self.scroll_relative(y=step, animate=False)

    def action_page(self, step: int) -> None:
        """Scroll by a page."""
        if self.range_from is not None:
            self.move_cursor(step * (self._height - 1))
        else:
            self.scroll_relative(y=step * self._height, animate=False)

    def begin_range(self) -> None:
        """Mark from the line that is pointed at, if it is in sight, else from the top one (following: the last)."""
        seen = [number for number, _ in self._spots]
        if not seen:
            return
        if self.marked not in seen:
            self.marked = seen[-1] if self.following else seen[0]
        self.set_following(False)
        self.range_from = self.marked
        self._look()

    def end_range(self) -> None:
        """Mark nothing."""
        self.range_from = None
        self._look()

    def move_cursor(self, step: int) -> None:
        """Move the end of the range, and the view with it."""
        if self.marked is None or not len(self.rows):
            return
        index = min(max(self.rows.index_of(self.marked) + step, 0), len(self.rows) - 1)
        self.marked = self.rows.numbers[index]
        top = round(self.scroll_y)
        whole = len({number for number, _ in self._spots})
        if index < top:
            top = index
        elif index >= top + whole:
            top = min(index - whole + 1, max(index, 0))
        self.top_line = self.rows.numbers[min(top, len(self.rows) - 1)]
        self.sync()
        self.post_message(Scrolled())

    def _painted(self, number: int) -> Line:
        buffer = self.buffer
        if buffer is None:
            return ()
        if self.rows.is_gap(number):
            return line(("┈ ", "muted"), (self._gap_text(buffer, number), "muted"))
        last = self._last_under(number) if number not in self.rows.opened else 0
        text = buffer.line(number) or ""
        trace = "Traceback" in text
        shown = number if not last or trace else last
        text = buffer.line(shown) or ""
        spans = painted(text, self.raw)
        if self.search is not None:
            spans = highlighted(spans, self.search.needle, self.search.hits.span(shown), len(text))
        if last:
            part = buffer.store.part_of(number)
            count = part.facts.count_under(number) if part is not None else 0
            spans = with_fold(spans, f"▸ {count:,} lines" if trace else f"×{count + 1:,}", trace)
        marked = self.range
        if marked is not None and marked[0] <= number <= marked[1]:
            return with_mark(spans, POINTER if number == self.marked else RANGE)
        return with_mark(spans, POINTER) if number == self.marked else spans

    def _gap_text(self, buffer: LogBuffer, first: int) -> str:
        last = next((last for begin, last in buffer.store.gaps() if begin == first), first)
        why = "are being read" if buffer.unread else "are not here; see: dsv4-console logs"
        return f"lines {first:,} to {last:,} {why}"

    def _wrapped(self, number: int) -> list[Line]:
        return wrapped_rows(self._painted(number), max(self.size.width - 1, 4), max(self._height - 1, 1))

    def render_line(self, y: int) -> Strip:
        left = self.scroll_offset.x
        width = self.scrollable_content_region.width
        if self.buffer is None or y >= len(self._spots):
            return Strip.blank(width, self.visual_style.rich_style)
        number, piece = self._spots[y]
        if self.wrap:
            rows = self._wrapped(number)
            spans = rows[min(piece, len(rows) - 1)]
        else:
            spans = self._painted(number)
        if spans and spans[0][1].startswith("+"):
            spans = tuple((text, _chosen(role)) for text, role in pad(spans, left + width))
        return to_strip(self, spans, max(left + width, 1)).crop(left, left + width)


def _chosen(role: str) -> str:
    return role if role[:1] == "+" or role == "match" else f"+{role}"


class LogTail(Panel):
    """The newest lines, always in sight on the overview."""

    buffer: LogBuffer | None = None

    def show(self, buffer: LogBuffer) -> None:
        """Show the end of this buffer."""
        self.buffer = buffer
        self.repaint()

    def paint(self, width: int, height: int) -> list[Line]:
        buffer = self.buffer
        count = buffer.last_line if buffer else 0
        note = line((f"{count:,} lines" if count else "", "muted"))
        out = [rule("Log", width, note)]
        if buffer is None or not count:
            return [*out, line(("  nothing yet", "muted"))]
        shown = [text for text in buffer.tail(4 * max(height, 1)) if text.strip()][-max(height - 1, 1) :]
        return [*out, *(cut(painted(text, False), width) for text in shown)][: max(height, 2)]
