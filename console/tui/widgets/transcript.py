"""The conversation as wrapped plain lines in a scrolling view. An answer that grows rewraps only its last line.

Plain text, not a Markdown widget: a long answer stays cheap, and nothing in it can be taken for markup. Headings,
code blocks and lists are told apart by light styling only.
"""

from __future__ import annotations

from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from console.tui import fmt
from console.tui.conversations import Turn
from console.tui.paint import BLANK, Line, Span, line, wrap
from console.tui.widgets.panel import to_strip

__all__ = ["GrowingText", "Transcript", "answer_note"]

TEXT_WIDTH_MAX = 110
"""Longer lines are hard to read."""
FINISH_WORDS = {"stop": "finished", "length": "cut at the token limit", "tool_calls": "asked for a tool"}


def answer_note(turn: Turn, streaming: bool) -> Line:
    """TTFT, tokens, speed and how it ended; unknown is left out."""
    spans: list[Span] = []
    if turn.error:
        return ()
    if streaming:
        spans.append(("streaming  ", "accent"))
    parts: list[str] = []
    if turn.ttft_s is not None:
        parts.append(f"TTFT {fmt.latency(turn.ttft_s)}")
    if turn.completion_tokens is not None:
        parts.append(f"{turn.completion_tokens:,} tokens")
        spent = (turn.elapsed_s or 0) - (turn.ttft_s or 0)
        if spent > 0 and turn.completion_tokens > 1:
            parts.append(f"{fmt.count((turn.completion_tokens - 1) / spent)} tok/s")
    if turn.stopped:
        parts.append("stopped")
    elif turn.finish_reason:
        parts.append(FINISH_WORDS.get(turn.finish_reason, turn.finish_reason))
    spans.append((" · ".join(parts), "muted"))
    return line(*spans) if parts or streaming else ()


class GrowingText:
    """Wrapped lines of a text that grows at its end."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.lines: list[Line] = []
        self._open = ""
        self._open_at = 0
        self._in_code = False
        self._code_open = False

    def add(self, piece: str, width: int) -> None:
        """Append; only the line that is still open is wrapped again. Blanks before the first word are left out."""
        if not self.lines:
            piece = piece.lstrip()
        *closed, self._open = (self._open + piece).split("\n")
        del self.lines[self._open_at :]
        for text in closed:
            self._wrap(text, width)
            self._in_code = self._code_open
        self._open_at = len(self.lines)
        if self._open:
            self._wrap(self._open, width)

    def _wrap(self, text: str, width: int) -> None:
        role = self.role
        self._code_open = self._in_code
        if role == "text":
            if text.lstrip().startswith("```"):
                role = "muted"
                self._code_open = not self._in_code
            elif self._in_code:
                role = "code"
            elif text.startswith("#"):
                role = "strong"
        self.lines += [(("  ", "text"), (part, role)) for part in wrap(text, width - 2)]


class Transcript(ScrollView, can_focus=True):
    """Turns, newest at the bottom; follows the end until the reader goes up."""

    DEFAULT_CSS = "Transcript { overflow-y: scroll; overflow-x: hidden; }"

    def __init__(self, *, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self.turns: list[Turn] = []
        self.streaming = False
        self.empty_text = ""
        self._done: list[Line] = []
        self._reasoning = GrowingText("muted")
        self._answer = GrowingText("text")
        self._width = 0
        self.following = True
        self._scrolling_self = False

    @property
    def _text_width(self) -> int:
        return max(min(self.scrollable_content_region.width, TEXT_WIDTH_MAX), 10)

    def show(self, turns: list[Turn]) -> None:
        """Show these turns, all of them over."""
        self.turns = turns
        self.streaming = False
        self._rebuild()

    def add(self, turn: Turn) -> None:
        """Append a turn that is over."""
        self.turns.append(turn)
        self._done += self._turn_lines(turn)
        self._sync()

    def begin(self, turn: Turn) -> None:
        """Append an answer that is about to stream in."""
        self.turns.append(turn)
        self.streaming = True
        self.following = True
        self._reasoning, self._answer = GrowingText("muted"), GrowingText("text")
        self._sync()

    def grow(self, text: str, reasoning: str) -> None:
        """More of the streaming answer; the caller has added it to the turn."""
        if reasoning:
            self._reasoning.add(reasoning, self._text_width)
        if text:
            self._answer.add(text, self._text_width)
        self._sync()

    def finish(self) -> None:
        """The streaming answer is over."""
        self.streaming = False
        self._done += self._turn_lines(self.turns[-1])
        self._reasoning, self._answer = GrowingText("muted"), GrowingText("text")
        self._sync()

    def _heading(self, turn: Turn) -> Line:
        if turn.role == "user":
            return line(("❯ ", "accent"), ("you", "you"))
        return line(("● ", "ok"), ("model", "you"))

    def _turn_lines(self, turn: Turn) -> list[Line]:
        width = self._text_width
        if turn.role == "new":
            return [line(("─" * min(width, 40) + " new conversation", "faint")), BLANK]
        out = [self._heading(turn)]
        for text, role in ((turn.reasoning, "muted"), (turn.content, "text")):
            if text:
                part = GrowingText(role)
                part.add(text, width)
                out += part.lines
        if turn.error:
            out += [line(("  ✖ ", "bad"), (part, "bad")) for part in wrap(turn.error, width - 4)]
        note = answer_note(turn, False)
        if note:
            out.append((("  ", "text"), *note))
        return [*out, BLANK]

    def _rebuild(self) -> None:
        self._width = self._text_width
        over = self.turns[:-1] if self.streaming else self.turns
        self._done = [row for turn in over for row in self._turn_lines(turn)]
        if self.streaming:
            turn = self.turns[-1]
            self._reasoning, self._answer = GrowingText("muted"), GrowingText("text")
            self._reasoning.add(turn.reasoning, self._width)
            self._answer.add(turn.content, self._width)
        self._sync()

    def _sync(self) -> None:
        if self._width != self._text_width and self.is_attached and self.scrollable_content_region.width:
            self._width = self._text_width
            self._rebuild()
            return
        height = len(self._done)
        if self.streaming:
            height += len(self._reasoning.lines) + len(self._answer.lines) + 2
        size = Size(self._width, max(height, 1))
        if size != self.virtual_size:
            self.virtual_size = size
        if self.following:
            self._scrolling_self = True
            self.scroll_to(y=size.height, animate=False, force=True, immediate=True)
            self._scrolling_self = False
        self.refresh()

    def on_resize(self) -> None:
        """Wrap again for the new width."""
        self._sync()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if not self._scrolling_self:
            self.following = new_value >= self.max_scroll_y

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        index = self.scroll_offset.y + y
        if not self.turns:
            rows = wrap(self.empty_text, max(width - 4, 10))
            top = max(self.size.height // 2 - len(rows), 0)
            text = rows[y - top] if top <= y < top + len(rows) else ""
            return to_strip(self, ((" " * max((width - len(text)) // 2, 0), "text"), (text, "muted")), width)
        return to_strip(self, self._line_at(index), width)

    def _line_at(self, index: int) -> Line:
        if index < len(self._done):
            return self._done[index]
        if not self.streaming:
            return BLANK
        index -= len(self._done)
        turn = self.turns[-1]
        if index == 0:
            return self._heading(turn)
        index -= 1
        for part in (self._reasoning.lines, self._answer.lines):
            if index < len(part):
                return part[index]
            index -= len(part)
        return (("  ", "text"), *answer_note(turn, True)) if index == 0 else BLANK
