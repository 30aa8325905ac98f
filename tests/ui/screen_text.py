"""The screen as characters. The only user of Textual's compositor here."""

from __future__ import annotations

from textual.app import App
from textual.pilot import Pilot


def grid(app: App[object]) -> list[str]:
    """What the terminal shows, a string per row."""
    strips = app.screen._compositor.render_strips()
    below = app.screen_stack[:-1]
    if app.screen.is_modal and below:
        width, height = app.size
        rows = [strip.text for strip in app.screen._compositor.render_strips()]
        return rows[:height]
    return [strip.text for strip in strips]


def text(app: App[object]) -> str:
    """All of it."""
    return "\n".join(row.rstrip() for row in grid(app))


async def wait_for(pilot: Pilot[object], condition, what: str, tries: int = 400) -> None:
    """Let the app work until the condition holds."""
    for _ in range(tries):
        if condition():
            return
        await pilot.pause(0.01)
    raise AssertionError(f"never: {what}\n{text(pilot.app)}")
