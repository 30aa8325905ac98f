"""Finding, reading and writing profile files."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from console.core.errors import ProfileError, StateError
from console.core.models import ProfileChange
from console.core.profile_docs import SCHEMA_FILE, SCHEMA_LINE, profile_schema
from console.io import profiles
from console.io.profiles import PROFILE_BYTES_MAX, Catalogue, Origin, check_file, create_user, discover, load, save_user

GOOD = """# Mine: do not lose this line.
[profile]
title = "A"  # and this one

[model]
id = "a/b"

[hardware]
gpu = "H100"
count = 1

[serve]
# how many
max_num_seqs = 8
"""


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    directory = tmp_path / "shipped"
    directory.mkdir()
    for name in ("alpha", "beta"):
        (directory / f"{name}.toml").write_text(GOOD)
    return directory


@pytest.fixture
def user(tmp_path: Path) -> Path:
    directory = tmp_path / "user"
    directory.mkdir()
    return directory


def names(catalogue: Catalogue) -> list[tuple[str, str]]:
    return [(profile.name, profile.origin.value) for profile in catalogue.profiles]


def test_shipped_profiles_are_found_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    catalogue = discover()
    assert "cpu-smoke" in [profile.name for profile in catalogue.profiles]
    assert catalogue.problems == ()


def test_the_users_profile_takes_the_place_of_the_shipped_one(shipped: Path, user: Path) -> None:
    (user / "beta.toml").write_text(GOOD.replace('"A"', '"Mine"'))
    (user / "gamma.toml").write_text(GOOD)
    catalogue = discover(shipped, user)
    assert names(catalogue) == [("alpha", "shipped"), ("beta", "user (replaces shipped)"), ("gamma", "user")]
    assert catalogue.profiles[1].profile.profile.title == "Mine"


def test_broken_files_never_hide_good_ones(shipped: Path, user: Path) -> None:
    (user / "keys.toml").write_text(GOOD.replace("max_num_seqs", "max_num_seq"))
    (user / "syntax.toml").write_text("a = = 1")
    (user / "latin.toml").write_bytes(b"# \xe4\n")
    (user / "huge.toml").write_bytes(b"#" * (PROFILE_BYTES_MAX + 1))
    (user / "folder.toml").mkdir()
    (user / "lost.toml").symlink_to(user / "nowhere")
    (user / "loop.toml").symlink_to(user / "loop.toml")
    os.mkfifo(user / "pipe.toml")
    (user / ".hidden.toml").write_text("broken")
    (user / "note.txt").write_text("broken")
    catalogue = discover(shipped, user)
    assert [name for name, _ in names(catalogue)] == ["alpha", "beta"]
    problems = {problem.name: problem.errors for problem in catalogue.problems}
    assert set(problems) == {"keys", "syntax", "latin", "huge", "folder", "lost", "loop", "pipe"}
    assert "nearest known key: serve.max_num_seqs" in problems["keys"][0]
    assert "not UTF-8 text: byte 2 is 0xe4" in problems["latin"][0]
    assert "256 KiB" in problems["huge"][0]
    assert "not a regular file" in problems["pipe"][0]
    assert "No such file" in problems["lost"][0]
    assert all(str(user) in errors[0] for errors in problems.values())


def test_a_broken_profile_of_the_user_leaves_the_shipped_one_in_sight(shipped: Path, user: Path) -> None:
    (user / "beta.toml").write_text("broken")
    catalogue = discover(shipped, user)
    assert names(catalogue) == [("alpha", "shipped"), ("beta", "shipped")]
    assert [problem.name for problem in catalogue.problems] == ["beta"]


def test_a_broken_profile_of_the_user_is_never_launched_as_the_shipped_one(shipped: Path, user: Path) -> None:
    (user / "beta.toml").write_text("broken")
    with pytest.raises(ProfileError, match="not valid TOML"):
        load("beta", shipped, user)


def test_missing_or_unreadable_directories(shipped: Path, tmp_path: Path) -> None:
    assert len(discover(shipped, tmp_path / "none").profiles) == 2
    file = tmp_path / "file"
    file.write_text("")
    catalogue = discover(shipped, file)
    assert len(catalogue.profiles) == 2
    assert "cannot be read" in catalogue.problems[0].errors[0]


def test_too_many_files_are_said_to_be_too_many(shipped: Path, user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "PROFILES_MAX", 1)
    catalogue = discover(shipped, user)
    assert len(catalogue.profiles) == 1
    assert "only the first 1" in catalogue.problems[0].errors[0]


def test_windows_line_ends_and_a_mark_at_the_start_are_read(user: Path) -> None:
    path = user / "a.toml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert check_file(path).errors == ()


def test_load_names_the_nearest(shipped: Path, user: Path) -> None:
    assert load("alpha", shipped, user).name == "alpha"
    with pytest.raises(ProfileError) as caught:
        load("alpa", shipped, user)
    assert caught.value.message == "Nearest: alpha"
    with pytest.raises(ProfileError, match="There are: alpha, beta"):
        load("xyz", shipped, user)


def test_load_takes_a_path(shipped: Path, user: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    assert load(str(path), shipped, user).name == "mine"
    with pytest.raises(ProfileError, match="No such file"):
        load(str(tmp_path / "other.toml"), shipped, user)


def test_saving_keeps_comments_and_order(shipped: Path, user: Path) -> None:
    change = ProfileChange(key="serve.max_num_seqs", before=8, after=16)
    path = save_user("alpha", [change], shipped, user)
    assert path.read_text() == GOOD.replace("max_num_seqs = 8", "max_num_seqs = 16")
    assert (shipped / "alpha.toml").read_text() == GOOD
    assert load("alpha", shipped, user).origin is Origin.REPLACES
    assert [entry.name for entry in user.iterdir()] == ["alpha.toml"]
    assert stat.S_IMODE(user.stat().st_mode) == 0o700


def test_saving_again_edits_the_users_own(shipped: Path, user: Path) -> None:
    save_user("alpha", [ProfileChange(key="env.A", after="1")], shipped, user)
    save_user("alpha", [ProfileChange(key="serve.extra.seed", after=3)], shipped, user)
    save_user("alpha", [ProfileChange(key="serve.max_num_seqs", after=None)], shipped, user)
    save_user("alpha", [ProfileChange(key="supervise.restart", after=None)], shipped, user)
    profile = load("alpha", shipped, user).profile
    assert profile.env == {"A": "1"}
    assert profile.serve.extra == {"seed": 3}
    assert profile.serve.max_num_seqs is None


def test_a_flag_with_a_dotted_name_stays_one_key(shipped: Path, user: Path) -> None:
    save_user("alpha", [ProfileChange(key="serve.extra.attention_config.indexer", after="x")], shipped, user)
    assert load("alpha", shipped, user).profile.serve.extra == {"attention_config.indexer": "x"}


def test_a_change_that_would_break_the_profile_is_not_written(shipped: Path, user: Path) -> None:
    before = save_user("alpha", [], shipped, user).read_bytes()
    for change in (
        ProfileChange(key="serve.max_num_seqs", after="many"),
        ProfileChange(key="serve.nothing", after=1),
        ProfileChange(key="profile.title.x", after=1),
    ):
        with pytest.raises(ProfileError):
            save_user("alpha", [change], shipped, user)
    assert (user / "alpha.toml").read_bytes() == before


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "x" * 200, "a\nb"])
def test_names_that_lead_elsewhere_are_refused(name: str, shipped: Path, user: Path) -> None:
    with pytest.raises(ProfileError):
        save_user(name, [], shipped, user)


def test_a_broken_users_file_is_not_overwritten(shipped: Path, user: Path) -> None:
    (user / "alpha.toml").write_text("a = = 1")
    with pytest.raises(ProfileError, match="Cannot use the profile"):
        save_user("alpha", [ProfileChange(key="serve.max_num_seqs", after=1)], shipped, user)
    assert (user / "alpha.toml").read_text() == "a = = 1"


def test_a_full_disk_leaves_the_old_file(shipped: Path, user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_user("alpha", [], shipped, user)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(profiles.os, "fsync", full)
    with pytest.raises(StateError, match="No space left"):
        save_user("alpha", [ProfileChange(key="serve.max_num_seqs", after=1)], shipped, user)
    assert path.read_bytes() == before
    assert [entry.name for entry in user.iterdir()] == ["alpha.toml"]


def test_a_new_profile_is_its_source_with_the_changes(shipped: Path, user: Path) -> None:
    change = ProfileChange(key="serve.max_num_seqs", before=8, after=16)
    path = create_user("mine", "alpha", [change], shipped, user)
    text = path.read_text()
    assert text == f"{SCHEMA_LINE}\n" + GOOD.replace("max_num_seqs = 8", "max_num_seqs = 16")
    assert json.loads((user / SCHEMA_FILE).read_text()) == profile_schema()
    assert [entry.name for entry in discover(shipped, user).profiles] == ["alpha", "beta", "mine"]
    save_user("mine", [change], shipped, user)
    assert path.read_text() == text, "the first line is not written twice"


@pytest.mark.parametrize("name", ["alpha", "mine"])
def test_a_name_that_is_taken_is_refused(name: str, shipped: Path, user: Path) -> None:
    (user / "mine.toml").write_text("a = = 1")
    with pytest.raises(ProfileError, match="already"):
        create_user(name, "beta", (), shipped, user)
    assert (user / "mine.toml").read_text() == "a = = 1"
    assert not (user / "alpha.toml").exists()


def test_a_new_profile_must_have_a_source_and_be_right(shipped: Path, user: Path, tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="No profile is called"):
        create_user("mine", "gamma", (), shipped, user)
    with pytest.raises(ProfileError, match="max_num_seqs"):
        create_user("mine", "alpha", [ProfileChange(key="serve.max_num_seqs", after=0)], shipped, user)
    with pytest.raises(ProfileError, match="cannot be the name"):
        create_user("../mine", "alpha", (), shipped, user)
    assert list(user.iterdir()) == []
