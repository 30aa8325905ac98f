"""How an edited profile is saved, left, and kept until then: everything of the editor that asks or writes.

Nothing that was written is lost: unsaved changes are kept in a file with every edit until they are saved or given up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from textual.screen import Screen

from console.client.api import ProfileSource
from console.core.errors import ConflictError, ConsoleError
from console.core.profile_form import open_draft
from console.tui.fmt import home_short
from console.tui.screens.editor_questions import (
    MERGE,
    MINE,
    NameScreen,
    conflict_question,
    leave_question,
    mistakes_question,
)
from console.tui.widgets.profile_form import FormState
from console.tui.widgets.profile_list import BROKEN

if TYPE_CHECKING:
    from console.tui.app import ConsoleApp

__all__ = ["SavingScreen"]


class SavingScreen(Screen[str | None]):
    """A screen on a form that can be saved. Gives the row of the picker that was saved.

    Args:
        source: the file.
        origins: of all profiles there are, to tell what a name would mean.

    Raises:
        ProfileError: the file is no TOML.
    """

    def __init__(self, source: ProfileSource, origins: Mapping[str, str]) -> None:
        super().__init__()
        self._origins = origins
        shipped = open_draft(source.shipped, source.name) if source.shipped else None
        self.form = FormState(source, open_draft(source.text, source.path), shipped)
        self._keeping = asyncio.Lock()
        self._over = False

    @property
    def console(self) -> ConsoleApp:
        """The app, typed."""
        return cast("ConsoleApp", self.app)

    async def keep(self) -> None:
        """Keep what is not saved yet, in case the line breaks, or forget it once it is saved or given up."""
        async with self._keeping:
            changes = () if self._over else self.form.draft.changes
            # A disk that takes nothing is told when one saves.
            with contextlib.suppress(ConsoleError):
                await self.console.backend.keep_edit(self.form.source.name, changes)

    def ask(self, work: Any) -> None:
        """Do what may ask something; one at a time."""
        if any(worker.group == "editor" and worker.is_running for worker in self.app.workers):
            work.close()
            return
        self.app.run_worker(work, group="editor", exit_on_error=False)

    async def leave(self) -> None:
        """Leave; ask about edits that are not saved."""
        form = self.form
        if form.draft.changes:
            answer = await self.app.push_screen_wait(leave_question(form.source.name, len(form.draft.changes)))
            if answer == "save":
                await self.save(False)
            if answer != "drop":
                return
        await self._end(None)

    async def save(self, other: bool) -> None:
        """Save, under another name if wanted, and leave."""
        form, name = self.form, self.form.source.name
        if other or not form.source.own:
            asked = await self.app.push_screen_wait(NameScreen(name, self._origins))
            if asked is None:
                return
            name = asked
        elif not form.draft.changes:
            self.notify("Nothing was changed.", markup=False)
            return
        wrong = form.reading.profile is None
        if wrong and await self.app.push_screen_wait(mistakes_question(name, form)) != "yes":
            return
        same = form.source.own and name == form.source.name
        try:
            saved = await self._write(name, form.source.text, form.source.text if same else None, wrong)
        except ConsoleError as error:
            self.console.show_problem(error)
            return
        if saved:
            await self._end(f"{BROKEN}{name}" if wrong else name)

    async def _end(self, key: str | None) -> None:
        """Leave, with nothing left to take up."""
        self._over = True
        await self.keep()
        self.dismiss(key)

    async def _write(self, name: str, base: str, expected: str | None, mistakes: bool) -> bool:
        """Write it; where the file is not what was expected, ask, and try again with what it is now."""
        backend = self.console.backend
        while True:
            try:
                path = await backend.save_profile(
                    name, base, self.form.draft.changes, expected=expected, mistakes=mistakes
                )
            except ConflictError as error:
                answer = await self.app.push_screen_wait(conflict_question(error))
                if answer not in (MERGE, MINE):
                    return False
                base, expected = await self._now(name, base, merge=answer == MERGE)
                continue
            self.notify(home_short(path), title=f"{name} is saved", markup=False)
            return True

    async def _now(self, name: str, base: str, *, merge: bool) -> tuple[str, str | None]:
        """What to write the changes into, and what the file holds now; a file that is gone holds nothing."""
        try:
            source = await self.console.backend.profile_source(name)
        except ConsoleError:
            return base, None
        if not source.own:
            return base, None
        return (source.text if merge else base), source.text
