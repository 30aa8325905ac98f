"""What the chat does beside sending: copies, retries, edits, and everything that opens a dialog."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from textual.containers import Vertical

from console.core.chat import (
    CHAT_PATH,
    ChatSettings,
    curl_text,
    options_of,
    python_text,
    request_payload,
    request_text,
    too_long,
)
from console.core.chat_conversation import Conversation, File, Record, Turn, messages_of
from console.core.errors import ConsoleError
from console.io import chatfiles, conversations
from console.tui.glyphs import safe
from console.tui.model import RunModel
from console.tui.screens.dialogs import Confirm
from console.tui.widgets.chat_answer import Exchange
from console.tui.widgets.chat_prompt import Prompt
from console.tui.widgets.transcript import Transcript

__all__ = ["CLIPBOARD_CHARS", "Errands"]

CLIPBOARD_CHARS = 70_000
"""More than this many terminals do not take into their clipboard."""
IDLE_ONLY = frozenset({"retry", "edit_message", "fit", "new", "conversations"})
"""They would change the conversation under an answer that streams."""


class Errands(Vertical):
    """The part of the chat's pane that acts on what is there; `ChatPane` has the rest."""

    transcript: Transcript
    prompt: Prompt
    model: RunModel | None
    conversation: Conversation
    files: list[File]
    exchanges: deque[Exchange]
    editing: int | None

    def open(self, conversation: Conversation) -> None:
        raise NotImplementedError

    def choose(self, settings: ChatSettings) -> None:
        raise NotImplementedError

    def cut(self, count: int) -> None:
        raise NotImplementedError

    def ask(self) -> None:
        raise NotImplementedError

    def keep(self, records: list[Record]) -> None:
        raise NotImplementedError

    def show_state(self, refused: bool = False) -> None:
        raise NotImplementedError

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that make no sense now are off."""
        streaming = self.transcript.streaming
        turns = self.conversation.turns
        works: dict[str, Callable[[], bool]] = {
            "stop_answer": lambda: streaming,
            "retry": lambda: bool(turns),
            "edit_message": lambda: bool(turns) or self.editing is not None,
            "fit": lambda: self._fitting() is not None,
            "fold": lambda: any(turn.reasoning for turn in turns),
            "copy": lambda: bool(turns),
            "copy_block": lambda: self._block() is not None,
            "new": lambda: bool(turns),
            "export": lambda: bool(turns),
            "detach": lambda: bool(self.files),
            **dict.fromkeys(("raw", "copy_curl", "copy_python"), lambda: bool(turns)),
        }
        if streaming and action in IDLE_ONLY:
            return False
        return works[action]() if action in works else True

    def tell(self, text: str, severity: Any = "information") -> None:
        """Say something that stays true when the reader has read on."""
        self.app.notify(safe(text), severity=severity, markup=False)

    def refuse(self, error: Exception) -> None:
        """Say why something did not work."""
        text = f"{error.title}: {error.message}" if isinstance(error, ConsoleError) else str(error)
        self.tell(text, "error")

    # What is meant: the marked turn, or the last answer.

    def _user_index(self) -> int | None:
        """Of the message that is meant: the marked one, or that before the marked answer."""
        index = self.transcript.marked_turn
        turns = self.conversation.turns
        while index is not None and index >= 0:
            if turns[index].role == "user":
                return index
            index -= 1
        return None

    def _block(self) -> Any:
        return self.transcript.marked_block or self.transcript.newest_block

    def _fitting(self) -> int | None:
        """Max tokens with which the last message fits, where the answer asked for was too long."""
        turns = self.conversation.turns
        found = too_long(turns[-1].error) if turns and turns[-1].error else None
        return found.room if found is not None and found.asked and found.room else None

    # Copies.

    def copy_out(self, text: str, name: str, what: str) -> None:
        """To the terminal's clipboard (OSC 52), and to a file for terminals that have none or refuse."""
        self.app.copy_to_clipboard(text)
        much = f" {len(text):,} characters: many terminals refuse so much." if len(text) > CLIPBOARD_CHARS else ""
        try:
            where = f"also in {chatfiles.keep_copy(name, text)}"
        except (OSError, ConsoleError) as error:
            where = f"but not in a file: {error}"
        self.tell(f"{what}: Sent to the terminal's clipboard; {where}.{much}")

    def action_copy(self) -> None:
        """Copy what is marked: a block of code or a message; without a mark the last answer."""
        block = self.transcript.marked_block
        index = self.transcript.marked_turn
        if block is not None:
            self.action_copy_block()
        elif index is not None:
            turn = self.conversation.turns[index]
            self.copy_out(turn.content, "message.md", "Answer" if turn.role == "assistant" else "Message")

    def action_copy_block(self) -> None:
        """Copy the marked block of code, or the last one."""
        block = self._block()
        if block is not None:
            self.copy_out(block.text, block.file_name, f"Code block {block.number}")

    def exchange(self) -> tuple[Turn | None, str, dict[str, Any], Exchange | None]:
        """The exchange that is meant: its answer, the server's address, the request, what is known of the response.

        One of an earlier session is built again from what was said: the same text, by the same function.
        """
        index = self._user_index()
        turns = self.conversation.turns
        run = self.model.run if self.model else None
        url = run.url if run else ""
        if index is None:
            return None, url, {}, None
        answer = turns[index + 1] if index + 1 < len(turns) else None
        known = next((each for each in self.exchanges if each.turn is answer), None)
        if known is not None:
            return answer, known.url, known.payload, known
        settings = turns[index].settings
        model = (answer.model if answer else "") or (run.model if run else "")
        messages = messages_of(turns[: index + 1], settings.system)
        return answer, url, request_payload(model, messages, options_of(settings)), None

    def action_copy_curl(self) -> None:
        """Copy the exchange as a curl command."""
        _, url, payload, _ = self.exchange()
        if payload:
            self.copy_out(curl_text(url, payload), "request.sh", "curl")

    def action_copy_python(self) -> None:
        """Copy the exchange as Python."""
        _, url, payload, _ = self.exchange()
        if payload:
            self.copy_out(python_text(url, payload), "request.py", "Python")

    def action_raw(self) -> None:
        """Show the request and the response as they went over the line."""
        from console.tui.screens.chat_raw import RawScreen

        answer, url, payload, known = self.exchange()
        if not payload:
            return
        note = "as it was sent" if known else "built again from what was said"
        parts = [f"Request {note}, to", f"{url}{CHAT_PATH}", "", *request_text(payload).split("\n"), ""]
        if known is not None:
            parts += [f"Response, {known.pieces:,} lines", "", *known.response()]
        elif answer is not None:
            parts += ["The response's own text is kept for this session only. What is known:", ""]
            parts += request_text({"finish_reason": answer.finish_reason, "prompt_tokens": answer.prompt_tokens,
                                   "completion_tokens": answer.completion_tokens, "ttft_s": answer.ttft_s,
                                   "elapsed_s": answer.elapsed_s, "error": answer.error}).split("\n")  # fmt: skip
        self.app.push_screen(RawScreen(parts))

    # The conversation.

    def action_mark(self, step: int) -> None:
        """Mark the message or block of code before or after."""
        self.transcript.move_mark(step)

    def action_fold(self) -> None:
        """Fold or unfold the reasoning."""
        self.transcript.fold()

    def action_retry(self) -> None:
        """Ask again; the answer before stays on disk."""
        from console.tui.widgets.chat_prompt import cannot_send

        index = self._user_index()
        if index is None or self.model is None:
            return
        if cannot_send(self.model):
            self.show_state(refused=True)
            return

        def go(answer: str | None) -> None:
            if answer == "yes":
                self.cut(index + 1)
                self.ask()

        later = len(self.conversation.turns) - index - 2
        if later <= 0:
            go("yes")
            return
        text = f"The {later} messages after it leave this conversation. They stay in its file, out of sight."
        self.app.push_screen(Confirm("Ask this again?", [text], "ask again", "leave it"), go)

    def action_edit_message(self) -> None:
        """Put a message into the input; sending it takes the place of it and what follows. Again: give up."""
        if self.editing is not None:
            self.editing = None
            self.show_state()
            return
        index = self._user_index()
        if index is None:
            return
        turn = self.conversation.turns[index]
        self.editing = index
        draft = self.prompt.text.strip()
        self.prompt.load_text(turn.content + (f"\n\n{draft}" if draft else ""))
        self.prompt.move_cursor(self.prompt.document.end)
        self.files = list(turn.files)
        self.screen.set_focus(self.prompt)
        self.show_state()

    def action_fit(self) -> None:
        """Lower max tokens to what the context has left, and ask again."""
        room = self._fitting()
        if room is not None:
            import msgspec

            self.choose(msgspec.structs.replace(self.conversation.settings, max_tokens=room))
            self.action_retry()

    def action_new(self) -> None:
        """Begin a new conversation with the same settings; the model forgets the old one."""
        if self.model is None or self.transcript.streaming or not self.conversation.turns:
            return
        self.open(Conversation(settings=self.conversation.settings))
        self.screen.set_focus(self.prompt)

    # Dialogs.

    def action_menu(self) -> None:
        """Everything that the chat can do."""
        from console.tui.screens.chat_menu import ChatMenu, menu_rows

        rows = menu_rows(lambda action: bool(self.check_action(action.partition("(")[0], ())))

        async def go(action: str | None) -> None:
            if action:
                await self.run_action(action)

        self.app.push_screen(ChatMenu(rows), go)

    def action_settings(self) -> None:
        """System prompt, sampling, length, thinking."""
        from console.tui.screens.chat_settings import SettingsScreen

        def take(settings: ChatSettings | None) -> None:
            if settings is not None:
                self.choose(settings)

        limit = self.model.run.max_model_len if self.model else None
        self.app.push_screen(SettingsScreen(self.conversation.settings, limit), take)

    def action_conversations(self, search: bool = False) -> None:
        """Open, search, export or delete conversations."""
        from console.tui.screens.chat_list import ConversationsScreen

        def go(chosen: str | None) -> None:
            if chosen == "new":
                self.action_new()
            elif chosen and (found := conversations.read(chosen)) is not None:
                self.open(found)
            elif self.conversation.id and not conversations.path_for(self.conversation.id).exists():
                self.open(Conversation(settings=self.conversation.settings))

        self.app.push_screen(ConversationsScreen(self.conversation.id, search), go)

    def action_prompts(self) -> None:
        """Insert a prompt from the library."""
        from console.tui.screens.chat_prompts import PromptsScreen

        def go(text: str | None) -> None:
            if text:
                self.prompt.insert(text)
                self.prompt.focus()

        try:
            self.app.push_screen(PromptsScreen(chatfiles.prompts()), go)
        except ConsoleError as error:
            self.refuse(error)

    def action_attach_file(self) -> None:
        """Attach a file as text to the next message."""
        from console.tui.screens.chat_path import PathScreen

        def check(typed: str) -> str:
            try:
                file = chatfiles.attach(typed)
            except ConsoleError as error:
                return error.message
            self.files.append(file)
            self.prompt.focus()
            self.show_state()
            return ""

        most = f"Goes along with the next message as text. At most {chatfiles.ATTACH_BYTES_MAX // 1024:,} KiB each."
        self.app.push_screen(PathScreen("Attach a file", most, "", check))

    def action_detach(self) -> None:
        """Take attached files off the next message."""
        self.files = []
        self.show_state()

    def action_export(self) -> None:
        """Write the conversation as Markdown."""
        from console.tui.screens.chat_path import export_screen

        self.app.push_screen(export_screen(self.conversation, self.tell))
