"""All that NVML tells of a GPU, in words; what it does not tell is not made up."""

from __future__ import annotations

from console.core.gpufacts import THROTTLE_WORDS, gpu_facts, pair_text, process_facts
from console.core.models import GpuProcess, GpuReading, Level, Throttle
from tests.fakes.backend import NOW_S, gpu


def facts(reading: GpuReading) -> dict[str, tuple[str, Level]]:
    return {fact.label: (fact.text, fact.level) for fact in gpu_facts(reading, NOW_S)}


def test_a_sound_gpu_tells_everything_and_nothing_is_wrong() -> None:
    found = facts(gpu(3))
    assert found["busy"][0] == "62%, memory 38%"
    assert found["memory"][0] == "128/141 GiB, 12.0 GiB free"
    assert found["power"][0] == "512 W of 700 W cap"
    assert found["heat"][0] == "61 °C, memory 72, limit 90"
    assert found["clocks"][0] == "1980/1980 MHz, memory 3201"
    assert found["slowed by"][0] == "nothing"
    assert found["PCIe"][0] == "gen 5/5 x16/16  200/91 MiB/s"
    assert found["NVLink"][0] == "18/18 up  17/17 GiB/s"
    assert found["ECC"][0] == "0 uncorrected, 0 corrected"
    assert found["remapped"][0] == "0 rows, none pending"
    assert found["Xid"][0] == "none seen"
    assert {level for _, level in found.values()} == {Level.OK}


def test_what_is_wrong_has_a_level() -> None:
    found = facts(
        gpu(
            0,
            ecc_uncorrected=2,
            row_remap_pending=True,
            xid=94,
            xid_s=NOW_S - 90,
            temperature_c=89.0,
            pcie_width=8,
            throttle=(Throttle.SW_THERMAL, Throttle.POWER_CAP),
        )
    )
    assert found["ECC"] == ("2 uncorrected, 0 corrected", Level.BAD)
    assert found["remapped"] == ("a row waits for a reset", Level.WARN)
    assert found["Xid"] == ("94, 1m30s ago", Level.BAD)
    assert found["heat"][1] is Level.WARN
    assert found["PCIe"][1] is Level.WARN
    assert found["slowed by"] == (
        "too hot: the driver slows it down; at its power cap, usual under full load",
        Level.WARN,
    )


def test_every_reason_has_words() -> None:
    assert set(THROTTLE_WORDS) == set(Throttle)


def test_a_silent_driver_says_nothing_that_is_not_so() -> None:
    found = facts(GpuReading(index=0))
    assert found["memory"][0] == found["power"][0] == found["ECC"][0] == found["slowed by"][0] == "–"
    assert found["PCIe"][0] == found["clocks"][0] == "–"
    assert all("0" not in text for label, (text, _) in found.items() if label != "UUID")
    assert [fact.text for fact in process_facts(GpuReading(index=0))] == ["not told by the driver"]


def test_who_holds_the_memory_most_first_and_strangers_stand_out() -> None:
    reading = gpu(
        0,
        processes=(
            GpuProcess(pid=7, name="python", memory_bytes=2 * 1024**3),
            GpuProcess(pid=9, name="VLLM::Worker", memory_bytes=120 * 1024**3, own=True),
            GpuProcess(pid=11),
        ),
    )
    found = process_facts(reading)
    assert found[0].text == "120 GiB  pid 9  VLLM::Worker  (this server)"
    assert found[1].text == "2.0 GiB  pid 7  python  (not this server)"
    assert found[1].level is Level.WARN
    assert found[2].text == "–  pid 11  name not told  (not this server)"
    many = gpu(0, processes=tuple(GpuProcess(pid=i, memory_bytes=i) for i in range(20)))
    assert [fact.text for fact in process_facts(many)][-1] == "and 12 more: nvidia-smi"


def test_pairs_have_one_unit() -> None:
    assert pair_text(210e6, 95e6, "/s") == "200/91 MiB/s"
    assert pair_text(2048.0, None, "/s") == "2.0/– KiB/s"
