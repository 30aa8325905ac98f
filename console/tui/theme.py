"""The one theme: semantic colours, dark. Every other file says what a thing means, never which colour it has."""

from __future__ import annotations

from textual.theme import Theme

__all__ = ["THEME"]

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
