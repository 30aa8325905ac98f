"""What the busiest interface moves, from counters as the kernel has them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from console.io.network import MEGABIT_BYTES, NO_SPEED, Network, NetworkMeter


def counters(**interfaces: tuple[int, int]) -> dict[str, Any]:
    return {name: SimpleNamespace(bytes_recv=rx, bytes_sent=tx) for name, (rx, tx) in interfaces.items()}


def test_rates_of_the_busiest_without_the_loopback() -> None:
    now = counters(lo=(0, 0), eth0=(100, 100), eth1=(1000, 0))
    asked: list[str] = []

    def speeds() -> dict[str, Any]:
        asked.append("speeds")
        return {"eth0": SimpleNamespace(speed=1000), "eth1": SimpleNamespace(speed=25_000)}

    meter = NetworkMeter(lambda: now, speeds)
    assert meter.read(10.0) == Network(), "the first has none"
    now = counters(lo=(9_000_000, 9_000_000), eth0=(300, 300), eth1=(5000, 600))
    assert meter.read(12.0) == Network("eth1", 2000.0, 300.0, 25_000 * MEGABIT_BYTES)
    now = counters(lo=(0, 0), eth0=(10_300, 300), eth1=(10, 0), eth2=(10**9, 0))
    assert meter.read(13.0) == Network("eth0", 10_000.0, 0.0, 1000 * MEGABIT_BYTES), "a reset and a new one are no rate"
    assert asked == ["speeds"]
    meter.read(80.0)
    assert asked == ["speeds", "speeds"]


def test_a_speed_that_no_driver_tells_is_unknown() -> None:
    for speed in (0, NO_SPEED):
        now = counters(eth0=(0, 0))
        meter = NetworkMeter(lambda now=now: now, lambda speed=speed: {"eth0": SimpleNamespace(speed=speed)})  # type: ignore[misc]
        meter.read(1.0)
        assert meter.read(2.0) == Network("eth0", 0.0, 0.0, None)


def test_this_machine_answers() -> None:
    meter = NetworkMeter()
    meter.read(1.0)
    found = meter.read(2.0)
    assert found.rx_bytes_per_s is None or found.rx_bytes_per_s >= 0.0


def test_no_answer_is_unknown() -> None:
    def fail() -> dict[str, Any]:
        raise OSError

    assert NetworkMeter(fail).read(1.0) == Network()
