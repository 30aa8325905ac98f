"""One server over several machines: which layouts there are, and what each machine's command says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from console.core.command import build_command
from console.core.cost import price_for
from console.core.fit import fit
from console.core.models import GpuReading
from console.core.nodes import ADDRESS_UNKNOWN, Layout, Node, gpus_per_node, gpus_used, layout, ports
from console.core.overrides import apply_overrides
from console.core.preflight.facts import Facts
from console.core.preflight.table import CHECKS
from console.core.profile import CostSection, Profile
from console.core.profile_read import profile_from, read_profile
from console.core.suitability import suit

ROOT = Path(__file__).parents[2]
H100 = "NVIDIA H100 80GB HBM3"


def shipped(name: str) -> Profile:
    path = ROOT / "profiles" / f"{name}.toml"
    return read_profile(path.read_text(encoding="utf-8"), path.name)


def errors(nodes: int, count: int, extra: dict[str, Any] | None = None, **serve: Any) -> tuple[str, ...]:
    reading = profile_from(
        {
            "profile": {"title": "a"},
            "hardware": {"gpu": "H100", "count": count, "nodes": nodes},
            "model": {"id": "a/b", "architecture": "deepseek-v4-pro"},
            "serve": serve | ({"extra": extra} if extra else {}),
        },
        "p",
    )
    return reading.errors


def flags(argv: tuple[str, ...]) -> dict[str, str]:
    return {flag: value for flag, value in zip(argv, (*argv[1:], ""), strict=True) if flag.startswith("--")}


@pytest.mark.parametrize(
    "serve",
    [
        {"tensor_parallel_size": 8, "pipeline_parallel_size": 2},
        {"tensor_parallel_size": 4, "pipeline_parallel_size": 4},
        {"data_parallel_size": 16},
        {"tensor_parallel_size": 8, "data_parallel_size": 2},
        {"tensor_parallel_size": 2, "pipeline_parallel_size": 4, "data_parallel_size": 2},
    ],
)
def test_layouts_that_can_be_placed(serve: dict[str, int]) -> None:
    assert errors(2, 8, **serve) == ()


@pytest.mark.parametrize(
    ("serve", "says"),
    [
        (
            {"tensor_parallel_size": 16},
            "tensor parallel size 16 does not lie within one machine of 8; allowed: 1, 2, 4, 8",
        ),
        ({"tensor_parallel_size": 8}, "tensor 8 × pipeline 1 × data 1 is 8 ranks, 2 machines of 8 hold 16"),
        ({"data_parallel_size": 32}, "is 32 ranks, 2 machines of 8 hold 16"),
        (
            {"tensor_parallel_size": 8, "pipeline_parallel_size": 2, "data_parallel_size": 1},
            "",
        ),
        ({"tensor_parallel_size": 3, "pipeline_parallel_size": 3}, "128 attention heads cannot be divided by it"),
    ],
)
def test_layouts_that_cannot(serve: dict[str, int], says: str) -> None:
    found = errors(2, 8, **serve)
    assert bool(found) == bool(says)
    assert not says or any(says in line for line in found), found


def test_with_data_parallelism_each_machine_holds_whole_engines() -> None:
    (found,) = errors(3, 8, tensor_parallel_size=4, pipeline_parallel_size=3, data_parallel_size=2)
    assert "does not lie within one machine of 8" in found


@pytest.mark.parametrize("key", ["nnodes", "node_rank", "master-addr", "headless", "data_parallel_size_local"])
def test_what_the_layout_says_cannot_be_said_again(key: str) -> None:
    found = errors(2, 8, {key: 2}, tensor_parallel_size=8, pipeline_parallel_size=2)
    assert any(f"serve.extra.{key}" in line for line in found)


def test_another_executor_is_refused_and_one_machine_may_have_it() -> None:
    ray = {"distributed_executor_backend": "ray"}
    assert errors(2, 8, ray, tensor_parallel_size=8, pipeline_parallel_size=2)
    assert errors(1, 8, ray, tensor_parallel_size=8) == ()


def test_one_engine_over_all_machines() -> None:
    profile = apply_overrides(shipped("2x8xh100-native-v4-pro"), {"network.interface": "ib0"})
    assert layout(profile) is Layout.EXECUTOR
    assert (gpus_used(profile), gpus_per_node(profile), ports(profile)) == (16, 8, (29501,))
    first = build_command(profile, "vllm", node=Node(address="10.0.0.1"))
    second = build_command(profile, "vllm", node=Node(rank=1, address="10.0.0.1", own_address="10.0.0.2"))
    found = flags(first.argv)
    assert (found["--nnodes"], found["--node-rank"]) == ("2", "0")
    assert (found["--master-addr"], found["--master-port"]) == ("10.0.0.1", "29501")
    assert "--headless" not in first.argv
    assert "--headless" in second.argv
    assert flags(second.argv)["--node-rank"] == "1"
    assert (first.env["VLLM_HOST_IP"], second.env["VLLM_HOST_IP"]) == ("10.0.0.1", "10.0.0.2")
    assert {first.env[name] for name in ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME")} == {"ib0"}
    ranks = [argument for argument in (*first.argv, "--headless") if argument != "0"]
    assert sorted(ranks) == sorted(argument for argument in second.argv if argument != "1"), "else the same"


def test_engines_on_each_machine() -> None:
    profile = shipped("2x8xh200-native-v4-pro-dep")
    assert layout(profile) is Layout.ENGINES
    assert ports(profile) == (29550,)
    first, second = (build_command(profile, "vllm", node=Node(rank=rank, address="h0")).argv for rank in (0, 1))
    for argv in (first, second):
        found = flags(argv)
        assert (found["--data-parallel-size"], found["--data-parallel-size-local"]) == ("16", "8")
        assert (found["--data-parallel-address"], found["--data-parallel-rpc-port"]) == ("h0", "29550")
        assert "--nnodes" not in argv
    assert "--data-parallel-start-rank" not in first, "it would make the first machine balance its own engines alone"
    assert flags(second)["--data-parallel-start-rank"] == "8"
    assert ("--headless" in first, "--headless" in second) == (False, True)


def test_an_address_that_nobody_named_is_plain_to_see() -> None:
    profile = shipped("2x8xh100-native-v4-pro")
    command = build_command(profile, "vllm", node=Node(rank=1))
    assert ADDRESS_UNKNOWN in command.argv
    assert "VLLM_HOST_IP" not in command.env


def test_each_process_on_loopback_has_its_own_core() -> None:
    profile = shipped("cpu-smoke-2nodes")
    envs = [build_command(profile, "vllm", "/m", node=Node(rank=rank)).env for rank in (0, 1)]
    assert [env["VLLM_CPU_OMP_THREADS_BIND"] for env in envs] == ["0", "1"]
    assert {env["VLLM_HOST_IP"] for env in envs} == {"127.0.0.1"}


def test_cores_for_all_ranks_or_for_none() -> None:
    data = {
        "profile": {"title": "a"},
        "hardware": {"nodes": 2},
        "model": {"id": "a/b"},
        "engine": {"kind": "cpu"},
        "serve": {"tensor_parallel_size": 2},
        "env": {"VLLM_CPU_OMP_THREADS_BIND": "0|1|2"},
    }
    (found,) = profile_from(data, "p").errors
    assert "one list of cores for each of 2 ranks" in found


def test_one_machine_is_as_it_was() -> None:
    profile = shipped("8xh200-native-v4-pro")
    assert build_command(profile, "vllm", node=Node(rank=0, address="x")) == build_command(profile, "vllm")
    assert layout(profile) is Layout.ONE


def test_no_machine_alone_suits() -> None:
    machine = tuple(GpuReading(index=index, name=H100, memory_total_bytes=80 << 30) for index in range(8))
    found = suit(shipped("2x8xh100-native-v4-pro"), machine)
    assert (found.rank, found.text) == (3, "needs 2 machines of 8 × H100")
    assert suit(shipped("cpu-smoke-2nodes"), ()).text == "needs 2 machines"


def test_weights_are_spread_over_all_machines() -> None:
    one = apply_overrides(
        shipped("2x8xh100-native-v4-pro"), {"hardware.nodes": 1, "serve.pipeline_parallel_size": None}
    )
    assert fit(one).verdict == "does not fit"
    two = fit(shipped("2x8xh100-native-v4-pro"))
    assert two.verdict in ("fits", "tight")
    assert (two.weights_gib_per_gpu or 0) < (fit(one).weights_gib_per_gpu or 0) * 0.55


def test_the_price_is_that_of_all_machines() -> None:
    hardware = shipped("2x8xh100-native-v4-pro").hardware
    assert hardware.text == "2 × 8 × H100"
    each = {"8xH100": CostSection(usd_per_hour=20.0)}
    assert price_for(hardware, each).usd_per_hour == 40.0  # type: ignore[union-attr]
    assert price_for(hardware, {"H100": CostSection(usd_per_hour=3.0)}).usd_per_hour == 48.0  # type: ignore[union-attr]
    whole = each | {"2x8xH100": CostSection(usd_per_hour=35.0)}
    assert price_for(hardware, whole).usd_per_hour == 35.0  # type: ignore[union-attr]


def test_a_check_says_that_it_is_of_one_machine() -> None:
    (rule,) = [each for each in CHECKS if each.id == "machines"]
    assert not rule.applies(None)
    assert not rule.applies(shipped("8xh200-native-v4-pro"))
    profile = shipped("2x8xh200-native-v4-pro-dep")
    assert rule.applies(profile)
    found = rule.judge(Facts(), profile)
    assert found is not None
    assert any("29550" in figure for figure in found.figures)
