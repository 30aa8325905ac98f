"""One streamed answer of the chat completions interface, as pieces with their timing.

Errors never raise: they arrive in the last piece, and the answer so far stays. Closing the generator closes the
connection, on which vLLM aborts the request.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from console.core.chat import CHAT_PATH, request_payload
from console.core.models import ChatDelta, ChatMessage, ChatOptions
from console.io.http import HttpClient, HttpError, Reply, error_message, status_sentence

__all__ = ["stream_chat"]

DONE = "[DONE]"
MESSAGE_STATUSES = frozenset({400, 404, 413, 422, 429})
"""Here the server's own words say best what is wrong with the request."""
UNFINISHED = "connection lost before the answer was complete"


class Piece(msgspec.Struct, frozen=True):
    role: str | None = None
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    """The same under its deprecated name."""


class Choice(msgspec.Struct, frozen=True):
    delta: Piece = Piece()
    finish_reason: str | None = None


class Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Chunk(msgspec.Struct, frozen=True):
    choices: tuple[Choice, ...] = ()
    usage: Usage | None = None
    error: Any = None


decoder = msgspec.json.Decoder(Chunk)


class Answer:
    """What is known of an answer while it comes in."""

    def __init__(self) -> None:
        self._started_s = time.monotonic()
        self._ttft_s: float | None = None
        self._usage = Usage()
        self._raw: list[str] = []
        self.finish_reason: str | None = None

    def note(self, raw: str) -> None:
        """Something that the server wrote; the next piece brings it along."""
        self._raw.append(raw)

    def take(self, chunk: Chunk) -> ChatDelta | None:
        """The piece to show for one chunk; `None` if it has no text."""
        if chunk.usage is not None:
            self._usage = chunk.usage
        if not chunk.choices:
            return None
        choice = chunk.choices[0]
        piece = choice.delta
        self.finish_reason = choice.finish_reason or self.finish_reason
        text, reasoning = piece.content or "", piece.reasoning or piece.reasoning_content or ""
        # The first chunk only names the role. One with a token that has no visible text yet counts as an answer.
        if self._ttft_s is None and (text or reasoning or piece.role is None):
            self._ttft_s = self._elapsed_s()
        return self._delta(text=text, reasoning=reasoning) if text or reasoning else None

    def end(self, error: str = "") -> ChatDelta:
        """The last piece."""
        return self._delta(done=True, error=error)

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._started_s

    def _delta(self, *, text: str = "", reasoning: str = "", done: bool = False, error: str = "") -> ChatDelta:
        raw, self._raw = tuple(self._raw), []
        return ChatDelta(
            raw=raw,
            text=text,
            reasoning=reasoning,
            done=done,
            finish_reason=self.finish_reason,
            ttft_s=self._ttft_s,
            elapsed_s=self._elapsed_s(),
            prompt_tokens=self._usage.prompt_tokens,
            completion_tokens=self._usage.completion_tokens,
            error=error,
        )


async def stream_chat(
    base_url: str,
    model: str,
    messages: Sequence[ChatMessage],
    options: ChatOptions,
    api_key: str | None = None,
    client: HttpClient | None = None,
    socket_path: Path | None = None,
) -> AsyncGenerator[ChatDelta, None]:
    """Stream one answer; the last piece has `done`, and `error` if something went wrong.

    Time to first token counts from sending the request to the first piece of answer or reasoning.

    Args:
        base_url: for example `http://127.0.0.1:8000`.
        model: the served model name.
        messages: the conversation, oldest first.
        options: sampling and length.
        api_key: for servers started with `--api-key`.
        client: connections to use and leave open; by default own ones.
        socket_path: a Unix socket by which own ones reach the server.
    """
    async with contextlib.AsyncExitStack() as stack:
        if client is None:
            client = HttpClient(socket_path=socket_path)
            stack.push_async_callback(client.close)
        answer = Answer()
        payload = request_payload(model, messages, options)
        try:
            async with (
                client.post(base_url.rstrip("/") + CHAT_PATH, payload, api_key) as reply,
                contextlib.aclosing(pieces(reply, answer)) as stream,
            ):
                async for delta in stream:
                    yield delta
        except HttpError as error:
            yield answer.end(UNFINISHED if error.title == "connection lost" else error.title)


async def pieces(reply: Reply, answer: Answer) -> AsyncGenerator[ChatDelta, None]:
    """The pieces of an answer that has begun.

    Raises:
        HttpError: the connection was lost.
    """
    if reply.status != 200:
        body = await reply.body()
        answer.note(f"HTTP {reply.status}")
        answer.note(body.decode("utf-8", "replace"))
        yield answer.end(refusal(reply.status, body))
        return
    async with contextlib.aclosing(reply.lines()) as lines:
        async for line in lines:
            # Empty lines part the events; a line that starts with a colon keeps the connection alive.
            if not line.startswith("data:"):
                continue
            answer.note(line)
            data = line[len("data:") :].strip()
            if data == DONE:
                yield answer.end()
                return
            try:
                chunk = decoder.decode(data)
            except msgspec.DecodeError as error:
                yield answer.end(f"the server's answer cannot be read: {error}")
                return
            if chunk.error is not None:
                message = error_message(msgspec.json.encode({"error": chunk.error}))
                yield answer.end(f"the server broke off: {message or 'it gave no reason'}")
                return
            delta = answer.take(chunk)
            if delta is not None:
                yield delta
    yield answer.end("" if answer.finish_reason else UNFINISHED)


def refusal(status: int, body: bytes) -> str:
    """Why the server did not answer, in one sentence."""
    message = error_message(body)
    if message and status in MESSAGE_STATUSES:
        return message
    return f"{status_sentence(status)}: {message}" if message else status_sentence(status)
