"""A profile as a form: its rows, its edits, and what a written line means."""

from __future__ import annotations

import random
import tomllib
from pathlib import Path
from typing import Any

import pytest

from console.core.errors import ProfileError
from console.core.models import ProfileChange
from console.core.profile_form import (
    ENV,
    EXTRA,
    Draft,
    edit_text,
    flat,
    form_rows,
    found_in,
    literal,
    open_draft,
    path_of,
    read_text,
    section_about,
    value_text,
)
from console.core.profile_read import KNOWN_KEYS, SECTIONS
from console.core.profile_source import name_problem
from console.io.paths import shipped_profiles_dir

SHIPPED = sorted(shipped_profiles_dir().glob("*.toml"))
GOOD = """
[profile]
title = "A"
[model]
id = "a/b"
[hardware]
gpu = "H100"
count = 1
[serve]
max_num_seqs = 8
[serve.extra]
"attention_config.indexer_kv_dtype" = "mxfp4"
[env]
A = "1"
"""
VALUES: tuple[Any, ...] = (
    0, 1, -7, 1.0, 0.92, True, False, "", "32k", "a b", 'with "quotes"', "two\nlines", "\\n", "[1, 2]", "true", "7",
    "#", "é ☃", "\x9b2J\x7f\u202e\x1b",
    ["a", "b"], [1, [2]], [], {"method": "mtp", "n": 1}, {"odd key.": {"x": ["y"]}}, {},
)  # fmt: skip
KEYS = (
    "serve.max_num_seqs", "serve.max_model_len", "serve.trust_remote_code", "serve.speculative_config", "model.id",
    "profile.title", "profile.sources", "profile.evidence", "supervise.drain_timeout_s", "serve.extra.moe_backend",
    "serve.extra.attention_config.indexer_kv_dtype", "env.A", "env.VLLM_X", "cost.usd_per_hour", "engine.kind",
)  # fmt: skip


def row(key: str, data: Any = None) -> Any:
    return next(each for each in form_rows(data or {}) if each.key == key)


def test_there_is_a_row_for_every_key_that_a_profile_may_have() -> None:
    rows = form_rows({})
    assert {each.key for each in rows} | {EXTRA, ENV} == set(KNOWN_KEYS)
    assert all(each.help and each.allowed and each.known for each in rows)
    assert all(section_about(section) for section in (*SECTIONS, EXTRA, ""))
    assert [each.key for each in rows if each.required] == ["profile.title", "model.id"]


def test_a_row_tells_bounds_default_flag_and_choices() -> None:
    port = row("serve.port")
    assert (port.allowed, port.default, port.flag) == ("a whole number, at least 1 and at most 65535", 8000, "--port")
    assert row("serve.trust_remote_code").choices == (True, False)
    assert row("engine.kind").choices == ("cuda", "cpu", "rocm")
    assert "bfloat16" in row("serve.dtype").choices
    assert row("serve.dtype").allowed.startswith("one of auto, bfloat16")
    assert row("serve.max_num_seqs").choices == ()
    assert found_in(port, "listen PORT")
    assert not found_in(port, "listen nowhere")


def test_rows_of_ones_own_stand_in_their_tables() -> None:
    rows = form_rows(open_draft(GOOD, "x").data)
    keys = [each.key for each in rows]
    flag = "serve.extra.attention_config.indexer_kv_dtype"
    assert keys.index("serve.compilation_config") < keys.index(flag) < keys.index("env.A") < keys.index("engine.kind")
    assert row(flag, open_draft(GOOD, "x").data).flag == "--attention-config.indexer_kv_dtype"
    assert path_of(flag) == ("serve", "extra", "attention_config.indexer_kv_dtype")
    assert len(set(keys)) == len(keys)


def test_what_is_no_key_has_a_row_too_so_that_it_can_be_taken_out() -> None:
    draft = open_draft(GOOD.replace("max_num_seqs", "max_num_seq") + "[sreve]\nx = 1\n", "x")
    strangers = [each.key for each in form_rows(draft.data) if not each.known]
    assert strangers == ["serve.max_num_seq", "sreve"]
    reading = draft.read("x")
    assert reading.profile is None
    assert [mistake.key for mistake in reading.mistakes] == strangers
    assert draft.put("serve.max_num_seq", None).put("sreve", None).read("x").profile is not None


def test_a_file_that_is_no_toml_is_refused_with_its_place() -> None:
    with pytest.raises(ProfileError, match="edited as a form") as caught:
        open_draft("[serve\n", "mine.toml")
    assert "line 1" in caught.value.message


@pytest.mark.parametrize("seed", range(40))
def test_any_edits_taken_back_are_the_original_and_made_again_are_the_edits(seed: int) -> None:
    pick = random.Random(seed)
    draft = begin = open_draft(SHIPPED[seed % len(SHIPPED)].read_text(), "x")
    for _ in range(pick.randrange(1, 30)):
        keys = (*KEYS, *flat(draft.data))
        draft = draft.put(pick.choice(keys), pick.choice((None, *VALUES)))
    last, count = draft, len(draft.done)
    for _ in range(count):
        draft = draft.undo()
    assert draft.data == begin.data
    assert not draft.changes
    assert draft.undo() is draft
    for _ in range(count):
        draft = draft.redo()
    assert draft.data == last.data
    assert draft.changes == last.changes
    assert draft.redo() is draft


def test_an_edit_forgets_what_was_taken_back_and_the_same_value_is_no_edit() -> None:
    draft = open_draft(GOOD, "x").put("serve.max_num_seqs", 16).undo()
    assert draft.put("serve.max_num_seqs", 8) is draft
    assert draft.put("serve.max_num_seqs", None).redo().data["serve"].get("max_num_seqs") is None
    for other in (8.0, True):
        assert draft.put("serve.max_num_seqs", other).changes, "written differently, so another value"


def test_edits_that_cancel_out_are_no_difference() -> None:
    draft = open_draft(GOOD, "x").put("env.B", "1").put("serve.max_num_seqs", 16).put("env.B", None)
    assert draft.changes == (ProfileChange(key="serve.max_num_seqs", before=8, after=16),)
    assert draft.put("serve.max_num_seqs", 8).changes == ()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_value_can_be_edited_without_changing_it(path: Path) -> None:
    for key, value in flat(tomllib.loads(path.read_text())).items():
        assert repr(read_text(key, edit_text(key, value))) == repr(value)


TAKE_TEXT = ("serve.max_model_len", "model.id", "profile.title", "env.A", "env.VLLM_X")


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_survives_being_opened_and_taken_unchanged(key: str, value: Any) -> None:
    written = edit_text(key, value)
    if key in TAKE_TEXT and not isinstance(value, str):
        assert key == "serve.max_model_len" or read_text(key, written) == written, "it becomes text, as it should be"
        return
    assert "\n" not in written
    assert repr(read_text(key, written)) == repr(value)
    assert repr(tomllib.loads(f"x = {literal(value)}")["x"]) == repr(value)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("serve.max_num_seqs", " 64 ", 64),
        ("serve.max_model_len", "32k", "32k"),
        ("serve.max_num_seqs", "many", "many"),
        ("model.id", "a/b", "a/b"),
        ("model.id", "7", "7"),
        ("env.A", "7", "7"),
        ("serve.extra.max_log_len", "7", 7),
        ("profile.sources", "https://a https://b", ["https://a", "https://b"]),
        ("profile.sources", '["https://a"]', ["https://a"]),
        ("serve.speculative_config", '{ method = "mtp" }', {"method": "mtp"}),
        ("serve.max_num_seqs", "  ", None),
    ],
)
def test_what_a_written_line_means(key: str, text: str, value: Any) -> None:
    assert read_text(key, text) == value


def test_secrets_are_never_shown() -> None:
    assert value_text("env.HF_TOKEN", "hf_abcdef") == "•••"
    assert edit_text("env.HF_TOKEN", "hf_abcdef") == ""


def test_a_table_can_take_the_place_of_a_value() -> None:
    draft = Draft(base={"serve": 3}, data={"serve": 3}).put("serve.max_num_seqs", 8)
    assert draft.data == {"serve": {"max_num_seqs": 8}}
    assert [(change.key, change.after) for change in draft.changes] == [("serve", None), ("serve.max_num_seqs", 8)]


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "a b", "-x", "x" * 101])
def test_names_that_are_none(name: str) -> None:
    assert name_problem(name)
    assert not name_problem("my-flash_2.1")
