"""The part of the `Backend` that an editor of profiles needs (see `console.client.api`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from console.core.models import ProfileChange
from console.core.profile import Profile
from console.core.profile_source import ProfileSource

if TYPE_CHECKING:
    from console.client.api import Attempt

__all__ = ["Editing"]


class Editing(Protocol):
    """Files behind profiles, and what is not saved yet."""

    async def profile_source(self, name: str) -> ProfileSource:
        """The file behind a profile, to edit it: the operator's own of this name, else the shipped one.

        Raises:
            console.core.errors.ProfileError: there is none, or it cannot be read.
        """
        ...

    async def attempt(self, name: str, profile: Profile) -> Attempt:
        """Judge a profile that is being edited: suitability, memory and command. Never blocks the event loop."""
        ...

    async def save_profile(
        self,
        name: str,
        base: str,
        changes: Sequence[ProfileChange],
        *,
        expected: str | None,
        mistakes: bool = False,
    ) -> Path:
        """Write an edited profile as the operator's own (see `console.io.profile_edit.write_edited`).

        Raises:
            console.core.errors.ConflictError: the file is not what was read.
            console.core.errors.ConsoleError: it has mistakes, or cannot be written.
        """
        ...

    async def keep_edit(self, name: str, changes: Sequence[ProfileChange]) -> None:
        """Keep changes that are not saved yet in case this console ends; without changes, forget them.

        Raises:
            console.core.errors.StateError: they cannot be written.
        """
        ...

    async def kept_edit(self, name: str) -> tuple[ProfileChange, ...]:
        """Changes to this profile that were made and never saved."""
        ...

    async def keep_command(self, name: str, line: str) -> Path:
        """Write a command into a file, for terminals that take no text into their clipboard; returns the file.

        Raises:
            console.core.errors.StateError: it cannot be written.
        """
        ...
