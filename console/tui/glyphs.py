"""Every glyph that the screen uses, what it stands for, and its stand-in for terminals that have only ASCII.

Each stand-in is one cell wide like its original, so that translation at the last moment never moves a column.
"""

from __future__ import annotations

from console.core.models import Level, ServerState
from console.core.units import UNKNOWN

__all__ = [
    "ASCII_TABLE",
    "BLOCKS",
    "EVENT_GLYPHS",
    "LEVEL_GLYPHS",
    "LEVEL_ROLES",
    "STATE_GLYPHS",
    "STATE_ROLES",
    "UNKNOWN",
    "safe",
]


BLOCKS = " ▁▂▃▄▅▆▇█"

ASCII_TABLE = str.maketrans(
    {
        "●": "*", "○": "o", "◐": "~", "◌": ".", "▲": "!", "✖": "x", "✓": "+", "■": "#", "▸": ">", "▌": "|",
        "▁": "_", "▂": "_", "▃": "-", "▄": "-", "▅": "=", "▆": "=", "▇": "#", "█": "#", "▏": " ", "▎": "-",
        "▍": "-", "▋": "=", "▊": "=", "▉": "#", "▓": "%", "▒": ":", "░": ".", "┤": "|", "┈": ".", "─": "-",
        "│": "|", "━": "=", "╸": "-", "½": ".", "–": "-", "—": "-", "…": "~", "·": ".", "→": ">", "↑": "^", "↓": "v",
        "←": "<", "×": "x", "⏎": "<", "▼": "v", "•": "-", "µ": "u", "°": " ", "≈": "~", "≥": ">", "≤": "<",
        "\N{RIGHT SINGLE QUOTATION MARK}": "'", "“": '"', "”": '"', "«": '"', "»": '"', "�": "?", "❯": ">",
        "↻": "R", "◆": "&",
    }
)  # fmt: skip

STATE_GLYPHS: dict[ServerState, str] = {
    ServerState.STOPPED: "■",
    ServerState.STARTING: "◐",
    ServerState.LOADING: "◐",
    ServerState.READY: "●",
    ServerState.UNHEALTHY: "▲",
    ServerState.STOPPING: "◐",
    ServerState.FAILED: "✖",
    ServerState.CRASHED: "✖",
}
STATE_ROLES: dict[ServerState, str] = {
    ServerState.STOPPED: "muted",
    ServerState.STARTING: "accent",
    ServerState.LOADING: "accent",
    ServerState.READY: "ok",
    ServerState.UNHEALTHY: "warn",
    ServerState.STOPPING: "warn",
    ServerState.FAILED: "bad",
    ServerState.CRASHED: "bad",
}
LEVEL_GLYPHS: dict[Level, str] = {Level.OK: "●", Level.INFO: "•", Level.WARN: "▲", Level.BAD: "✖"}
LEVEL_ROLES: dict[Level, str] = {Level.OK: "ok", Level.INFO: "accent", Level.WARN: "warn", Level.BAD: "bad"}
EVENT_GLYPHS: dict[str, str] = {
    "xid": "✖", "restart": "↻", "state": "●", "hint": "▲", "settings": "◆", "phase": "▸", "other": "·",
}  # fmt: skip
"""By group of `console.core.happenings`."""

VARIATION_SELECTORS = dict.fromkeys(range(65024, 65040))


def safe(text: str) -> str:
    """`text` with nothing in it that a terminal would obey: controls, bidirectional marks and the like become `�`.

    Variation selectors go, because terminals disagree about the width that they ask for.
    """
    if text.isascii():
        return text if text.isprintable() else "".join(c if c.isprintable() else "�" for c in text)
    text = text.translate(VARIATION_SELECTORS)
    return text if text.isprintable() else "".join(c if c.isprintable() else "�" for c in text)
