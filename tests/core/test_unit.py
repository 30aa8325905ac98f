"""The systemd unit as text."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.core.profile import RestartPolicy, SuperviseSection
from console.core.unit import UnitSpec, environment_text, quoted, unit_name, unit_text


def spec(**fields: object) -> UnitSpec:
    values: dict[str, object] = {
        "profile": "p",
        "argv": ("/bin/python", "-m", "console", "--profile", "p"),
        "directory": "/home/me",
        "supervise": SuperviseSection(ready_timeout_s=100.2, drain_timeout_s=20.0, stop_timeout_s=10.0),
        "environment": {},
        "environment_file": "/home/me/.config/p.env",
        "user": None,
    }
    return UnitSpec(**(values | fields))  # type: ignore[arg-type]


def settings(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))


def test_times_come_from_the_profile_and_leave_the_console_to_explain() -> None:
    found = settings(unit_text(spec()))
    assert int(found["TimeoutStartSec"]) == 101 + 120
    assert int(found["TimeoutStopSec"]) == 30 + 45


def test_readiness_and_kill_mode() -> None:
    found = settings(unit_text(spec()))
    assert (found["Type"], found["NotifyAccess"], found["KillMode"]) == ("notify", "main", "mixed")
    assert (found["Restart"], found["OOMPolicy"]) == ("on-failure", "continue")
    assert found["WantedBy"] == "default.target"
    assert "User" not in found


def test_a_unit_of_the_machine_runs_as_somebody() -> None:
    found = settings(unit_text(spec(user="me")))
    assert found["User"] == "me"
    assert found["WantedBy"] == "multi-user.target"
    assert found["LimitMEMLOCK"] == "infinity"


def test_the_policy_of_the_profile_is_named() -> None:
    watch = SuperviseSection(restart=RestartPolicy.ON_FAILURE)
    assert "by policy (on-failure)" in unit_text(spec(supervise=watch))


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("cpu-smoke", "dsv4-console-cpu-smoke.service"),
        ("../a b/é", "dsv4-console-a-b.service"),
        ("%n", "dsv4-console-n.service"),
        ("...", "dsv4-console-profile.service"),
    ],
)
def test_names(name: str, unit: str) -> None:
    assert unit_name(name) == unit


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("plain/path-1.x=y", "plain/path-1.x=y"),
        ("two words", '"two words"'),
        ("100%", "100%%"),
        ("$HOME", '"$$HOME"'),
        ('a"b\\c', '"a\\"b\\\\c"'),
        ("", '""'),
        ("a;b", '"a;b"'),
    ],
)
def test_words_mean_themselves(word: str, text: str) -> None:
    assert quoted(word, command=True) == text


def unquoted(text: str) -> str:
    """As systemd.syntax(7) and specifiers read it back."""
    if text.startswith('"'):
        text = re.sub(r"\\(.)", r"\1", text[1:-1])
    return text.replace("$$", "$").replace("%%", "%")


@given(st.text(max_size=40))
def test_any_word_comes_back_or_is_refused(word: str) -> None:
    if not word.isprintable():
        with pytest.raises(ValueError, match="control character"):
            quoted(word, command=True)
    else:
        text = quoted(word, command=True)
        assert unquoted(text) == word
        assert text.startswith('"') or not re.search(r"[\s;'\"\\$]", text)


def test_a_line_break_cannot_make_a_setting() -> None:
    with pytest.raises(ValueError, match="control character"):
        unit_text(spec(environment={"A": "x\nExecStartPre=/bin/evil"}))


def test_the_environment_file_sets_nothing() -> None:
    assert all(line.startswith("#") for line in environment_text("p").splitlines())
