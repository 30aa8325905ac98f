"""The operator's own keys: judged with file and key, and shown wherever keys are shown."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console.core.preferences import Preferences
from console.tui.actions import ACTIONS, SCOPES, action_for, key_word
from console.tui.keymap import AROUND, CONTROL, NAMED, Keymap, overlap, read_keymap
from console.tui.screens.picker import PickerScreen
from tests.fakes.backend import FakeBackend, attached, snapshot
from tests.ui.screen_text import running, text, wait_for, wait_text

PATH = "config.toml"


def read(toml: str) -> Keymap:
    return read_keymap(tomllib.loads(toml), PATH)


def test_both_ways_to_write_it() -> None:
    for toml in ('"dashboard.stop" = "Z"', 'dashboard.stop = "Z"', '[dashboard]\nstop = " Z "'):
        assert read(toml) == Keymap({"dashboard.stop": "Z"})


def test_several_keys_and_characters_by_their_name() -> None:
    keymap = read('"app.help" = "?, f2,slash"\n"list.up" = "ctrl+k"')
    assert keymap.problems == ("config.toml: keys.app.help: / is the key of picker.filter already; "
                               "app.help keeps ? F1",)  # fmt: skip
    keymap = read('"app.help" = "!, f2"\n"list.up" = "ctrl+k,ctrl+u"')
    assert keymap.own == {"app.help": "exclamation_mark,f2", "list.up": "ctrl+k,ctrl+u"}
    assert keymap.text(action_for("app.help")) == "! F2"
    assert keymap.shown_for("app.help") == "!"
    assert keymap.shown_for("list.up") == "^k"
    assert keymap.shown_for("dashboard.stop") == "s"


def test_the_default_is_no_key_of_ones_own() -> None:
    assert read('"dashboard.stop" = "s"') == Keymap()


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ('"dashboard.stpo" = "Z"', "config.toml: keys.dashboard.stpo: no such action; nearest: dashboard.stop"),
        ('"dashboard.stop" = 3', "config.toml: keys.dashboard.stop: found 3; allowed: keys as text"),
        ('"dashboard.stop" = " "', "keys.dashboard.stop: found ' '; allowed"),
        ('"dashboard.stop" = "entr"', "stop: 'entr' is no key that every terminal sends; nearest: enter"),
        ('"dashboard.stop" = "alt+s"', "'alt+s' is no key that every terminal sends"),
        ('"dashboard.stop" = "ctrl+m"', "'ctrl+m' is no key that every terminal sends"),
        ('"dashboard.stop" = "a,b,d,e,f,g,i,j,k"', "found 9 keys; allowed: 8"),
        ('"prompt.send" = "x"', "keys.prompt.send: 'x' is text while one writes"),
        ('"dashboard.stop" = "r"', "keys.dashboard.stop: r is the key of dashboard.restart already; "
                                   "dashboard.stop keeps s"),
        ('"dashboard.stop" = "q"', "q is the key of app.quit already"),
        ('"logs.raw" = "s"', "keys.logs.raw: s is the key of dashboard.stop already; logs.raw keeps x"),
        ('"app.palette" = "n"', "keys.app.palette: n is the key of editor.next already"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_and_the_default_stays(toml: str, said: str) -> None:
    keymap = read(toml)
    assert keymap.own == {}
    assert len(keymap.problems) == 1
    assert said in keymap.problems[0]


def test_a_mistake_costs_the_others_nothing() -> None:
    keymap = read('"dashboard.stop" = "Z"\n"dashboard.nothing" = "Y"\n"dashboard.keep" = "Z"')
    assert keymap.own == {"dashboard.stop": "Z"}
    assert len(keymap.problems) == 2


def test_two_actions_may_change_places() -> None:
    assert read('"dashboard.stop" = "r"\n"dashboard.restart" = "s"').problems == ()


def test_scopes_that_never_meet_may_share_a_key() -> None:
    assert read('"picker.download" = "r"').problems == ()
    assert not overlap("picker", "dashboard")
    assert overlap("unheard-of", "picker"), "what is not known is near everything"
    assert set(AROUND) <= set(SCOPES)
    assert all(set(around) <= set(SCOPES) for around in AROUND.values())


IDS = [action.id for action in ACTIONS]
KEYS = st.sampled_from([*"abcdefghijklmnopqrstuvwxyzABCXYZ0123456789!?/[]{}", *sorted(NAMED), *sorted(CONTROL)])


@given(st.dictionaries(st.sampled_from(IDS), st.lists(KEYS, min_size=1, max_size=3).map(",".join), max_size=8))
@settings(max_examples=60, deadline=None)
def test_whatever_is_written_no_key_means_two_things(table: dict[str, str]) -> None:
    keymap = read_keymap(table, PATH)
    for one in keymap.own:
        for other in ACTIONS:
            if other.id != one and overlap(action_for(one).scope, other.scope):
                shared = set(keymap.own[one].split(",")) & set(keymap.keys(other).split(","))
                meant = set(action_for(one).keys.split(",")) & set(other.keys.split(","))
                assert shared <= meant
    assert len(keymap.own) + len(keymap.problems) <= len(table)
    assert all(problem.startswith(f"{PATH}: keys.") for problem in keymap.problems)


@given(st.recursive(st.one_of(st.text(max_size=9), st.integers(), st.booleans(), st.lists(st.text(), max_size=2)),
                    lambda inner: st.dictionaries(st.text(max_size=9), inner, max_size=3), max_leaves=6))  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_whatever_is_written_is_judged(value: object) -> None:
    read_keymap({"app": value}, PATH)


def test_words_of_keys() -> None:
    assert [key_word(key) for key in ("slash", "escape", "f5", "a", "up", "left_square_bracket")] == [
        "/", "esc", "F5", "a", "↑", "[",
    ]  # fmt: skip


async def test_ones_own_keys_act_and_are_shown_everywhere() -> None:
    backend, session = attached(snapshot())
    keys = {"dashboard.stop": "Z", "dashboard.restart": "s", "app.help": "!", "chat.write": "I", "nonsense": "x"}
    async with running(backend, (80, 60), preferences=Preferences(keys=keys, path=PATH)) as pilot:
        await wait_text(pilot, "READY", "Z stop", "s restart", "! help")
        told = [notice.message for notice in pilot.app._notifications]
        assert len(told) == 1
        assert "config.toml: keys.nonsense: no such action" in told[0]
        await pilot.press("exclamation_mark")
        await wait_text(pilot, "Z", "stop the server; give up a planned restart")
        assert any(row.split()[1:3] == ["Z", "stop"] for row in text(pilot.app).splitlines() if "give up" in row)
        await pilot.press("escape", "colon", *"stop the")
        await wait_text(pilot, "key Z")
        await pilot.press("escape")
        await pilot.press("question_mark", "r")
        await pilot.pause()
        assert "Keys" not in text(pilot.app), "the default key is free"
        await pilot.press("Z")
        await wait_text(pilot, "Stop flash-4xh200?")
        await pilot.press("n", "s")
        await wait_text(pilot, "Restart flash-4xh200?")
        assert not session.stops


async def test_a_key_of_ones_own_among_the_profiles() -> None:
    backend = FakeBackend()
    async with running(backend, preferences=Preferences(keys={"picker": {"launch": "l,enter"}}, path=PATH)) as pilot:
        await wait_text(pilot, "flash-4xh200", "l launch")
        await pilot.press("l")
        await wait_text(pilot, "Launch flash-4xh200")
        await pilot.press("n")
        await wait_for(pilot, lambda: isinstance(pilot.app.screen, PickerScreen), "back")
        await pilot.press("enter")
        await wait_text(pilot, "Launch flash-4xh200")
