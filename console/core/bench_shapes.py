"""The loads that a benchmark puts on a server: lengths of prompts and answers, what they share, and why these.

A table of its own, so that a screen, a report and the runner name the same lengths, and a load that does not fit a
server's context is made smaller in one place only.
"""

from __future__ import annotations

import msgspec

from console.core.bench import Shape

__all__ = ["CONTEXT_TOKENS_MIN", "LOADS", "Load", "fitted", "requests_for"]

CONTEXT_TOKENS_MIN = 32
"""A server with less context than this cannot be measured."""
SPARE_TOKENS = 16
"""Left free of the context: tokenizers add tokens, and random text comes back some tokens longer or shorter."""
REQUESTS_MIN = 8
REQUESTS_PER_CLIENT = 4
"""Each client sends this many one after another, so that the row is not all ramp-up and run-down."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of load. Lengths are in tokens and hold for each request."""

    shape: Shape
    input_tokens: int
    """The whole prompt, with what it shares with others."""
    output_tokens: int
    shared_prefix: float = 0.0
    """0 to 1: the part of the prompt that all requests of a row begin with."""
    source: str
    """Where the numbers are from, in a sentence."""

    @property
    def prefix_tokens(self) -> int:
        """Tokens that all requests of a row begin with."""
        return round(self.input_tokens * self.shared_prefix)


LOADS: dict[Shape, Load] = {
    load.shape: load
    for load in (
        Load(
            shape=Shape.CHAT,
            input_tokens=1024,
            output_tokens=1024,
            source="The 1k/1k load of InferenceX (once InferenceMAX): a question, and an answer with its reasoning.",
        ),
        Load(
            shape=Shape.CODE,
            input_tokens=8192,
            output_tokens=256,
            shared_prefix=0.6,
            source="Rounded from Mooncake's tool and agent trace (FAST '25): 8,596 tokens in, 182 out, 59 % reused.",
        ),
        Load(
            shape=Shape.LONG,
            input_tokens=8192,
            output_tokens=1024,
            source="The 8k/1k load of InferenceX, at which DeepSeek V4 is published most often.",
        ),
        Load(
            shape=Shape.RANDOM,
            input_tokens=1024,
            output_tokens=128,
            source="The defaults of `vllm bench serve`.",
        ),
    )
}


def fitted(shape: Shape, max_model_len: int | None) -> tuple[Load, str]:
    """The load of this shape as a server of this context can take it, and a note where it had to be made smaller.

    Prompt and answer keep their proportion. Unknown context leaves the load as it is.

    Raises:
        ValueError: the context is smaller than `CONTEXT_TOKENS_MIN`.
    """
    load = LOADS[shape]
    if max_model_len is None:
        return load, ""
    if max_model_len < CONTEXT_TOKENS_MIN:
        raise ValueError(f"a context of {max_model_len} tokens is too small to be measured")
    room = max_model_len - SPARE_TOKENS
    whole = load.input_tokens + load.output_tokens
    if whole <= room:
        return load, ""
    output = max(1, load.output_tokens * room // whole)
    smaller = msgspec.structs.replace(load, input_tokens=room - output, output_tokens=output)
    note = (
        f"The server takes {max_model_len:,} tokens in all, so {shape} is {smaller.input_tokens:,} in and "
        f"{output:,} out instead of {load.input_tokens:,} and {load.output_tokens:,}."
    )
    return smaller, note


def requests_for(concurrency: int) -> int:
    """How many requests a row has where none are asked for."""
    return max(REQUESTS_MIN, concurrency * REQUESTS_PER_CLIENT)
