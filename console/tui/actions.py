"""Every key of the program in one table: bindings, key bar, help and command palette all come from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from textual.binding import Binding, BindingType
from textual.keys import _character_to_key

from console.tui.effects import effect

__all__ = [
    "ACTIONS",
    "CHANGING",
    "SCOPES",
    "Action",
    "action_for",
    "bindings_for",
    "help_rows",
    "keys_text",
    "short_word",
]


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
    changes: str
    """What it changes beyond this screen, as `effects.py` says it (`stops the server`); empty if nothing."""
    palette: bool = True


SCOPES: dict[str, str] = {
    "app": "Everywhere",
    "picker": "Profiles",
    "fleet": "Fleet",
    "list": "Lists",
    "editor": "Edit a profile",
    "field": "Edit a profile: a value",
    "dashboard": "Server",
    "replay": "Replay",
    "hints": "Hints",
    "events": "Events",
    "gpus": "GPUs",
    "logs": "Logs",
    "processes": "Logs: processes",
    "chat": "Chat",
    "conversations": "Chat: conversations",
    "prompt": "Chat: writing",
    "bench": "Bench",
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
        changes=effect(f"{scope}.{name}"),
        palette=palette,
    )


ACTIONS: tuple[Action, ...] = (
    _row("picker", "launch", "enter", "⏎", "launch", "launch the selected profile; asks first", "launch"),
    _row("picker", "filter", "slash", "/", "search", "show only profiles with these words; escape shows all", "filter"),
    _row("picker", "edit", "e", "e", "edit", "edit it as a form; a shipped file stays as it is", "edit_profile"),
    _row("picker", "attach", "a", "a", "attach", "attach to a server that is running", "attach"),
    _row("picker", "copy", "y", "y", "copy", "copy the command of the selected profile; a file has it too", "copy"),
    _row("picker", "order", "s", "s", "", "the next order: suits, name, hardware, model, cost, evidence", "order"),
    _row("picker", "here", "o", "o", "", "only what can run on this machine, or all", "here"),
    _row("picker", "download", "d", "d", "", "download the weights of the selected profile; asks first", "download"),
    _row("picker", "reload", "f5,R", "R", "", "read the profiles again", "reload"),
    _row("picker", "page_down", "right_square_bracket,pagedown", "]", "", "details: next page", "detail(1)", False),
    _row("picker", "page_up", "left_square_bracket,pageup", "[", "", "details: previous page", "detail(-1)", False),
    _row("fleet", "open", "enter", "⏎", "open", "the dashboard of the selected server", "open_server"),
    _row("fleet", "leave", "escape,p", "esc", "profiles", "to the profiles", "leave_fleet"),
    _row("editor", "edit", "enter", "⏎", "edit", "edit the selected field; an empty value takes it out", "edit"),
    _row("editor", "save", "w", "w", "save", "write it to a profile of your own, and go back", "save(False)"),
    _row("editor", "undo", "u", "u", "undo", "take the last edit back", "undo"),
    _row("editor", "redo", "U", "U", "", "make the edit again that was taken back", "redo"),
    _row("editor", "unset", "x", "x", "unset", "take the selected field out: its default holds again", "unset"),
    _row("editor", "search", "slash", "/", "search", "show only fields with these words; escape shows all", "search"),
    _row("editor", "add_flag", "a", "a", "add flag", "add any other flag of vllm serve, as flag=value", "add('flag')"),
    _row("editor", "add_variable", "v", "v", "", "add an environment variable, as NAME=value", "add('variable')"),
    _row("editor", "only_set", "o", "o", "", "only fields that are set, or all", "only_set"),
    _row("editor", "next", "right,n", "→", "", "the next section", "section(1)", False),
    _row("editor", "previous", "left,N", "←", "", "the section before", "section(-1)", False),
    _row("editor", "differences", "d", "d", "differs", "what differs from the file and the shipped profile", "differ"),
    _row("editor", "copy", "y", "y", "", "copy the command that comes of it; a file has it too", "copy"),
    _row("editor", "save_as", "S", "S", "", "write it to a profile of your own under another name", "save(True)"),
    _row("editor", "page_down", "right_square_bracket,pagedown", "]", "", "details: next page", "detail(1)", False),
    _row("editor", "page_up", "left_square_bracket,pageup", "[", "", "details: previous page", "detail(-1)", False),
    _row("editor", "leave", "q,p,ctrl+q,ctrl+c", "q", "back", "back; asks about edits not saved", "leave"),
    _row("editor", "clear", "escape,backspace", "esc", "", "end the search; without one, back", "clear", False),
    _row("field", "take", "enter", "⏎", "take", "take the value", "take", False),
    _row("field", "drop", "escape,tab", "esc", "leave it", "leave the value as it was", "drop", False),
    _row("list", "up", "up,k", "↑", "", "the line above", "move(-1)", False),
    _row("list", "down", "down,j", "↓", "", "the line below", "move(1)", False),
    _row("list", "first", "home,g", "g", "", "the first line", "edge(-1)", False),
    _row("list", "last", "end,G", "G", "", "the last line", "edge(1)", False),
    _row("dashboard", "overview", "1,o", "1", "overview", "figures, hints, end of the log", "pane('overview')"),
    _row("dashboard", "logs", "2,l", "l", "logs", "the whole log", "pane('logs')"),
    _row("dashboard", "chat", "3,c", "c", "chat", "talk to the model", "pane('chat')"),
    _row("dashboard", "bench", "4,b", "4", "", "measure the server, compare what was measured", "pane('bench')"),
    _row("dashboard", "events", "5,w", "5", "", "what happened, and when", "pane('events')"),
    _row("dashboard", "gpu", "6,d", "6", "", "each GPU in full, with its own charts", "pane('gpu')"),
    _row("dashboard", "hints", "h", "h", "hints", "go to the hints, to have one explained or put aside", "hints"),
    _row("dashboard", "jump", "e", "e", "error line", "show the log at the line that explains the failure", "jump"),
    _row("dashboard", "fix", "f", "f", "fix", "start with the change that mends it; asks first", "fix"),
    _row("dashboard", "keep", "K", "K", "keep", "postpone the stop of an idle server", "keep"),
    _row("dashboard", "restart", "r", "r", "restart", "stop it and start it again; now, if a restart waits", "restart"),
    _row("dashboard", "stop", "s", "s", "stop", "stop the server; give up a planned restart", "stop"),
    _row("dashboard", "reattach", "a", "a", "attach", "attach again after the line was lost", "reattach"),
    _row("dashboard", "profiles", "p", "p", "profiles", "back to the profiles; the server goes on", "profiles"),
    _row("dashboard", "back", "escape,backspace", "esc", "fleet", "back to the fleet, if it was opened there", "back"),
    _row("dashboard", "range", "t", "t", "range", "charts of 5 minutes, 1 hour, 24 hours", "range"),
    _row("dashboard", "charts", "m", "m", "charts", "charts of GPU and KV cache, of latencies, of load", "charts"),
    _row("replay", "pause", "space,z", "spc", "pause", "hold the recording, or go on", "pause"),
    _row("replay", "back", "left_square_bracket,H", "[", "-30s", "30 seconds back", "seek(-30)"),
    _row("replay", "on", "right_square_bracket,L", "]", "+30s", "30 seconds on", "seek(30)"),
    _row("replay", "far_back", "left_curly_bracket,B", "{", "", "5 minutes back", "seek(-300)"),
    _row("replay", "far_on", "right_curly_bracket,F", "}", "", "5 minutes on", "seek(300)"),
    _row("replay", "event_next", "greater_than_sign,E", ">", "next event", "to the next event", "seek_event(1)"),
    _row("replay", "event_last", "less_than_sign,W", "<", "", "to the event before", "seek_event(-1)"),
    _row("replay", "faster", "plus,v", "+", "faster", "faster: ×1 ×4 ×16 ×64 ×256", "faster(1)"),
    _row("replay", "slower", "minus,V", "-", "", "slower", "faster(-1)"),
    _row("replay", "begin", "0", "0", "", "to the beginning", "begin"),
    _row("hints", "detail", "enter", "⏎", "why", "why it says so: evidence, change, gain, risk", "explain"),
    _row("hints", "apply", "A", "A", "apply", "try its change, measure, keep it or take it back; asks first", "apply"),
    _row("hints", "snooze", "n", "n", "snooze", "put it aside for a while, or show it again", "snooze"),
    _row("hints", "snoozed", "u", "u", "snoozed", "list the hints that are put aside too, or not", "snoozed"),
    _row("events", "open", "enter", "⏎", "log", "the log at the time of the event", "open"),
    _row("events", "chart", "i", "i", "in charts", "point it out in the charts", "chart"),
    _row("events", "kind", "right,n", "→", "kind", "only the next kind of events, or all", "kind(1)"),
    _row("events", "kind_back", "left,N", "←", "", "the kind before", "kind(-1)", False),
    _row("events", "page_down", "pagedown", "PgDn", "", "further down", "page(1)", False),
    _row("events", "page_up", "pageup", "PgUp", "", "further up", "page(-1)", False),
    _row("gpus", "right", "right", "→", "", "the GPU to the right", "across(1)", False),
    _row("gpus", "left", "left", "←", "", "the GPU to the left", "across(-1)", False),
    _row("gpus", "page_down", "pagedown", "PgDn", "", "more of what is told of it", "page(1)", False),
    _row("gpus", "page_up", "pageup", "PgUp", "", "back", "page(-1)", False),
    _row("logs", "search", "slash", "/", "search", "search the log for a text, and go from match to match", "search"),
    _row("logs", "regex", "R", "R", "", "search with a regular expression (Python's); capitals or not", "search(True)"),
    _row("logs", "next", "n", "n", "next", "next match", "match(1)"),
    _row("logs", "previous", "N", "N", "", "previous match", "match(-1)"),
    _row("logs", "top", "g,home", "g", "top", "the start of the log", "top"),
    _row("logs", "end", "G,end,f", "G", "follow", "the end of the log, and follow it", "follow"),
    _row("logs", "goto", "J", "J", "", "go to a line or time: 1200, 12:03, 11-23 12:03:45, -10m", "goto"),
    _row("logs", "level", "i", "i", "level", "least level: INFO, WARNING, ERROR, all; none counts as INFO", "level"),
    _row("logs", "processes", "P", "P", "process", "choose processes: APIServer, EngineCore, Worker_TP0", "processes"),
    _row("logs", "times", "T", "T", "time", "only a span of time: 12:00..12:30, 12:00 on, the last -10m", "times"),
    _row("logs", "clear", "C", "C", "clear", "show all levels, processes and times again", "clear"),
    _row("logs", "open", "enter", "⏎", "", "unfold the row pointed at, or the first folded one in sight", "open"),
    _row("logs", "fold", "u", "u", "", "fold tracebacks, repeats and progress bars, or show every line", "fold"),
    _row("logs", "mark", "m", "m", "mark", "mark lines: ↑ ↓ to the last one, then copy them", "mark"),
    _row("logs", "copy", "y", "y", "copy", "copy the marked lines to the clipboard and to a file", "copy"),
    _row("logs", "unmark", "escape,X", "X", "", "mark nothing and point at nothing", "unmark"),
    _row("logs", "save", "S", "S", "", "write the log as it is filtered to a new file", "save"),
    _row("logs", "wrap", "w", "w", "wrap", "break long lines, or let them go on to the right", "wrap"),
    _row("logs", "left", "left", "←", "", "to the left, by twenty columns", "sideways(-1)", False),
    _row("logs", "right", "right", "→", "", "to the right, by twenty columns", "sideways(1)", False),
    _row("logs", "raw", "x", "x", "raw", "lines as written, or shortened to time, level, process and text", "raw"),
    _row("processes", "choose", "space,enter", "spc", "choose", "show this process or not", "choose"),
    _row("processes", "only", "o", "o", "only", "only this process", "only"),
    _row("processes", "all", "a", "a", "all", "all processes", "all"),
    _row("processes", "done", "escape,q,P", "q", "done", "back to the log", "done"),
    _row("chat", "write", "enter,i", "⏎", "write", "write a message", "write"),
    _row("chat", "stop", "x", "x", "stop answer", "stop the answer that is streaming", "stop_answer"),
    _row("chat", "copy", "y", "y", "copy", "copy the marked message or code block, else the last answer", "copy"),
    _row("chat", "menu", "m", "m", "more", "everything that the chat can do", "menu"),
    _row("chat", "retry", "R", "R", "retry", "ask again; the old answer stays on disk", "retry"),
    _row("chat", "edit", "E", "E", "edit", "edit a message and send it again; once more gives up", "edit_message"),
    _row("chat", "mark_up", "k", "k", "", "mark the message or code block before", "mark(-1)", False),
    _row("chat", "mark_down", "j", "j", "", "mark the one after; past the last follows the end", "mark(1)", False),
    _row("chat", "settings", "S", "S", "", "system prompt, sampling, max tokens, thinking, effort", "settings"),
    _row("chat", "fit", "F", "F", "", "lower max tokens to what fits, and ask again", "fit"),
    _row("chat", "fold", "z", "z", "", "fold or unfold the reasoning", "fold"),
    _row("chat", "block", "B", "B", "", "copy the marked code block, or the last one", "copy_block"),
    _row("chat", "new", "N", "N", "", "start a new conversation; the old one stays on disk", "new"),
    _row("chat", "conversations", "O", "O", "", "conversations: open, search, export, delete", "conversations"),
    _row("chat", "find", "slash", "/", "", "search in all conversations", "conversations(True)"),
    _row("chat", "prompts", "P", "P", "", "insert a prompt from the library", "prompts"),
    _row("chat", "attach", "A", "A", "", "attach a file as text to the next message", "attach_file"),
    _row("chat", "detach", "d", "d", "", "take attached files off the next message", "detach"),
    _row("chat", "raw", "w", "w", "", "the raw request and response of an exchange", "raw"),
    _row("chat", "curl", "C", "C", "", "copy an exchange as a curl command", "copy_curl"),
    _row("chat", "python", "Y", "Y", "", "copy an exchange as Python for the OpenAI client", "copy_python"),
    _row("chat", "export", "X", "X", "", "export this conversation as Markdown", "export"),
    _row("conversations", "open", "enter", "⏎", "open", "open the selected conversation", "take", False),
    _row("conversations", "find", "slash", "/", "search", "search in all of them", "find", False),
    _row("conversations", "new", "N", "N", "new", "start a new conversation", "begin_new", False),
    _row("conversations", "export", "X", "X", "export", "write the selected one as Markdown", "export", False),
    _row("conversations", "delete", "D", "D", "delete", "delete the selected one; asks first", "delete", False),
    _row("conversations", "leave", "escape,q", "esc", "leave", "back to the chat", "cancel", False),
    _row("prompt", "send", "enter", "⏎", "send", "send the message", "send", False),
    _row("prompt", "newline", "ctrl+j", "^j", "newline", "a new line in the message", "newline", False),
    _row("prompt", "menu", "ctrl+o", "^o", "more", "the chat's menu while writing", "menu", False),
    _row("prompt", "leave", "escape,tab", "esc", "leave", "stop the answer, else leave the input", "leave", False),
    _row("bench", "measure", "enter", "⏎", "measure", "measure the server; asks first", "measure"),
    _row("bench", "cancel", "x", "x", "cancel", "end the benchmark; rows that are done are kept", "cancel"),
    _row("bench", "shape", "t", "t", "shape", "the next shape of the load", "shape"),
    _row("bench", "clients", "n", "n", "clients", "other numbers of requests at once", "clients"),
    _row("bench", "repeats", "v", "v", "repeats", "measure each row once, three or five times", "repeats"),
    _row("bench", "latency", "m", "m", "axis", "TTFT or TPOT under the curve", "latency"),
    _row("bench", "next", "down,j", "↓", "", "compare with the next earlier result", "choose(1)", False),
    _row("bench", "previous", "up,k", "↑", "", "compare with the one before", "choose(-1)", False),
    _row("app", "help", "question_mark,f1", "?", "help", "this help", "help"),
    _row("app", "palette", "colon,ctrl+p", ":", "", "find an action, profile or hint", "command_palette", False),
    _row("app", "fleet", "M", "M", "", "all servers: runs of this machine, watched endpoints", "fleet"),
    _row("app", "theme", "T", "T", "", "the next theme: dark, light, high contrast dark and light", "theme"),
    _row("app", "quit", "q,ctrl+q,ctrl+c", "q", "quit", "leave; asks what becomes of a live server", "quit"),
)  # fmt: skip


CHANGING: dict[str, Action] = {a.action: a for a in ACTIONS if a.changes}
"""Those that change something, by Textual's action."""


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


def help_rows(scopes: tuple[str, ...], keys: Mapping[str, str]) -> list[tuple[str, list[tuple[str, str]]]]:
    """For the help screen: per scope its title and its (keys, help) rows. `keys` are the operator's own, by id."""
    out = []
    for scope in scopes:
        rows = [(keys_text(keys.get(a.id, a.keys)), a.help) for a in ACTIONS if a.scope == scope]
        if rows:
            out.append((SCOPES[scope], rows))
    return out


_KEY_WORDS = {
    "escape": "esc", "pagedown": "PgDn", "pageup": "PgUp", "up": "↑", "down": "↓", "left": "←", "right": "→",
    "home": "Home", "end": "End",
}  # fmt: skip
_SHORT_WORDS = {"enter": "⏎", "space": "spc", "delete": "Del", "insert": "Ins", "backspace": "BkSp"}
_CHARACTERS = {_character_to_key(character): character for character in map(chr, range(33, 127))}


def key_word(key: str) -> str:
    """How a key is written: `?` for `question_mark`, `F1`, `esc`."""
    if key in _CHARACTERS:
        return _CHARACTERS[key]
    return _KEY_WORDS.get(key, key.upper() if key[1:].isdigit() else key)


def short_word(key: str) -> str:
    """How the key bar writes a key: `^p` for `ctrl+p`, `⏎` for enter."""
    return key.replace("ctrl+", "^") if key.startswith("ctrl+") else _SHORT_WORDS.get(key, key_word(key))


def keys_text(keys: str) -> str:
    """All keys of an action."""
    return " ".join(key_word(key) for key in keys.split(","))
