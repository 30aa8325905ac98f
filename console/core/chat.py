"""What is asked of a model and what came of it: settings, the request, the same as curl and as Python, refusals.

Pure, so that the request which is shown, copied and sent is built in one place.
"""

from __future__ import annotations

import pprint
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from console.core.models import ChatMessage, ChatOptions

__all__ = [
    "CHAT_PATH",
    "EFFORTS",
    "EFFORT_MAX_CONTEXT",
    "THINKING",
    "ChatSettings",
    "TooLong",
    "attached",
    "curl_text",
    "options_of",
    "parse_settings",
    "python_text",
    "request_payload",
    "request_text",
    "settings_words",
    "too_long",
]

CHAT_PATH: Final = "/v1/chat/completions"
KEY_VARIABLE: Final = "VLLM_API_KEY"
THINKING: Final = ("", "on", "off")
EFFORTS: Final = ("", "low", "high", "max")
"""What DeepSeek V4's template tells apart; empty leaves the choice to the server."""
EFFORT_MAX_CONTEXT: Final = 393_216
"""Tokens of context that DeepSeek asks for with effort `max`."""
TEMPERATURE_MAX: Final = 2.0
TOKENS_MAX: Final = 10_000_000


class ChatSettings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How one conversation asks. `None` and empty leave the choice to the server."""

    system: str = ""
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    thinking: str = ""
    """One of `THINKING`."""
    effort: str = ""
    """One of `EFFORTS`."""


def options_of(settings: ChatSettings) -> ChatOptions:
    """The same as request fields. Thinking and effort go to the chat template, where V4 looks for them."""
    kwargs: dict[str, Any] = {}
    if settings.thinking:
        kwargs["thinking"] = settings.thinking == "on"
    if settings.effort and settings.thinking != "off":
        kwargs["reasoning_effort"] = settings.effort
    return ChatOptions(
        temperature=settings.temperature,
        top_p=settings.top_p,
        max_tokens=settings.max_tokens,
        extra={"chat_template_kwargs": kwargs} if kwargs else {},
    )


def settings_words(settings: ChatSettings) -> tuple[str, ...]:
    """What differs from the server's own choice, shortest first: `temp 0.6`, `max 512`, `thinking on, max`."""
    words = []
    if settings.temperature is not None:
        words.append(f"temp {settings.temperature:g}")
    if settings.top_p is not None:
        words.append(f"top_p {settings.top_p:g}")
    if settings.max_tokens is not None:
        words.append(f"max {settings.max_tokens:,}")
    if settings.thinking or settings.effort:
        effort = settings.effort if settings.thinking != "off" else ""
        words.append("thinking " + ", ".join(part for part in (settings.thinking, effort) if part))
    if settings.system:
        words.append("system prompt")
    return tuple(words)


class Field(NamedTuple):
    """A figure that the operator types, and what is wrong with others."""

    kind: type[int] | type[float]
    low: float
    high: float
    wrong: str


FIELDS: Final[dict[str, Field]] = {
    "temperature": Field(float, 0.0, TEMPERATURE_MAX, f"temperature: a number from 0 to {TEMPERATURE_MAX:g}, or empty"),
    "top_p": Field(float, 1e-9, 1.0, "top_p: a number above 0, at most 1, or empty"),
    "max_tokens": Field(int, 1, TOKENS_MAX, "max tokens: a whole number from 1 on, or empty"),
}


def parse_settings(typed: Mapping[str, str]) -> tuple[ChatSettings | None, str]:
    """Settings from what was typed, or what is wrong with it.

    Args:
        typed: text by name of field; `thinking` and `effort` are among their choices.
    """
    figures: dict[str, Any] = {}
    for name, field in FIELDS.items():
        text = typed.get(name, "").strip().replace(",", "").replace("_", "")
        if not text:
            continue
        try:
            value = field.kind(text)
        except ValueError:
            return None, field.wrong
        if not field.low <= value <= field.high:
            return None, field.wrong
        figures[name] = value
    return ChatSettings(
        system=typed.get("system", "").strip(),
        thinking=typed.get("thinking", ""),
        effort=typed.get("effort", ""),
        **figures,
    ), ""


def request_payload(model: str, messages: Sequence[ChatMessage], options: ChatOptions) -> dict[str, Any]:
    """The body of the request. What `extra` says never changes how the answer is streamed."""
    chosen = {
        "temperature": options.temperature,
        "top_p": options.top_p,
        "max_tokens": options.max_tokens,
    }
    return {
        **options.extra,
        **{name: value for name, value in chosen.items() if value is not None},
        "model": model,
        "messages": [{"role": message.role, "content": message.content} for message in messages],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def request_text(payload: Mapping[str, Any]) -> str:
    """The body as JSON for eyes."""
    return msgspec.json.format(msgspec.json.encode(payload), indent=2).decode()


def curl_text(base_url: str, payload: Mapping[str, Any]) -> str:
    """A shell command that asks the same. The API key comes from the environment, and is never in it.

    The body stands in a here-document whose end no line of JSON can be, so that no shell reads it.
    """
    return (
        f"curl -sS -N '{_url(base_url)}' \\\n"
        "  -H 'Content-Type: application/json' \\\n"
        f'  -H "Authorization: Bearer ${{{KEY_VARIABLE}:-EMPTY}}" \\\n'
        "  --data-binary @- <<'END_OF_REQUEST'\n"
        f"{request_text(payload)}\n"
        "END_OF_REQUEST\n"
    )


PYTHON_FIELDS: Final = ("model", "messages", "temperature", "top_p", "max_tokens", "stream", "stream_options")
"""Arguments that the client knows; all others go into `extra_body`."""


def python_text(base_url: str, payload: Mapping[str, Any]) -> str:
    """A Python program that asks the same with the OpenAI client."""
    own = {name: payload[name] for name in PYTHON_FIELDS if name in payload}
    extra = {name: value for name, value in payload.items() if name not in own}
    if extra:
        own["extra_body"] = extra
    arguments = "".join(f"    {name}={_literal(value)},\n" for name, value in own.items())
    return (
        "import os\n"
        "\n"
        "from openai import OpenAI\n"
        "\n"
        f"client = OpenAI(base_url={base_url.rstrip('/') + '/v1'!r}, "
        f'api_key=os.environ.get("{KEY_VARIABLE}", "EMPTY"))\n'
        f"stream = client.chat.completions.create(\n{arguments})\n"
        "for chunk in stream:\n"
        "    if chunk.choices:\n"
        '        print(chunk.choices[0].delta.content or "", end="", flush=True)\n'
        "print()\n"
    )


def _literal(value: object) -> str:
    return pprint.pformat(value, width=100, sort_dicts=False).replace("\n", "\n    ")


def _url(base_url: str) -> str:
    return (base_url.rstrip("/") + CHAT_PATH).replace("'", "%27")


class TooLong(NamedTuple):
    """A request that did not fit into the context, in tokens; `None` where the server did not say."""

    limit: int
    prompt: int | None
    asked: int | None
    """For the answer, if the request said how many."""
    at_least: bool = False
    """vLLM stopped counting the prompt's tokens."""

    @property
    def over(self) -> int | None:
        """By how many it was too long."""
        if self.prompt is None:
            return None
        return max(self.prompt + max(self.asked or 0, 1) - self.limit, 1)

    @property
    def room(self) -> int:
        """What is left for an answer; 0 if the prompt alone is too long, or its length unknown."""
        return max(self.limit - self.prompt, 0) if self.prompt is not None else 0


_LIMIT = re.compile(r"maximum (?:context|model) length(?: is| of)? \(?([\d,]+)")
_PROMPT = (
    re.compile(r"(?:passed|contains|has) (?:at least )?([\d,]+) (?:input|prompt) tokens"),
    re.compile(r"\(([\d,]+) (?:in the|from the) (?:messages|input|prompt)"),
    re.compile(r"(?:prompt \(length|Input length \() ?([\d,]+)\)"),
    re.compile(r"resulted in ([\d,]+) tokens"),
)
_ASKED = (
    re.compile(r"requested ([\d,]+) output tokens"),
    re.compile(r"requested ([\d,]+) (?:tokens for|in) the completion"),
    re.compile(r"([\d,]+) in the completion"),
    re.compile(r"max_(?:completion_)?tokens[^\d]{1,40}([\d,]+)"),
)


def too_long(error: str) -> TooLong | None:
    """What vLLM's refusal says of the context's length; `None` if it is about something else."""
    limit = _number(_LIMIT.search(error))
    if limit is None:
        return None
    prompt = next((n for pattern in _PROMPT if (n := _number(pattern.search(error))) is not None), None)
    asked = next((n for pattern in _ASKED if (n := _number(pattern.search(error))) is not None), None)
    return TooLong(limit, prompt, asked, at_least="at least" in error)


def _number(found: re.Match[str] | None) -> int | None:
    digits = found[1].replace(",", "") if found else ""
    return int(digits) if 0 < len(digits) < 12 else None


def attached(text: str, files: Sequence[tuple[str, str]]) -> str:
    """A message with files under it, each in a fence that nothing in it can close."""
    parts = [text] if text else []
    for name, content in files:
        longest = max((len(run) for run in re.findall(r"`{3,}", content)), default=2)
        fence = "`" * (longest + 1)
        parts.append(f"{name}:\n{fence}\n{content.rstrip()}\n{fence}")
    return "\n\n".join(parts)
