"""`dsv4-console chat`: ask the served model from the shell."""

from __future__ import annotations

import argparse
import asyncio
import sys

from console.cli.output import Output
from console.client.session import chat_with
from console.core.errors import ExitCode, NotRunningError, ServerFailedError, UsageError
from console.core.models import ChatDelta, ChatMessage, ChatOptions, RunInfo
from console.core.text import StreamCleaner
from console.core.units import latency_text
from console.io import runs

__all__ = ["chat"]


def chat(arguments: argparse.Namespace, output: Output) -> int:
    """Answer one prompt, or converse where a person types."""
    _, info = runs.find_run(arguments.run_name)
    if not runs.is_live(info):
        raise NotRunningError("Nothing is running", f"{info.id}: {info.state}", "Start it: dsv4-console --profile NAME")
    options = ChatOptions(max_tokens=arguments.max_tokens, temperature=arguments.temperature)
    history = [ChatMessage(role="system", content=arguments.system)] if arguments.system else []
    if arguments.prompt is not None or not sys.stdin.isatty():
        prompt = arguments.prompt if arguments.prompt is not None else sys.stdin.read()
        if not prompt.strip():
            raise UsageError("There is no prompt", "", 'dsv4-console chat "…"')
        asyncio.run(_answer(info, [*history, ChatMessage(role="user", content=prompt)], options, output))
        return ExitCode.OK
    return _converse(info, history, options, output)


def _converse(info: RunInfo, history: list[ChatMessage], options: ChatOptions, output: Output) -> int:
    output.say(f"{info.model} at {info.url}; an empty line ends")
    while True:
        output.say("you:")
        prompt = sys.stdin.readline()
        if not prompt.strip():
            return ExitCode.OK
        history.append(ChatMessage(role="user", content=prompt.rstrip("\n")))
        text = asyncio.run(_answer(info, history, options, output))
        history.append(ChatMessage(role="assistant", content=text))


async def _answer(info: RunInfo, messages: list[ChatMessage], options: ChatOptions, output: Output) -> str:
    """Stream one answer to stdout.

    Raises:
        ServerFailedError: the server refused or broke off; what came before is printed.
    """
    cleaner = StreamCleaner(keep_newlines=True)
    parts: list[str] = []
    reasoning: list[str] = []
    last = ChatDelta()
    async for delta in chat_with(info, messages, options):
        last = delta
        reasoning.append(delta.reasoning)
        parts.append(delta.text)
        if not output.json and (shown := cleaner.feed(delta.reasoning + delta.text)):
            sys.stdout.write(shown)
            sys.stdout.flush()
    if not output.json:
        sys.stdout.write(cleaner.flush() + "\n")
    if last.error:
        raise ServerFailedError("The answer broke off", last.error)
    output.say(
        f"[{last.completion_tokens or '–'} tokens, TTFT {latency_text(last.ttft_s)},"
        f" {latency_text(last.elapsed_s)}, {last.finish_reason or '–'}]"
    )
    output.document(
        {
            "text": "".join(parts),
            "reasoning": "".join(reasoning),
            "finish_reason": last.finish_reason,
            "ttft_s": last.ttft_s,
            "elapsed_s": last.elapsed_s,
            "prompt_tokens": last.prompt_tokens,
            "completion_tokens": last.completion_tokens,
        }
    )
    return "".join(parts)
