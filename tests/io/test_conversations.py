"""Conversations on disk, attached files, the prompt library."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from console.core.chat_conversation import Begun, Ended, Grown, Said, Turn
from console.core.chat_prompts import SHIPPED
from console.core.errors import StateError, UsageError
from console.io import chatfiles, conversations


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("STATE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))


def begin(run_id: str = "run", text: str = "hi") -> str:
    name = conversations.begin(Begun(run_id=run_id, model="m", time_s=1_795_000_000.0))
    conversations.add(name, [Said(turn=Turn(role="user", content=text))])
    return name


def test_kept_listed_found_and_removed() -> None:
    first, second = begin(text="one"), begin("other", "two")
    assert first != second
    os.utime(conversations.path_for(second), (1, 1))
    assert [each.id for each in conversations.listed()] == [first, second]
    found = conversations.latest("other")
    assert found is not None
    assert (found.id, found.title) == (second, "two")
    assert conversations.latest("nobody") is None
    assert conversations.path_for(first).stat().st_mode & 0o777 == 0o600
    conversations.remove(first)
    assert conversations.read(first) is None


def test_a_torn_line_costs_itself_alone() -> None:
    name = begin()
    with conversations.path_for(name).open("ab") as file:
        file.write(b'{"kind": "grown", "text": "x')
    conversations.add(name, [Said(turn=Turn(role="assistant")), Grown(text="yes"), Ended(turn=Turn(role="assistant"))])
    found = conversations.read(name)
    assert found is not None
    assert [turn.content for turn in found.turns] == ["hi", "yes"]


def test_a_file_that_is_gone_is_not_made_again() -> None:
    name = begin()
    conversations.remove(name)
    with pytest.raises(FileNotFoundError):
        conversations.add(name, [Grown(text="x")])


def test_a_full_file_says_so_and_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    name = begin()
    monkeypatch.setattr(conversations, "FILE_BYTES_MAX", conversations.path_for(name).stat().st_size + 40)
    with pytest.raises(OSError, match="begin a new one"):
        conversations.add(name, [Grown(text="x" * 100)])
    found = conversations.read(name)
    assert found is not None
    assert [turn.content for turn in found.turns] == ["hi"]


def test_export_overwrites_nothing() -> None:
    found = conversations.read(begin(text="What? A title / with ../signs"))
    assert found is not None
    path = conversations.export_path(found)
    assert path.name == f"{found.id}-what-a-title-with-signs.md"
    assert conversations.export(found, path) == path
    assert "# What? A title / with ../signs" in path.read_text(encoding="utf-8")
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        conversations.export(found, path)


def test_attach(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x\ty\n", encoding="utf-8")
    assert chatfiles.attach(f" {tmp_path}/a.py ").text == "x\ty\n"
    (tmp_path / "big").write_bytes(b"x" * (chatfiles.ATTACH_BYTES_MAX + 1))
    (tmp_path / "zero").write_bytes(b"a\0b")
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    os.mkfifo(tmp_path / "pipe")
    for name, words in (("big", "larger than 1024 KiB"), ("zero", "zero byte at 1"), ("latin", "byte 3 is no UTF-8"),
                        ("pipe", "no regular file"), ("none", "No such file"), (".", "irectory"),
                        ("a\0b", "null")):  # fmt: skip
        with pytest.raises(UsageError) as error:
            chatfiles.attach(f"{tmp_path}/{name}")
        assert words in error.value.message


def test_prompts() -> None:
    assert chatfiles.prompts() == SHIPPED
    path = chatfiles.prompts_path()
    path.parent.mkdir(parents=True)
    path.write_text('"My own" = """\nfirst\nsecond\n"""\n', encoding="utf-8")
    mine = chatfiles.prompts()[0]
    assert (mine.title, mine.text, mine.own) == ("My own", "first\nsecond", True)
    for wrong in ("x = 1", "not toml"):
        path.write_text(wrong, encoding="utf-8")
        with pytest.raises(StateError, match="prompts"):
            chatfiles.prompts()


def test_copies_are_private() -> None:
    path = chatfiles.keep_copy("code-1.py", "x\n")
    assert path.read_text(encoding="utf-8") == "x\n"
    assert path.stat().st_mode & 0o777 == 0o600
