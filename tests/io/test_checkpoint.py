"""Reading a model directory: its configuration and the headers of its weights."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from console.core.errors import UsageError
from console.io.checkpoint import read_checkpoint
from console.io.tinymodel import make_model


def weights(path: Path, tensors: dict[str, int], *, metadata: bool = True) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}} if metadata else {}
    at = 0
    for name, size in tensors.items():
        header[name] = {"dtype": "U8", "shape": [size], "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)


def test_a_generated_model_has_a_configuration_and_no_weights(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(make_model(tmp_path / "m"))
    assert checkpoint.config["model_type"] == "llama"
    assert checkpoint.size_bytes == 0


def test_all_files_count_and_only_their_headers_are_read(tmp_path: Path) -> None:
    make_model(tmp_path / "m")
    weights(tmp_path / "m" / "model-00001-of-00002.safetensors", {"a": 10**15, "b": 7})
    weights(tmp_path / "m" / "model-00002-of-00002.safetensors", {"c": 3}, metadata=False)
    checkpoint = read_checkpoint(tmp_path / "m")
    assert checkpoint.tensors == {"a": 10**15, "b": 7, "c": 3}
    assert checkpoint.size_bytes == 10**15 + 10


def test_a_directory_without_a_configuration_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no model directory"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("text", [b"", b"{", b"[1]", b"\xff\xfe{"])
def test_a_damaged_configuration_is_named(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "config.json").write_bytes(text)
    with pytest.raises(UsageError, match=r"config\.json"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01\x02",
        struct.pack("<Q", 2**60) + b"{}",
        struct.pack("<Q", 10) + b"{",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 8) + b'{"a": 1}',
        struct.pack("<Q", 30) + b'{"a": {"data_offsets": [9, 2]}}'[:30],
        struct.pack("<Q", 31) + b'{"a": {"data_offsets": [9, 2]}}',
    ],
)
def test_damaged_weights_are_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(UsageError, match=r"model\.safetensors"):
        read_checkpoint(tmp_path)
