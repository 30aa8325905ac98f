"""The events of the run as a list: when, of what kind, what. Newest last, as in the log; filtered by kind."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.message import Message

from console.core.happenings import ALL, GROUPS, counted, group_of, of_group
from console.core.models import EventRecord
from console.tui import fmt
from console.tui.actions import bindings_for
from console.tui.glyphs import EVENT_GLYPHS, LEVEL_ROLES
from console.tui.model import EVENTS_MAX, RunModel
from console.tui.paint import Line, Span, line, line_width, rule, spread, wrapped
from console.tui.widgets.panel import Panel
from console.tui.widgets.select_list import Highlighted, SelectList

__all__ = ["EventChart", "EventOpen", "EventsPane", "event_line", "filter_lines"]

PAGE_ROWS = 10
DETAIL_ROWS = 4
"""Of the text of the chosen event below the list; all of it is in `events.jsonl`."""
AGE_WIDTH = 90
"""From here on a line has room for how long ago it was."""
LABELS = {group.id: group.label for group in GROUPS}


class EventOpen(Message):
    """The operator wants the log of this event's time."""

    def __init__(self, event: EventRecord) -> None:
        self.event = event
        super().__init__()


class EventChart(Message):
    """The operator wants this event pointed out in the charts."""

    def __init__(self, event: EventRecord) -> None:
        self.event = event
        super().__init__()


def event_line(event: EventRecord, width: int, now_s: float, offset_s: float, *, chosen: bool = False) -> Line:
    """Time of day on the server's machine, glyph and kind, text; on another day the date too."""
    then = datetime.fromtimestamp(event.time_s + offset_s, tz=UTC)
    today = datetime.fromtimestamp(now_s + offset_s, tz=UTC).date() == then.date()
    clock = f"{then:%H:%M:%S}" if today else f"{then:%m-%d %H:%M}"
    role = LEVEL_ROLES[event.level]
    left = line(
        ("▸" if chosen else " ", "accent"),
        (f"{clock:<11} ", "muted"),
        (f"{EVENT_GLYPHS[group_of(event).id]} ", role),
        (f"{event.kind[:8]:<8} ", "muted"),
        (event.text, "text"),
    )
    age = line((f"{fmt.duration(now_s - event.time_s)} ago", "muted")) if width >= AGE_WIDTH else ()
    return spread(left, age, width)


def filter_lines(counts: dict[str, int], total: int, active: str, width: int) -> list[Line]:
    """Every kind that there is, with how many; the one that is listed stands out."""
    names = [(ALL, "all", total), *((name, LABELS[name], count) for name, count in counts.items())]
    if active not in dict.fromkeys(name for name, _, _ in names):
        names.append((active, LABELS[active], 0))
    rows: list[list[Span]] = [[]]
    for name, label, count in names:
        mark = "▸" if name == active else " "
        span = (f"{mark}{label} {count} ", "tab" if name == active else "muted")
        if rows[-1] and line_width((*rows[-1], span)) > width:
            rows.append([])
        rows[-1].append(span)
    return [line(*row) for row in rows]


class Filter(Panel):
    """`filter_lines` as a widget."""

    counts: ClassVar[dict[str, int]] = {}
    total = 0
    active = ALL

    def show(self, counts: dict[str, int], total: int, active: str) -> None:
        """Show these."""
        self.counts, self.total, self.active = counts, total, active  # type: ignore[misc]
        self.repaint()

    def paint(self, width: int, height: int) -> list[Line]:
        more = line((f"newest {EVENTS_MAX:,}; all: events.jsonl", "muted")) if self.total >= EVENTS_MAX else ()
        return [rule("Events", width, more), *filter_lines(self.counts, self.total, self.active, width)]


class Detail(Panel):
    """The chosen event in full."""

    event: EventRecord | None = None

    def show(self, event: EventRecord | None) -> None:
        """Show this one."""
        self.event = event
        self.repaint()

    def paint(self, width: int, height: int) -> list[Line]:
        if self.event is None:
            return []
        first: Line = ((f"{EVENT_GLYPHS[group_of(self.event).id]} ", LEVEL_ROLES[self.event.level]),)
        return [rule("", width), *wrapped(self.event.text, width, "text", first)[:DETAIL_ROWS]]


class EventList(SelectList):
    """Enter belongs to the pane."""


class EventsPane(Vertical):
    """The tab `Events`."""

    BINDINGS: ClassVar[list[BindingType]] = bindings_for("events")

    def __init__(self, *, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self._model: RunModel | None = None
        self._shown: dict[str, EventRecord] = {}
        self._seen = -1
        self.wanted = ALL

    def compose(self) -> ComposeResult:
        yield Filter(id="event-filter")
        yield EventList(self._row, "Nothing of this has happened yet.", id="event-list")
        yield Detail(id="event-detail")

    @property
    def list(self) -> EventList:
        """The lines."""
        return self.query_one("#event-list", EventList)

    @property
    def chosen(self) -> EventRecord | None:
        """The event that keys are about."""
        return self._shown.get(self.list.selected_key or "")

    def enter(self, model: RunModel) -> None:
        """It came into sight: keys are its."""
        self.show(model)
        self.list.focus()

    def show(self, model: RunModel) -> None:
        """Show this run's events; who stands on the newest goes on to the next."""
        if model is self._model and model.events_seen == self._seen:
            self.list.repaint()
            return
        self._model, self._seen = model, model.events_seen
        self._fill()

    def _fill(self) -> None:
        model = self._model
        if model is None:
            return
        newest = next(reversed(self._shown), None)
        following = newest is None or self.list.selected_key == newest
        first = model.events_seen - len(model.events)
        wanted = of_group(model.events, self.wanted)
        numbered = {id(event): str(first + place) for place, event in enumerate(model.events)}
        self._shown = {numbered[id(event)]: event for event in wanted}
        keys = list(self._shown)
        self.list.show(keys, keys[-1] if following and keys else None)
        self.query_one("#event-filter", Filter).show(counted(model.events), len(model.events), self.wanted)
        self.query_one("#event-detail", Detail).show(self.chosen)
        self.screen.refresh_bindings()

    def _row(self, key: str, width: int, chosen: bool) -> Line:
        model = self._model
        if model is None:
            return ()
        return event_line(self._shown[key], width, model.now, model.offset_s, chosen=chosen)

    def on_highlighted(self, event: Highlighted) -> None:
        """Another one is chosen."""
        self.query_one("#event-detail", Detail).show(self.chosen)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What is done with an event needs one."""
        return self.chosen is not None if action in ("open", "chart") else True

    def action_kind(self, step: int) -> None:
        """List the next kind of events that there is."""
        names = [ALL, *counted(self._model.events)] if self._model is not None else [ALL]
        place = names.index(self.wanted) if self.wanted in names else 0
        self.wanted = names[(place + step) % len(names)]
        self._fill()

    def action_page(self, step: int) -> None:
        """Further up or down."""
        self.list.action_move(step * max(self.list.size.height - 1, PAGE_ROWS))

    def action_open(self) -> None:
        """The log at its time."""
        if self.chosen is not None:
            self.post_message(EventOpen(self.chosen))

    def action_chart(self) -> None:
        """Its place in the charts."""
        if self.chosen is not None:
            self.post_message(EventChart(self.chosen))
