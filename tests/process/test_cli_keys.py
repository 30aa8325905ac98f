"""`keys [reference]`, `--theme` and `--readonly`, as a caller meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from console.cli import main
from console.core.errors import UsageError
from console.core.preferences import Preferences
from console.io import paths
from console.io.config import read_preferences
from console.tui.actions import ACTIONS

PAGE = Path(__file__).parents[2] / "docs" / "keys.md"


@pytest.fixture
def file() -> Path:
    paths.config_dir().mkdir(parents=True)
    return paths.config_dir() / "config.toml"


def test_the_page_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "reference"]) == 0
    assert capsys.readouterr().out == PAGE.read_text(encoding="utf-8"), "dsv4-console keys reference > docs/keys.md"


def test_all_actions_with_ones_own_keys(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    file.write_text('[keys]\n"dashboard.stop" = "Z"\n', encoding="utf-8")
    assert main(["keys"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for action in ACTIONS:
        assert any(action.id in line and action.help in line for line in lines), action.id
    assert any(line.split()[:3] == ["*", "dashboard.stop", "Z"] for line in lines)
    assert str(file) in lines[-1]


def test_mistakes_are_named_and_end_with_2(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    file.write_text('theme = "pink"\n[keys]\n"dashboard.stop" = "r"\n', encoding="utf-8")
    assert main(["keys", "--json"]) == 2
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert [row["id"] for row in document["actions"]] == [action.id for action in ACTIONS]
    assert len(document["problems"]) == 2
    assert f"{file}: theme: found 'pink'" in document["problems"][0]
    assert f"{file}: keys.dashboard.stop: r is the key of dashboard.restart already" in document["problems"][1]


def test_what_config_toml_says_of_the_screen(file: Path) -> None:
    assert read_preferences() == Preferences(path=str(file))
    file.write_text('readonly = true\ntheme = "light"\nengin = "x"\n[keys]\nx = 1\n', encoding="utf-8")
    found = read_preferences()
    assert (found.readonly, found.theme, found.keys) == (True, "light", {"x": 1})
    assert len(found.mistakes) == 1
    assert "engin: no such key" in found.mistakes[0]


@pytest.mark.parametrize("text", ['readonly = "yes"', "readonly = 1", "readonly = [", "\xff"])
def test_nobody_guesses_whether_things_may_be_changed(file: Path, text: str) -> None:
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError):
        read_preferences()


@pytest.mark.parametrize("option", [["--readonly"], ["--theme", "light"]])
def test_options_of_the_screen_are_refused_without_it(capsys: pytest.CaptureFixture[str], option: list[str]) -> None:
    assert main(["--profile", "cpu-smoke", *option]) == 2
    assert "is for the terminal UI" in capsys.readouterr().err
    assert main([*option, "status"]) == 2
    assert "does not belong to" in capsys.readouterr().err


def test_an_unknown_theme(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--theme", "pink"]) == 2
    assert "high-contrast-light" in capsys.readouterr().err
