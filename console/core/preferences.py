"""How the operator wants the terminal UI: what `config.toml` and the command line say of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

__all__ = ["THEMES", "Preferences", "ThemeName"]

ThemeName = Literal["dark", "light", "high-contrast", "high-contrast-light"]
THEMES: tuple[ThemeName, ...] = get_args(ThemeName)


@dataclass(frozen=True, slots=True)
class Preferences:
    """Of the screen alone: nothing here changes what a launch does."""

    theme: ThemeName = "dark"
    readonly: bool = False
    """Nothing that changes anything can be done from this console."""
    keys: Mapping[str, Any] = field(default_factory=dict)
    """`[keys]` as written: action to keys, not judged yet."""
    path: str = ""
    """The file that says so, for messages about it."""
    mistakes: tuple[str, ...] = ()
    """What of it could not be used, a line each; the defaults stand in."""
