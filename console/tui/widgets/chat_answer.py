"""One answer as it streams in: cleaned, timed, written to disk piece by piece, with what the server really wrote."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from console.core.chat_conversation import Ended, Grown, Record, Turn
from console.core.models import ChatDelta
from console.core.text import StreamCleaner, clean

__all__ = ["ANSWER_CHARS_MAX", "KEEP_PERIOD_S", "RAW_PIECES", "Exchange", "Incoming"]

ANSWER_CHARS_MAX = 4_000_000
"""An answer is cut off here: far above any context length."""
KEEP_PERIOD_S = 1.0
"""At most so much of an answer is lost if this program is killed."""
RAW_PIECES = 200
"""Pieces of a response that are kept from its beginning, and as many from its end."""
RAW_CHARS_MAX = 20_000
"""Of one piece."""


class Exchange:
    """A request as it was sent, and what came back as it was written.

    Args:
        turn: the answer.
        url: of the server.
        payload: the request's body.
    """

    def __init__(self, turn: Turn, url: str, payload: dict[str, Any]) -> None:
        self.turn = turn
        self.url = url
        self.payload = payload
        self.pieces = 0
        self._first: list[str] = []
        self._last: deque[str] = deque(maxlen=RAW_PIECES)

    def take(self, raw: Sequence[str]) -> None:
        """More of the response."""
        for piece in raw:
            self.pieces += 1
            kept = clean(piece[:RAW_CHARS_MAX], keep_newlines=True)
            (self._first if len(self._first) < RAW_PIECES else self._last).append(kept)

    def response(self) -> list[str]:
        """Its pieces; those in the middle of a long one are counted only."""
        left_out = self.pieces - len(self._first) - len(self._last)
        middle = [f"… {left_out:,} pieces are not kept …"] if left_out else []
        return [*self._first, *middle, *self._last]


class Incoming:
    """What came of an answer.

    Args:
        exchange: its turn grows, its pieces are noted.
        keep: writes records to disk.
    """

    def __init__(self, exchange: Exchange, keep: Callable[[Sequence[Record]], None]) -> None:
        self.exchange = exchange
        self.turn = exchange.turn
        self.chars = 0
        self._keep = keep
        self._cleaners = StreamCleaner(keep_tabs=True), StreamCleaner(keep_tabs=True)
        self._new: list[tuple[str, str]] = []
        self._unkept: list[tuple[str, str]] = []
        self._kept_s = time.monotonic()

    def take(self, delta: ChatDelta) -> None:
        """A piece."""
        turn = self.turn
        self.exchange.take(delta.raw)
        text, reasoning = self._cleaners[0].feed(delta.text), self._cleaners[1].feed(delta.reasoning)
        self.chars += len(text) + len(reasoning)
        self._new.append((text, reasoning))
        for name in ("ttft_s", "completion_tokens", "prompt_tokens", "finish_reason"):
            value = getattr(delta, name)
            if value is not None:
                setattr(turn, name, value)
        if delta.elapsed_s:
            turn.elapsed_s = delta.elapsed_s
        if delta.error:
            turn.error = clean(delta.error, keep_newlines=True)

    def settle(self) -> tuple[str, str]:
        """What is new since the last call: text and reasoning. They are then part of the turn."""
        text, reasoning = ("".join(parts) for parts in zip(*self._new, strict=True)) if self._new else ("", "")
        self._new.clear()
        self.turn.content += text
        self.turn.reasoning += reasoning
        self._unkept.append((text, reasoning))
        if time.monotonic() - self._kept_s >= KEEP_PERIOD_S:
            self._keep(self._records())
        return text, reasoning

    def end(self) -> tuple[str, str]:
        """The rest, when nothing more comes."""
        self._new.append((self._cleaners[0].flush(), self._cleaners[1].flush()))
        last = self.settle()
        how = msgspec.structs.replace(self.turn, content="", reasoning="")
        self._keep([*self._records(), Ended(turn=how)])
        return last

    def _records(self) -> list[Record]:
        text = "".join(part for part, _ in self._unkept)
        reasoning = "".join(part for _, part in self._unkept)
        self._unkept.clear()
        self._kept_s = time.monotonic()
        return [Grown(text=text, reasoning=reasoning)] if text or reasoning else []
