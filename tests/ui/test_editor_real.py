"""The editor on the real backend: what it saves is a file that every other command of the program takes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from console.client.backend import LocalBackend
from console.io import profiles
from console.io.paths import shipped_profiles_dir, user_profiles_dir
from console.tui.app import ConsoleApp
from console.tui.screens.editor import EditorScreen
from console.tui.screens.picker import PickerScreen
from tests.ui.screen_text import wait_for, wait_text
from tests.ui.test_editor import choose, write

ROOT = Path(__file__).parents[2]


def check(name: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "console", "profiles", "check", name],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


async def test_a_saved_profile_is_accepted_by_profiles_check_and_keeps_its_comments() -> None:
    shipped = (shipped_profiles_dir() / "cpu-smoke.toml").read_text(encoding="utf-8")
    app = ConsoleApp(LocalBackend(), initial_profile="cpu-smoke")
    async with app.run_test(size=(100, 30)) as pilot:
        await wait_text(pilot, "▸ ● cpu-smoke", "Launch")
        await pilot.press("e")
        await wait_text(pilot, "Edit cpu-smoke", "no mistakes")
        await choose(pilot, "max_num_seqs")
        await write(pilot, "3")
        await pilot.press("a", *"max", "minus", *"log", "minus", *"len", "equals_sign", *"64", "enter")
        await wait_text(pilot, "2 changes", "● no mistakes")
        await pilot.press("w")
        await wait_text(pilot, "takes the place of the shipped cpu-smoke")
        await pilot.press("minus", "b")
        await wait_text(pilot, "A new profile of yours", "cpu-smoke-b.toml")
        await pilot.press("enter")
        await wait_text(pilot, "▸ ● cpu-smoke-b*")
        path = user_profiles_dir() / "cpu-smoke-b.toml"
        text = path.read_text(encoding="utf-8")
        assert [line for line in shipped.splitlines() if "#" in line] == [x for x in text.splitlines() if "#" in x]
        assert (shipped_profiles_dir() / "cpu-smoke.toml").read_text(encoding="utf-8") == shipped
        done = check("cpu-smoke-b")
        assert done.returncode == 0, done.stdout + done.stderr
        profile = profiles.load("cpu-smoke-b").profile
        assert (profile.serve.max_num_seqs, profile.serve.extra) == (3, {"max-log-len": 64})

        # A colleague's comment that came meanwhile is kept with the change.
        await pilot.press("e")
        await wait_for(pilot, lambda: isinstance(pilot.app.screen, EditorScreen), "open again")
        await choose(pilot, "max_num_seqs")
        await write(pilot, "many")
        path.write_text(text + "# a colleague\n", encoding="utf-8")
        await pilot.press("w")
        await wait_text(pilot, "Save cpu-smoke-b with 1 mistake?")
        await pilot.press("s")
        await wait_text(pilot, "The file of cpu-smoke-b was changed")
        await pilot.press("m")
        await wait_for(pilot, lambda: isinstance(pilot.app.screen, PickerScreen), "saved")
        await wait_text(pilot, "▸ ✖ cpu-smoke-b*", "1 mistake")
        assert path.read_text(encoding="utf-8").endswith("# a colleague\n")
        done = check("cpu-smoke-b")
        assert done.returncode == 2
        assert "max_num_seqs" in done.stdout + done.stderr
