"""Cleaning and redaction of foreign text."""

from __future__ import annotations

import itertools
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.core.text import (
    HIDDEN,
    SEQUENCE_CHARS_MAX,
    Redactor,
    StreamCleaner,
    clean,
    is_secret_name,
    redact,
    redact_argv,
    truncate_line,
)

# Long runs of what makes up escape sequences, and anything else, surrogates included.
hostile = st.text(
    alphabet=st.one_of(
        st.sampled_from("\x1b\x1b[]P^_\\;0m?HJ\x07\x9b\x9c\x9d\x90\x85\r\n\tab \u202e\u200b\u2028\ud800\x7f\x00é界"),
        st.characters(),
    ),
    max_size=60,
)
ordinary = st.text(alphabet=st.characters(exclude_categories=("Cc", "Cf", "Cs", "Zl", "Zp")), max_size=60)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[38;2;1;2;3mtrue colour\x1b[m", "true colour"),
        ("\x1b[2J\x1b[Hgone", "gone"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]52;c;AAAA", ""),
        ("\x1b]52;c;AAAA\nnext", " next"),
        ("\x1bPq#0;2\x1b\\sixel", "sixel"),
        ("\x1b_Gkitty\x1b\\picture", "picture"),
        ("\x9b31mred", "red"),
        ("\x9d0;title\x9cafter", "after"),
        ("\x1b[31", ""),
        ("\x1b(Bcharset", "charset"),
        ("\x1bcreset", "reset"),
        ("half \x1b", "half "),
        ("bell\x07 back\x08 nul\x00 del\x7f", "bell␇ back␈ nul␀ del␡"),
        ("a\tb", "a    b"),
        ("abc\u202edef\u2066x\u200by\ufeffz", "abcdefxyz"),
        ("broken \ud83d here", "broken \ufffd here"),
        ("one\r\ntwo\u2028three", "one two three"),
        ("keep 日本 é\u0301 🚀 [red]markup[/] \u3000wide", "keep 日本 é\u0301 🚀 [red]markup[/] \u3000wide"),
    ],
)
def test_clean(raw: str, shown: str) -> None:
    assert clean(raw) == shown


def test_newlines_stay_when_asked() -> None:
    assert clean("a\r\nb\rc\n\x1b[1md", keep_newlines=True) == "a\nb\nc\nd"


@given(hostile, st.booleans())
def test_nothing_dangerous_is_left(raw: str, keep: bool) -> None:
    shown = clean(raw, keep_newlines=keep)
    for character in shown:
        category = unicodedata.category(character)
        assert category not in ("Cc", "Cf", "Cs", "Zl", "Zp") or (keep and character == "\n")
    assert clean(shown, keep_newlines=keep) == shown


@given(ordinary)
def test_ordinary_text_is_unchanged(raw: str) -> None:
    assert clean(raw) == raw
    assert clean(raw, keep_newlines=True) == raw


@given(hostile, st.lists(st.integers(0, 60), max_size=8))
def test_pieces_give_the_same_as_the_whole(raw: str, cuts: list[int]) -> None:
    cleaner = StreamCleaner(keep_newlines=True)
    edges = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    shown = "".join(cleaner.feed(raw[start:end]) for start, end in itertools.pairwise(edges))
    assert shown + cleaner.flush() == clean(raw, keep_newlines=True)


def test_an_endless_sequence_does_not_hide_the_rest() -> None:
    cleaner = StreamCleaner()
    shown = cleaner.feed("\x1b]0;")
    for _ in range(3 * SEQUENCE_CHARS_MAX // 100):
        shown += cleaner.feed("x" * 100)
    shown += cleaner.flush()
    assert len(shown) > SEQUENCE_CHARS_MAX
    assert set(shown) == {"x"}


def test_truncation_says_how_much() -> None:
    assert truncate_line("short") == "short"
    assert truncate_line("x" * 5000) == "x" * 4096 + " … [904 cut]"
    assert truncate_line("abc", 2, already_cut=1000) == "ab … [1,001 cut]"


@pytest.mark.parametrize(
    "text",
    [
        "vllm serve m --api-key s3cr3tvalue --port 8000",
        "vllm serve m --api-key=s3cr3tvalue",
        "vllm serve m --hf-token 's3cr3tvalue'",
        "HF_TOKEN=s3cr3tvalue vllm serve m",
        "non-default args: {'api_key': ['s3cr3tvalue'], 'port': 8000}",
        "Authorization: Bearer s3cr3tvalue",
        "https://user:s3cr3tvalue@example.org/simple",
        "token hf_s3cr3tvalueAbCdEf is wrong",
        "known s3cr3tvalue anywhere",
    ],
)
def test_secrets_are_hidden(text: str) -> None:
    shown = redact(text, secrets=["s3cr3tvalue"] if text.startswith("known") else ())
    assert "s3cr3tvalue" not in shown
    assert Redactor(["s3cr3tvalue"] if text.startswith("known") else ())(text) == shown
    assert HIDDEN in shown


@pytest.mark.parametrize(
    "text",
    [
        "vllm serve m --max-num-batched-tokens 8192 --tokenizer-mode deepseek_v4",
        "GPU KV cache size: 1,067,264 tokens",
        "TOKENIZERS_PARALLELISM=false",
        "http://127.0.0.1:8000/v1",
        "hf_overrides={}",
    ],
)
def test_harmless_text_is_left_alone(text: str) -> None:
    assert redact(text) == text
    assert Redactor()(text) == text


@given(st.text(alphabet="hfskgp_-=: '\"@/.aTOKENkeyBearer0123456789", max_size=120))
def test_the_quick_look_misses_nothing(text: str) -> None:
    assert Redactor(["s3cr3t"])(text) == redact(text, ["s3cr3t"])


@pytest.mark.parametrize(
    "name",
    ["HF_TOKEN", "VLLM_API_KEY", "AWS_SECRET_ACCESS_KEY", "db_password", "HFTOKEN", "--api-key", "key"],
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["TOKENIZERS_PARALLELISM", "VLLM_LOG_STATS_INTERVAL", "MONKEY", "KEYBOARD", "--max-tokens", "ssl_keyfile"]
)
def test_names_of_no_secrets(name: str) -> None:
    assert not is_secret_name(name)


def test_environment_and_arguments() -> None:
    environment = {
        "HF_TOKEN": "abcdef",
        "AWS_SECRET_ACCESS_KEY": "x",
        "VLLM_API_KEY": "",
        "TOKENIZERS_PARALLELISM": "false",
    }
    assert redact(environment) == {
        "HF_TOKEN": HIDDEN,
        "AWS_SECRET_ACCESS_KEY": HIDDEN,
        "VLLM_API_KEY": "",
        "TOKENIZERS_PARALLELISM": "false",
    }
    argv = [
        "vllm",
        "serve",
        "m",
        "--api-key",
        "one",
        "two",
        "--port",
        "8000",
        "--hf-token=three",
        "--max-num-batched-tokens",
        "9",
    ]
    assert redact_argv(argv) == (
        "vllm", "serve", "m", "--api-key", HIDDEN, HIDDEN, "--port", "8000",
        f"--hf-token={HIDDEN}", "--max-num-batched-tokens", "9",
    )  # fmt: skip
