"""What can be tested of `python -m tests.gpu.flash` without a GPU: its models, predictions, and how it judges."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from console.core.errors import ProfileError
from console.core.fit import GIB
from console.core.fit.estimate import parallel_of
from console.core.fit.weights import Parallel
from console.core.overrides import apply_overrides
from tests.gpu import balance, flash, layouts, models, part_layout, predictions, printed, v4
from tests.gpu.layouts import LAYOUTS, Layout
from tests.gpu.report import Report
from tests.gpu.world import ROOT, World, free_port

H100_LOGS = Path(__file__).parents[1] / "data/logs/h100-0.26.0"


@pytest.mark.parametrize("row", v4.PUBLISHED, ids=lambda row: row.model)
def test_the_tensors_add_up_to_the_published_size(row: v4.Published) -> None:
    found = list(v4.tensors(row.config))
    assert len({name for name, _ in found}) == len(found)
    assert row.tensors in (None, len(found))
    assert sum(size for _, size in found) == pytest.approx(row.size_bytes, rel=row.within, abs=0)


@pytest.mark.parametrize(("shape", "printed_gib"), [("v4-flash-fp8", 39.63), ("v4-flash-fp4", 22.75)])
def test_six_layers_on_an_h100_took_what_the_tensors_say(shape: str, printed_gib: float) -> None:
    """The only DeepSeek V4s that a GPU was seen to load: one H100, vLLM 0.26, no draft layer."""
    assert predictions.loaded_bytes(shape, Parallel()) / GIB == pytest.approx(printed_gib, rel=0.002)


def test_a_recorded_start_of_v4_is_read() -> None:
    figures = printed.read((H100_LOGS / "fail-v4-dummy-weights.log").read_text(encoding="utf-8"))
    assert figures.by_process == {"EngineCore": {"weights_gib": 39.63, "load_s": 9.055197}}


def test_a_model_with_fewer_layers_is_otherwise_the_same() -> None:
    small = v4.cut(v4.PRO, 31)
    assert small["compress_ratios"] == [128, 128, *[4, 128] * 14, 4, 0, 0, 0]
    assert small["dspark_target_layer_ids"] == [28, 29, 30]
    assert {key for key in small if small[key] != v4.PRO[key]} == {
        "num_hidden_layers", "compress_ratios", "dspark_target_layer_ids",
    }  # fmt: skip
    assert v4.cut(v4.FLASH, 43) == v4.FLASH
    for layers in (2, 62):
        with pytest.raises(ValueError, match="allowed are 3 to 61"):
            v4.cut(v4.PRO, layers)


def test_the_page_of_predictions_is_current() -> None:
    """Run with UPDATE_GOLDEN=1, or `python -m tests.gpu.predictions`, to write it anew, on purpose."""
    if os.environ.get("UPDATE_GOLDEN") == "1":
        predictions.PAGE.write_text(predictions.page(), encoding="utf-8")
    assert predictions.PAGE.read_text(encoding="utf-8") == predictions.page()


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=lambda layout: layout.key)
def test_a_part_is_its_profile(layout: Layout, tmp_path: Path) -> None:
    profile = layouts.shipped(layout)
    parallel = parallel_of(profile)
    assert (profile.hardware.gpu, profile.hardware.count) == ("H200", layout.gpus)
    assert layout.gpus == parallel.gpus
    kind = layout.key.split("-")[-1]
    if kind in ("tp", "tep", "dep"):
        assert (parallel.tp > 1, parallel.dp > 1, parallel.ep) == (kind != "dep", kind == "dep", kind != "tp")
    config = models.SHAPES[layout.shape]
    assert config is not None
    assert config["num_attention_heads"] % parallel.tp == config["o_groups"] % parallel.tp == 0
    assert config["n_routed_experts"] % parallel.gpus == 0
    assert (predictions.predict(layout).fit.verdict != "does not fit") == layout.starts


@pytest.mark.parametrize("attempt", part_layout.ATTEMPTS, ids=lambda attempt: attempt.name)
@pytest.mark.parametrize("key", ["4-tep", "8-pro-cut"])
def test_what_a_launch_changes_is_taken_by_the_profile(key: str, attempt: part_layout.Attempt, tmp_path: Path) -> None:
    layout = LAYOUTS[key]
    given = part_layout.settings(world(tmp_path), layout, multicast=False) | attempt.changes
    profile = apply_overrides(layouts.shipped(layout), {name: str(value) for name, value in given.items()})
    assert profile.serve.load_format == "dummy"
    assert (Path(profile.model.id) / "config.json").exists()
    assert (profile.serve.speculative_config is None) == ("speculation" in attempt.name)
    assert (profile.serve.enforce_eager is True) == ("graphs" in attempt.name)
    assert profile.env["PYTHONPATH"].endswith(":/site"), "the engine's own path stays"
    assert profile.env.items() >= layouts.WITHOUT_MULTICAST.items()
    size = (models.weights_bytes(layout.shape) or 0) / 1e9
    assert profile.model.weights_gb == pytest.approx(size, rel=0.002)
    with pytest.raises(ProfileError):
        apply_overrides(profile, {"serve.load_fromat": "dummy"})


def test_multicast_is_left_alone_only_where_it_is_asked_for(tmp_path: Path) -> None:
    given = part_layout.settings(world(tmp_path), LAYOUTS["2-tp"], multicast=True)
    assert not {f"env.{name}" for name in layouts.WITHOUT_MULTICAST} & set(given)


def world(folder: Path, *, cpu: bool = False) -> World:
    """As much of one as settings are made from."""
    return cast(
        World, SimpleNamespace(cpu=cpu, home=folder, models=folder / "models", env={"PYTHONPATH": "/src:/site"})
    )


def test_a_rehearsal_has_the_layout_with_two_processes(tmp_path: Path) -> None:
    tensor, data = (
        part_layout.settings(world(tmp_path, cpu=True), LAYOUTS[key], multicast=False) for key in ("4-tep", "4-dep")
    )
    assert (tensor["serve.tensor_parallel_size"], data["serve.data_parallel_size"]) == (2, 2)
    assert "serve.data_parallel_size" not in tensor
    assert json.loads((Path(tensor["model.id"]) / "config.json").read_text())["model_type"] == "deepseek_v4"


def log(*rows: tuple[str, str]) -> str:
    """Lines as vLLM writes them."""
    return "".join(f"({process} pid=7) INFO 11-23 16:52:41 [x.py:1] {message}\n" for process, message in rows)


TENSOR = log(
    *((f"Worker_TP{rank}", f"Model loading took {40.5 + rank / 100} GiB and 9.1 seconds") for rank in range(4)),
    *((f"Worker_TP{rank}", f"Available KV cache memory: {84 - rank / 10:.1f} GiB") for rank in range(4)),
    ("EngineCore", "GPU KV cache size: 8,712,000 tokens"),
    ("EngineCore", "Maximum concurrency for 1,048,576 tokens per request: 8.31x"),
    ("Worker_TP0", "SymmMemCommunicator: symmetric memory multicast operations are not supported."),
)
ONE_LINE = "GPU KV cache size: 8,133,616 tokens, Maximum concurrency for 1,048,576 tokens per request: 7.76x"
DATA = log(
    *((f"EngineCore_DP{rank}", "Available KV cache memory: 78.14 GiB") for rank in range(4)),
    *((f"EngineCore_DP{rank}", ONE_LINE) for rank in range(4)),
)


def test_each_process_is_read_by_itself() -> None:
    found = printed.read(TENSOR)
    assert found.of("weights_gib") == {f"Worker_TP{rank}": 40.5 + rank / 100 for rank in range(4)}
    assert (found.least("kv_gib"), found.most("kv_gib")) == (83.7, 84.0)
    assert found.by_process["EngineCore"] == {"kv_tokens": 8_712_000, "concurrency": 8.31, "context": 1_048_576}
    assert len(found.multicast_lines) == 1
    assert found.least("graphs_gib") is None
    assert sum(printed.read(DATA).of("kv_tokens").values()) == 4 * 8_133_616


@pytest.mark.parametrize(
    ("key", "text", "claim", "verdict"),
    [
        ("4-tep", TENSOR, "replicated", "shown"),
        ("4-tep", TENSOR.replace("8,712,000", "34,848,000"), "replicated", "refuted"),
        ("4-tep", TENSOR.replace("8,712,000", "17,424,000"), "replicated", "unclear"),
        ("4-dep", DATA, "multiplied", "shown"),
        ("4-dep", "".join(DATA.splitlines(keepends=True)[:5]), "multiplied", "refuted"),
    ],
)
def test_the_claims_are_judged_by_what_was_printed(key: str, text: str, claim: str, verdict: str) -> None:
    verdicts = part_layout.claimed(LAYOUTS[key], printed.read(text), "0.26.0", cpu=False)
    assert {name: each["verdict"] for name, each in verdicts.items()} == {claim: verdict}


def test_nothing_is_judged_without_figures() -> None:
    assert part_layout.claimed(LAYOUTS["4-tep"], printed.read(""), "0.26.0", cpu=False) == {}


def test_the_error_is_that_of_the_prediction() -> None:
    table = part_layout.compared(LAYOUTS["4-tep"], printed.read(TENSOR), "0.26.0")
    assert table["weights per GPU, GiB (tensors)"]["error_percent"] == pytest.approx(0.1, abs=0.11)
    assert table["engines"] == {"predicted": 1.0, "printed": 1.0, "error_percent": 0.0}
    assert (
        part_layout.compared(LAYOUTS["4-tep"], printed.read(""), "0.26.0")["KV tokens of one engine"]["printed"] is None
    )


def sample(time_s: float, *gpus: tuple[float | None, float | None]) -> dict[str, Any]:
    """One sample: utilization and NVLink bytes out of each GPU."""
    readings = [
        {"index": index, "util_percent": util, "nvlink_tx_bytes_per_s": out} for index, (util, out) in enumerate(gpus)
    ]
    return {"time_s": time_s, "gpus": readings}


def test_balance_is_over_the_time_of_the_load_alone(tmp_path: Path) -> None:
    samples = [
        sample(9.0, (0.0, 0.0), (0.0, 0.0)),
        sample(10.0, (90.0, 2e9), (50.0, None)),
        sample(11.0, (100.0, 4e9), (60.0, None)),
        {"time_s": 10.5},
    ]
    gpus = balance.by_gpu(samples, 10.0, 11.0)
    assert gpus[0]["utilization, %"] == 95.0
    assert (gpus[0]["NVLink out, MB/s"], gpus[1]["NVLink out, MB/s"]) == (3000.0, None)
    assert balance.spread(gpus, "utilization, %") == (55.0, 95.0)
    assert balance.spread(gpus, "power, W") is None
    assert part_layout.said_of("load", gpus) == "load: utilization, % 55 to 95, NVLink out, MB/s 3,000 to 3,000"
    assert balance.timeline(samples, tmp_path / "gpus.csv") == 4
    lines = (tmp_path / "gpus.csv").read_text().splitlines()
    assert lines[0].startswith("time_s,gpu,util_percent")
    assert lines[-1].startswith("2.00,1,60,")
    assert len(lines) == 1 + 6


def test_the_claims_are_told_over_all_parts(tmp_path: Path) -> None:
    for key, text in (("4-tep", TENSOR), ("4-dep", DATA)):
        report = Report(tmp_path, key, key)
        with report.step("predicted beside printed") as row:
            figures = printed.read(text)
            row["printed"] = figures._asdict()
            row["verdicts"] = part_layout.claimed(LAYOUTS[key], figures, "0.26.0", cpu=False)
    page = "\n".join(flash.claims(tmp_path))
    assert "| 4-tep | 1.0 | shown |" in page
    assert "| 4-dep | 4.0 | shown |" in page
    assert "| 4-tep | 8,712,000 | 83.70 | 104,086 |" in page
    assert "| 4-dep | 8,133,616 | 78.14 | 104,090 |" in page


def test_a_machine_does_the_parts_of_its_size() -> None:
    assert flash.defaults(4) == ["4-tep", "4-dep", "4-tp"]
    assert flash.defaults(8) == ["8-tep", "8-dep", "8-tp", "8-pro-cut"]
    assert flash.defaults(1) == []


def test_a_start_on_scripted_gpus_with_the_fake_engine(tmp_path: Path) -> None:
    """The steps themselves, with the shipped profile; the fake engine's figures are those of another model."""
    command = [sys.executable, "-m", "tests.gpu.flash", "--out", str(tmp_path / "out"), "--parts", "2-tp"]
    done = subprocess.run(
        [*command, "--scripted", "--start-only", "--part-limit", "100", "--set", f"serve.port={free_port()}"],
        cwd=ROOT, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    steps = {step["step"]: step for step in json.loads((tmp_path / "out/part2-tp.json").read_text())["steps"]}
    assert list(steps) == ["machine", "start as shipped", "predicted beside printed", "nothing is left"]
    assert {step["result"] for step in steps.values()} == {"done"}
    assert steps["start as shipped"]["phases"]
    assert steps["predicted beside printed"]["printed"]["by_process"]["EngineCore"]["kv_tokens"]
    assert steps["nothing is left"]["killed"] == []
    assert (tmp_path / "out/claims.md").exists()
