"""The one theme: semantic colours, dark. Every other file says what a thing means, never which colour it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from rich.style import Style
from textual.color import Color
from textual.theme import Theme

__all__ = ["LOOKS", "THEME", "Look", "role_styles"]


class Look(NamedTuple):
    """How a role of painted text looks: names of theme variables."""

    color: str
    bold: bool = False
    background: str = ""


LOOKS: dict[str, Look] = {
    "text": Look("role-text"),
    "strong": Look("role-strong", bold=True),
    "muted": Look("role-muted"),
    "faint": Look("role-faint"),
    "accent": Look("accent"),
    "ok": Look("success"),
    "warn": Look("warning"),
    "bad": Look("error"),
    "key": Look("accent", bold=True),
    "fill": Look("role-fill"),
    "kv": Look("role-kv"),
    "fill-warn": Look("warning"),
    "select": Look("role-strong", background="select-background"),
    "match": Look("background", background="warning"),
    "you": Look("role-muted", bold=True),
    "code": Look("role-code"),
    "tab": Look("role-strong", bold=True, background="select-background"),
}
"""One table for all painted text, not component classes: those are matched again per widget at every change."""


def role_styles(variables: Mapping[str, str]) -> dict[str, Style]:
    """The looks in the colours of a theme. A role with `+` before it stands in a selected row."""
    styles: dict[str, Style] = {}
    selected = Style(bgcolor=Color.parse(variables["select-background"]).rich_color)
    for role, look in LOOKS.items():
        background = Color.parse(variables[look.background]).rich_color if look.background else None
        style = Style(color=Color.parse(variables[look.color]).rich_color, bgcolor=background, bold=look.bold or None)
        styles[role] = style
        styles[f"+{role}"] = style + selected
    return styles


THEME = Theme(
    name="console",
    primary="#5ca8f0",
    secondary="#7f8da0",
    accent="#5ca8f0",
    foreground="#d3dae4",
    background="#0e1218",
    surface="#0e1218",
    panel="#171d26",
    success="#63c384",
    warning="#e3b04b",
    error="#f07070",
    dark=True,
    variables={
        "role-text": "#c3ccd8",
        "role-strong": "#f2f5f9",
        "role-muted": "#8592a3",
        "role-faint": "#323c49",
        "role-fill": "#3f7fbf",
        "role-kv": "#4c9a94",
        "role-code": "#9fb8cf",
        "select-background": "#1d2b3d",
        "prompt-background": "#202936",
        "border-blurred": "#323c49",
        "scrollbar": "#27303c",
        "scrollbar-hover": "#3d4a5a",
        "scrollbar-active": "#5ca8f0",
        "scrollbar-background": "#0e1218",
        "scrollbar-background-hover": "#0e1218",
        "scrollbar-background-active": "#0e1218",
        "scrollbar-corner-color": "#0e1218",
        "input-cursor-background": "#d3dae4",
        "input-selection-background": "#2b4869",
        "block-cursor-foreground": "#0e1218",
        "block-cursor-background": "#d3dae4",
    },
)
