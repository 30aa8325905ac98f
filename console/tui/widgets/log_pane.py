"""The log with its search, its filters, its marks, and lines that say where one is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import ClassVar

from msgspec.structs import replace
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.widgets import Input
from textual.worker import Worker

from console.core.logrows import ALL, Rows, Wanted
from console.core.logstore import unpack
from console.core.logwhen import moment, span
from console.tui.actions import bindings_for
from console.tui.log_buffer import LogBuffer
from console.tui.log_search import LogSearch
from console.tui.messages import Scrolled
from console.tui.widgets.log_files import write_and_tell
from console.tui.widgets.log_processes import ChooseProcesses
from console.tui.widgets.log_prompt import LogPrompt, LogStatus, newest, status_lines
from console.tui.widgets.log_view import LogView

__all__ = ["LogPane"]

SIDE_COLUMNS = 20
WORK_PERIOD_S = 0.04
WORK_S = 0.02
"""Of each period, while there is something to read: half the time is left to keys."""
PROBLEM_SHOWN_S = 8.0
SHOW_PERIODS = 8
"""Of work between two looks: laying out and painting cost more than reading."""
LEVEL_MAX = 3
"""Least levels to choose: from DEBUG (all) to ERROR."""
COPY_LINES_MAX = 100_000
ASKS: dict[str, str] = {
    "plain": "search for a text; nothing ends the search",
    "regex": "search with a regular expression, for example  rank [0-7]+.*timeout",
    "goto": "line or time: 1200, 12:03, 11-23 12:03:45, -10m",
    "times": "time: 12:00..12:30, from 12:00 on, the last -10m; nothing for all",
}


class LogPane(Vertical):
    """The tab `Logs`."""

    BINDINGS: ClassVar[list[BindingType]] = bindings_for("logs")

    def __init__(self, *, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self._wanted_line: int | None = None
        """Shown as soon as it is read."""
        self._wanted_s: float | None = None
        """Unix time that is shown as soon as it is read."""
        self._problem = ""
        self._unshown = 0
        """Periods of work whose lines are not shown yet."""
        self._searching: Worker[None] | None = None
        self._find_first = False
        """The first hit of a new search is still to be shown."""

    def compose(self) -> ComposeResult:
        yield LogView(id="log-view")
        yield LogPrompt(id="log-search", compact=True)
        yield LogStatus(id="log-status")

    def on_mount(self) -> None:
        """The search line appears when asked for; reading goes on while the pane is in sight."""
        self.query_one("#log-search").display = False
        self.set_interval(WORK_PERIOD_S, self._work)

    @property
    def view(self) -> LogView:
        """The scrolling part."""
        return self.query_one("#log-view", LogView)

    def _work(self) -> None:
        buffer = self.view.buffer
        if buffer is None or not self.display:
            return
        if buffer.pump(budget_s=WORK_S) if buffer.behind else buffer.fill(WORK_S):
            self._unshown += 1
        if self._unshown >= SHOW_PERIODS or (self._unshown and not buffer.behind and not buffer.unread):
            self._unshown = 0
            self.show(buffer)

    def show(self, buffer: LogBuffer) -> None:
        """Show what the buffer has now."""
        if self.view.buffer is not buffer:
            self.view.show(buffer)
        self.view.sync()
        if self.view.search is not None:
            self.view.search.look(buffer)
        self._go_where_wanted(buffer)
        self.show_status()

    def jump_to(self, number: int) -> None:
        """Show this line as soon as it is read."""
        self._wanted_line, self._wanted_s, self._problem = number, None, ""
        if self.view.buffer is not None:
            self.show(self.view.buffer)

    def open_at(self, time_s: float) -> None:
        """Show the first line that was written at this moment (Unix time) or later, as soon as it is read."""
        self._wanted_line, self._wanted_s, self._problem = None, time_s, ""
        if self.view.buffer is not None:
            self.show(self.view.buffer)

    def _go_where_wanted(self, buffer: LogBuffer) -> None:
        number, at_s = self._wanted_line, self._wanted_s
        if at_s is not None and buffer.last_line:
            number = buffer.store.line_at(at_s + buffer.utc_offset_s)
            if not buffer.unread and (number is None or not buffer.store.has_times):
                self._wanted_s = number = None
                self._say("no line of this log has a time")
        if number is None:
            return
        if buffer.line(number) is not None:
            self._wanted_line = self._wanted_s = None
            self._reveal(number)
        elif number <= buffer.last_line and not buffer.unread:
            self._wanted_line = self._wanted_s = None
            self._say(f"line {number:,} is not here: dsv4-console logs")

    def _reveal(self, number: int) -> None:
        """Go to a line; a filter that hides it is cleared, and that is said."""
        view = self.view
        view.go_line(number)
        if number not in view.rows.numbers[view.rows.index_of(number) :][:1]:
            view.rows.wanted = ALL
            view.change()
            view.go_line(number)
            self._say(f"line {number:,} did not fit the filter: cleared")

    def on_scrolled(self, event: Scrolled) -> None:
        """Say where the reader is now."""
        self.show_status()

    def _say(self, problem: str) -> None:
        """What a key could not do, for some seconds."""
        self._problem = problem
        self.show_status()

        def end() -> None:
            if self._problem == problem:
                self._problem = ""
                self.show_status()

        self.set_timer(PROBLEM_SHOWN_S, end)

    def show_status(self) -> None:
        """Say where the reader is."""
        view = self.view
        if view.buffer is not None:
            self.query_one("#log-status", LogStatus).show(*status_lines(view, view.buffer, self._problem))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that need something to work on."""
        view = self.view
        if action == "match":
            return view.search is not None
        if action == "clear":
            return view.rows.wanted != ALL
        if action == "copy":
            return view.marked is not None
        return True

    def _changed(self) -> None:
        self.show_status()
        self.screen.refresh_bindings()

    def action_search(self, regex: bool = False) -> None:
        """Open the search line."""
        self._ask("regex" if regex else "plain")

    def action_goto(self) -> None:
        """Ask for a line or a time."""
        self._ask("goto")

    def action_times(self) -> None:
        """Ask for a span of time."""
        self._ask("times")

    def _ask(self, what: str) -> None:
        self._problem = ""
        self.query_one("#log-search", LogPrompt).ask(what, ASKS[what])

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Do what was typed."""
        event.stop()
        field = self.query_one("#log-search", LogPrompt)
        field.leave()
        answers: dict[str, Callable[[str], None]] = {
            "plain": lambda text: self._search(text, regex=False),
            "regex": lambda text: self._search(text, regex=True),
            "goto": self._goto,
            "times": self._times,
        }
        answers[field.asked](event.value.strip())
        self._changed()

    def _search(self, text: str, *, regex: bool) -> None:
        view = self.view
        if self._searching is not None:
            self._searching.cancel()
        view.search, view.marked, self._searching = None, None, None
        if text and view.buffer is not None:
            search = LogSearch(text, regex=regex, found=self._found)
            view.search, self._find_first = search, True
            self._searching = self.run_worker(search.run(view.buffer), group="log-search", exit_on_error=False)
        view.sync()

    def _found(self) -> None:
        view = self.view
        if view.search is not None and self._find_first and len(view.search.hits):
            self._find_first = False
            self.action_match(-1)
        view.sync()
        self.show_status()

    def _goto(self, text: str) -> None:
        buffer = self.view.buffer
        if not text or buffer is None:
            return
        number = text.replace(",", "")
        if number.isascii() and number.isdigit():
            wanted = min(max(int(number[:12]), 1), max(buffer.last_line, 1))
            self.jump_to(wanted)
        elif (at_s := moment(text, newest(self.view))) is not None and newest(self.view):
            self.open_at(at_s - buffer.utc_offset_s)
        else:
            self._say(f"neither a line nor a time: {text}" if newest(self.view) else "the log tells no times")

    def _times(self, text: str) -> None:
        wanted = self.view.rows.wanted
        if not text:
            self._filter(replace(wanted, from_s=None, until_s=None))
        elif not newest(self.view):
            self._say("the log tells no times")
        elif (found := span(text, newest(self.view))) is None:
            self._say(f"no span of time: {text}; for example 12:00..12:30")
        else:
            self._filter(replace(wanted, from_s=found[0], until_s=found[1]))

    def _filter(self, wanted: Wanted) -> None:
        self.view.rows.wanted = wanted
        self.view.change()
        self._changed()

    def action_level(self) -> None:
        """The next least level."""
        wanted = self.view.rows.wanted
        self._filter(replace(wanted, level=(wanted.level + 1) % (LEVEL_MAX + 1)))

    def action_processes(self) -> None:
        """Choose processes."""
        buffer = self.view.buffer
        if buffer is None:
            return
        counts: Counter[int] = Counter()
        for part in buffer.store.parts:
            counts.update(part.facts.procs)
        names = ("", *buffer.store.names.all)
        shown = {name: counts[i] for i, name in enumerate(names) if counts[i]}

        def choose(procs: frozenset[str]) -> None:
            self._filter(replace(self.view.rows.wanted, procs=procs))

        self.app.push_screen(ChooseProcesses(shown, self.view.rows.wanted.procs, choose))

    def action_clear(self) -> None:
        """No filter."""
        self._filter(ALL)

    def action_fold(self) -> None:
        """Fold, or show every line."""
        self.view.rows.fold = not self.view.rows.fold
        self.view.rows.opened.clear()
        self.view.change()
        self._changed()

    def action_open(self) -> None:
        """Unfold one row, or fold it again."""
        self.view.toggle_fold()
        self._changed()

    def action_match(self, step: int) -> None:
        """Go to the next or previous line that matches; past the last begins with the first."""
        view = self.view
        if view.search is None or view.buffer is None:
            return
        hits = view.search.hits
        here = view.marked if view.marked is not None else view.buffer.last_line + 1
        target = hits.after(here) if step > 0 else hits.before(here)
        if target is not None:
            self._reveal(target)
        self._changed()

    def action_mark(self) -> None:
        """Begin to mark lines, or end it."""
        if self.view.range_from is None:
            self.view.begin_range()
        else:
            self.view.end_range()
        self._changed()

    def action_unmark(self) -> None:
        """Mark nothing, point at nothing."""
        self.view.marked = None
        self.view.end_range()
        self._changed()

    def action_top(self) -> None:
        """To the start."""
        self.view.go_top()
        self._changed()

    def action_follow(self) -> None:
        """To the end, following."""
        self._problem = ""
        self._wanted_line = self._wanted_s = None
        self.view.marked = self.view.range_from = None
        self.view.go_end()
        self._changed()

    def action_sideways(self, step: int) -> None:
        """Long lines go on to the right."""
        self.view.scroll_relative(x=step * SIDE_COLUMNS, animate=False)

    def action_raw(self) -> None:
        """Whole lines, or short ones."""
        self.view.toggle_raw()
        self._changed()

    def action_wrap(self) -> None:
        """Break long lines, or not."""
        self.view.toggle_wrap()
        self._changed()

    def action_copy(self) -> None:
        """The marked lines, as they are shown: to the terminal's clipboard if they are not too long, and to a file."""
        view, buffer = self.view, self.view.buffer
        if buffer is None or view.marked is None:
            return
        first, last = view.range or (view.marked, view.marked)
        numbers = view.rows.numbers[view.rows.index_of(first) :]
        chosen = [n for n in numbers[:COPY_LINES_MAX] if first <= n <= last] or [first]
        texts = [text for number in chosen if (text := buffer.line(number)) is not None]
        write_and_tell(self, buffer.run_id, "lines", texts, clipboard="\n".join(texts))
        view.end_range()
        self._changed()

    def action_save(self) -> None:
        """What is filtered, to a file; also what is folded."""
        view, buffer = self.view, self.view.buffer
        if buffer is None:
            return
        whole = Rows()  # what is folded has not been filtered away
        whole.wanted, whole.fold = view.rows.wanted, False
        whole.update(buffer.store)
        pieces, numbers = buffer.store.pieces(), frozenset(whole.numbers)

        def lines() -> Iterator[str]:
            for first, packed in pieces:
                for number, text in enumerate(unpack(packed), first):
                    if number in numbers:
                        yield text

        write_and_tell(self, buffer.run_id, "log", lines())
