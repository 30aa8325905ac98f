from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from console.core.errors import StateError, UsageError
from console.io import tinymodel


@pytest.fixture(autouse=True)
def _own_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def vocabulary(directory: Path) -> dict[str, int]:
    return json.loads((directory / "tokenizer.json").read_text())["model"]["vocab"]


@pytest.mark.parametrize("shape", tinymodel.SHAPES)
def test_every_shape_is_small_and_consistent(tmp_path: Path, shape: str) -> None:
    made = tinymodel.make_model(tmp_path / "m", shape)
    config = json.loads((made / "config.json").read_text())
    tokens = vocabulary(made)
    assert sum(path.stat().st_size for path in made.iterdir()) < 100_000
    assert sorted(tokens.values()) == list(range(config["vocab_size"]))
    generation = json.loads((made / "generation_config.json").read_text())
    assert config["eos_token_id"] in generation["eos_token_id"]
    assert all(0 <= number < config["vocab_size"] for number in generation["eos_token_id"])
    tokenizer = json.loads((made / "tokenizer.json").read_text())
    specials = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    named = json.loads((made / "tokenizer_config.json").read_text())
    assert specials[named["bos_token"]] == config["bos_token_id"]
    assert specials[named["eos_token"]] == config["eos_token_id"]
    assert tokenizer["model"]["unk_token"] in specials
    assert all(tokens[text] == number for text, number in specials.items())


def test_most_tokens_are_words_and_none_is_a_control_code(tmp_path: Path) -> None:
    tokens = [text for text in vocabulary(tinymodel.make_model(tmp_path / "m")) if text not in tinymodel.SPECIALS]
    # In byte-level BPE Ġ is the space and Ċ the line feed.
    texts = [text.replace("Ġ", " ").replace("Ċ", "\n") for text in tokens]
    assert all(text == "\n" or (text.isascii() and text.isprintable()) for text in texts)
    assert {chr(byte) for byte in range(ord(" "), 127)} <= set(texts)
    assert sum(len(text) > 1 and text[1:].isalpha() for text in texts) > 0.75 * len(texts)


def test_the_same_bytes_every_time_and_untouched_when_there(tmp_path: Path) -> None:
    first, second = tinymodel.make_model(tmp_path / "a"), tinymodel.make_model(tmp_path / "b")
    assert {p.name: p.read_bytes() for p in first.iterdir()} == {p.name: p.read_bytes() for p in second.iterdir()}
    before = {path.name: path.stat().st_mtime_ns for path in first.iterdir()}
    tinymodel.make_model(first)
    assert {path.name: path.stat().st_mtime_ns for path in first.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_damaged_file_is_made_again_and_other_files_stay(tmp_path: Path) -> None:
    made = tinymodel.make_model(tmp_path / "m")
    whole = (made / "tokenizer.json").read_text()
    (made / "tokenizer.json").write_bytes(b"\xff{")
    (made / "config.json").unlink()
    (made / "notes.txt").write_text("mine")
    tinymodel.make_model(made)
    assert (made / "tokenizer.json").read_text() == whole
    assert (made / "config.json").is_file()
    assert (made / "notes.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, text: str, encoding: str) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        tinymodel.make_model(tmp_path / "m")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StateError, match="No space"):
        tinymodel.resolve_model("generated:tiny-llama")


def test_resolve_makes_generated_models_and_leaves_others_alone(tmp_path: Path) -> None:
    resolved = Path(tinymodel.resolve_model("generated:tiny-llama"))
    assert resolved == tmp_path / "data" / "dsv4-console" / "models" / "tiny-llama"
    assert (resolved / "config.json").is_file()
    assert tinymodel.resolve_model("org/model") == "org/model"
    assert tinymodel.resolve_model("/some/where") == "/some/where"


@pytest.mark.parametrize("name", ["tiny-nothing", "", "../x"])
def test_an_unknown_generated_model_names_the_known_ones(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        tinymodel.resolve_model(f"generated:{name}")
    assert "generated:tiny-llama" in caught.value.fix
    assert list(tmp_path.iterdir()) == []


def test_by_hand(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "console.io.tinymodel"]
    done = subprocess.run([*command, str(tmp_path / "m")], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path / "m")
    assert (tmp_path / "m" / "tokenizer.json").is_file()
    assert subprocess.run([*command, "--help"], capture_output=True, check=False).returncode != 0
