"""The operator's own keys: `[keys]` of `config.toml`, judged against the table of actions.

A wrong entry costs nobody the console: the default stays, and the mistake is told with file and key.
"""

from __future__ import annotations

import difflib
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from textual._context import active_app
from textual.keys import _character_to_key

from console.tui.actions import ACTIONS, Action, action_for, key_word, keys_text, short_word

__all__ = ["AROUND", "KEYS_MAX", "Keymap", "key_for", "keys_for", "overlap", "read_keymap"]

KEYS_MAX = 8
"""Keys of one action; more are a mistake."""
AROUND: dict[str, tuple[str, ...]] = {
    "app": (),
    "picker": ("app",),
    "fleet": ("list", "app"),
    "dashboard": ("replay", "app"),
    "replay": ("dashboard", "app"),
    "list": ("picker", "fleet", "editor", "hints", "events", "gpus", "dashboard", "replay", "app"),
    "editor": ("list", "app"),
    "field": ("editor", "app"),
    "hints": ("list", "dashboard", "replay", "app"),
    "events": ("list", "dashboard", "replay", "app"),
    "gpus": ("list", "dashboard", "replay", "app"),
    "logs": ("dashboard", "replay", "app"),
    "processes": ("list", "app"),
    "chat": ("dashboard", "replay", "app"),
    "conversations": ("list", "app"),
    "prompt": ("chat", "dashboard", "app"),
    "bench": ("dashboard", "replay", "app"),
}
"""Scopes whose keys work at the same time as those of a scope. One that is not named here is near all of them."""
WRITING = frozenset({"prompt", "field"})
"""Scopes in which a character is text."""
NAMED = frozenset(
    (
        *("enter", "escape", "tab", "space", "backspace", "insert", "delete", "up", "down", "left", "right"),
        *("home", "end", "pageup", "pagedown"),
        *(f"f{number}" for number in range(1, 13)),
    )
)
CHARACTERS = {_character_to_key(character): character for character in map(chr, range(33, 127))}
CONTROL = frozenset(f"ctrl+{letter}" for letter in string.ascii_lowercase) - {"ctrl+h", "ctrl+i", "ctrl+m", "ctrl+z"}
"""Without those that a terminal sends as backspace, tab and enter, and without the one that suspends."""
KNOWN = (*sorted(NAMED), *CHARACTERS, *sorted(CONTROL))
_WRITTEN = {character: name for name, character in CHARACTERS.items()}


@dataclass(frozen=True, slots=True)
class Keymap:
    """Which keys the actions have."""

    own: Mapping[str, str] = field(default_factory=dict)
    """Action to keys in Textual's names, with commas between; only what differs from the defaults."""
    problems: tuple[str, ...] = ()
    """A line for each entry that is not used."""

    def keys(self, action: Action) -> str:
        """Its keys in Textual's names."""
        return self.own.get(action.id, action.keys)

    def text(self, action: Action) -> str:
        """All its keys as they are written."""
        return keys_text(self.keys(action))

    def shown(self, action: Action) -> str:
        """The key that the key bar shows."""
        own = self.own.get(action.id)
        return action.shown if own is None else short_word(own.split(",")[0])

    def shown_for(self, action_id: str) -> str:
        """The same, by the id of the action."""
        return self.shown(action_for(action_id))

    def said(self, action_id: str) -> str:
        """The same, as a sentence names it: `enter`, where the key bar has a sign."""
        own = self.own.get(action_id)
        shown = action_for(action_id).shown
        return _SAID.get(shown, shown) if own is None else key_word(own.split(",")[0])


_SAID = {"⏎": "enter", "spc": "space"}
_DEFAULT = Keymap()


def key_for(action_id: str) -> str:
    """The key that a sentence tells of: that of the app on whose screen it stands; outside of one, the default."""
    app = active_app.get(None)
    return getattr(app, "keymap", _DEFAULT).said(action_id)


def keys_for(*ways: tuple[str, str]) -> str:
    """Actions as a line: `r start again · q quit`.

    Args:
        ways: the id of an action, and a word for it.
    """
    return " · ".join(f"{key_for(action)} {word}" for action, word in ways)


def overlap(one: str, other: str) -> bool:
    """Whether keys of these two scopes work at the same time."""
    return one == other or one not in AROUND or other not in AROUND or other in AROUND[one] or one in AROUND[other]


def read_keymap(table: Mapping[str, Any], path: str) -> Keymap:
    """Judge `[keys]`: unknown actions and keys, and keys that another action has where both work."""
    own: dict[str, str] = {}
    problems: list[str] = []
    for name, value in _flat(table):
        found, wrong = _entry(name, value)
        if wrong:
            problems.append(f"{path}: keys.{name}: {wrong}")
        elif found != action_for(name).keys:
            own[name] = found
    while clash := _clash(own):
        name, key, other = clash
        del own[name]
        default = keys_text(action_for(name).keys)
        word = keys_text(key)
        problems.append(f"{path}: keys.{name}: {word} is the key of {other} already; {name} keeps {default}")
    return Keymap(own, tuple(problems))


def _flat(table: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """`"logs.end" = "x"` and `logs.end = "x"` alike."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _entry(name: str, value: Any) -> tuple[str, str]:
    """The keys of one entry in Textual's names, or what is wrong with it."""
    ids = [action.id for action in ACTIONS]
    if name not in ids:
        return "", f"no such action; nearest: {difflib.get_close_matches(name, ids, n=1, cutoff=0.0)[0]}"
    if not isinstance(value, str) or not value.strip():
        return "", f'found {value!r}; allowed: keys as text, for example "x" or "x,f5"'
    words = [","] if value.strip() == "," else [word.strip() for word in value.split(",")]
    if len(words) > KEYS_MAX:
        return "", f"found {len(words)} keys; allowed: {KEYS_MAX}"
    keys: list[str] = []
    for word in words:
        key = _WRITTEN.get(word, word)
        if key not in NAMED and key not in CHARACTERS and key not in CONTROL:
            near = difflib.get_close_matches(word.lower(), KNOWN, n=1, cutoff=0.0)[0]
            return "", f"{word!r} is no key that every terminal sends; nearest: {keys_text(near)}"
        if action_for(name).scope in WRITING and (key in CHARACTERS or key == "space"):
            return "", f"{word!r} is text while one writes; use enter, escape, tab or ctrl and a letter"
        if key not in keys:
            keys.append(key)
    return ",".join(keys), ""


def _clash(own: Mapping[str, str]) -> tuple[str, str, str] | None:
    """The last entry whose key another action has, the key and that action. What the defaults share is meant so."""
    for name in reversed(list(own)):
        mine = action_for(name)
        for other in ACTIONS:
            if other.id == name or not overlap(mine.scope, other.scope):
                continue
            theirs = own.get(other.id, other.keys).split(",")
            meant = set(mine.keys.split(",")) & set(other.keys.split(","))
            for key in own[name].split(","):
                if key in theirs and key not in meant:
                    return name, key, other.id
    return None
