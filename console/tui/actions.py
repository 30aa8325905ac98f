"""Every key of the program in one table: bindings, key bar, help and command palette all come from it."""

from __future__ import annotations

from dataclasses import dataclass

from textual.binding import Binding, BindingType

__all__ = ["ACTIONS", "SCOPES", "Action", "action_for", "bindings_for", "help_rows"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """One thing that a key does."""

    id: str
    scope: str
    """Where the key works: a key of `SCOPES`."""
    keys: str
    """As Textual names them, separated by commas; the first is the one that is shown."""
    shown: str
    """How the key bar writes the key."""
    label: str
    """One word for the key bar; empty keeps it off."""
    help: str
    action: str
    """Textual's action, as the scope's widget or screen defines it."""
    palette: bool = True


SCOPES: dict[str, str] = {
    "app": "Everywhere",
    "picker": "Profiles",
    "list": "Lists",
    "dashboard": "Server",
    "hints": "Hints",
    "logs": "Logs",
    "chat": "Chat",
    "prompt": "Chat: writing",
}


def _row(
    scope: str, name: str, keys: str, shown: str, label: str, text: str, action: str, palette: bool = True
) -> Action:
    return Action(
        id=f"{scope}.{name}",
        scope=scope,
        keys=keys,
        shown=shown,
        label=label,
        help=text,
        action=action,
        palette=palette,
    )


ACTIONS: tuple[Action, ...] = (
    _row("picker", "launch", "enter", "⏎", "launch", "launch the selected profile; asks first", "launch"),
    _row("picker", "filter", "slash", "/", "filter", "show only profiles with this in name or hardware", "filter"),
    _row("picker", "attach", "a", "a", "attach", "attach to a server that is running", "attach"),
    _row("picker", "download", "d", "d", "", "download the weights of the selected profile; asks first", "download"),
    _row("picker", "reload", "f5,R", "R", "", "read the profiles again", "reload"),
    _row("picker", "page_down", "right_square_bracket,pagedown", "]", "", "details: next page", "detail(1)", False),
    _row("picker", "page_up", "left_square_bracket,pageup", "[", "", "details: previous page", "detail(-1)", False),
    _row("list", "up", "up,k", "↑", "", "the line above", "move(-1)", False),
    _row("list", "down", "down,j", "↓", "", "the line below", "move(1)", False),
    _row("list", "first", "home,g", "g", "", "the first line", "edge(-1)", False),
    _row("list", "last", "end,G", "G", "", "the last line", "edge(1)", False),
    _row("dashboard", "overview", "1,o", "1", "overview", "figures, hints, end of the log", "pane('overview')"),
    _row("dashboard", "logs", "2,l", "l", "logs", "the whole log", "pane('logs')"),
    _row("dashboard", "chat", "3,c", "c", "chat", "talk to the model", "pane('chat')"),
    _row("dashboard", "hints", "h", "h", "hints", "go to the hints; ↑ ↓ choose, enter explains", "hints"),
    _row("dashboard", "jump", "e", "e", "error line", "show the log at the line that explains the failure", "jump"),
    _row("dashboard", "fix", "f", "f", "fix", "start again with the change that mends it; asks first", "fix"),
    _row("dashboard", "restart", "r", "r", "restart", "stop it and start it again; now, if a restart waits", "restart"),
    _row("dashboard", "stop", "s", "s", "stop", "stop the server; give up a planned restart", "stop"),
    _row("dashboard", "reattach", "a", "a", "attach", "attach again after the line was lost", "reattach"),
    _row("dashboard", "profiles", "p", "p", "profiles", "back to the profiles; the server goes on", "profiles"),
    _row("hints", "detail", "enter", "⏎", "explain", "the selected hint: evidence, change, gain, risk", "explain"),
    _row("logs", "search", "slash", "/", "search", "search the log; n and N go on", "search"),
    _row("logs", "next", "n", "n", "next", "next match", "match(1)"),
    _row("logs", "previous", "N", "N", "", "previous match", "match(-1)"),
    _row("logs", "top", "g,home", "g", "top", "the start of the log", "top"),
    _row("logs", "end", "G,end,f", "G", "follow", "the end of the log, and follow it", "follow"),
    _row("logs", "left", "left", "←", "", "to the left, by twenty columns", "sideways(-1)", False),
    _row("logs", "right", "right", "→", "", "to the right, by twenty columns", "sideways(1)", False),
    _row("logs", "raw", "x", "x", "raw", "lines as written, or shortened to time, level, process and text", "raw"),
    _row("chat", "write", "enter,i", "⏎", "write", "write a message", "write"),
    _row("chat", "stop", "x", "x", "stop answer", "stop the answer that is streaming", "stop_answer"),
    _row("chat", "copy", "y", "y", "copy", "send the last answer to the terminal's clipboard", "copy"),
    _row("chat", "new", "N", "N", "new", "start a new conversation; the old one stays on disk", "new"),
    _row("prompt", "send", "enter", "⏎", "send", "send the message", "send", False),
    _row("prompt", "newline", "ctrl+j", "^j", "newline", "a new line in the message", "newline", False),
    _row("prompt", "leave", "escape,tab", "esc", "leave", "stop the answer, else leave the input", "leave", False),
    _row("app", "help", "question_mark,f1", "?", "help", "this help", "help"),
    _row("app", "palette", "colon,ctrl+p", ":", "", "find an action, profile or hint", "command_palette", False),
    _row("app", "quit", "q,ctrl+q,ctrl+c", "q", "quit", "leave; asks what becomes of a live server", "quit"),
)  # fmt: skip


def bindings_for(scope: str) -> list[BindingType]:
    """Textual bindings of one scope. The key bar shows those that have a label."""
    return [
        Binding(a.keys, a.action, a.label or a.help, show=bool(a.label), key_display=a.shown, id=a.id)
        for a in ACTIONS
        if a.scope == scope
    ]


def action_for(action_id: str) -> Action:
    """The row with this id."""
    return next(a for a in ACTIONS if a.id == action_id)


def help_rows(scopes: tuple[str, ...]) -> list[tuple[str, list[tuple[str, str]]]]:
    """For the help screen: per scope its title and its (keys, help) rows."""
    out = []
    for scope in scopes:
        rows = [(_keys_text(a), a.help) for a in ACTIONS if a.scope == scope]
        if rows:
            out.append((SCOPES[scope], rows))
    return out


_KEY_WORDS = {
    "slash": "/", "question_mark": "?", "colon": ":", "escape": "esc", "pagedown": "PgDn", "pageup": "PgUp",
    "left_square_bracket": "[", "right_square_bracket": "]", "up": "↑", "down": "↓",
    "left": "←", "right": "→", "home": "Home", "end": "End",
    "f1": "F1", "f5": "F5",
}  # fmt: skip


def _keys_text(action: Action) -> str:
    return " ".join(_KEY_WORDS.get(key, key) for key in action.keys.split(","))
