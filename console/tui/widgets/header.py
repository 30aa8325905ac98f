"""The first line: is it up, what is it, for how long, at what price. And the tabs below it."""

from __future__ import annotations

from textual.events import Click

from console.core.models import OVER_STATES, HintState, Level, ServerState, ServerStatus
from console.tui import fmt
from console.tui.glyphs import LEVEL_GLYPHS, LEVEL_ROLES, STATE_GLYPHS, STATE_ROLES
from console.tui.model import RunModel
from console.tui.paint import BLANK, Line, Span, clip, line, line_width, spread, wrapped
from console.tui.widgets.panel import Panel

__all__ = ["TABS", "Banner", "Header", "TabBar", "header_line", "since_text", "state_words"]

TABS: tuple[tuple[str, str, str], ...] = (("overview", "1", "Overview"), ("logs", "2", "Logs"), ("chat", "3", "Chat"))


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


def header_line(model: RunModel, width: int) -> Line:
    """State, profile, model and engine at the left; time and money at the right. Engine and model go first."""
    run = model.run
    state = model.state
    status = model.snapshot.status if model.snapshot else None
    role = STATE_ROLES[state]
    right: list[Span] = [(since_text(model), "text")]
    if run.usd_per_hour is not None:
        right.append((f"  {fmt.money(run.usd_per_hour)}/h", "text"))
        if width >= 120 and run.created_s:
            spent = run.usd_per_hour * max(model.now - run.created_s, 0) / 3600
            right.append((f"  {fmt.money(spent)} since launch", "muted"))
    tail = line(*right)
    if model.lost is not None:
        left: list[Span] = [("▲ LOST", "warn"), (f"  was {state_words(state, status)}", "muted")]
    else:
        left = [(f"{STATE_GLYPHS[state]} {state_words(state, status)}", f"{role}")]
    if model.planned:
        left.append((f"  {model.planned}", "warn"))
    left.append((f"  {run.profile_name}", "strong"))
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
        return [header_line(self.model, width) if self.model else BLANK]


class TabBar(Panel):
    """The panes of the dashboard, with the count of hints in sight on every one of them."""

    active = "overview"
    model: RunModel | None = None

    def show(self, model: RunModel, active: str) -> None:
        """Show the panes with this one active."""
        self.model, self.active = model, active
        self.repaint()

    def paint(self, width: int, height: int) -> list[Line]:
        left: list[Span] = []
        for key, digit, title in TABS:
            role = "tab" if key == self.active else "muted"
            left += [(f" {digit} {title} ", role), (" ", "text")]
        right: list[Span] = []
        snapshot = self.model.snapshot if self.model and self.model.live else None
        hints = [h for h in snapshot.hints if h.state is HintState.FIRING] if snapshot else []
        if hints:
            level = max((h.level for h in hints), key=list(Level).index)
            right.append((f"{LEVEL_GLYPHS[level]} {len(hints)} hint{'s' * (len(hints) != 1)}", LEVEL_ROLES[level]))
        right.append(("   ? help", "muted"))
        return [spread(line(*left), line(*right), width)]

    async def on_click(self, event: Click) -> None:
        """A click on a tab shows its pane."""
        at = 0
        for key, digit, title in TABS:
            end = at + len(digit) + len(title) + 3
            if at <= event.x - self.styles.padding.left < end:
                await self.run_action(f"screen.pane('{key}')")
            at = end + 1


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
