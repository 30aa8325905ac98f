"""Examples of the rules between machines, as `tests.core.hint_examples` has them for the others."""

from __future__ import annotations

from typing import Any

from console.core.hints.table import NODE_RULES
from console.core.models import GpuReading, GroupSample, HostReading, NodeFigures, Sample, ServerState
from tests.core.hint_examples import Example
from tests.core.hint_series import GIB, Series, engine, gpu

__all__ = ["NODE_EXAMPLES"]

BETWEEN: dict[str, Any] = {"rules": NODE_RULES}
"""What `HintEngine` is told where it looks at a group."""
STRIDE = 32


def node(rank: int, host: HostReading | None = None, count: int = 2, **values: Any) -> NodeFigures:
    """A machine whose GPUs are all so."""
    first = rank * STRIDE
    base: dict[str, Any] = {
        "util_percent": 95.0,
        "sm_clock_mhz": 1980.0,
        "sm_clock_max_mhz": 1980.0,
        "power_limit_w": 700.0,
        "ecc_uncorrected": 0,
        "uuid": "GPU-1",
    }
    gpus = tuple(gpu(first + index, **(base | values)) for index in range(count))
    return NodeFigures(host=f"node-{'abcd'[rank]}", gpus=gpus, first_gpu=first, reading=host)


def machines(*nodes: NodeFigures, running: int = 8, waiting: int = 20, every: int = 1) -> Series:
    """The same each second; requests wait and run in each second that `every` divides."""
    gpus: tuple[GpuReading, ...] = tuple(each for one in nodes for each in one.gpus or ())

    def sample(second: int) -> Sample:
        on = second % every == 0
        return GroupSample(
            time_s=1e9 + second,
            state=ServerState.READY,
            gpus=gpus,
            host=HostReading(cpu_percent=30.0, cpu_count=32),
            engine=engine(second, running=running * on, waiting=waiting * on),
            nodes=nodes,
        )

    return sample


QUIET: dict[str, Any] = {
    "util_percent": 22.0,
    "pcie_rx_bytes_per_s": 2e9,
    "pcie_tx_bytes_per_s": 1e9,
    "pcie_generation": 5,
    "pcie_width": 16,
    "nvlink_rx_bytes_per_s": 4e9,
    "nvlink_tx_bytes_per_s": 4e9,
}


def net(rate_gbit: float, speed_gbit: float | None = 25.0) -> HostReading:
    """A host whose interface moves so much."""
    return HostReading(
        cpu_percent=20.0,
        cpu_count=64,
        network_interface="eth1",
        network_rx_bytes_per_s=rate_gbit * 1e9 / 8,
        network_tx_bytes_per_s=rate_gbit * 1e8 / 8,
        network_speed_bytes_per_s=None if speed_gbit is None else speed_gbit * 1e9 / 8,
    )


FIRING: tuple[tuple[str, str, Series], ...] = (
    ("node-slow", "low clocks on one machine", machines(node(0), node(1, sm_clock_mhz=1410.0))),
    ("node-slow", "low utilization on one machine", machines(node(0), node(1, util_percent=60.0))),
    ("node-slow", "one of four", machines(node(0), node(1), node(2, sm_clock_mhz=1500.0), node(3))),
    ("nodes-unequal", "another model", machines(node(0), node(1, name="NVIDIA H200", memory_total_bytes=141 * GIB))),
    ("nodes-unequal", "a lower cap", machines(node(0), node(1, power_limit_w=500.0))),
    ("nodes-unequal", "no ECC", machines(node(0), node(1, ecc_uncorrected=None))),
    ("nodes-unequal", "fewer GPUs", machines(node(0), node(1, count=1))),
    ("network-bound", "a full link", machines(node(0, net(23.0), **QUIET), node(1, net(22.0), **QUIET))),
    ("network-bound", "RDMA that nobody counts", machines(node(0, net(0.1, None), **QUIET), node(1, **QUIET))),
)
STILL: tuple[tuple[str, str, Series], ...] = (
    ("node-slow", "clocks a little lower", machines(node(0), node(1, sm_clock_mhz=1840.0))),
    ("node-slow", "two of three are as slow", machines(node(0), *(node(i, sm_clock_mhz=1410.0) for i in (1, 2)))),
    ("node-slow", "hardly any request", machines(node(0), node(1, sm_clock_mhz=1410.0), every=3)),
    ("node-slow", "one machine alone is heard", machines(node(1, sm_clock_mhz=1410.0))),
    ("nodes-unequal", "memory told a little differently", machines(node(0), node(1, memory_total_bytes=79.6 * GIB))),
    ("nodes-unequal", "unknown on one", machines(node(0), node(1, power_limit_w=None, sm_clock_max_mhz=None))),
    ("network-bound", "one machine is busy", machines(node(0, **QUIET), node(1, **(QUIET | {"util_percent": 90.0})))),
    ("network-bound", "nothing waits", machines(node(0, **QUIET), node(1, **QUIET), waiting=0)),
    (
        "network-bound",
        "PCIe is busy",
        machines(*(node(i, net(23.0), **(QUIET | {"pcie_rx_bytes_per_s": 40e9})) for i in (0, 1))),
    ),
    (
        "network-bound",
        "NVLink is busy",
        machines(*(node(i, net(23.0), **(QUIET | {"nvlink_rx_bytes_per_s": 200e9})) for i in (0, 1))),
    ),
)

NODE_EXAMPLES: tuple[Example, ...] = tuple(
    Example(rule, name, fires, series, run=BETWEEN)
    for fires, rows in ((True, FIRING), (False, STILL))
    for rule, name, series in rows
)
