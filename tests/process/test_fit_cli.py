"""`dsv4-console profiles fit`: what it prints for a profile, other hardware, a directory, and what it refuses."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from console.cli import main
from console.cli.fit import spread
from console.core.errors import UsageError
from console.core.profile import HardwareSection, ModelSection, Profile, ProfileSection, ServeSection
from console.io.tinymodel import make_model

Capture = pytest.CaptureFixture[str]


def said(capsys: Capture, *arguments: str) -> str:
    assert main(["profiles", "fit", *arguments]) == 0
    return capsys.readouterr().out


def document(capsys: Capture, *arguments: str) -> Any:
    return json.loads(said(capsys, *arguments, "--json"))


def test_the_text_reads_at_eighty_columns(capsys: Capture) -> None:
    out = said(capsys, "4xh200-fp8-v4-flash", "--gpu", "H200")
    assert out.startswith("4xh200-fp8-v4-flash on 4 × H200\n● fits on 4 × H200   KV cache holds 8.7M tokens")
    assert "█ weights 40  ▓ KV 83  ▒ reserve 5.3  ░ free 11  of 140 GiB per GPU" in out
    for context in ("16,384", "32,768", "65,536", "131,072", "1,048,576"):
        assert f"\n{context:>10}" in out
    assert "fp8_ds_mla" in out
    assert max(map(len, out.splitlines())) < 80


def test_the_document_has_every_figure_with_its_derivation(capsys: Capture) -> None:
    found = document(capsys, "4xh200-fp8-v4-flash", "--gpu", "H200")
    for key in ("weights_gib_per_gpu", "kv_bytes_per_token", "kv_tokens", "max_concurrency"):
        assert found[key] > 0, key
    assert found["verdict"] == "fits"
    assert found["hardware"] == "4 × H200"
    text = "\n".join(found["basis"])
    for part in ("memory: 139.6 GiB", "167 GB = 155.5 GiB", "reserve:", "blocks of 1,002,240 bytes", "bytes per token"):
        assert part in text
    assert {row["context"] for row in found["table"]} == {16_384, 32_768, 65_536, 131_072, 1_048_576}


def test_other_hardware_and_another_context(capsys: Capture) -> None:
    narrow = document(capsys, "4xh200-fp8-v4-flash", "--gpu", "h100", "--count", "2", "--context", "128k")
    assert narrow["verdict"] == "does not fit"
    assert narrow["hardware"] == "2 × H100"
    assert narrow["context"] == 131_072
    wide = document(capsys, "4xh200-fp8-v4-flash", "--gpu", "B200", "--count", "8", "--context", "1M")
    assert wide["verdict"] == "fits"
    assert wide["context"] == 1_048_576
    changed = document(capsys, "4xh200-fp8-v4-flash", "--gpu", "H200", "--set", "serve.max_num_batched_tokens=2048")
    assert changed["kv_bytes_per_request"] < wide["kv_bytes_per_request"]


def test_the_cpu_build(capsys: Capture) -> None:
    found = document(capsys, "cpu-smoke")
    assert found["hardware"] == "CPU"
    assert found["kv_tokens"] == 2_097_152
    assert found["max_concurrency"] == 2048


def weights(folder: Path, tensors: dict[str, int]) -> None:
    header, at = {}, 0
    for name, size in tensors.items():
        header[name] = {"dtype": "U8", "shape": [size], "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)


def test_a_directory_is_read_from_its_own_files(tmp_path: Path, capsys: Capture) -> None:
    folder = make_model(tmp_path / "m")
    weights(folder, {"model.layers.0.self_attn.q_proj.weight": 40 * 2**30, "lm_head.weight": 4 * 2**30})
    found = document(capsys, str(folder), "--gpu", "H100", "--count", "2")
    assert found["weights_gib_per_gpu"] == pytest.approx(22.0)
    # Two KV heads over two ranks: 2 × 1 × 32 × 2 bytes in each of two layers.
    assert found["kv_bytes_per_token"] == 256
    assert found["max_context"] == 131_072
    assert found["verdict"] == "fits"


def test_a_directory_without_weights_or_of_another_kind_is_unknown(tmp_path: Path, capsys: Capture) -> None:
    folder = make_model(tmp_path / "m")
    found = document(capsys, str(folder), "--gpu", "H100")
    assert found["verdict"] == "unknown"
    assert found["kv_bytes_per_token"] == 512
    (folder / "config.json").write_text('{"model_type": "mamba"}')
    found = document(capsys, str(folder), "--gpu", "H100")
    assert found["verdict"] == "unknown"
    assert found["table"] == []
    assert any("mamba is not modelled" in line for line in found["basis"])


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["cpu-smok"], "Nearest: cpu-smoke"),
        (["4xh200-fp8-v4-flash", "--gpu", "Z9"], "Known: H100, H200"),
        (["cpu-smoke", "--gpu", "H200"], "runs on the CPU"),
        (["4xh200-fp8-v4-flash", "--count", "0"], "from 1"),
        (["4xh200-fp8-v4-flash", "--context", "many"], "128k"),
        (["8xh100-native-v4-flash", "--count", "3"], "data parallel size 2"),
    ],
)
def test_what_it_refuses(arguments: list[str], part: str, capsys: Capture) -> None:
    assert main(["profiles", "fit", *arguments]) == 2
    assert part in capsys.readouterr().err


def test_a_directory_that_is_no_model(tmp_path: Path, capsys: Capture) -> None:
    assert main(["profiles", "fit", str(tmp_path), "--gpu", "H100"]) == 2
    assert "config.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("before", "count", "after"),
    [
        ((4, None, None), 8, (8, None, None)),
        ((None, 8, None), 4, (None, 4, None)),
        ((4, 2, None), 16, (8, 2, None)),
        ((4, None, 2), 4, (2, None, 2)),
        ((None, None, None), 4, (4, None, None)),
        ((4, 2, None), 8, (4, 2, None)),
    ],
)
def test_another_count_changes_how_the_model_is_spread(
    before: tuple[int | None, ...], count: int, after: tuple[int | None, ...]
) -> None:
    tp, dp, pp = before
    profile = Profile(
        profile=ProfileSection(title="t"),
        model=ModelSection(id="m"),
        hardware=HardwareSection(gpu="H200", count=(tp or 1) * (dp or 1) * (pp or 1)),
        serve=ServeSection(tensor_parallel_size=tp, data_parallel_size=dp, pipeline_parallel_size=pp),
    )
    changed = spread(profile, None, count)
    serve = changed.serve
    assert (serve.tensor_parallel_size, serve.data_parallel_size, serve.pipeline_parallel_size) == after
    assert changed.hardware.count == count
    with pytest.raises(UsageError):
        spread(profile, "no such", None)
