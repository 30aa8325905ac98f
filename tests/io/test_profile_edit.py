"""The file behind an edited profile: what is written, what is kept, and what is never overwritten."""

from __future__ import annotations

import random
import stat
import tomllib
from pathlib import Path

import pytest

from console.core.errors import ConflictError, ProfileError
from console.core.profile_form import flat, open_draft
from console.core.profile_read import check_profile
from console.io.paths import shipped_profiles_dir
from console.io.profile_edit import keep_command, keep_edit, kept_edit, read_source, write_edited
from tests.core.test_profile_form import KEYS, VALUES

SHIPPED = sorted(shipped_profiles_dir().glob("*.toml"))
GOOD = """#:schema ./profile.schema.json
# Mine: do not lose this line.
[profile]
title = "A"  # and this one

[model]
id = "a/b"

[hardware]
gpu = "H100"
count = 1

[serve]
# how many
max_num_seqs = 8  # at once
# the end of it

[serve.extra]
# a flag
moe_backend = "x"

[engine]
kind = "cuda"

[serve.extra2]
"""
GOOD = GOOD.partition("[serve.extra2]")[0]


@pytest.fixture
def user(tmp_path: Path) -> Path:
    return tmp_path / "user"


def save(user: Path, text: str, **changes: object) -> str:
    draft = open_draft(text, "x")
    for key, value in changes.items():
        draft = draft.put(key.replace("__", "."), value)
    path = write_edited("mine", text, draft.changes, expected=None, user=user)
    return path.read_text()


def comments(text: str) -> list[str]:
    return [line[line.index("#") :] for line in text.splitlines() if "#" in line]


def test_comments_and_order_stay(user: Path) -> None:
    text = save(user, GOOD, serve__max_num_seqs=16, serve__port=9000, env__A="1", serve__extra__max_log_len=3)
    assert comments(text) == comments(GOOD)
    assert "max_num_seqs = 16  # at once" in text
    assert text.index("port = 9000") < text.index("[serve.extra]") < text.index("max_log_len = 3")
    assert (user / "profile.schema.json").exists()
    assert stat.S_IMODE((user / "mine.toml").stat().st_mode) == 0o600


def test_what_is_taken_out_takes_only_its_own_line(user: Path) -> None:
    text = save(user, GOOD, serve__max_num_seqs=None)
    assert "max_num_seqs" not in text
    assert "# how many" in text
    assert "# the end of it" in text


@pytest.mark.parametrize("seed", range(60))
def test_what_is_written_is_what_was_edited(seed: int, user: Path) -> None:
    pick = random.Random(seed)
    text = SHIPPED[seed % len(SHIPPED)].read_text()
    draft = open_draft(text, "x")
    for _ in range(pick.randrange(1, 12)):
        draft = draft.put(pick.choice((*KEYS, *flat(draft.data))), pick.choice((None, *VALUES)))
    path = write_edited("mine", text, draft.changes, expected=None, mistakes=True, user=user)
    assert flat(tomllib.loads(path.read_text())) == flat(draft.data)
    assert check_profile(path.read_text(), "x").profile == draft.read("x").profile
    kept = [line for line in text.splitlines() if line.startswith("#")]
    assert [line for line in path.read_text().splitlines() if line in kept] == kept


@pytest.mark.parametrize(
    "text",
    [
        'profile.title = "A"\nmodel.id = "a/b"\nengine.kind = "cpu"\nserve.max_num_seqs = 8\n',
        'profile = { title = "A" }\nmodel = { id = "a/b" }\nengine = { kind = "cpu" }\n',
        '[serve.extra]\na = 1\n[profile]\ntitle = "A"\n[model]\nid = "a/b"\n[engine]\nkind = "cpu"\n[serve]\n',
        '[serve]\nport = 1\n[profile]\ntitle = "A"\n[serve.extra]\na = 1\n[model]\nid = "a/b"\n[engine]\nkind = "cpu"',
    ],
    ids=["dotted", "inline", "children-first", "in-two-places"],
)
def test_every_way_to_write_a_table_can_be_edited(text: str, user: Path) -> None:
    draft = open_draft(text, "x")
    for key, value in (("serve.port", 9000), ("serve.extra.b", "2"), ("serve.max_num_seqs", 4), ("env.X", "y")):
        draft = draft.put(key, value)
    path = write_edited("mine", text, draft.changes, expected=None, user=user)
    assert flat(tomllib.loads(path.read_text())) == flat(draft.data)


def test_a_shipped_profile_is_read_and_never_written_to(user: Path, tmp_path: Path) -> None:
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    (shipped / "alpha.toml").write_text(GOOD)
    source = read_source("alpha", shipped, user)
    assert (source.own, source.text, source.shipped) == (False, GOOD, GOOD)
    draft = open_draft(source.text, "x").put("serve.max_num_seqs", 16)
    write_edited("alpha", source.text, draft.changes, expected=None, user=user)
    assert (shipped / "alpha.toml").read_text() == GOOD
    source = read_source("alpha", shipped, user)
    assert (source.own, source.shipped) == (True, GOOD)
    assert "max_num_seqs = 16" in source.text


def test_a_file_that_was_changed_meanwhile_is_not_overwritten(user: Path) -> None:
    before = save(user, GOOD)
    draft = open_draft(before, "x").put("serve.max_num_seqs", 16)
    path = user / "mine.toml"
    for now, word in ((before + "# a colleague\n", "was changed"), (None, "is gone")):
        path.unlink() if now is None else path.write_text(now)
        with pytest.raises(ConflictError, match=word):
            write_edited("mine", before, draft.changes, expected=before, user=user)
        assert (path.read_text() if path.exists() else None) == now
    path.write_text(before)
    with pytest.raises(ConflictError, match="is there now"):
        write_edited("mine", before, draft.changes, expected=None, user=user)
    assert path.read_text() == before


def test_mistakes_are_written_only_where_it_was_agreed(user: Path) -> None:
    draft = open_draft(GOOD, "x").put("serve.max_num_seqs", "many")
    with pytest.raises(ProfileError, match="Cannot use"):
        write_edited("mine", GOOD, draft.changes, expected=None, user=user)
    assert not user.exists()
    path = write_edited("mine", GOOD, draft.changes, expected=None, mistakes=True, user=user)
    assert 'max_num_seqs = "many"  # at once' in path.read_text()
    assert read_source("mine", user=user).own


def test_a_link_stays_a_link(user: Path, tmp_path: Path) -> None:
    user.mkdir()
    real = tmp_path / "dotfiles.toml"
    real.write_text(GOOD)
    (user / "mine.toml").symlink_to(real)
    draft = open_draft(GOOD, "x").put("serve.max_num_seqs", 16)
    write_edited("mine", GOOD, draft.changes, expected=GOOD, user=user)
    assert (user / "mine.toml").is_symlink()
    assert "max_num_seqs = 16" in real.read_text()


def test_names_and_files_that_cannot_be(user: Path) -> None:
    for name in ("../x", "", ".x"):
        with pytest.raises(ProfileError, match="name of a profile"):
            write_edited(name, GOOD, (), expected=None, user=user)
    with pytest.raises(ProfileError, match="cannot be read"):
        read_source("nobody", user, user)


def test_a_command_is_kept_in_a_private_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    path = keep_command("mine", "vllm serve x")
    assert path.read_text() == "vllm serve x\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert keep_command("../../x", "y").parent == path.parent


def test_an_edit_that_is_not_saved_is_kept_without_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    draft = open_draft(GOOD, "x")
    for key, value in zip(KEYS, VALUES, strict=False):
        draft = draft.put(key, value)
    draft = draft.put("hardware.count", None).put("env.HF_TOKEN", "hf_secret")
    keep_edit("mine", draft.changes)
    (path,) = (tmp_path / "dsv4-console" / "edits").iterdir()
    assert "hf_secret" not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = open_draft(GOOD, "x")
    for change in kept_edit("mine"):
        again = again.put(change.key, change.after)
    assert again.data == draft.put("env.HF_TOKEN", None).data
    keep_edit("mine", ())
    assert kept_edit("mine") == ()
    assert not path.exists()


@pytest.mark.parametrize(
    "text", ["", "[", '{"a": 1}', '{"serve.port": "["}', "\x00", '{"serve.port": "1\\nvalue = 2"}']
)
def test_a_kept_edit_that_is_damaged_is_none(text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    folder = tmp_path / "dsv4-console" / "edits"
    folder.mkdir(parents=True)
    (folder / "mine.json").write_text(text)
    assert kept_edit("mine") == ()
