"""The conversation in a scrolling view. Painting costs the rows in sight and what the answer grew by, never its length.

A mark walks over messages and blocks of code: what is marked is what keys act on.
"""

from __future__ import annotations

from bisect import bisect_right

from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.timer import Timer

from console.core.chat_conversation import Turn
from console.tui.paint import BLANK, Line, wrap
from console.tui.widgets.chat_text import CodeBlock
from console.tui.widgets.chat_turn import TEXT_WIDTH_MAX, TurnView
from console.tui.widgets.panel import to_strip

__all__ = ["Marked", "Transcript"]

WIDTH_MIN = 10
BESIDE_COLUMNS = 3
"""Padding and scrollbar."""
ROWS_AT_ONCE = 2_000
"""A longer conversation is not wrapped again for every step of a window that is being dragged."""
RESIZE_REST_S = 0.15
Mark = tuple[int, int]
"""Index of a turn, and of a block of code in it; -1 is the message itself."""


class Marked(Message):
    """Another message or block is marked, or none."""


class Transcript(ScrollView, can_focus=True):
    """Turns, newest at the bottom; follows the end until the reader goes up."""

    DEFAULT_CSS = "Transcript { overflow-y: scroll; overflow-x: hidden; }"

    def __init__(self, *, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self.streaming = False
        self.empty_text = ""
        self.following = True
        self.mark: Mark | None = None
        self._views: list[TurnView] = []
        self._starts: list[int] = []
        self._width = 0
        self._scrolling_self = False
        self._resting: Timer | None = None

    @property
    def turns(self) -> list[Turn]:
        """What is shown."""
        return [view.turn for view in self._views]

    @property
    def _text_width(self) -> int:
        # Before the first layout: what it will be, so that a long conversation is wrapped once.
        width = self.scrollable_content_region.width or self.app.size.width - BESIDE_COLUMNS
        return max(min(width, TEXT_WIDTH_MAX), WIDTH_MIN)

    def show(self, turns: list[Turn]) -> None:
        """Show these turns, all of them over."""
        self.streaming = False
        self.following = True
        self.mark = None
        self._width = self._text_width
        self._views = [TurnView(turn, self._width) for turn in turns]
        self._place()

    def add(self, turn: Turn) -> None:
        """Append a turn that is over."""
        self._views.append(TurnView(turn, self._text_width))
        self._place()

    def cut(self, count: int) -> None:
        """Keep so many turns."""
        del self._views[count:]
        self.mark = None
        self._place()

    def begin(self, turn: Turn) -> None:
        """Append an answer that is about to stream in; its reasoning is in sight until the answer begins."""
        self._views.append(TurnView(turn, self._text_width, streaming=True, folded=False))
        self.streaming = True
        self.following = True
        self.mark = None
        self._place()

    def grow(self, text: str, reasoning: str) -> None:
        """More of the streaming answer; the caller has added it to the turn."""
        view = self._views[-1]
        # Folding moves what stands below: not under the eyes of a reader who has gone up.
        if text and not view.folded and not view.fold_chosen and self.following and view.turn.reasoning:
            view.folded = view.fold_chosen = True
        view.grow(text, reasoning)
        self._sync()

    def finish(self) -> None:
        """The streaming answer is over."""
        self.streaming = False
        self._views[-1].finish()
        self._sync()

    def _place(self) -> None:
        """Where each turn begins. Not for every piece of an answer: only the last turn's height changes then."""
        at = 0
        self._starts = []
        for view in self._views:
            self._starts.append(at)
            at += view.height
        self._sync()

    def _sync(self) -> None:
        if self._width != self._text_width and self.is_attached and self.scrollable_content_region.width:
            if self.virtual_size.height < ROWS_AT_ONCE:
                self._wrap_again()
                return
            if self._resting is None:
                self._resting = self.set_timer(RESIZE_REST_S, self._wrap_again)
        height = self._starts[-1] + self._views[-1].height if self._views else 0
        size = Size(self._width, max(height, 1))
        if size != self.virtual_size:
            self.virtual_size = size
        if self.following:
            self._go(size.height)
        self.refresh()

    def _wrap_again(self) -> None:
        """Everything for the new width: half a second of work for a 100k-token answer."""
        self._resting = None
        if self._width != self._text_width:
            self._width = self._text_width
            self._views = [self._anew(view) for view in self._views]
            self._place()

    def _anew(self, view: TurnView) -> TurnView:
        fresh = TurnView(view.turn, self._width, streaming=view.streaming, folded=view.folded)
        fresh.fold_chosen = view.fold_chosen
        return fresh

    def _go(self, row: int) -> None:
        self._scrolling_self = True
        self.scroll_to(y=row, animate=False, force=True, immediate=True)
        self._scrolling_self = False

    def on_resize(self) -> None:
        """Wrap again for the new width; a long conversation once the size rests."""
        if self._resting is not None:
            self._resting.reset()
        self._sync()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if not self._scrolling_self:
            self.following = new_value >= self.max_scroll_y

    def _marks(self) -> list[Mark]:
        return [(i, block) for i, view in enumerate(self._views) for block in range(-1, len(view.blocks))]

    def move_mark(self, step: int) -> None:
        """Mark the message or block before or after; past the end nothing is marked, and the end is followed."""
        marks = self._marks()
        if not marks:
            return
        at = (marks.index(self.mark) if self.mark in marks else len(marks)) + step
        self.mark = marks[max(at, 0)] if at < len(marks) else None
        if self.mark is None:
            self.following = True
            self._sync()
        else:
            self._show_mark()
        self.post_message(Marked())

    def _show_mark(self) -> None:
        row = self.mark_row
        height = self.scrollable_content_region.height
        if not self.scroll_offset.y <= row < self.scroll_offset.y + height - 1:
            self._go(max(row - height // 3, 0))
        self.following = False
        self.refresh()

    @property
    def mark_row(self) -> int:
        """Where the mark is; -1 without one."""
        if self.mark is None or self.mark[0] >= len(self._views):
            return -1
        view = self._views[self.mark[0]]
        block = self.mark[1]
        inside = view.block_row(view.blocks[block]) if 0 <= block < len(view.blocks) else 0
        return self._starts[self.mark[0]] + inside

    @property
    def marked_turn(self) -> int | None:
        """Index of the turn that is meant: the marked one, or the last answer."""
        if self.mark is not None and self.mark[0] < len(self._views):
            return self.mark[0]
        answers = [i for i, view in enumerate(self._views) if view.turn.role == "assistant"]
        return answers[-1] if answers else (len(self._views) - 1 if self._views else None)

    @property
    def marked_block(self) -> CodeBlock | None:
        """The marked block of code."""
        if self.mark is None or self.mark[0] >= len(self._views):
            return None
        blocks = self._views[self.mark[0]].blocks
        return blocks[self.mark[1]] if 0 <= self.mark[1] < len(blocks) else None

    @property
    def newest_block(self) -> CodeBlock | None:
        """The last block of code of the turn that is meant."""
        index = self.marked_turn
        blocks = self._views[index].blocks if index is not None else []
        return blocks[-1] if blocks else None

    def fold(self) -> None:
        """Fold the reasoning of the turn that is meant, or unfold it."""
        index = self.marked_turn
        if index is not None and self._views[index].turn.reasoning:
            view = self._views[index]
            view.folded, view.fold_chosen = not view.folded, True
            view.settle()
            self._place()

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        if not self._views:
            rows = wrap(self.empty_text, max(width - 4, WIDTH_MIN))
            top = max(self.size.height // 2 - len(rows), 0)
            text = rows[y - top] if top <= y < top + len(rows) else ""
            return to_strip(self, ((" " * max((width - len(text)) // 2, 0), "text"), (text, "muted")), width)
        return to_strip(self, self._line_at(self.scroll_offset.y + y), width)

    def _line_at(self, index: int) -> Line:
        which = bisect_right(self._starts, index) - 1
        if which < 0:
            return BLANK
        start = self._starts[which]
        return self._views[which].marked(index - start, self.mark_row - start)
