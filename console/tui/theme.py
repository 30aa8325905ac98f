"""The theme family: semantic colours. Every other file says what a thing means, never which colour it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from rich.style import Style
from textual.color import Color
from textual.theme import Theme

from console.core.preferences import ThemeName

__all__ = ["LOOKS", "PALETTES", "THEMES", "Look", "Palette", "role_styles"]


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


class Palette(NamedTuple):
    """The colours of one theme, each of which has one meaning."""

    dark: bool
    background: str
    panel: str
    select: str
    """Background of a selected row."""
    prompt: str
    """Background of an input."""
    text: str
    strong: str
    muted: str
    faint: str
    """Of lines and empty parts of bars, never of words."""
    accent: str
    fill: str
    kv: str
    code: str
    ok: str
    warn: str
    bad: str
    track: str
    """Of a scrollbar's handle at rest."""


PALETTES: dict[ThemeName, Palette] = {
    "dark": Palette(
        dark=True, background="#0e1218", panel="#171d26", select="#1d2b3d", prompt="#202936",
        text="#c3ccd8", strong="#f2f5f9", muted="#8f9cad", faint="#606d7c", accent="#5ca8f0",
        fill="#4587c8", kv="#4c9a94", code="#9fb8cf", ok="#3fc7a4", warn="#f2c14e", bad="#f4705f", track="#27303c",
    ),
    "light": Palette(
        dark=False, background="#fbfbf9", panel="#eeefec", select="#dde8f5", prompt="#e6e8e4",
        text="#2b333d", strong="#0b0f14", muted="#525d69", faint="#79838e", accent="#0a58b0",
        fill="#2f74c0", kv="#1f7a72", code="#34506b", ok="#006f69", warn="#855800", bad="#86001e", track="#c9cec9",
    ),
    "high-contrast": Palette(
        dark=True, background="#000000", panel="#0d0d0d", select="#002a52", prompt="#161616",
        text="#f2f2f2", strong="#ffffff", muted="#d0d0d0", faint="#9a9a9a", accent="#86caff",
        fill="#58a6ff", kv="#3ecfc0", code="#d8e8ff", ok="#4dffd0", warn="#ffd84a", bad="#ff9d94", track="#6e6e6e",
    ),
    "high-contrast-light": Palette(
        dark=False, background="#ffffff", panel="#f4f4f4", select="#e6efff", prompt="#eeeeee",
        text="#111111", strong="#000000", muted="#333a42", faint="#6b6b6b", accent="#003d82",
        fill="#0a5cc0", kv="#00665c", code="#16324d", ok="#00564e", warn="#664a00", bad="#6e0018", track="#8a8a8a",
    ),
}  # fmt: skip
"""One family: the same meanings in the same hues. Green is a teal and warnings are yellow, so that they and red stay
apart for eyes that do not tell red from green; `tests/ui/test_theme.py` computes contrasts and that difference."""


def _theme(name: str, colors: Palette) -> Theme:
    return Theme(
        name=name,
        primary=colors.accent,
        secondary=colors.muted,
        accent=colors.accent,
        foreground=colors.text,
        background=colors.background,
        surface=colors.background,
        panel=colors.panel,
        success=colors.ok,
        warning=colors.warn,
        error=colors.bad,
        dark=colors.dark,
        variables={
            "role-text": colors.text,
            "role-strong": colors.strong,
            "role-muted": colors.muted,
            "role-faint": colors.faint,
            "role-fill": colors.fill,
            "role-kv": colors.kv,
            "role-code": colors.code,
            "select-background": colors.select,
            "prompt-background": colors.prompt,
            "border-blurred": colors.faint,
            "scrollbar": colors.track,
            "scrollbar-hover": colors.faint,
            "scrollbar-active": colors.accent,
            "scrollbar-background": colors.background,
            "scrollbar-background-hover": colors.background,
            "scrollbar-background-active": colors.background,
            "scrollbar-corner-color": colors.background,
            "input-cursor-background": colors.text,
            "input-selection-background": colors.select,
            "block-cursor-foreground": colors.background,
            "block-cursor-background": colors.text,
        },
    )


THEMES: dict[str, Theme] = {name: _theme(name, palette) for name, palette in PALETTES.items()}
