"""What every action does to the world beyond this screen: the table that `--readonly` goes by.

An action changes something if it starts, stops or loads a server, or writes a file that somebody else reads. Asking the
model is load too: it costs whoever pays for the machine and slows down whoever uses it.
"""

from __future__ import annotations

__all__ = ["CHANGES", "READS", "UNSAID", "effect"]

UNSAID = "may change something"
"""Of an action that stands in neither table: it is off where nothing may be changed."""

ASKS = "asks the model, which is load on the server"
EDITS = "edits a profile"

CHANGES: dict[str, str] = {
    "picker.launch": "starts a server",
    "picker.download": "downloads weights",
    "picker.edit": EDITS,
    "editor.edit": EDITS,
    "editor.save": EDITS,
    "editor.save_as": EDITS,
    "editor.undo": EDITS,
    "editor.redo": EDITS,
    "editor.unset": EDITS,
    "editor.add_flag": EDITS,
    "editor.add_variable": EDITS,
    "dashboard.fix": "starts a server",
    "dashboard.keep": "postpones the stop of the server",
    "dashboard.restart": "restarts the server",
    "dashboard.stop": "stops the server",
    "hints.apply": "restarts the server with a change",
    "hints.snooze": "puts a hint aside for everybody who looks at this run",
    "chat.write": ASKS,
    "chat.retry": ASKS,
    "chat.edit": ASKS,
    "chat.fit": ASKS,
    "chat.settings": ASKS,
    "chat.prompts": ASKS,
    "chat.attach": ASKS,
    "chat.detach": ASKS,
    "chat.new": "begins another conversation on disk",
    "conversations.new": "begins another conversation on disk",
    "conversations.delete": "deletes a conversation",
    "prompt.send": ASKS,
    "bench.measure": "puts load on the server",
}
"""Of each action that changes something, what it does: `stop … stops the server`. What prepares a change that is off is
off with it: where nothing can be asked, no file is attached."""

READS: frozenset[str] = frozenset(
    f"{scope}.{name}"
    for scope, names in {
        "picker": "filter attach copy order here reload page_down page_up",
        "list": "up down first last",
        "fleet": "open leave",
        "editor": "search only_set next previous differences copy page_down page_up leave clear",
        "field": "take drop",
        "dashboard": "overview logs chat bench events gpu hints jump reattach profiles back range charts",
        "replay": "pause back on far_back far_on event_next event_last faster slower begin",
        "hints": "detail snoozed",
        "events": "open chart kind kind_back page_down page_up",
        "gpus": "right left page_down page_up",
        "logs": "search regex next previous top end goto level processes times clear open fold mark unmark copy save "
        "wrap left right raw",
        "processes": "choose only all done",
        "chat": "stop copy menu mark_up mark_down fold block conversations find raw curl python export",
        "conversations": "open find export leave",
        "prompt": "newline menu leave",
        "bench": "cancel shape clients repeats latency next previous",
        "app": "help palette fleet theme quit",
    }.items()
    for name in names.split()
)
"""Actions that only look, choose, copy into a file of this operator, or end what this console began."""


def effect(action_id: str) -> str:
    """What an action changes, in words; empty if it changes nothing."""
    return "" if action_id in READS else CHANGES.get(action_id, UNSAID)
