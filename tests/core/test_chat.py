"""The request, its forms for other programs, refusals, and settings from what was typed."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console.core.chat import (
    ChatSettings,
    attached,
    curl_text,
    options_of,
    parse_settings,
    python_text,
    request_payload,
    settings_words,
    too_long,
)
from console.core.models import ChatMessage

URL = "http://127.0.0.1:8000"
NASTY = 'it\'s "quoted"\n`date` $HOME $(id) \\ END_OF_REQUEST\nEND_OF_REQUEST\n\u2028 é 中 \x1b[31m'


def payload(text: str = "hi", chosen: ChatSettings | None = None) -> dict:
    return request_payload(
        "deepseek-v4", [ChatMessage(role="user", content=text)], options_of(chosen or ChatSettings())
    )


def test_thinking_and_effort_go_to_the_template_and_the_rest_to_the_request() -> None:
    chosen = ChatSettings(temperature=0.6, top_p=0.95, max_tokens=512, thinking="on", effort="max")
    body = payload(chosen=chosen)
    assert body["chat_template_kwargs"] == {"thinking": True, "reasoning_effort": "max"}
    assert (body["temperature"], body["top_p"], body["max_tokens"]) == (0.6, 0.95, 512)
    assert settings_words(chosen) == ("temp 0.6", "top_p 0.95", "max 512", "thinking on, max")
    # V4 thinks unless it is told not to, and an effort would be read beside it.
    off = payload(chosen=ChatSettings(thinking="off", effort="max"))
    assert off["chat_template_kwargs"] == {"thinking": False}
    assert not {"chat_template_kwargs", "temperature", "top_p", "max_tokens"} & set(payload())


def test_typed_settings() -> None:
    typed = {"temperature": "0.6", "top_p": "", "max_tokens": "4,096", "system": " be brief ", "thinking": "off"}
    assert parse_settings(typed) == (
        ChatSettings(temperature=0.6, max_tokens=4096, system="be brief", thinking="off"),
        "",
    )
    for name, text in (("temperature", "3"), ("temperature", "hot"), ("top_p", "0"), ("max_tokens", "1.5"),
                       ("max_tokens", "0"), ("temperature", "nan")):  # fmt: skip
        found, wrong = parse_settings({name: text})
        assert found is None
        assert name.replace("_", " ") in wrong.replace("_", " ")


@pytest.mark.skipif(shutil.which("sh") is None, reason="no shell")
def test_curl_asks_the_same_whatever_stands_in_the_message() -> None:
    body = payload(NASTY)
    script = curl_text(URL, body)
    # The command is replaced, not the shell: what it would be given is read back.
    shown = subprocess.run(
        ["sh", "-c", 'curl() { printf "%s\\n" "$@" >&2; cat; }\n' + script],
        capture_output=True, check=True, text=True, env={"VLLM_API_KEY": "s3cret"},
    )  # fmt: skip
    assert json.loads(shown.stdout) == body
    assert "Authorization: Bearer s3cret" in shown.stderr
    assert f"{URL}/v1/chat/completions" in shown.stderr
    assert "s3cret" not in script


def test_python_asks_the_same_whatever_stands_in_the_message() -> None:
    body = payload(NASTY, ChatSettings(system="x", temperature=1.0, thinking="on", effort="high"))
    tree = ast.parse(python_text(URL + "/", body))
    call = next(
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("completions.create")
    )
    said = {each.arg: ast.literal_eval(each.value) for each in call.keywords}
    assert {**said.pop("extra_body"), **said} == body
    assert "base_url='http://127.0.0.1:8000/v1'" in python_text(URL + "/", body)


@settings(max_examples=60, deadline=None)
@given(text=st.text())
def test_any_text_survives_in_python(text: str) -> None:
    compile(python_text(URL, payload(text)), "request.py", "exec")


@pytest.mark.parametrize(
    ("error", "limit", "prompt", "over", "room"),
    [
        (
            "This model's maximum context length is 1024 tokens. However, your prompt contains at least 1025 input "
            "tokens, which exceeds this limit even without any output tokens. Please reduce the length of the input "
            "prompt.",
            1024, 1025, 2, 0,
        ),
        (
            "This model's maximum context length is 1024 tokens. However, you requested 1000 output tokens and your "
            "prompt contains 100 input tokens, for a total of 1100 tokens.",
            1024, 100, 76, 924,
        ),
        (
            "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (1000 in the "
            "messages, 4000 in the completion). Please reduce the length of the messages or completion.",
            4096, 1000, 904, 3096,
        ),
        (
            "The decoder prompt (length 2000) is longer than the maximum model length of 1024. Make sure that "
            "`max_model_len` is no smaller than the number of text tokens.",
            1024, 2000, 977, 0,
        ),
        ("Input length (1100) exceeds model's maximum context length (1024).", 1024, 1100, 77, 0),
        (
            "This model's maximum context length is 1024 tokens. However, your prompt contains 90000 characters "
            "(more than 16384 characters, which is the upper bound for 1024 input tokens).",
            1024, None, None, 0,
        ),
    ],
)  # fmt: skip
def test_a_context_that_is_too_long(error: str, limit: int, prompt: int | None, over: int | None, room: int) -> None:
    found = too_long(error)
    assert found is not None
    assert (found.limit, found.prompt, found.over, found.room) == (limit, prompt, over, room)
    assert found.at_least is ("at least" in error)


def test_other_errors_are_no_length() -> None:
    assert too_long("connection refused") is None
    assert too_long("maximum context length is unknown") is None
    assert too_long("maximum context length is " + "9" * 4000) is None


def test_a_fence_that_the_file_cannot_close() -> None:
    text = attached("look", [("a.md", "```py\nx\n```\n"), ("b.txt", "plain")])
    assert text == "look\n\na.md:\n````\n```py\nx\n```\n````\n\nb.txt:\n```\nplain\n```"
