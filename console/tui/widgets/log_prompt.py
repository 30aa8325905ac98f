"""The line in which a search, a place or a span of time is typed, and the lines that say where one is."""

from __future__ import annotations

from textual.events import Key
from textual.widgets import Input

from console.core.logwhen import clock_text
from console.tui.keymap import key_for
from console.tui.log_buffer import LogBuffer
from console.tui.paint import Line, Span, line, spread
from console.tui.widgets.log_view import LogView
from console.tui.widgets.panel import Panel

__all__ = ["LogPrompt", "LogStatus", "status_lines"]


class LogStatus(Panel):
    """Under the log: where one is, and if there is a filter or a mark what that is."""

    rows: tuple[tuple[Line, Line], ...] = (((), ()),)

    def show(self, *rows: tuple[Line, Line]) -> None:
        """Say this."""
        self.rows = rows
        self.repaint()

    def paint(self, width: int, height: int) -> list[Line]:
        return [spread(left, right, width) for left, right in self.rows]


class LogPrompt(Input):
    """Leaves with escape or tab; nothing has changed then."""

    asked = ""
    """What it asks for: a key of `ASKS`."""

    def ask(self, what: str, words: str) -> None:
        """Appear."""
        self.asked = what
        self.placeholder = words
        self.value = ""
        self.display = True
        self.screen.set_focus(self)  # at once: the next key is meant for this line

    async def _on_key(self, event: Key) -> None:
        if event.key in ("escape", "tab"):
            event.stop()
            event.prevent_default()
            self.leave()

    def leave(self) -> None:
        """Disappear."""
        self.display = False
        self.screen.set_focus(self.screen.query_one("#log-view"))


def status_lines(view: LogView, buffer: LogBuffer, problem: str) -> list[tuple[Line, Line]]:
    """Where the reader is; and in a second line the filter and the marks, if there are any.

    Args:
        view: the log.
        buffer: what it shows.
        problem: what the last key could not do.
    """
    left: list[Span] = []
    if problem:
        left = [(problem, "warn")]
    elif view.following:
        left = [("● following", "ok"), (f"  {buffer.last_line:,} lines", "muted")]
    else:
        left = [(f"line {view.top_line:,} of {buffer.last_line:,}", "muted")]
        if view.new_lines:
            left.append((f"  ▼ {view.new_lines:,} new", "accent"))
    if buffer.unread:
        left.append((f"  reading {buffer.unread:,} older", "muted"))
    right: list[Span] = []
    if view.search is not None:
        count = view.search.count_text(buffer, view.marked)
        role = "warn" if view.search.problem or not len(view.search.hits) else "muted"
        kind = "R " if view.search.regex else "/"
        right = [(f"{kind}{view.search.text}  ", "match"), (f" {count}", role)]
    for on, word in ((view.raw, "as written"), (view.wrap, "wrapped"), (not view.rows.fold, "unfolded")):
        if on:
            right.append((f"   {word}", "muted"))
    rows = [(line(*left), line(*right))]
    second, keys = _second(view)
    return [*rows, (line(*second), line(*keys))] if second else rows


def _second(view: LogView) -> tuple[list[Span], list[Span]]:
    wanted = view.rows.wanted
    newest_s = newest(view)
    parts = [wanted.text()] if wanted.text() else []
    if wanted.from_s is not None or wanted.until_s is not None:
        begin, end = (clock_text(t, newest_s) if t is not None else "" for t in (wanted.from_s, wanted.until_s))
        parts.append(f"{begin}..{end}")
    out: list[Span] = []
    keys: list[Span] = []
    if parts:
        count = len(view.rows) - len(view.rows.gaps)
        out = [("only ", "muted"), (" · ".join(parts), "accent"), (f"  {count:,} rows", "muted")]
        keys = [(key_for("logs.clear"), "key"), (" clears", "muted")]
    marked = view.range
    if marked is not None:
        first, last = marked
        out += [("   " if out else "", "muted"), (f"marked {first:,} to {last:,}", "accent")]
        copy, end = key_for("logs.copy"), key_for("logs.mark")
        keys = [(copy, "key"), (" copies  ", "muted"), (end, "key"), (" ends", "muted")]
    return out, keys


def newest(view: LogView) -> float:
    """Time of the newest line, as the log writes it; 0 if it tells none."""
    buffer = view.buffer
    return float(buffer.store.parts[-1].facts.times[-1]) if buffer is not None and buffer.store.parts else 0.0
