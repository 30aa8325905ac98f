"""`dsv4-console chat`: ask the served model from the shell. Answers go to stdout, all else to stderr."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys

from console.cli import tasks
from console.cli.output import Output, is_terminal
from console.client.session import chat_with
from console.core.errors import ExitCode, NotReadyError, NotRunningError, ServerFailedError, UsageError
from console.core.models import ChatDelta, ChatMessage, ChatOptions, RunInfo, ServerState
from console.core.text import StreamCleaner
from console.core.units import latency_text
from console.io import runs

__all__ = ["chat"]

PROMPT_BYTES_MAX = 16 * 1024 * 1024
"""A longer prompt does not fit into any model's context."""


def chat(arguments: argparse.Namespace, output: Output) -> int:
    """Answer one prompt, or converse where a person types."""
    _, info = runs.find_run(arguments.run_name)
    if not runs.is_live(info):
        raise NotRunningError("Nothing is running", f"{info.id}: {info.state}", "Start it: dsv4-console --profile NAME")
    if info.state in {ServerState.STARTING, ServerState.LOADING}:
        raise NotReadyError("The server is not ready yet", f"{info.id}: {info.state}", "See: dsv4-console status")
    options = ChatOptions(max_tokens=arguments.max_tokens, temperature=arguments.temperature)
    history = [ChatMessage(role="system", content=arguments.system)] if arguments.system else []
    if arguments.prompt is None and is_terminal(sys.stdin):
        return _converse(info, history, options, output)
    prompt = arguments.prompt if arguments.prompt is not None else _from_stdin()
    if not prompt.strip():
        raise UsageError("There is no prompt", "", 'dsv4-console chat "…"')
    tasks.run(_answer(info, [*history, ChatMessage(role="user", content=prompt)], options, output))
    return ExitCode.OK


def _from_stdin() -> str:
    if sys.stdin is None:
        return ""
    data = sys.stdin.buffer.read(PROMPT_BYTES_MAX + 1)
    if len(data) > PROMPT_BYTES_MAX:
        raise UsageError("The prompt is too long", f"more than {PROMPT_BYTES_MAX // 2**20} MiB on stdin")
    return data.decode("utf-8", "replace")


def _converse(info: RunInfo, history: list[ChatMessage], options: ChatOptions, output: Output) -> int:
    output.say(f"{info.model} at {info.url}; ctrl+c stops an answer, an empty line ends")
    while True:
        output.say("you:")
        prompt = sys.stdin.readline()
        if not prompt.strip():
            return ExitCode.OK
        history.append(ChatMessage(role="user", content=prompt.rstrip("\n")))
        try:
            text = tasks.run(_answer(info, history, options, output))
        except tasks.EndedError as ended:
            if ended.exit_code is not ExitCode.INTERRUPTED:
                raise
            history.pop()
            continue
        history.append(ChatMessage(role="assistant", content=text))


async def _answer(info: RunInfo, messages: list[ChatMessage], options: ChatOptions, output: Output) -> str:
    """Stream one answer: its text to stdout, its reasoning to stderr.

    Raises:
        ServerFailedError: the server refused or broke off; what came before is printed.
    """
    shown = _Shown(output)
    last = ChatDelta()
    try:
        async with contextlib.aclosing(chat_with(info, messages, options)) as pieces:
            async for delta in pieces:
                last = delta
                shown.add(delta)
    except asyncio.CancelledError:
        shown.end()
        output.say("[stopped]")
        raise
    shown.end()
    if last.error:
        key = "Set VLLM_API_KEY as it was where the server was started." if "API key" in last.error else ""
        raise ServerFailedError(
            "The answer broke off" if shown.text else "There is no answer",
            f"{info.url}: {last.error}",
            key or "See: dsv4-console status",
        )
    output.say(
        f"[{'–' if last.completion_tokens is None else last.completion_tokens} tokens,"
        f" TTFT {latency_text(last.ttft_s)}, {latency_text(last.elapsed_s)}, {last.finish_reason or '–'}]"
    )
    output.document(
        {
            "text": "".join(shown.text),
            "reasoning": "".join(shown.reasoning),
            "finish_reason": last.finish_reason,
            "ttft_s": last.ttft_s,
            "elapsed_s": last.elapsed_s,
            "prompt_tokens": last.prompt_tokens,
            "completion_tokens": last.completion_tokens,
        }
    )
    return "".join(shown.text)


class _Shown:
    """What came of an answer so far, and shows it as it comes."""

    def __init__(self, output: Output) -> None:
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self._output = output
        self._cleaner = StreamCleaner(keep_newlines=True)
        self._thoughts = StreamCleaner(keep_newlines=True)

    def add(self, delta: ChatDelta) -> None:
        if delta.reasoning:
            self.reasoning.append(delta.reasoning)
            self._output.murmur(self._thoughts.feed(delta.reasoning))
        if delta.text:
            if self.reasoning and not self.text:
                self._output.murmur(self._thoughts.flush() + "\n\n")
            self.text.append(delta.text)
            self._output.piece(self._cleaner.feed(delta.text))

    def end(self) -> None:
        if self.text:
            self._output.piece(self._cleaner.flush() + "\n")
        elif self.reasoning:
            self._output.murmur(self._thoughts.flush() + "\n")
