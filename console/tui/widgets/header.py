"""The first line: is it up, what is it, for how long, at what price. And the tabs below it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from textual.events import Click

from console.core.models import OVER_STATES, Level, ServerState, ServerStatus
from console.core.money_words import amount_text, shares_text
from console.tui import fmt
from console.tui.glyphs import LEVEL_GLYPHS, LEVEL_ROLES, STATE_GLYPHS, STATE_ROLES
from console.tui.model import RunModel
from console.tui.paint import BLANK, Line, Span, clip, line, line_width, spread, wrapped
from console.tui.widgets.panel import Panel

if TYPE_CHECKING:
    from console.tui.app import ConsoleApp
    from console.tui.keymap import Keymap

__all__ = [
    "HOST_CHARS_MAX",
    "READONLY_MARK",
    "Banner",
    "Header",
    "TabBar",
    "header_line",
    "host_mark",
    "since_text",
    "state_words",
]

WIDE = 140
"""From here on there is room for where the time went."""


def state_words(state: ServerState, status: ServerStatus | None) -> str:
    """The state in capitals, with the phase while it loads."""
    if status is not None and status.phase is not None and state in (ServerState.STARTING, ServerState.LOADING):
        return f"{state.upper()} {status.phase}"
    return state.upper()


def since_text(model: RunModel) -> str:
    """How long it has been in what its state says: loading, serving, or over."""
    snapshot = model.snapshot
    if snapshot is None:
        return ""
    status = snapshot.status
    if status.state in OVER_STATES:
        return f"{fmt.duration(snapshot.time_s - status.since_s)} ago" if status.since_s else ""
    if status.state in (ServerState.READY, ServerState.UNHEALTHY) and status.ready_s:
        return fmt.duration(snapshot.time_s - status.ready_s)
    begin = status.started_s or model.run.created_s
    usual = f" of ~{fmt.duration(model.run.expected_ready_s)}" if model.run.expected_ready_s else ""
    return fmt.duration(snapshot.time_s - begin) + usual if begin else ""


def _money(model: RunModel, width: int) -> list[str]:
    """What it costs: per hour, so far, per million output tokens, most wanted first; why not, without a price."""
    money = model.snapshot.money if model.snapshot else None
    price = model.run.usd_per_hour
    found = [f"{fmt.money(price)}/h"] if price is not None else ["no price"] if money is not None else []
    if money is not None:
        found += [amount_text(money.total_usd)] if money.total_usd is not None else []
        found += [f"{amount_text(money.usd_per_million)}/M"] if money.usd_per_million is not None else []
        if width >= WIDE:
            now = money.usd_per_million_now
            found += [f"{amount_text(now)}/M now"] if now is not None else []
            found += [shares_text(money)] if money.total_s else []
    return found


READONLY_MARK: tuple[Span, ...] = ((" READONLY ", "match"), (" ", "text"))
"""Before everything else, where nothing may be changed."""


ROOMY = (70, 100)
"""From where on the header says that a lost machine is tried again, and what the server there was doing."""
HOST_CHARS_MAX = 24


def host_mark(host: str) -> tuple[Span, ...]:
    """The machine, where it is not this one: nobody is to stop the wrong server."""
    return ((f" {clip(line((host, ''))[0][0], HOST_CHARS_MAX)} ", "match"), (" ", "text")) if host else ()


def header_line(model: RunModel, width: int, readonly: bool = False, host: str = "") -> Line:
    """Machine if it is not this one, state, profile, model and engine at the left; time and money at the right.

    With little room the engine goes first, then the model, then what it cost so far.
    """
    run = model.run
    state = model.state
    status = model.snapshot.status if model.snapshot else None
    role = STATE_ROLES[state]
    was = (f"  was {state_words(state, status)}", "muted")
    if model.away is not None:
        words = "disconnected, trying again" if width >= ROOMY[0] else "disconnected"
        left: list[Span] = [(f"▲ {words} ({model.away.attempt})", "warn"), *([was] if width >= ROOMY[1] else [])]
    elif model.lost is not None:
        left = [("▲ LOST", "warn"), was]
    else:
        left = [(f"{STATE_GLYPHS[state]} {state_words(state, status)}", f"{role}")]
    if model.player is not None:
        left.insert(0, (f" {model.player.playing.label} ", "match"))
        left.insert(1, (" ", "text"))
    if readonly:
        left[:0] = READONLY_MARK
    left[:0] = host_mark(host)
    if coming := model.planned or model.idle_stop:
        left.append((f"  {coming}", "warn"))
    left.append((f"  {run.profile_name}", "strong"))
    right: list[Span] = [(since_text(model), "text")]
    for place, text in enumerate(_money(model, width)):
        span = ("  " if place == 0 else " · ") + text
        if place and line_width(line(*left, *right)) + len(span) + 1 > width:
            break
        right.append((span, "muted" if run.usd_per_hour is None else "text"))
    tail = line(*right)
    room = width - line_width(tail) - 1
    for text, least in (
        (run.model.rsplit("/", 1)[-1], 14),
        (f"vLLM {run.engine_version}" if run.engine_version else "", 11),
    ):
        free = room - line_width(line(*left)) - 3
        if text and free >= min(least, len(text)):
            left.append((f"  {clip(line(text)[0][0], free)}", "muted"))
    return spread(line(*left), tail, width)


class Header(Panel):
    """`header_line` as a widget."""

    model: RunModel | None = None

    def show(self, model: RunModel) -> None:
        """Show this run."""
        self.model = model
        self.repaint()

    def paint(self, width: int, height: int) -> list[Line]:
        readonly = bool(getattr(self.app, "readonly", False))
        host = str(getattr(self.app, "host", ""))
        return [header_line(self.model, width, readonly, host) if self.model else BLANK]


class TabBar(Panel):
    """The panes of the dashboard, with the count of hints in sight on every one of them.

    Args:
        tabs: id, key and title of each pane.
        id: of the widget.
    """

    active = "overview"
    model: RunModel | None = None

    def __init__(self, tabs: Sequence[tuple[str, str, str]], *, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self._tabs = tabs
        self._spots: list[tuple[int, int, str]] = []

    def show(self, model: RunModel, active: str) -> None:
        """Show the panes with this one active."""
        self.model, self.active = model, active
        self.repaint()

    def paint(self, width: int, height: int) -> list[Line]:
        right: list[Span] = []
        hints = self.model.firing if self.model and self.model.live else ()
        if hints:
            level = max((h.level for h in hints), key=list(Level).index)
            right.append((f"{LEVEL_GLYPHS[level]} {len(hints)} hint{'s' * (len(hints) != 1)}", LEVEL_ROLES[level]))
        notes = (line(*right, (f"   {self._keymap.shown_for('app.help')} help", "muted")), line(*right))
        # What gives way where it is narrow: the blanks around titles, then the reminder of the help.
        forms = [(wide, note) for note in notes for wide in (True, False)]
        for wide, note in forms:
            left = self._left(wide)
            if line_width(left) + 1 + line_width(note) <= width:
                break
        return [spread(left, note, width)]

    def _left(self, wide: bool) -> Line:
        spans: list[Span] = []
        self._spots = []
        at = 0
        for key, digit, title in self._tabs:
            shown = self._digit(key, digit)
            text = f" {shown} {title} " if wide else f"{shown} {title}"
            spans += [(text, "tab" if key == self.active else "muted"), (" ", "text")]
            self._spots.append((at, at + len(text), key))
            at += len(text) + 1
        return line(*spans[:-1])

    @property
    def _keymap(self) -> Keymap:
        return cast("ConsoleApp", self.app).keymap

    def _digit(self, key: str, digit: str) -> str:
        """The key of a pane: its digit, unless the operator has chosen another."""
        name = f"dashboard.{key}"
        return self._keymap.shown_for(name) if name in self._keymap.own else digit

    async def on_click(self, event: Click) -> None:
        """A click on a tab shows its pane."""
        x = event.x - self.styles.padding.left
        for start, end, key in self._spots:
            if start <= x < end:
                await self.run_action(f"screen.pane('{key}')")


class Banner(Panel):
    """A lasting message: what went wrong and what to do. Takes no room while there is none."""

    def __init__(self, *, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self._text = ""
        self.display = False

    def show(self, text: str) -> None:
        """Show this, or nothing."""
        if text != self._text:
            self._text = text
            self.display = bool(text)
            self.refresh(layout=True)
            self.repaint()

    def paint(self, width: int, height: int) -> list[Line]:
        return wrapped(self._text, width, "warn", (("▲ ", "warn"),)) if self._text else []
