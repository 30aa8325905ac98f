"""Conversations: what was said and how it went, as records that are only ever added, and what follows from them.

An answer is written piece by piece while it streams, so that nothing of it is lost with the program. A retry or an
edit cuts the conversation; what is cut off stays in the records.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from console.core.chat import ChatSettings, attached
from console.core.models import ChatMessage
from console.core.units import UNKNOWN, latency_text, short_count_text

__all__ = [
    "Begun",
    "Chosen",
    "Conversation",
    "Cut",
    "Ended",
    "File",
    "Grown",
    "Record",
    "Said",
    "Turn",
    "found_in",
    "markdown_of",
    "messages_of",
    "note_of",
    "replayed",
    "title_of",
    "used_tokens",
]

TITLE_CHARS_MAX: Final = 60
BROKEN: Final = "this console ended before the answer did"
FINISH_WORDS: Final = {"stop": "finished", "length": "cut at the token limit", "tool_calls": "asked for a tool"}


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A file that went along with a message, as text."""

    name: str
    text: str


class Turn(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One side of an exchange, and for an answer how it went."""

    role: str
    """`user` or `assistant`."""
    content: str = ""
    reasoning: str = ""
    files: tuple[File, ...] = ()
    settings: ChatSettings = ChatSettings()
    """Of a user's turn: how it was asked."""
    model: str = ""
    time_s: float = 0.0
    ttft_s: float | None = None
    elapsed_s: float | None = None
    completion_tokens: int | None = None
    prompt_tokens: int | None = None
    finish_reason: str | None = None
    error: str = ""
    stopped: bool = False

    @property
    def asked(self) -> str:
        """What the model is sent of this turn."""
        return attached(self.content, [(file.name, file.text) for file in self.files])

    @property
    def speed(self) -> float | None:
        """Tokens per second after the first one."""
        spent = (self.elapsed_s or 0.0) - (self.ttft_s or 0.0)
        tokens = self.completion_tokens
        return (tokens - 1) / spent if tokens is not None and tokens > 1 and spent > 0 else None


class Begun(msgspec.Struct, frozen=True, kw_only=True, tag="begun", tag_field="kind"):
    """The first record."""

    run_id: str = ""
    profile: str = ""
    model: str = ""
    time_s: float = 0.0


class Said(msgspec.Struct, frozen=True, kw_only=True, tag="said", tag_field="kind"):
    """A turn; an answer's grows by what follows."""

    turn: Turn


class Grown(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="grown", tag_field="kind"):
    """More of the last answer."""

    text: str = ""
    reasoning: str = ""


class Ended(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="ended", tag_field="kind"):
    """How the last answer went: a turn without its texts."""

    turn: Turn


class Cut(msgspec.Struct, frozen=True, kw_only=True, tag="cut", tag_field="kind"):
    """The conversation goes on after this many turns."""

    turns: int


class Chosen(msgspec.Struct, frozen=True, kw_only=True, tag="chosen", tag_field="kind"):
    """Settings from here on."""

    settings: ChatSettings


Record = Begun | Said | Grown | Ended | Cut | Chosen


class Conversation(msgspec.Struct, kw_only=True):
    """One conversation as it stands."""

    id: str = ""
    """Its file's name; empty while nothing of it is on disk."""
    run_id: str = ""
    profile: str = ""
    model: str = ""
    begun_s: float = 0.0
    changed_s: float = 0.0
    """When something was last said."""
    turns: list[Turn] = msgspec.field(default_factory=list)
    settings: ChatSettings = ChatSettings()

    @property
    def title(self) -> str:
        """The beginning of the first message."""
        return title_of(self.turns)


def title_of(turns: Sequence[Turn]) -> str:
    """The first words of the first message, on one line."""
    for turn in turns:
        words = " ".join(turn.content.split()) or ", ".join(file.name for file in turn.files)
        if turn.role == "user" and words:
            return words if len(words) <= TITLE_CHARS_MAX else words[: TITLE_CHARS_MAX - 1].rstrip() + "…"
    return ""


def replayed(records: Iterable[Record], id: str = "") -> Conversation:  # noqa: A002
    """The conversation that these records leave."""
    out = Conversation(id=id)
    open_answer: list[list[str]] | None = None
    for record in records:
        if open_answer is not None and not isinstance(record, Grown | Ended):
            _close(out.turns, open_answer, BROKEN)
            open_answer = None
        match record:
            case Begun():
                out.run_id, out.profile, out.model = record.run_id, record.profile, record.model
                out.begun_s = out.changed_s = record.time_s
            case Said(turn=turn):
                out.turns.append(turn)
                out.changed_s = max(out.changed_s, turn.time_s)
                open_answer = [[], []] if turn.role == "assistant" else None
            case Grown() if open_answer is not None:
                open_answer[0].append(record.text)
                open_answer[1].append(record.reasoning)
            case Ended(turn=turn) if open_answer is not None:
                out.turns[-1] = turn
                _close(out.turns, open_answer, "")
                open_answer = None
            case Cut(turns=turns):
                del out.turns[max(turns, 0) :]
            case Chosen(settings=settings):
                out.settings = settings
    if open_answer is not None:
        _close(out.turns, open_answer, BROKEN)
    return out


def _close(turns: list[Turn], pieces: list[list[str]], error: str) -> None:
    turn = turns[-1]
    turn.content, turn.reasoning = "".join(pieces[0]), "".join(pieces[1])
    turn.error = turn.error or error


def messages_of(turns: Sequence[Turn], system: str = "") -> list[ChatMessage]:
    """What the model is sent: an exchange that brought no answer at all is left out, unless it is the last one."""
    out = [ChatMessage(role="system", content=system)] if system else []
    for i, turn in enumerate(turns):
        answer = turns[i + 1] if i + 1 < len(turns) else None
        if turn.role == "user" and (answer is None or answer.role != "assistant" or answer.content):
            out.append(ChatMessage(role="user", content=turn.asked))
        elif turn.role == "assistant" and turn.content:
            out.append(ChatMessage(role="assistant", content=turn.content))
    return out


def used_tokens(turns: Sequence[Turn]) -> int | None:
    """Tokens of the context that the conversation took at its last answer; `None` if no answer told."""
    for turn in reversed(turns):
        if turn.role == "assistant" and turn.prompt_tokens is not None:
            return turn.prompt_tokens + (turn.completion_tokens or 0)
    return None


def note_of(turn: Turn) -> str:
    """How an answer went: `TTFT 120 ms · 9 + 5 tokens · 22 tok/s · finished`; unknown is left out."""
    parts: list[str] = []
    if turn.ttft_s is not None:
        parts.append(f"TTFT {latency_text(turn.ttft_s)}")
    if turn.completion_tokens is not None:
        parts.append(f"{turn.completion_tokens:,} tokens")
    if turn.speed is not None:
        parts.append(f"{short_count_text(turn.speed)} tok/s")
    if turn.prompt_tokens is not None:
        parts.append(f"prompt {turn.prompt_tokens:,}")
    if turn.stopped:
        parts.append("stopped")
    elif turn.finish_reason:
        parts.append(FINISH_WORDS.get(turn.finish_reason, turn.finish_reason))
    return " · ".join(parts)


def found_in(conversation: Conversation, words: str) -> str | None:
    """The text around the first place that has these words, in any case; `None` if there is none.

    An empty search finds everything, with nothing to show.
    """
    wanted = words.casefold().strip()
    if not wanted:
        return ""
    for text in (text for turn in conversation.turns for text in (turn.content, turn.reasoning)):
        at = text.casefold().find(wanted)
        if at >= 0:
            start = max(at - 20, 0)
            return ("…" if start else "") + " ".join(text[start : at + len(wanted) + 60].split())
    named = f"{conversation.model} {conversation.profile} {conversation.run_id}".casefold()
    return "" if wanted in named else None


def markdown_of(conversation: Conversation, begun: str) -> str:
    """The conversation as a Markdown document. Texts stand as they were written; reasoning folds.

    Args:
        conversation: all of it.
        begun: when, in words.
    """
    parts = [f"# {conversation.title or 'Conversation'}", f"Model {conversation.model or UNKNOWN}, begun {begun}."]
    if conversation.settings.system:
        parts += ["## System prompt", conversation.settings.system]
    for turn in conversation.turns:
        if turn.role == "user":
            parts += ["## You", turn.asked]
            continue
        parts.append("## Model")
        if turn.reasoning:
            fence = "`" * (max((len(run) for run in re.findall(r"`{3,}", turn.reasoning)), default=2) + 1)
            parts.append(
                f"<details><summary>Reasoning</summary>\n\n{fence}text\n{turn.reasoning.strip()}\n{fence}\n\n</details>"
            )
        if turn.content:
            parts.append(turn.content.strip())
        if turn.error:
            parts.append(f"**Error:** {turn.error}")
        note = note_of(turn)
        if note:
            parts.append(f"*{note}*")
    return "\n\n".join(parts) + "\n"
