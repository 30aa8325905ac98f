"""The line by which no recording is taken for a live server: that it is one, where it is, and how fast it goes."""

from __future__ import annotations

from datetime import UTC, datetime

from console.client.api import Playing
from console.tui import fmt
from console.tui.model import RunModel
from console.tui.paint import Line, line, line_width
from console.tui.widgets.panel import Panel

__all__ = ["ReplayBar", "replay_line"]

BAR_MIN = 8


def replay_line(playing: Playing, width: int) -> Line:
    """Recording, speed and time of day at the left, the position as a bar, and as figures at the right."""
    how = "ended" if playing.ended else "paused" if playing.paused else f"×{playing.speed}"
    then = datetime.fromtimestamp(playing.local_s, tz=UTC)
    left = line(
        (f"{playing.label} ", "warn"),
        (f"{how:<6} ", "strong" if playing.paused or playing.ended else "accent"),
        (f"{then:%H:%M:%S} ", "text"),
        (f"{then:%Y-%m-%d} " if width >= 100 else "", "muted"),
    )
    length_s = playing.end_s - playing.begin_s
    right = line((f" {fmt.duration(playing.at_s - playing.begin_s)} of {fmt.duration(length_s)}", "text"))
    room = width - line_width(left) - line_width(right)
    if room < BAR_MIN:
        return (*left, *right)
    share = (playing.at_s - playing.begin_s) / length_s if length_s > 0 else 1.0
    done = min(max(round(share * (room - 1)), 0), room - 1)
    return (*left, *line(("━" * done, "fill"), ("●", "accent"), ("─" * (room - 1 - done), "faint")), *right)


class ReplayBar(Panel):
    """`replay_line` as a widget. Takes no room while nothing is replayed."""

    def __init__(self, *, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self.display = False
        self._playing: Playing | None = None

    def show(self, model: RunModel) -> None:
        """Show where this one is, if it is a recording."""
        self._playing = model.player.playing if model.player is not None else None
        self.display = self._playing is not None
        self.repaint()

    def paint(self, width: int, height: int) -> list[Line]:
        return [replay_line(self._playing, width)] if self._playing is not None else []
