"""`dsv4-console keys [reference]`: the keys of the terminal UI, from the table that binds them."""

from __future__ import annotations

import argparse

from console.cli.output import Output
from console.core.errors import ExitCode
from console.io.config import read_preferences

__all__ = ["keys", "keys_page", "reference"]

KEYS_COLUMNS = 14


def keys(_arguments: argparse.Namespace, output: Output) -> int:
    """Print every action with its keys, the operator's own among them; exit 2 if some of these are not used."""
    from console.tui.actions import ACTIONS, SCOPES  # they bring Textual in
    from console.tui.keymap import read_keymap

    preferences = read_preferences()
    keymap = read_keymap(preferences.keys, preferences.path)
    wide = max(len(action.id) for action in ACTIONS)
    for scope, title in SCOPES.items():
        output.data(title)
        for action in (a for a in ACTIONS if a.scope == scope):
            mark = "*" if action.id in keymap.own else " "
            text = keymap.text(action)
            output.data(f"{mark} {action.id:<{wide}}  {text:<{KEYS_COLUMNS}} {action.help}")
        output.data("")
    if keymap.own:
        output.data(f"* your own, from {preferences.path}")
    problems = (*preferences.mistakes, *keymap.problems)
    for problem in problems:
        output.say(f"not used: {problem}")
    output.document(
        {
            "actions": [
                {
                    "id": action.id,
                    "scope": action.scope,
                    "keys": keymap.keys(action).split(","),
                    "default": action.keys.split(","),
                    "help": action.help,
                    "changes": action.changes,
                }
                for action in ACTIONS
            ],
            "problems": problems,
        }
    )
    return ExitCode.USAGE if problems else ExitCode.OK


def reference(_arguments: argparse.Namespace, output: Output) -> int:
    """Print all keys as a page of Markdown."""
    page = keys_page()
    output.piece(page)
    output.document({"markdown": page})
    return ExitCode.OK


HEAD = """\
# Keys

All keys of the terminal UI, as `dsv4-console keys reference` prints them. In the UI, `?` shows those of the pane, `:`
finds every action, and the last line names what works now. Every action has a key that SSH, tmux and a browser pass on.

With `--readonly`, or `readonly = true` in `config.toml`, those marked ● are off.

Your own keys stand in `config.toml`, by the name of the action; several have a comma between them. A key that means
something else at the same place, an unknown action or an unknown key is told at the start, and the default stays.
`dsv4-console keys` prints what holds.

```toml
[keys]
"dashboard.stop" = "Z"
"app.help" = "?,f1"
```

Keys are characters, `enter`, `escape`, `tab`, `space`, `up`, `down`, `left`, `right`, `home`, `end`, `pageup`,
`pagedown`, `insert`, `delete`, `backspace`, `f1` to `f12`, and `ctrl+` with a letter other than h, i, m and z.
"""


def keys_page() -> str:
    """The page that `docs/keys.md` holds."""
    from console.tui.actions import ACTIONS, SCOPES
    from console.tui.keymap import Keymap

    defaults = Keymap()
    out = [HEAD]
    for scope, title in SCOPES.items():
        rows = [action for action in ACTIONS if action.scope == scope]
        out.append(f"\n## {title}\n\n| Key | Action | What it does | |\n|---|---|---|---|\n")
        for action in rows:
            text = defaults.text(action).replace("|", "\\|")
            shown = " ".join(f"`{word}`" for word in text.split(" "))
            out.append(
                f"| {shown} | `{action.id}` | {action.help} | {f'● {action.changes}' if action.changes else ''} |\n"
            )
    return "".join(out)
