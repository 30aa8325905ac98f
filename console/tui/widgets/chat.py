"""Talk to the model: a transcript, an input, and one answer at a time that streams and can be stopped.

The input takes what is typed in every state of the server, so that a message never acts as keys; it says when it cannot
be sent, and keeps it.
"""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.events import Key
from textual.message import Message
from textual.widgets import TextArea

from console.client.api import ChatDelta, ChatMessage, ChatOptions
from console.core.errors import ConsoleError
from console.core.models import OVER_STATES, ServerState
from console.core.text import StreamCleaner, clean
from console.tui import conversations
from console.tui.actions import bindings_for
from console.tui.conversations import Turn
from console.tui.glyphs import safe
from console.tui.model import RunModel
from console.tui.paint import Line, wrapped
from console.tui.widgets.header import since_text, state_words
from console.tui.widgets.panel import Panel
from console.tui.widgets.transcript import Transcript

__all__ = ["PAINT_PERIOD_S", "ChatPane", "Prompt"]

PAINT_PERIOD_S = 0.1
"""A stream of a thousand pieces a second is painted ten times a second."""
ANSWERING_STATES = frozenset({ServerState.READY, ServerState.UNHEALTHY})
ANSWER_CHARS_MAX = 4_000_000
"""An answer is cut off here: far above any context length."""


class Prompt(TextArea):
    """Enter sends, ctrl+j starts a new line, escape or tab leave."""

    BINDINGS: ClassVar[list[BindingType]] = bindings_for("prompt")

    class Sent(Message):
        """The operator has sent this."""

        def __init__(self, text: str) -> None:
            self.text = text
            super().__init__()

    class Left(Message):
        """The operator wants out of the input."""

    async def _on_key(self, event: Key) -> None:
        if event.key in ("enter", "escape", "tab", "ctrl+j", "ctrl+c"):
            event.prevent_default()

    def action_send(self) -> None:
        """Send what is written."""
        text = self.text.strip()
        if text:
            self.post_message(self.Sent(text))

    def action_newline(self) -> None:
        """Start a new line."""
        self.insert("\n")

    def action_leave(self) -> None:
        """Out of the input."""
        self.post_message(self.Left())


def cannot_send(model: RunModel) -> str:
    """Why no message can be sent now; empty if one can."""
    if model.lost is not None:
        return "The line to the supervisor is lost; a on the overview attaches again."
    if model.state in ANSWERING_STATES:
        return ""
    if model.state in OVER_STATES:
        return f"The server is {model.state}: nobody answers."
    words = state_words(model.state, model.snapshot.status if model.snapshot else None)
    return f"{' '.join(part for part in (words, since_text(model)) if part)}: you can write; it can be sent once READY."


class ChatNotice(Panel):
    """One line above the input: why a message cannot be sent now. Takes no room while one can."""

    text = ""
    sent = False

    def show(self, text: str, sent: bool) -> None:
        """Show this; `sent` says that a message was meant to go now."""
        sent = bool(text) and (sent or self.sent)
        if (text, sent) != (self.text, self.sent):
            self.text, self.sent = text, sent
            self.display = bool(text)
            self.repaint()

    def paint(self, width: int, height: int) -> list[Line]:
        if not self.text:
            return []
        text = f"Not sent, and kept. {self.text}" if self.sent else self.text
        return wrapped(text, width, "warn" if self.sent else "muted", (("○ ", "warn"),))


class ChatPane(Vertical):
    """The tab `Chat`."""

    BINDINGS: ClassVar[list[BindingType]] = bindings_for("chat")

    def __init__(self, *, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self._model: RunModel | None = None
        self._loaded_run = ""
        self._pending: list[tuple[str, str]] = []
        self._stop_wanted = False

    def compose(self) -> ComposeResult:
        yield Transcript(id="transcript")
        yield ChatNotice(id="chat-notice")
        yield Prompt(
            id="prompt",
            compact=True,
            show_line_numbers=False,
            tab_behavior="focus",
            highlight_cursor_line=False,
            placeholder="Write a message; enter sends it",
        )

    @property
    def transcript(self) -> Transcript:
        """The conversation."""
        return self.query_one("#transcript", Transcript)

    @property
    def prompt(self) -> Prompt:
        """The input."""
        return self.query_one("#prompt", Prompt)

    def on_mount(self) -> None:
        """A cursor that blinks costs a repaint each time."""
        self.prompt.cursor_blink = False

    def show(self, model: RunModel) -> None:
        """Show this run's conversation."""
        self._model = model
        transcript = self.transcript
        if self._loaded_run != model.run.id:
            self._loaded_run = model.run.id
            turns = [_cleaned(turn) for turn in conversations.read(model.run.id)]
            transcript.show(turns)
        self.query_one("#chat-notice", ChatNotice).show(cannot_send(model), False)
        text = self._empty_text(model)
        if text != transcript.empty_text:
            transcript.empty_text = text
            transcript.refresh()

    @staticmethod
    def _empty_text(model: RunModel) -> str:
        if model.state is ServerState.READY:
            return f"{model.run.model} answers here."
        return ""

    def on_prompt_sent(self, event: Prompt.Sent) -> None:
        """Ask the model, if it can answer."""
        event.stop()
        model = self._model
        if model is None or self.transcript.streaming:
            return
        trouble = cannot_send(model)
        if trouble:
            self.query_one("#chat-notice", ChatNotice).show(trouble, True)
            return
        self.prompt.clear()
        self.transcript.add(Turn(role="user", content=clean(event.text, keep_newlines=True), time_s=time.time()))
        self.run_worker(self._answer(model), group="chat", exclusive=True, exit_on_error=False)

    def _messages(self) -> list[ChatMessage]:
        turns = self.transcript.turns
        start = max((i + 1 for i, t in enumerate(turns) if t.role == "new"), default=0)
        return [ChatMessage(role=t.role, content=t.content) for t in turns[start:] if t.content and not t.error]

    async def _answer(self, model: RunModel) -> None:
        asked = self.transcript.turns[-1]
        messages = self._messages()
        turn = Turn(role="assistant", time_s=time.time())
        self.transcript.begin(turn)
        self._stop_wanted = False
        cleaners = StreamCleaner(), StreamCleaner()
        try:
            stream: Any = model.session.chat(messages, ChatOptions())
            async with aclosing(stream) as deltas:
                async for delta in deltas:
                    self._take(turn, delta, cleaners)
                    if self._stop_wanted or len(turn.content) + len(turn.reasoning) > ANSWER_CHARS_MAX:
                        turn.stopped = True
                        break
                    if delta.done:
                        break
        except ConsoleError as error:
            turn.error = clean(str(error), keep_newlines=True)
        except Exception as error:
            turn.error = clean(f"The answer broke off: {type(error).__name__}: {error}", keep_newlines=True)
        finally:
            self._pending.append((cleaners[0].flush(), cleaners[1].flush()))
            turn.content += self._pending[-1][0]
            turn.reasoning += self._pending[-1][1]
            if self.is_attached:
                self._flush()
                self.transcript.finish()
            self._keep(model, [asked, turn])

    def _take(self, turn: Turn, delta: ChatDelta, cleaners: tuple[StreamCleaner, StreamCleaner]) -> None:
        text, reasoning = cleaners[0].feed(delta.text), cleaners[1].feed(delta.reasoning)
        turn.content += text
        turn.reasoning += reasoning
        for name in ("ttft_s", "completion_tokens", "prompt_tokens", "finish_reason"):
            value = getattr(delta, name)
            if value is not None:
                setattr(turn, name, value)
        if delta.elapsed_s:
            turn.elapsed_s = delta.elapsed_s
        if delta.error:
            turn.error = clean(delta.error, keep_newlines=True)
        if not self._pending:
            self.set_timer(PAINT_PERIOD_S, self._flush)
        self._pending.append((text, reasoning))

    def _flush(self) -> None:
        if self._pending:
            text = "".join(t for t, _ in self._pending)
            reasoning = "".join(r for _, r in self._pending)
            self._pending.clear()
            self.transcript.grow(text, reasoning)

    def _keep(self, model: RunModel, turns: list[Turn]) -> None:
        try:
            conversations.append(model.run.id, turns)
        except (OSError, ConsoleError) as error:
            self.app.notify(safe(f"This chat is not kept on disk: {error}"), severity="warning", markup=False)

    def on_prompt_left(self, event: Prompt.Left) -> None:
        """Stop the answer, or go to where letters are keys."""
        event.stop()
        if not self.action_stop_answer():
            self.transcript.focus()

    def action_stop_answer(self) -> bool:
        """Stop the answer that is streaming; what came so far stays."""
        if not self.transcript.streaming:
            return False
        self._stop_wanted = True
        for worker in self.app.workers:
            if worker.group == "chat" and worker.node is self:
                self.transcript.turns[-1].stopped = True
                worker.cancel()
        return True

    def action_write(self) -> None:
        """Go to the input."""
        self.prompt.focus()

    def action_copy(self) -> None:
        """Send the last answer to the terminal's clipboard (OSC 52)."""
        answers = [t for t in self.transcript.turns if t.role == "assistant" and t.content]
        if answers:
            self.app.copy_to_clipboard(answers[-1].content)
            self.app.notify("Sent to the terminal's clipboard.", markup=False)

    def action_new(self) -> None:
        """Begin a new conversation; the model forgets the old one."""
        if self._model is None or self.transcript.streaming or not self.transcript.turns:
            return
        turn = Turn(role="new", time_s=time.time())
        self.transcript.add(turn)
        self._keep(self._model, [turn])
        self.prompt.focus()


def _cleaned(turn: Turn) -> Turn:
    for name in ("content", "reasoning", "error"):
        setattr(turn, name, clean(getattr(turn, name), keep_newlines=True))
    return turn
