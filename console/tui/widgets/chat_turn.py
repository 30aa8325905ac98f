"""One turn as rows: heading, attached files, reasoning that folds, the answer, what went wrong, how it went."""

from __future__ import annotations

from console.core.chat import too_long
from console.core.chat_conversation import Turn, note_of
from console.tui import fmt
from console.tui.keymap import key_for
from console.tui.paint import BLANK, Line, line, pad, selected, wrap
from console.tui.widgets.chat_text import CodeBlock, GrowingMarkdown

__all__ = ["TurnView", "error_rows"]

TEXT_WIDTH_MAX = 110
"""Longer lines are hard to read."""


def _outside(action: str) -> str:
    """The keys of an action of the chat, for somebody who writes: out of the input first."""
    return f"{key_for('prompt.leave')} {key_for(f'chat.{action}')}"


def error_rows(turn: Turn, width: int) -> list[Line]:
    """What went wrong, and the keys that help."""
    if not turn.error:
        return []
    parts = wrap(turn.error, width - 4)
    rows = [line(("    " if i else "  ✖ ", "bad"), (part, "bad")) for i, part in enumerate(parts)]
    found = too_long(turn.error)
    if found is not None:
        over = f"{'at least ' * found.at_least}{found.over:,} tokens too many" if found.over else "Too many tokens"
        fits = f"{_outside('fit')} asks again with max tokens {found.room:,} · " if found.room and found.asked else ""
        ways = f"{fits}{_outside('edit')} edits the message · {_outside('new')} begins anew"
        text = f"{over} for {found.limit:,}. {ways}"
    elif turn.content:
        text = f"The answer so far stays. {_outside('retry')} asks again"
    else:
        ways = f"{_outside('retry')} asks again · {_outside('edit')} edits it"
        text = f"The message is kept, but not part of what is asked next. {ways}"
    return rows + [line(("    ", "text"), (part, "muted")) for part in wrap(text[:1].upper() + text[1:], width - 4)]


class TurnView:
    """Rows of one turn at one width. While it streams, `grow` adds to them.

    Args:
        turn: what is shown.
        width: columns.
        streaming: more of it comes.
        folded: whether its reasoning is folded away.
    """

    def __init__(self, turn: Turn, width: int, *, streaming: bool = False, folded: bool = True) -> None:
        self.turn = turn
        self.width = width
        self.streaming = streaming
        self.folded = folded
        self.fold_chosen = False
        """The operator has folded or unfolded it: it stays so."""
        self._reasoning = GrowingMarkdown(width, "muted")
        self._answer = GrowingMarkdown(width, "" if turn.role == "assistant" else "text")
        self._sections: list[list[Line]] = []
        if turn.reasoning:
            self._reasoning.add(turn.reasoning)
        if turn.content:
            self._answer.add(turn.content)
        if not streaming:
            self._reasoning.end()
            self._answer.end()
        self.settle()

    @property
    def blocks(self) -> list[CodeBlock]:
        """Code in the answer."""
        return self._answer.blocks

    def block_row(self, block: CodeBlock) -> int:
        """The row of a code block's upper edge."""
        return sum(map(len, self._sections[:2])) + block.first

    def grow(self, text: str, reasoning: str) -> None:
        """More of it."""
        if reasoning:
            self._reasoning.add(reasoning)
        if text:
            self._answer.add(text)
        self.settle()

    def finish(self) -> None:
        """Nothing more comes."""
        self.streaming = False
        self._reasoning.end()
        self._answer.end()
        self.settle()

    def settle(self) -> None:
        """Put the rows together again; those of texts are not painted anew."""
        head = [self._heading()]
        for file in self.turn.files:
            size = f"{len(file.text):,} characters"
            head.append(line(("  │ ", "faint"), (file.name, "code"), (f"  attached, {size}", "muted")))
        if self._reasoning.rows:
            mark, word = ("▸", "unfolds") if self.folded else ("▼", "folds")
            text = f"  {mark} reasoning · {len(self._reasoning.rows):,} lines · {key_for('chat.fold')} {word}"
            head.append(line((text, "muted")))
        tail = error_rows(self.turn, self.width)
        note = self._note()
        if note:
            tail.append(note)
        tail.append(BLANK)
        self._sections = [head, [] if self.folded else self._reasoning.rows, self._answer.rows, tail]

    def _heading(self) -> Line:
        if self.turn.role == "user":
            return line(("❯ ", "accent"), ("you", "you"))
        return line(("● ", "ok"), ("model", "you"))

    def _note(self) -> Line:
        turn = self.turn
        if turn.role != "assistant" or (turn.error and not turn.content):
            return ()
        text = note_of(turn)
        if self.streaming:
            spent = f"{fmt.duration(turn.elapsed_s)}" if turn.elapsed_s and turn.elapsed_s >= 1 else ""
            text = " · ".join(part for part in (text, spent) if part)
            return line(("  streaming  ", "accent"), (text, "muted"))
        return line(("  ", "text"), (text, "muted")) if text else ()

    @property
    def height(self) -> int:
        """How many rows there are."""
        return sum(map(len, self._sections))

    def row(self, index: int) -> Line:
        """One of them."""
        for section in self._sections:
            if index < len(section):
                return section[index]
            index -= len(section)
        return BLANK

    def marked(self, index: int, at: int) -> Line:
        """A row, marked if it is the chosen one."""
        row = self.row(index)
        if index != at:
            return row
        # Rows begin with two columns of their own: a sign tells it without colour.
        (first, role), *rest = row or (("  ", "text"),)
        return selected(pad((("■ ", "accent"), (first[2:], role), *rest), self.width))
