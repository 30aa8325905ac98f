"""Talk to the model: a conversation, an input, and one answer at a time that streams and can be stopped.

The input takes what is typed in every state of the server, so that a message never acts as keys; it says when it cannot
be sent, and keeps it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from contextlib import aclosing, suppress
from typing import Any, ClassVar

import msgspec
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.widgets import TextArea

from console.core.chat import ChatSettings, options_of, request_payload, too_long
from console.core.chat_conversation import (
    Begun,
    Chosen,
    Conversation,
    Cut,
    File,
    Record,
    Said,
    Turn,
    messages_of,
    used_tokens,
)
from console.core.errors import ConsoleError
from console.core.models import ServerState
from console.core.text import clean
from console.io import chatfiles, conversations
from console.tui.actions import bindings_for
from console.tui.glyphs import safe
from console.tui.keymap import key_for
from console.tui.model import RunModel
from console.tui.widgets.chat_answer import ANSWER_CHARS_MAX, Exchange, Incoming
from console.tui.widgets.chat_errands import Errands
from console.tui.widgets.chat_prompt import ChatNotice, ChatStatus, Prompt, cannot_send
from console.tui.widgets.transcript import Marked, Transcript

__all__ = ["PAINT_PERIOD_S", "ChatPane"]

PAINT_PERIOD_S = 0.1
"""A stream of a thousand pieces a second is painted ten times a second."""
STREAMING = "It can go once the answer is complete; {} stops it."
DRAFT_PERIOD_S = 1.0
"""What is written is on disk at latest after so long."""
EXCHANGES_MAX = 20
"""Of so many, the request and the response are kept as they were written."""


class ChatPane(Errands, Vertical):
    """The tab `Chat`. What opens a dialog or copies something is in `Errands`."""

    BINDINGS: ClassVar[list[BindingType]] = bindings_for("chat")

    def __init__(self, *, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self.transcript = Transcript(id="transcript")
        self.prompt = Prompt(
            id="prompt",
            compact=True,
            show_line_numbers=False,
            tab_behavior="focus",
            highlight_cursor_line=False,
            placeholder=f"Write a message; {key_for('prompt.send')} sends it",
        )
        self.model: RunModel | None = None
        self.conversation = Conversation()
        self.files: list[File] = []
        """What goes along with the next message."""
        self.exchanges: deque[Exchange] = deque(maxlen=EXCHANGES_MAX)
        self.editing: int | None = None
        """The turn whose place the next message takes."""
        self._loaded_run = ""
        self._limit: int | None = None
        """`max_model_len` as a refusal has named it."""
        self._incoming: Incoming | None = None
        self._stop_wanted = False
        self._painting = False
        self._told = False
        self._waiting = False
        """A message was meant to go while an answer streams."""
        self._drafting = False
        self._draft: str | None = None

    def compose(self) -> ComposeResult:
        yield self.transcript
        yield ChatNotice(id="chat-notice")
        yield ChatStatus(id="chat-status")
        yield self.prompt

    @property
    def turns(self) -> list[Turn]:
        """All that was said in this conversation."""
        return self.conversation.turns

    def on_mount(self) -> None:
        """A cursor that blinks costs a repaint each time; where nothing may be asked, nothing can be written."""
        self.prompt.cursor_blink = False
        self.prompt.display = not getattr(self.app, "readonly", False)

    def on_unmount(self) -> None:
        """Keep what is not sent."""
        self._keep_draft()

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        """Keep what is written before it is sent."""
        self._draft = event.text_area.text
        if not self._drafting:
            self._drafting = True
            self.set_timer(DRAFT_PERIOD_S, self._keep_draft)

    def _keep_draft(self) -> None:
        self._drafting = False
        if self._draft is None:
            return  # nothing was written here, and the last draft may not have been read
        # Without a disk what is written is still on the screen; that chats are not kept is told elsewhere.
        with suppress(OSError, ConsoleError):
            chatfiles.keep_draft(self._draft.strip())

    def show(self, model: RunModel) -> None:
        """Show this run's newest conversation, and what can be done now."""
        self.model = model
        if self._loaded_run != model.run.id:
            self._loaded_run = model.run.id
            self.open(conversations.latest(model.run.id) or Conversation())
            if not self.prompt.text:
                self.prompt.load_text(chatfiles.draft())
                self.prompt.move_cursor(self.prompt.document.end)
        text = f"{model.run.model} answers here." if model.state is ServerState.READY else ""
        if text != self.transcript.empty_text:
            self.transcript.empty_text = text
            self.transcript.refresh()
        self.show_state()

    def show_state(self, refused: bool = False) -> None:
        """The lines above the input."""
        model = self.model
        if model is None:
            return
        more = [f"{file.name} goes along: {len(file.text):,} characters" for file in self.files]
        if self.editing is not None:
            after = len(self.turns) - self.editing
            keys = f"{key_for('prompt.leave')} {key_for('chat.edit')}"
            more.append(f"Sending takes the place of the last {after} messages, which stay on disk. {keys} gives up.")
        self._waiting = self.transcript.streaming and (refused or self._waiting)
        trouble = self._trouble() if self._waiting else cannot_send(model)
        self.query_one("#chat-notice", ChatNotice).show(trouble, refused, more)
        self.query_one("#chat-status", ChatStatus).show(
            self.conversation.settings, used_tokens(self.turns), self._limit or model.run.max_model_len
        )

    def _trouble(self) -> str:
        """Why no message can be sent now; empty if one can."""
        if self.model is None:
            return ""
        streaming = STREAMING.format(key_for("prompt.leave")) if self.transcript.streaming else ""
        return cannot_send(self.model) or streaming

    def open(self, conversation: Conversation) -> None:
        """Show this conversation and go on with it."""
        self.conversation = conversation
        self.editing = None
        self.transcript.show(list(conversation.turns))
        self.show_state()
        self.refresh_bindings()

    def choose(self, settings: ChatSettings) -> None:
        """Ask like this from here on."""
        self.conversation.settings = settings
        if self.conversation.id:
            self.keep([Chosen(settings=settings)])
        self.show_state()

    def keep(self, records: Sequence[Record]) -> None:
        """Add records to the conversation's file, which the first ones make."""
        try:
            if not self.conversation.id:
                run = self.model.run if self.model else None
                begun = Begun(
                    run_id=run.id if run else "",
                    profile=run.profile_name if run else "",
                    model=run.model if run else "",
                    time_s=time.time(),
                )
                self.conversation.id = conversations.begin(begun)
                self.conversation.run_id, self.conversation.model = begun.run_id, begun.model
                self.conversation.begun_s = begun.time_s
                records = [Chosen(settings=self.conversation.settings), *records]
            conversations.add(self.conversation.id, records)
        except (OSError, ConsoleError) as error:
            if not self._told:
                self._told = True
                self.app.notify(safe(f"This chat is not kept on disk: {error}"), severity="warning", markup=False)

    def on_prompt_sent(self, event: Prompt.Sent) -> None:
        """Ask the model, if it can answer."""
        event.stop()
        if self.model is None or not (event.text or self.files):
            return
        if self._trouble():
            self.show_state(refused=True)
            return
        if self.editing is not None:
            self.cut(self.editing)
        self.prompt.clear()
        turn = Turn(
            role="user",
            content=clean(event.text, keep_newlines=True, keep_tabs=True),
            files=tuple(self.files),
            settings=self.conversation.settings,
            time_s=time.time(),
        )
        self.files = []
        self.turns.append(turn)
        self.transcript.add(turn)
        self.keep([Said(turn=turn)])
        self.ask()

    def cut(self, count: int) -> None:
        """Go on after so many turns; the others stay on disk."""
        self.editing = None
        if count < len(self.turns):
            del self.turns[count:]
            self.transcript.cut(count)
            self.keep([Cut(turns=count)])

    def ask(self) -> None:
        """Ask for the answer to what was said last."""
        if self.model is None:
            return
        settings = self.conversation.settings
        messages = messages_of(self.turns, settings.system)
        options = options_of(settings)
        run = self.model.run
        turn = Turn(role="assistant", model=run.model, time_s=time.time())
        exchange = Exchange(turn, run.url, request_payload(run.model, messages, options))
        self.exchanges.append(exchange)
        self.turns.append(turn)
        self.keep([Said(turn=msgspec.structs.replace(turn))])
        self.transcript.begin(turn)
        self._stop_wanted = False
        self._incoming = Incoming(exchange, self.keep)
        self.show_state()
        self.refresh_bindings()
        stream = self.model.session.chat(messages, options)
        self.run_worker(self._answer(stream, self._incoming), group="chat", exclusive=True, exit_on_error=False)

    async def _answer(self, stream: Any, incoming: Incoming) -> None:
        turn = incoming.turn
        try:
            async with aclosing(stream) as deltas:
                async for delta in deltas:
                    incoming.take(delta)
                    if not self._painting:
                        self._painting = True
                        self.set_timer(PAINT_PERIOD_S, self._flush)
                    if self._stop_wanted or incoming.chars > ANSWER_CHARS_MAX:
                        turn.stopped = True
                        break
                    if delta.done:
                        break
        except ConsoleError as error:
            turn.error = clean(str(error), keep_newlines=True)
        except Exception as error:
            turn.error = clean(f"The answer broke off: {type(error).__name__}: {error}", keep_newlines=True)
        finally:
            self._finish(incoming)

    def _flush(self) -> None:
        self._painting = False
        if self._incoming is not None:
            self.transcript.grow(*self._incoming.settle())

    def _finish(self, incoming: Incoming) -> None:
        last = incoming.end()
        self._incoming = None
        refused = too_long(incoming.turn.error)
        if refused is not None:
            self._limit = refused.limit
        if self.is_attached:
            self.transcript.grow(*last)
            self.transcript.finish()
            self.show_state()
            self.refresh_bindings()

    def on_prompt_left(self, event: Prompt.Left) -> None:
        """Stop the answer, or go to where letters are keys."""
        event.stop()
        if not self.action_stop_answer():
            self.transcript.focus()

    def on_prompt_menu_wanted(self, event: Prompt.MenuWanted) -> None:
        """Everything that the chat can do."""
        event.stop()
        self.action_menu()

    def on_marked(self, event: Marked) -> None:
        """Other keys may make sense now."""
        event.stop()
        self.refresh_bindings()

    def action_stop_answer(self) -> bool:
        """Stop the answer that is streaming; what came so far stays."""
        if not self.transcript.streaming:
            return False
        self._stop_wanted = True
        for worker in self.app.workers:
            if worker.group == "chat" and worker.node is self:
                self.turns[-1].stopped = True
                worker.cancel()
        return True

    def action_write(self) -> None:
        """Go to the input."""
        self.screen.set_focus(self.prompt)
