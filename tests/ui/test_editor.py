"""The editor of profiles: fields, live judgement, undo, saving, and that nothing written is lost."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from console.core.errors import StateError
from console.tui.screens.editor import EditorScreen
from console.tui.screens.editor_questions import name_verdict
from console.tui.screens.picker import PickerScreen
from tests.fakes.backend import PROBLEMS, FakeBackend
from tests.ui.screen_text import running, text, wait_for, wait_text

GOLDENS = Path(__file__).parent / "goldens"
NAME = "flash-4xh200"


@asynccontextmanager
async def editing(backend: FakeBackend, size: tuple[int, int] = (80, 24), **options: Any) -> AsyncIterator[Pilot[Any]]:
    """The editor on the first profile."""
    async with running(backend, size, **options) as pilot:
        await wait_text(pilot, NAME)
        await pilot.press("e")
        await wait_text(pilot, f"Edit {NAME}", "● fits on 4 × H200")
        yield pilot


async def choose(pilot: Pilot[Any], key: str) -> None:
    """Select a field through the search."""
    await pilot.press("slash", *key, "enter")
    await wait_for(pilot, lambda: pilot.app.screen.fields.selected_key.endswith(key), f"{key} is selected")


async def write(pilot: Pilot[Any], value: str, *, before: int = 20) -> None:
    """Open the selected field, clear it, write, and take it."""
    await pilot.press("enter", *["backspace"] * before)
    for letter in value:
        await pilot.press({" ": "space"}.get(letter, letter))
    await pilot.press("enter")


def own(**changes: str) -> FakeBackend:
    """A backend on which the first profile is the user's own already."""
    backend = FakeBackend()
    source = backend._shipped_text(NAME)
    backend.texts[NAME] = source
    for old, new in changes.values():
        backend.texts[NAME] = backend.texts[NAME].replace(old, new)
    return backend


async def test_edit_validate_undo_save_launch_and_open_again() -> None:
    backend = FakeBackend()
    async with editing(backend) as pilot:
        await choose(pilot, "max_num_seqs")
        await pilot.press("enter", "backspace", "backspace", *"4x")
        await wait_text(pilot, "✖ 1 mistake", 'found "4x"', "at least 1")
        await pilot.press("backspace", "8", "enter")
        await wait_text(pilot, "1 change", "● no mistakes", "• max_num_seqs", "In file   32")
        await pilot.press("u")
        await wait_for(pilot, lambda: "1 change" not in text(pilot.app), "taken back")
        await pilot.press("U")
        await wait_text(pilot, "1 change")
        await pilot.press("w")
        await wait_text(pilot, "Save as a profile of your own", "takes the place of the shipped flash-4xh200")
        await pilot.press("enter")
        await wait_for(pilot, lambda: isinstance(pilot.app.screen, PickerScreen), "back")
        await wait_text(pilot, "▸ ● flash-4xh200*", "user (replaces shipped)")
        (saved,) = backend.saved
        assert [(change.key, change.before, change.after) for change in saved[1]] == [("serve.max_num_seqs", 32, 48)]
        await pilot.press("e")
        await wait_text(pilot, "yours, in place of the shipped one")
        await choose(pilot, "max_num_seqs")
        await wait_text(pilot, "48", "Shipped   32")
        await pilot.press("d")
        await wait_text(pilot, "Against the file: none", "Against the shipped profile: 1 difference")
        await wait_text(pilot, "- serve.max_num_seqs = 32", "+ serve.max_num_seqs = 48")
        await pilot.press("q", "q")
        await wait_for(pilot, lambda: isinstance(pilot.app.screen, PickerScreen), "nothing to ask")
        await pilot.press("enter")
        await wait_text(pilot, f"Launch {NAME}")
        await pilot.press("enter")
        await wait_text(pilot, "STARTING")
        assert backend.launched[0].profile.serve.max_num_seqs == 48


async def test_the_fit_and_the_command_follow_what_is_written() -> None:
    async with editing(FakeBackend(), (160, 50)) as pilot:
        await wait_text(pilot, "--max-num-seqs 32")
        await choose(pilot, "max_num_seqs")
        await pilot.press("enter", "backspace", "backspace", *"99")
        await wait_text(pilot, "✖ does not fit on 4 × H200", "--max-num-seqs 99")
        await pilot.press("escape")
        await wait_text(pilot, "● fits on 4 × H200", "--max-num-seqs 32")
        assert "change" not in text(pilot.app).splitlines()[0]


async def test_a_burst_of_keys_is_judged_once() -> None:
    backend = FakeBackend()
    async with editing(backend) as pilot:
        await choose(pilot, "max_num_seqs")
        count = len(backend.attempts)
        await pilot.press("enter", "backspace", "backspace", *"12345")
        await wait_text(pilot, "✖ does not fit")
        assert len(backend.attempts) - count < 5


async def test_choices_are_chosen_and_unset() -> None:
    async with editing(FakeBackend()) as pilot:
        await choose(pilot, "enforce_eager")
        await pilot.press("enter")
        await wait_text(pilot, "▸ not set: vLLM decides")
        await pilot.press("up", "up")
        await wait_text(pilot, "▸ true")
        await pilot.press("enter")
        await wait_for(pilot, lambda: pilot.app.screen.form.draft.data["serve"]["enforce_eager"] is True, "taken")
        await pilot.press("x")
        await wait_for(pilot, lambda: "enforce_eager" not in pilot.app.screen.form.draft.data["serve"], "taken out")
        await pilot.press("enter", "up", "escape")
        await wait_for(pilot, lambda: pilot.app.focused.id == "fields", "left")
        assert not pilot.app.screen.form.draft.changes


async def test_flags_and_variables_are_added_and_taken_out() -> None:
    async with editing(FakeBackend()) as pilot:
        await pilot.press("a")
        await wait_text(pilot, "[serve.extra] =")
        for letter in "--max-log-len=64":
            await pilot.press("minus" if letter == "-" else "equals_sign" if letter == "=" else letter)
        await pilot.press("enter")
        await wait_text(pilot, "[serve.extra]", "▸ • max-log-len", "--max-log-len")
        await pilot.press("v", *"VLLM_X", "equals_sign", "1", "enter")
        await wait_text(pilot, "▸ • VLLM_X", '"1"')
        draft = pilot.app.screen.form.draft
        assert draft.data["serve"]["extra"] == {"max-log-len": 64}
        assert draft.data["env"] == {"VLLM_X": "1"}
        await pilot.press("x")
        await wait_for(pilot, lambda: "VLLM_X" not in text(pilot.app), "taken out")
        await pilot.press("a", *"port", "equals_sign", *"1")
        await wait_text(pilot, "write serve.port")
        await pilot.press("escape")
        await wait_text(pilot, "● no mistakes")


async def test_search_and_only_what_is_set() -> None:
    async with editing(FakeBackend()) as pilot:
        await pilot.press("slash", *"parallel")
        await wait_text(pilot, "tensor_parallel_size", "pipeline_parallel_size", "[serve]")
        assert "max_num_seqs" not in text(pilot.app)
        await pilot.press("escape", "o")
        await wait_for(pilot, lambda: "pipeline_parallel_size" not in text(pilot.app), "only set")
        await wait_text(pilot, "tensor_parallel_size")
        await pilot.press("slash", *"zzz")
        await wait_text(pilot, "No field matches.")
        await pilot.press("enter", "escape")
        await wait_text(pilot, "tensor_parallel_size")
        await pilot.press("escape")
        await wait_for(pilot, lambda: isinstance(pilot.app.screen, PickerScreen), "escape without a search leaves")


async def test_sections_are_stepped_through_and_titles_never_selected() -> None:
    async with editing(FakeBackend()) as pilot:
        fields = pilot.app.screen.fields
        await pilot.press("g")
        assert fields.selected_key == "profile.title"
        seen = [fields.selected_key]
        for _ in range(80):
            await pilot.press("down")
            seen.append(fields.selected_key)
        assert not any(key.startswith("#") for key in seen)
        assert seen[-1] == seen[-2] == "cost.spot_usd_per_hour"
        await pilot.press("left")
        assert fields.selected_key == "targets.ttft_s"
        await pilot.press("right", "right")
        assert fields.selected_key.startswith("cost.")


async def test_under_another_name_it_is_a_profile_beside_the_others() -> None:
    backend = FakeBackend()
    async with editing(backend) as pilot:
        await choose(pilot, "max_num_seqs")
        await write(pilot, "16")
        await pilot.press("S")
        await wait_text(pilot, "Save as a profile of your own")
        await pilot.press("minus", "b", "enter")
        await wait_text(pilot, "▸ ● flash-4xh200-b*")
        assert [name for name, _ in backend.saved] == ["flash-4xh200-b"]
        assert len(backend.entries) == 6


def test_what_a_name_would_mean() -> None:
    origins = {"a": "shipped", "b": "user", "c": "user (replaces shipped)"}
    assert name_verdict("a", origins)[0]
    assert "takes the place" in name_verdict("a", origins)[1]
    assert name_verdict("new", origins)[0]
    for name in ("b", "c", "../x", ""):
        assert not name_verdict(name, origins)[0]


async def test_leaving_asks_and_can_save() -> None:
    backend = own()
    async with editing(backend) as pilot:
        await choose(pilot, "max_num_seqs")
        await write(pilot, "16")
        for keys in (["q"], ["escape", "escape"], ["escape"], ["ctrl+c"]):
            await pilot.press(*keys)  # the first escape ends the search
            await wait_text(pilot, "Leave flash-4xh200?", "1 change not saved")
            await pilot.press("escape")
            await wait_for(pilot, lambda: isinstance(pilot.app.screen, EditorScreen), "stayed")
        await pilot.press("q")
        await wait_text(pilot, "Leave flash-4xh200?")
        await pilot.press("w")
        await wait_for(pilot, lambda: isinstance(pilot.app.screen, PickerScreen), "left")
        assert len(backend.saved) == 1


async def test_leaving_can_lose_edits_only_when_told_to() -> None:
    backend = own()
    async with editing(backend) as pilot:
        await choose(pilot, "max_num_seqs")
        await write(pilot, "16")
        await pilot.press("q")
        await wait_text(pilot, "leave and lose them")
        await pilot.press("d")
        await wait_for(pilot, lambda: isinstance(pilot.app.screen, PickerScreen), "left")
        assert not backend.saved


async def test_a_profile_with_mistakes_is_saved_only_after_a_question_and_can_be_mended() -> None:
    backend = own()
    async with editing(backend) as pilot:
        await choose(pilot, "max_num_seqs")
        await write(pilot, "many")
        await wait_text(pilot, "✖ 1 mistake")
        await pilot.press("w")
        await wait_text(pilot, "Save flash-4xh200 with 1 mistake?", "cannot be launched")
        await pilot.press("enter")
        await wait_for(pilot, lambda: isinstance(pilot.app.screen, EditorScreen), "goes on")
        assert not backend.saved
        await pilot.press("w")
        await wait_text(pilot, "Save flash-4xh200 with 1 mistake?")
        await pilot.press("s")
        await wait_text(pilot, "▸ ✖ flash-4xh200*", "1 mistake", "e opens it as a form")
        await pilot.press("e")
        await wait_text(pilot, "✖ max_num_seqs", "memory is judged once there are no mistakes")
        assert pilot.app.screen.fields.selected_key == "serve.max_num_seqs"
        await write(pilot, "16")
        await wait_text(pilot, "● no mistakes")
        await pilot.press("w")
        await wait_text(pilot, "▸ ● flash-4xh200*")


async def test_an_unknown_key_is_shown_with_the_nearest_and_taken_out() -> None:
    backend = own(typo=("max_num_seqs", "max_num_seq"))
    async with running(backend) as pilot:
        await wait_text(pilot, NAME)
        await pilot.press("e")
        await wait_text(pilot, "✖ max_num_seq ", "nearest known key: serve.max_num_seqs")
        await pilot.press("enter")
        await wait_for(pilot, lambda: any("x takes it out" in n.message for n in pilot.app._notifications), "told")
        await pilot.press("x")
        await wait_text(pilot, "● no mistakes", "1 change")


async def test_a_file_that_is_no_toml_is_told_with_its_line() -> None:
    backend = FakeBackend(problems=PROBLEMS)
    backend.texts["my-flash"] = "[serve\n"
    async with running(backend) as pilot:
        await wait_text(pilot, "my-flash")
        await pilot.press("G", "e")
        await wait_text(pilot, "cannot be edited as a form", "line 1")


@pytest.mark.parametrize(("key", "kept"), [("m", True), ("o", False)])
async def test_a_file_that_changed_meanwhile_is_asked_about(key: str, kept: bool) -> None:
    backend = own()
    async with editing(backend) as pilot:
        await choose(pilot, "max_num_seqs")
        await write(pilot, "16")
        backend.texts[NAME] = backend.texts[NAME].replace(
            "tensor_parallel_size = 4", "tensor_parallel_size = 4\nport = 9"
        )
        now = backend.texts[NAME]
        await pilot.press("w")
        await wait_text(pilot, "was changed", "make my changes in the file as it is now", "overwrite it")
        await pilot.press("escape")
        await wait_for(pilot, lambda: isinstance(pilot.app.screen, EditorScreen), "goes on")
        assert backend.texts[NAME] == now
        await pilot.press("w")
        await wait_text(pilot, "was changed")
        await pilot.press(key)
        await wait_for(pilot, lambda: isinstance(pilot.app.screen, PickerScreen), "saved")
        assert "max_num_seqs = 16" in backend.texts[NAME]
        assert ("port = 9" in backend.texts[NAME]) is kept


async def test_a_disk_that_is_full_costs_no_edit() -> None:
    backend = own()

    async def full(*_: Any, **__: Any) -> Path:
        raise StateError("Cannot write the profile", "no space left on device", "Check the disk.")

    async with editing(backend) as pilot:
        await choose(pilot, "max_num_seqs")
        await write(pilot, "16")
        backend.save_profile = full  # type: ignore[method-assign]
        await pilot.press("w")
        await wait_text(pilot, "Cannot write the profile", "no space left")
        await pilot.press("enter")
        await wait_text(pilot, "Edit flash-4xh200", "1 change")


async def test_what_stands_in_an_open_field_counts_when_it_is_saved() -> None:
    backend = own()
    async with editing(backend) as pilot:
        await choose(pilot, "max_num_seqs")
        await pilot.press("enter", "backspace", "backspace", *"16")
        await pilot.click("#fields", offset=(5, 1))
        await pilot.press("w")
        await wait_for(pilot, lambda: isinstance(pilot.app.screen, PickerScreen), "saved")
        assert [change.after for change in backend.saved[0][1]] == [16]


async def test_a_secret_in_a_file_is_hidden_and_survives_being_opened() -> None:
    backend = own(key=("[engine]", '[env]\nHF_TOKEN = "hf_secret"\n[engine]'))
    async with running(backend) as pilot:
        await wait_text(pilot, NAME)
        await pilot.press("e")
        await wait_text(pilot, "HF_TOKEN", "•••")
        await pilot.press("enter")
        await wait_text(pilot, "hidden; stays unless")
        await pilot.press("enter", "d")
        await wait_text(pilot, "Against the file: none")
        assert "hf_secret" not in text(pilot.app)


async def test_the_command_is_copied_from_the_form() -> None:
    backend = FakeBackend()
    async with editing(backend) as pilot:
        await choose(pilot, "max_num_seqs")
        await write(pilot, "16")
        await pilot.press("y")
        await wait_for(pilot, lambda: backend.commands, "copied")
        assert backend.commands[0][1].endswith("--max-num-seqs 16")
        assert pilot.app.clipboard == backend.commands[0][1]


@pytest.mark.parametrize("size", [(60, 20), (80, 24), (100, 30), (160, 50), (220, 60), (300, 100)])
async def test_it_fits(size: tuple[int, int]) -> None:
    async with editing(FakeBackend(), size) as pilot:
        await choose(pilot, "max_num_seqs")
        await pilot.press("enter", "9", "9")
        await wait_text(pilot, "does not fit", "⏎ take", "F1 help")
        for widget in pilot.app.screen.query("*"):
            if widget.display and widget.region:
                assert widget.region.right <= size[0], widget
                assert widget.id == "form-facts" or widget.region.bottom <= size[1], widget


async def test_ascii_only() -> None:
    async with running(FakeBackend(), ascii_glyphs=True) as pilot:
        await wait_text(pilot, NAME)
        await pilot.press("e")
        await wait_text(pilot, f"Edit {NAME}", "* fits on 4 x H200")
        await choose(pilot, "max_num_seqs")
        await write(pilot, "many")
        await wait_text(pilot, "x 1 mistake")
        assert text(pilot.app).isascii(), [c for c in text(pilot.app) if not c.isascii()]


@pytest.mark.parametrize("size", [(80, 24), (160, 50)], ids=lambda size: f"{size[0]}x{size[1]}")
async def test_golden(size: tuple[int, int]) -> None:
    """Run with `UPDATE_GOLDENS=1` to accept a change."""
    path = GOLDENS / f"editor-{size[0]}x{size[1]}.txt"
    async with editing(FakeBackend(), size) as pilot:
        await choose(pilot, "max_num_seqs")
        await pilot.press("slash", "escape", "enter", "x")
        await wait_text(pilot, 'found "32x"', "before the mistakes")
        if os.environ.get("UPDATE_GOLDENS"):
            await pilot.pause(0.4)
            path.write_text(text(pilot.app) + "\n", encoding="utf-8")
        wanted = path.read_text(encoding="utf-8")
        await wait_for(pilot, lambda: text(pilot.app) + "\n" == wanted, f"looks like {path.name}")


async def test_an_edit_that_was_cut_off_is_there_again_until_it_is_saved_or_given_up() -> None:
    backend = own()
    async with editing(backend) as pilot:
        await choose(pilot, "max_num_seqs")
        await write(pilot, "16")
        await wait_for(pilot, lambda: backend.edits.get(NAME), "kept")
    async with editing(backend) as pilot:
        await wait_text(pilot, "1 change", "▸ • max_num_seqs", "16")
        await wait_for(pilot, lambda: any("cut off" in n.title for n in pilot.app._notifications), "told")
        await pilot.press("u")
        await wait_for(pilot, lambda: backend.edits[NAME] == (), "taken back, so nothing is kept")
        await pilot.press("U", "q")
        await wait_text(pilot, "Leave flash-4xh200?")
        await pilot.press("d")
        await wait_for(pilot, lambda: isinstance(pilot.app.screen, PickerScreen), "left")
        assert backend.edits[NAME] == ()
        assert not backend.saved
