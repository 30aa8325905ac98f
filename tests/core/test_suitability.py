"""Which profiles a machine is offered, and in what order."""

from __future__ import annotations

from pathlib import Path

import pytest

from console.core.models import GpuReading
from console.core.overrides import apply_changes, apply_overrides
from console.core.profile import Profile
from console.core.profile_read import read_profile
from console.core.suitability import fewer_gpus, order_key, same_gpu, suit

PROFILES: dict[str, Profile] = {
    path.stem: read_profile(path.read_text(encoding="utf-8"), path.name)
    for path in (Path(__file__).parents[2] / "profiles").glob("*.toml")
}


def gpus(count: int, name: str, gib: float | None) -> tuple[GpuReading, ...]:
    memory = None if gib is None else int(gib * 2**30)
    return tuple(GpuReading(index=index, name=name, memory_total_bytes=memory) for index in range(count))


H100 = "NVIDIA H100 80GB HBM3"


def offered(machine: tuple[GpuReading, ...] | None) -> list[str]:
    return sorted(PROFILES, key=lambda name: order_key(name, PROFILES[name], suit(PROFILES[name], machine)))


@pytest.mark.parametrize("machine", [None, ()])
def test_without_a_gpu_the_cpu_profile_comes_first(machine: tuple[GpuReading, ...] | None) -> None:
    assert offered(machine)[0] == "cpu-smoke"
    assert suit(PROFILES["cpu-smoke"], machine).rank == 0
    assert all(suit(profile, machine).rank == 3 for name, profile in PROFILES.items() if name != "cpu-smoke")


def test_the_words_for_no_gpu() -> None:
    assert suit(PROFILES["8xh100-native-v4-flash"], ()).text == "needs 8 × H100, found none"
    assert suit(PROFILES["8xh100-native-v4-flash"], None).text == "needs 8 × H100, no GPU can be read"


@pytest.mark.parametrize(
    ("count", "name", "gib", "first"),
    [
        (8, H100, 79.6, "8xh100-native-v4-flash"),
        (4, H100, 79.6, "4xh100-native-v4-flash"),
        (8, "NVIDIA H200", 140.4, "8xh200-native-v4-flash"),
        (4, "NVIDIA H200 NVL", 140.4, "4xh200-fp8-v4-flash"),
        (2, "NVIDIA H200", 140.4, "2xh200-native-v4-flash"),
        (8, "NVIDIA A100-SXM4-80GB", 80.0, "8xa100-int4-v3"),
        (1, H100, 79.6, "cpu-smoke"),
    ],
)
def test_a_machine_is_offered_its_own_profile_first(count: int, name: str, gib: float, first: str) -> None:
    assert offered(gpus(count, name, gib))[0] == first


def test_a_part_of_the_machine_can_be_enough() -> None:
    suitability = suit(PROFILES["4xh100-native-v4-flash"], gpus(8, H100, 79.6))
    assert (suitability.rank, suitability.text) == (0, "fits: 4 × H100 of 8")


def test_too_few_gpus() -> None:
    suitability = suit(PROFILES["8xh100-fp8-v4-flash"], gpus(2, H100, 79.6))
    assert suitability.rank == 3
    assert suitability.text == "needs 8 × H100, found 2 × H100 80GB HBM3: too little memory, by arithmetic"


def test_fewer_gpus_may_do_with_a_change() -> None:
    suitability = suit(PROFILES["8xh100-native-v4-flash"], gpus(4, H100, 79.6))
    assert suitability.rank == 1
    assert suitability.text.endswith(
        "found 4 × H100 80GB HBM3; fits by arithmetic with --set hardware.count=4 --set serve.data_parallel_size=1"
    )
    changed = apply_changes(PROFILES["8xh100-native-v4-flash"], suitability.change)
    assert suit(changed, gpus(4, H100, 79.6)).rank == 0


@pytest.mark.parametrize(
    ("tensor", "data", "have", "expected"),
    [
        (8, None, 4, {"hardware.count": 4, "serve.tensor_parallel_size": 4}),
        (8, None, 7, {"hardware.count": 4, "serve.tensor_parallel_size": 4}),
        (None, 8, 4, {"hardware.count": 4, "serve.data_parallel_size": 4}),
        (4, 2, 4, {"hardware.count": 4, "serve.data_parallel_size": 1}),
        (4, 2, 2, {"hardware.count": 2, "serve.tensor_parallel_size": 2, "serve.data_parallel_size": 1}),
        (8, None, 8, {}),
        (8, None, 0, {}),
    ],
)
def test_shapes_on_fewer_gpus(tensor: int | None, data: int | None, have: int, expected: dict[str, int]) -> None:
    profile = apply_overrides(
        PROFILES["8xh200-native-v4-flash"], {"serve.tensor_parallel_size": tensor, "serve.data_parallel_size": data}
    )
    assert {change.key: change.after for change in fewer_gpus(profile, have)} == expected


def test_memory_counts_where_nobody_has_seen_it_run() -> None:
    profile = PROFILES["8xh100-native-v4-flash"]
    good = suit(profile, gpus(8, H100, 79.6))
    assert order_key("a", profile, good, "does not fit") > order_key("b", profile, good, "fits")
    seen = PROFILES["4xh100-native-v4-flash"]
    assert order_key("a", seen, good, "does not fit") < order_key("b", seen, good, "fits")


def test_the_same_name_with_less_memory_does_not_fit() -> None:
    suitability = suit(PROFILES["8xa100-int4-v3"], gpus(8, "NVIDIA A100-SXM4-40GB", 40.0))
    assert suitability.rank == 3
    assert "found 40 GiB" in suitability.text


def test_another_model_with_as_much_memory_may_do() -> None:
    suitability = suit(PROFILES["4xh200-fp8-v4-flash"], gpus(4, "NVIDIA B200", 178.0))
    assert suitability.rank == 1
    assert suit(PROFILES["4xh200-fp8-v4-flash"], gpus(4, "NVIDIA B200", None)).rank == 2
    assert suit(PROFILES["4xh200-fp8-v4-flash"], gpus(4, H100, 79.6)).rank == 3
    assert suit(PROFILES["8xh100-native-v4-flash"], gpus(4, "NVIDIA B200", 178.0)).rank == 3


def test_v4_is_not_offered_to_old_gpus_however_large() -> None:
    suitability = suit(PROFILES["8xh100-native-v4-flash"], gpus(8, "NVIDIA A100-SXM4-80GB", 80.0))
    assert suitability.rank == 3
    assert "attention backend" in suitability.text


def test_a_reading_without_a_name_is_no_match() -> None:
    nameless = (GpuReading(index=0), GpuReading(index=1))
    assert suit(PROFILES["2xh200-native-v4-flash"], nameless).rank == 2


@pytest.mark.parametrize(
    ("model", "name", "same"),
    [
        ("H100", H100, True),
        ("h100", "NVIDIA H100 PCIe", True),
        ("H200", "NVIDIA H200 NVL", True),
        ("H200", "NVIDIA GH200 480GB", False),
        ("H100", "NVIDIA H1000", False),
        ("A100", "NVIDIA A100-SXM4-80GB", True),
        ("RTX PRO 6000", "NVIDIA RTX PRO 6000 Blackwell Server Edition", True),
        ("RTX PRO 6000", "NVIDIA RTX 6000 Ada Generation", False),
        ("", "NVIDIA H100", False),
    ],
)
def test_names_of_gpus(model: str, name: str, same: bool) -> None:
    assert same_gpu(model, name) is same


def test_profiles_of_several_machines_come_after_all_others_of_their_rank() -> None:
    order = offered(())
    several = [name for name in order if PROFILES[name].hardware.nodes > 1]
    assert several
    assert order[-len(several) :] == several
