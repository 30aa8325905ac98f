"""Settings from the command line, and differences between profiles."""

from __future__ import annotations

from typing import Any

import pytest

from console.core.errors import ProfileError
from console.core.models import ProfileChange
from console.core.overrides import apply_changes, apply_overrides, diff, parse_value
from console.core.profile_read import read_profile

BASE = read_profile(
    """
    [profile]
    title = "A"
    [hardware]
    gpu = "H100"
    count = 1
    [model]
    id = "a/b"
    [serve]
    max_num_seqs = 8
    enforce_eager = true
    [serve.extra]
    seed = 1
    [env]
    A = "1"
    """,
    "base",
)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("serve.max_num_seqs", "64", 64),
        ("serve.max_model_len", "32k", "32k"),
        ("serve.max_model_len", "32768", 32768),
        ("serve.enforce_eager", "false", False),
        ("serve.gpu_memory_utilization", "0.5", 0.5),
        ("serve.speculative_config", '{method = "mtp"}', {"method": "mtp"}),
        ("serve.extra.max_logprobs", "5", 5),
        ("serve.extra.lora_modules", '["a", "b"]', ["a", "b"]),
        ("env.A", "2", "2"),
        ("env.A", "true", "true"),
        ("engine.vllm", ">=0.30", ">=0.30"),
        ("model.served_name", "123", "123"),
        ("model.served_name", '"quoted"', "quoted"),
        ("profile.title", "1\nb = 2", "1\nb = 2"),
    ],
)
def test_values_are_literals_where_the_key_takes_one(key: str, text: str, value: Any) -> None:
    assert parse_value(key, text) == value


def test_overrides_change_what_they_name_and_nothing_else() -> None:
    changed = apply_overrides(BASE, {"serve.max_num_seqs": "64", "env.B": "x", "serve.extra.attention_config.k": "v"})
    assert {change.key for change in diff(BASE, changed)} == {
        "serve.max_num_seqs",
        "env.B",
        "serve.extra.attention_config.k",
    }
    assert changed.serve.extra["attention_config.k"] == "v"
    assert BASE.serve.max_num_seqs == 8


@pytest.mark.parametrize("nothing", ["", None])
def test_an_empty_value_leaves_the_choice_to_vllm(nothing: str | None) -> None:
    changed = apply_overrides(BASE, {"serve.max_num_seqs": nothing, "serve.extra.seed": nothing})
    assert changed.serve.max_num_seqs is None
    assert changed.serve.extra == {}


def test_wrong_overrides_are_reported_together() -> None:
    with pytest.raises(ProfileError) as caught:
        apply_overrides(BASE, {"serve.max_num_seq": "64", "": "1", "serve.port.x": "3", "serve.dtype": "fp8"})
    message = caught.value.message
    assert "nearest known key: serve.max_num_seqs" in message
    assert "serve.port" in message
    assert "leave dtype out" in message
    assert "TABLE.KEY=VALUE" in message


def test_a_key_inside_a_value_is_an_error() -> None:
    with pytest.raises(ProfileError, match="max_num_seqs is not a table"):
        apply_overrides(BASE, {"serve.max_num_seqs.x": "1"})


def test_changes_of_a_hint_can_be_made_and_taken_back() -> None:
    change = ProfileChange(key="serve.max_num_seqs", before=8, after=16)
    changed = apply_changes(BASE, (change,))
    assert diff(BASE, changed) == (change,)
    assert apply_changes(changed, (ProfileChange(key=change.key, before=16, after=8),)) == BASE


def test_no_override_is_the_same_profile() -> None:
    assert apply_overrides(BASE, {}) is BASE
    assert diff(BASE, BASE) == ()
