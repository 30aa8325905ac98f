"""One server over several machines: how a profile's ranks are laid on them, and what each machine's command adds.

vLLM has two forms, and this program adds none of its own:

    executor   one engine over all machines: TP inside each, PP across (without GPUs TP may span them: the CPU build of
               0.32 takes pipeline parallelism, and fails at the first request). `--nnodes N --node-rank R
               --master-addr A --master-port P`, and `--headless` on all but the first (`run_headless`).
    engines    data parallel engines, whole engines on each machine, experts over all. `--data-parallel-size-local`,
               `--data-parallel-address`, `--data-parallel-rpc-port`; on all but the first `--headless` and
               `--data-parallel-start-rank`.

Sources: vLLM 0.32 (`entrypoints/cli/serve.py`, `engine/arg_utils.py`, `config/parallel.py`);
https://docs.vllm.ai/en/stable/serving/data_parallel_deployment/ and
https://docs.vllm.ai/en/stable/serving/parallelism_scaling/.
"""

from __future__ import annotations

import ipaddress
from enum import StrEnum

import msgspec

from console.core.profile import Profile

__all__ = [
    "ADDRESS_UNKNOWN",
    "THREADS_BIND",
    "Layout",
    "Node",
    "gpus_per_node",
    "gpus_used",
    "is_loopback",
    "layout",
    "layout_flags",
    "node_arguments",
    "node_environment",
    "ports",
    "unplaced",
    "watched_port",
]

ADDRESS_UNKNOWN = "ADDRESS_OF_NODE_0"
"""Stands in a command where nobody has said the first machine's address."""
THREADS_BIND = "VLLM_CPU_OMP_THREADS_BIND"
"""The CPU build's cores: one list per rank, with `|` between them."""


class Layout(StrEnum):
    """How a server is spread over machines."""

    ONE = "one"
    EXECUTOR = "executor"
    ENGINES = "engines"


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One machine of a server."""

    rank: int = 0
    address: str = ""
    """Of the first machine; empty takes the profile's."""
    own_address: str = ""
    """By which the others reach this one; empty leaves it to vLLM, which takes the default route's."""


def gpus_used(profile: Profile) -> int:
    """GPUs that the parallel settings take, on all machines: tensor × pipeline × data."""
    serve = profile.serve
    return (serve.tensor_parallel_size or 1) * (serve.pipeline_parallel_size or 1) * (serve.data_parallel_size or 1)


def gpus_per_node(profile: Profile) -> int:
    """GPUs that the parallel settings take on one machine."""
    return -(-gpus_used(profile) // profile.hardware.nodes)


def layout(profile: Profile) -> Layout:
    """Which of vLLM's forms the profile takes."""
    if profile.hardware.nodes == 1:
        return Layout.ONE
    return Layout.ENGINES if (profile.serve.data_parallel_size or 1) > 1 else Layout.EXECUTOR


def unplaced(profile: Profile) -> str:
    """Why the ranks cannot be laid on the machines, and what to write; empty if they can."""
    nodes, serve = profile.hardware.nodes, profile.serve
    tensor, stages, engines = (
        size or 1 for size in (serve.tensor_parallel_size, serve.pipeline_parallel_size, serve.data_parallel_size)
    )
    if nodes == 1:
        return ""
    each = profile.hardware.count or gpus_used(profile) // nodes or 1
    made = f"tensor {tensor} × pipeline {stages} × data {engines}"
    total = nodes * each
    if tensor * stages * engines != total:
        held = f"{nodes} machines of {each}" if profile.hardware.count else f"{nodes} machines"
        return f"{made} is {tensor * stages * engines} ranks, {held} hold {total}; make them equal"
    if profile.hardware.count and each % tensor:
        # Every layer of tensor parallelism waits for all its ranks: it belongs on one machine's NVLink.
        fitting = ", ".join(str(size) for size in range(1, each + 1) if each % size == 0)
        return f"tensor parallel size {tensor} does not lie within one machine of {each}; allowed: {fitting}"
    if engines > 1 and (engines % nodes or each % (tensor * stages)):
        return (
            f"an engine of tensor {tensor} × pipeline {stages} does not lie within one machine of {each}: "
            "with data parallelism each machine holds whole engines; allowed: a size that divides it, or "
            "pipeline parallelism without data parallelism"
        )
    return ""


def layout_flags(profile: Profile) -> tuple[str, ...]:
    """vLLM's flags, without dashes, that `hardware.nodes` sets and nothing else may."""
    return () if layout(profile) is Layout.ONE else _FLAGS


_FLAGS = (
    "nnodes",
    "node-rank",
    "master-addr",
    "master-port",
    "headless",
    "data-parallel-size-local",
    "data-parallel-start-rank",
    "data-parallel-rank",
    "data-parallel-address",
    "data-parallel-rpc-port",
    "data-parallel-backend",
    "distributed-executor-backend",
)


def node_arguments(profile: Profile, node: Node) -> tuple[str, ...]:
    """What the command of one machine says beyond that of the profile."""
    form, network, nodes = layout(profile), profile.network, profile.hardware.nodes
    address = node.address or network.address or ADDRESS_UNKNOWN
    if form is Layout.ONE:
        return ()
    headless = ("--headless",) if node.rank else ()
    if form is Layout.EXECUTOR:
        return (
            "--nnodes", str(nodes), "--node-rank", str(node.rank),
            "--master-addr", address, "--master-port", str(network.master_port), *headless,
        )  # fmt: skip
    local = (profile.serve.data_parallel_size or 1) // nodes
    # Without --headless a start rank would make the first machine balance its own engines alone (hybrid mode).
    start = ("--data-parallel-start-rank", str(node.rank * local)) if node.rank else ()
    return (
        "--data-parallel-size-local", str(local), *start,
        "--data-parallel-address", address, "--data-parallel-rpc-port", str(network.rpc_port), *headless,
    )  # fmt: skip


def node_environment(profile: Profile, node: Node) -> dict[str, str]:
    """Variables of one machine: the interface between machines, its own address, and its share of CPU cores."""
    if layout(profile) is Layout.ONE:
        return {}
    env: dict[str, str] = {}
    if profile.network.interface:
        env |= dict.fromkeys(("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"), profile.network.interface)
    first = node.address or profile.network.address or ""
    own = node.own_address or (first if node.rank == 0 or is_loopback(first) else "")
    if own:
        env["VLLM_HOST_IP"] = own
    bound = profile.env.get(THREADS_BIND, "").split("|")
    each = gpus_per_node(profile)
    if len(bound) == each * profile.hardware.nodes:
        # The profile lists the cores of all ranks; vLLM takes no more lists than this machine has ranks.
        env[THREADS_BIND] = "|".join(bound[node.rank * each : (node.rank + 1) * each])
    return env


def ports(profile: Profile) -> tuple[int, ...]:
    """TCP ports of the first machine that the others must reach. vLLM opens more, on free ports of every machine."""
    match layout(profile):
        case Layout.ONE:
            return ()
        case Layout.EXECUTOR:
            return (profile.network.master_port,)
        case Layout.ENGINES:
            return (profile.network.rpc_port,)


def watched_port(profile: Profile) -> int | None:
    """A TCP port of the first machine that is open as long as its server lives; `None` if the others reach none.

    One engine over all machines keeps its meeting point open (seen on vLLM 0.32). Data parallel engines close theirs,
    so there it is the HTTP server's, where that listens on an address that others reach.
    """
    if layout(profile) is Layout.EXECUTOR:
        return profile.network.master_port
    return None if is_loopback(profile.serve.host) else profile.serve.port


def is_loopback(address: str) -> bool:
    """Whether only the machine itself reaches this address."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
