"""Names of profiles, and the file behind one that is edited. Separate, because front ends name it at their start."""

from __future__ import annotations

import re

import msgspec

__all__ = ["ProfileSource", "name_problem"]

PROFILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""What a profile may be called: it becomes the name of a file."""


class ProfileSource(msgspec.Struct, frozen=True, kw_only=True):
    """The file behind a profile, as it was when it was read."""

    name: str
    path: str
    own: bool
    """The user's; a shipped one is never written to."""
    text: str
    shipped: str = ""
    """What the shipped profile of this name holds; empty if there is none."""


def name_problem(name: str) -> str:
    """Why a profile cannot be called so; empty if it can."""
    return (
        "" if PROFILE_NAME.fullmatch(name) else "Allowed: letters, digits, dot, _ and -; the first a letter or digit."
    )
