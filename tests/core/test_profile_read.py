"""Strict reading: every mistake is found, all at once, each in one line that helps."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console.core.errors import ExitCode, ProfileError
from console.core.profile import EngineKind, Profile
from console.core.profile_checks import CHECKS
from console.core.profile_read import KNOWN_KEYS, check_profile, profile_from, read_profile

GOOD = """
[profile]
title = "A"
[hardware]
gpu = "H100"
count = 4
[model]
id = "deepseek-ai/DeepSeek-V4-Flash"
[serve]
tensor_parallel_size = 4
"""


def errors_of(text: str) -> tuple[str, ...]:
    return check_profile(text, "x.toml").errors


def only_error(addition: str, base: str = GOOD) -> str:
    errors = errors_of(base + addition)
    assert len(errors) == 1, errors
    assert errors[0].startswith("x.toml: ")
    return errors[0]


def replaced(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


def test_a_good_profile_is_read_with_defaults() -> None:
    profile = read_profile(GOOD, "x.toml")
    assert profile.serve.tensor_parallel_size == 4
    assert profile.serve.max_num_seqs is None
    assert profile.engine.kind is EngineKind.CUDA


def test_several_mistakes_are_reported_together() -> None:
    errors = errors_of(
        """
        x = 1
        [profile]
        evidence = "sure"
        [serve]
        max_num_seq = 64
        port = 99999
        tensor_parallel_size = "8"
        [model]
        id = "deepseek-ai/DeepSeek-V4"
        [env]
        A = 1
        """
    )
    for part in (
        "x: found 1; no such key",
        'profile.evidence: found "sure"; allowed: one of "measured", "recipe"',
        "serve.max_num_seq: found 64; no such key; nearest known key: serve.max_num_seqs",
        "serve.port: found 99999; allowed: a whole number, at least 1 and at most 65535",
        'serve.tensor_parallel_size: found "8"; allowed: a whole number, at least 1',
        "env.A: found 1; allowed: text in quotes",
        "profile.title: missing; required: text in quotes",
        "there is no such repository; write deepseek-ai/DeepSeek-V4-Flash-0731",
    ):
        assert sum(part in error for error in errors) == 1, (part, errors)
    assert not any(
        "idle" in error or "hardware" in error for error in errors if "tensor" in error and '"8"' not in error
    )


def test_read_profile_raises_with_all_mistakes_and_the_usage_code() -> None:
    with pytest.raises(ProfileError) as caught:
        read_profile("[profile]\ntitel = 'x'", "x.toml")
    assert caught.value.exit_code is ExitCode.USAGE
    assert "profile.titel" in caught.value.message
    assert "nearest known key: profile.title" in caught.value.message
    assert "model.id: missing" in caught.value.message


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a = = 3", "not valid TOML at line 1, column 5"),
        ("[serve]\nport = \nhost = 1", "line 2"),
        ("a = [", "end of document"),
        ("a = 1\na = 2", "Cannot overwrite a value"),
        ("a = " + "[" * 10_000, "nested too deeply"),
        ("a = " + "9" * 5000, "not valid TOML"),
        ("a = 2026-13-45", "line 1"),
    ],
)
def test_broken_toml_is_one_error_with_its_place(text: str, part: str) -> None:
    (error,) = errors_of(text)
    assert part in error


@pytest.mark.parametrize(
    ("addition", "part"),
    [
        ("gpu_memory_utilization = nan", "allowed: a finite number"),
        ("gpu_memory_utilization = 1.5", "allowed: a number, more than 0 and at most 1"),
        ("max_num_seqs = true", "allowed: a whole number"),
        ("enforce_eager = 1", "allowed: true or false"),
        ("max_num_seqs = 99999999999999999999", "at most 64 bits"),
        ('quantization = "a\\u0000b"', "control characters"),
        ("speculative_config = 3", "allowed: a table"),
        ("max-num-seqs = 3", "nearest known key: serve.max_num_seqs"),
        ("weights_gb = 3", "nearest known key: model.weights_gb"),
        ("foo_bar_baz = 3", "another vLLM flag goes under [serve.extra]"),
        ('dtype = "fp8"', "leave dtype out"),
        ('dtype = "int3"', "allowed: auto, bfloat16"),
        ('kv_cache_dtype = "fp8_e5m2"', 'write "fp8"'),
        ('kv_cache_dtype = "bfloat16"', "no other layout"),
        ("extra = { when = 1979-05-27 }", "put a date in quotes"),
        ("data_parallel_size = 2", "is 8, hardware.count is 4"),
        ("[engine]\nvllm = '0.33'", "such as ==0.33.*"),
        ("[engine]\nvllm = 'new'", "such as >=0.25,<0.34"),
        ("[engine]\nkind = 'cpu'", "the CPU build uses no GPU"),
        ("[serve.extra]\nmax-num-seqs = 3", "write serve.max_num_seqs"),
        ("[serve.extra]\ntp = 3", "write serve.tensor_parallel_size"),
        ("[serve.extra]\nno_enable_prefix_caching = true", "write serve.enable_prefix_caching"),
        ("[serve.extra]\nserved_model_name = 'x'", "write model.served_name"),
        ("[serve.extra]\nshutdown_timeout = 3", "write supervise.drain_timeout_s"),
        ("[serve.extra]\n'--seed' = 3", "write seed"),
        ("[serve.extra]\nmax_logprobs = 3\nmax-logprobs = 4", "the same flag as serve.extra.max_logprobs"),
        ("[serve.extra]\nlora_modules = []", "at least one value"),
        ("[serve.extra]\nssl_keyfile = 'k'", "plain HTTP"),
        ("[env]\n'A B' = 'x'", "letters, digits and _"),
        ("[supervise]\nhang_timeout_s = 3", "allowed: 0 (off) or 10 and more"),
        ("[supervise]\ncanary_s = 1", "allowed: 0 (off) or 5 and more"),
        ("[supervise]\nidle_warn_s = 1", "allowed: 0 (off) or 5 and more"),
        ("[supervise]\nidle_stop_s = 4", "allowed: 0 (off) or 5 and more"),
        ("[supervise]\nidle_warn_s = 60\nidle_stop_s = 60", "less than supervise.idle_stop_s, which is 60"),
        ("[supervise]\nhang_timeout = 30", "nearest known key: supervise.hang_timeout_s"),
    ],
)
def test_one_mistake_is_one_line(addition: str, part: str) -> None:
    assert part in only_error(addition)


@pytest.mark.parametrize(
    "key", ["[serve.extra]\napi-key", "[serve.extra]\napi-k", "[env]\nHF_TOKEN", "[env]\nVLLM_API_KEY"]
)
def test_a_secret_is_refused_and_never_shown(key: str) -> None:
    error = only_error(f"{key} = 'sk-very-secret'")
    assert "very-secret" not in error
    assert "in the environment of dsv4-console" in error


def test_words_like_tokenizer_are_no_secret() -> None:
    assert errors_of(GOOD + "[env]\nTOKENIZERS_PARALLELISM = 'false'\nVLLM_MAX_TOKENS_PER_EXPERT = '3'") == ()


def test_the_gpu_must_be_named_and_counted() -> None:
    assert "how many H100" in only_error("", GOOD.replace("count = 4", ""))
    assert any("name the GPU" in error for error in errors_of("[profile]\ntitle='a'\n[model]\nid='a/b'"))


def test_v4_on_a100_is_refused_with_the_reason() -> None:
    assert "attention backend" in only_error("", replaced("H100", "A100"))


def test_mtp_on_a_dspark_checkpoint_is_refused() -> None:
    text = replaced("V4-Flash", "V4-Flash-0731") + 'speculative_config = { method = "mtp" }'
    assert 'write "dspark"' in only_error("", text)


def test_idle_gpus_are_a_warning_only() -> None:
    reading = check_profile(replaced("tensor_parallel_size = 4", "tensor_parallel_size = 2"), "x.toml")
    assert reading.profile is not None
    assert [line for line in reading.warnings if "2 idle" in line]


def test_mistakes_with_line_breaks_stay_on_one_line() -> None:
    for error in errors_of('[serve]\n"a\\nb" = "c\\nd"\n[env]\n"x\\u001b[31m" = "1"'):
        assert error.isprintable()


def test_known_keys_hold_every_section() -> None:
    assert "serve.max_num_seqs" in KNOWN_KEYS
    assert "env" in KNOWN_KEYS
    assert len(set(KNOWN_KEYS)) == len(KNOWN_KEYS)


def test_checks_read_known_keys() -> None:
    known = {*KNOWN_KEYS, "env"}
    for check in CHECKS:
        assert check.reads
        assert set(check.reads) <= known


toml_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
keys = st.sampled_from([key.rpartition(".")[2] for key in KNOWN_KEYS]) | st.text(max_size=12)
sections = st.sampled_from([key.partition(".")[0] for key in KNOWN_KEYS]) | st.text(max_size=8)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(sections, st.dictionaries(keys, toml_values, max_size=4) | toml_values, max_size=5))
def test_any_table_is_a_profile_or_a_list_of_single_lines(data: dict[str, object]) -> None:
    reading = profile_from(data, "x.toml")
    assert (reading.profile is None) == bool(reading.errors)
    for error in reading.errors:
        assert "\n" not in error
        assert error.startswith("x.toml: ")


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=200))
def test_any_text_is_a_profile_or_errors(text: str) -> None:
    reading = check_profile(text, "x.toml")
    assert reading.errors or isinstance(reading.profile, Profile)


def test_the_reader_agrees_with_tomllib() -> None:
    assert profile_from(tomllib.loads(GOOD), "x.toml") == check_profile(GOOD, "x.toml")
