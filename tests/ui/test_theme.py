"""The looks: contrast of every role on every background, what stays apart without red or green, and glyphs beside it.

Contrast is that of WCAG 2.1 (1.4.3, 1.4.6, 1.4.11). Colour vision is simulated with the matrices for full severity of
Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency" (IEEE TVCG
15(6), 2009), applied to linear RGB; differences are those of CIE 1976 (L*a*b*, D65).
"""

from __future__ import annotations

import itertools

import pytest

from console.core.models import HintState, Level, ServerState
from console.core.preferences import THEMES as NAMES
from console.core.preferences import Preferences
from console.tui.glyphs import ASCII_TABLE, LEVEL_GLYPHS, STATE_GLYPHS, STATE_ROLES
from console.tui.theme import LOOKS, PALETTES, THEMES, Palette, role_styles
from tests.ui.screen_text import grid, running, text, wait_for, wait_text
from tests.ui.states import STATES

TEXT_ROLES = ("text", "strong", "muted", "accent", "code", "ok", "warn", "bad")
LINE_ROLES = ("faint", "fill", "kv")
BACKGROUNDS = ("background", "panel", "select", "prompt")
PROTANOPIA = ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998))
DEUTERANOPIA = ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881))
NORMAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
APART = 15.0
"""A difference of 2.3 is just noticeable side by side; this is told at a glance, cells apart."""


def linear(color: str) -> tuple[float, ...]:
    parts = (int(color[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return tuple(part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)


def luminance(color: str) -> float:
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear(color), strict=True))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def lab(color: str, matrix: tuple[tuple[float, ...], ...]) -> tuple[float, float, float]:
    rgb = linear(color)
    red, green, blue = (min(max(sum(m * c for m, c in zip(row, rgb, strict=True)), 0.0), 1.0) for row in matrix)
    xyz = (
        (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.95047,
        0.2126 * red + 0.7152 * green + 0.0722 * blue,
        (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.08883,
    )
    x, y, z = (part ** (1 / 3) if part > 0.008856 else 7.787 * part + 16 / 116 for part in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def difference(one: str, other: str, matrix: tuple[tuple[float, ...], ...]) -> float:
    return sum((a - b) ** 2 for a, b in zip(lab(one, matrix), lab(other, matrix), strict=True)) ** 0.5


def test_the_computation_is_that_of_the_standard() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
    assert difference("#ff0000", "#00ff00", NORMAL) == pytest.approx(170.6, abs=0.5)
    assert difference("#b00000", "#5f5f00", DEUTERANOPIA) < difference("#b00000", "#5f5f00", NORMAL) / 3


@pytest.mark.parametrize("name", NAMES)
def test_contrast_of_words_and_lines(name: str) -> None:
    colors = PALETTES[name]  # type: ignore[index]
    words, lines = (7.0, 3.0) if name.startswith("high") else (4.5, 3.0)
    low = [
        f"{role} on {ground}: {found:.2f}"
        for roles, least in ((TEXT_ROLES, words), (LINE_ROLES, lines))
        for role, ground in itertools.product(roles, BACKGROUNDS)
        if not (role == "faint" and ground in ("select", "prompt"))  # no line is drawn there
        and (found := contrast(getattr(colors, role), getattr(colors, ground))) < least
    ]
    low += [f"match: {c:.2f}" for c in [contrast(colors.background, colors.warn)] if c < words]
    assert low == []


def test_every_role_of_painted_text_has_been_computed() -> None:
    variables = {
        f"role-{role}" for role in (*TEXT_ROLES, *LINE_ROLES)
    } | {"accent", "success", "warning", "error", "background"}  # fmt: skip
    assert {look.color for look in LOOKS.values()} <= variables
    assert {look.background for look in LOOKS.values() if look.background} <= {"select-background", "warning"}
    assert set(NAMES) == set(PALETTES) == set(THEMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("matrix", [NORMAL, PROTANOPIA, DEUTERANOPIA], ids=["normal", "protanopia", "deuteranopia"])
def test_good_doubtful_and_bad_stay_apart(name: str, matrix: tuple[tuple[float, ...], ...]) -> None:
    colors: Palette = PALETTES[name]  # type: ignore[index]
    near = {
        f"{one}/{other}": round(found, 1)
        for one, other in itertools.combinations(("ok", "warn", "bad"), 2)
        if (found := difference(getattr(colors, one), getattr(colors, other), matrix)) < APART
    }
    assert near == {}


def test_glyphs_tell_what_colours_tell() -> None:
    by_role: dict[str, set[str]] = {}
    for state in ServerState:
        by_role.setdefault(STATE_ROLES[state], set()).add(STATE_GLYPHS[state])
    levels = [LEVEL_GLYPHS[level] for level in Level]
    assert len(set(levels)) == len(levels)
    for glyphs in (levels, list({glyph for found in by_role.values() for glyph in found})):
        plain = [glyph.translate(ASCII_TABLE) for glyph in glyphs]
        assert all(glyph.isascii() for glyph in plain)
        assert len(set(plain)) == len(plain), "still apart in ASCII"
    for good, other in itertools.combinations(("ok", "bad", "muted"), 2):
        assert not by_role[good] & by_role[other]
    assert HintState.UNJUDGED not in LEVEL_GLYPHS


@pytest.mark.parametrize("name", NAMES)
def test_a_role_has_its_colour_in_every_theme(name: str) -> None:
    variables = {"accent": PALETTES[name].accent, "success": "#010101", "warning": "#020202", "error": "#030303"}  # type: ignore[index]
    styles = role_styles({**THEMES[name].variables, **variables, "background": "#000000"})
    assert styles["text"].color is not None
    assert styles["text"].color.triplet is not None
    assert styles["text"].color.triplet.hex == PALETTES[name].text  # type: ignore[index]
    assert set(styles) == {*LOOKS, *(f"+{role}" for role in LOOKS)}


async def test_a_theme_is_chosen_at_the_start_and_changed_live() -> None:
    def background(app) -> str:
        strips = app.screen._compositor.render_strips()
        return next(s.style.bgcolor.triplet.hex for s in strips[2] if s.style and s.style.bgcolor)

    async with running(STATES["busy"](), preferences=Preferences(theme="light")) as pilot:
        await wait_text(pilot, "READY", "GPU util")
        before = grid(pilot.app)[0]
        for name in ("light", "high-contrast", "high-contrast-light", "dark"):
            await wait_for(
                pilot, lambda n=name: background(pilot.app) == PALETTES[n].background, f"is painted in {name}"
            )
            assert grid(pilot.app)[0] == before, "not a character moves"
            await pilot.press("T")
            await pilot.pause()
            pilot.app.clear_notifications()
        await pilot.press("colon", *"theme: high")
        await wait_text(pilot, "Theme: high-contrast-light")
        assert "Theme: dark" not in text(pilot.app)
