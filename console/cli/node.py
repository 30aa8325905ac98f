"""`dsv4-console node check|start|find`: one machine's part of a group, for the machine that holds the group together.

Each reads an order on stdin and prints one JSON document (`console.core.grouporder`). A start that is asked for twice
happens once, so that a line that broke in between does no harm.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import sys
from collections.abc import Iterator

import msgspec

from console import __version__
from console.cli import tasks
from console.cli.output import Output
from console.client.backend import LocalBackend
from console.client.launch import node_of
from console.core.cost import price_for
from console.core.errors import BlockedError, ExitCode, UsageError
from console.core.grouporder import Facts, Found, Order, flattened
from console.core.peers import Reach
from console.core.profile import Profile
from console.io import paths, runs
from console.io.config import read_configuration
from console.io.peers import own_address, reach

__all__ = ["check", "find", "start"]


def check(arguments: argparse.Namespace, output: Output) -> int:
    """What this machine is, before anything starts."""
    del arguments
    _print(tasks.run(_check(_order())), output)
    return ExitCode.OK


def start(arguments: argparse.Namespace, output: Output) -> int:
    """Start this machine's part, and return once its supervisor has it."""
    del arguments
    order = _order()
    with _one_at_a_time():
        found = _found(order)
        if found.run is None:
            tasks.run(_start(order, output))
            found = _found(order)
    _print(found, output)
    return ExitCode.OK


def find(arguments: argparse.Namespace, output: Output) -> int:
    """The run of this machine's part, which gets a new supervisor where it has lost its own."""
    del arguments
    order = _order()
    with _one_at_a_time():
        from console.client.recovery import recover

        tasks.run(recover())
        _print(_found(order), output)
    return ExitCode.OK


def _order() -> Order:
    try:
        return msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    except msgspec.DecodeError as error:
        raise UsageError(
            "This is no order for a machine of a group", str(error), "Start a group with: --profile NAME --hosts A,B"
        ) from error


def _print(answer: Facts | Found, output: Output) -> None:
    output.json = True
    output.document(answer)


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Two orders for the same machine wait for each other."""
    path = paths.make_private_dir(paths.runs_dir()).parent / "node.lock"
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _found(order: Order) -> Found:
    wanted = (order.place.group, order.place.attempt, order.place.rank)
    for run, info in runs.list_runs():
        place = info.place
        if place is not None and (place.group, place.attempt, place.rank) == wanted:
            return Found(
                run=info, socket=run.socket_alias(), supervised=runs.is_supervised(info), live=runs.is_live(info)
            )
    return Found(run=None)


async def _check(order: Order) -> Facts:
    backend = LocalBackend(order.engine, allow_public=order.allow_public)
    place = order.place
    plan = await backend.plan(order.profile, order.overrides, node_of(place))
    report = await backend.preflight(plan)
    head = place.addresses[0]
    reached = await reach(head, place.port) if place.port is not None else Reach.REFUSED
    held = report.held_by(force=order.force)
    return Facts(
        console=__version__,
        engine=plan.engine_version,
        offer=plan.install_offer,
        profile=flattened(plan.profile),
        address=own_address(head),
        reach=str(reached),
        blocked=tuple(f"{each.title}: {each.text}" for each in held),
        usd_per_hour=_own_price(plan.profile),
    )


def _own_price(profile: Profile) -> float | None:
    """Of this machine alone, by its `config.toml`."""
    alone = msgspec.structs.replace(profile.hardware, nodes=1)
    price = price_for(alone, read_configuration().price)
    return price.usd_per_hour if price is not None else None


async def _start(order: Order, output: Output) -> None:
    backend = LocalBackend(order.engine, allow_public=order.allow_public)
    plan = await backend.plan(order.profile, order.overrides, node_of(order.place))
    for sentence in await backend.recover():
        output.say(f"note: {sentence}")
    held = (await backend.preflight(plan)).held_by(force=order.force)
    if held:
        from console.core.preflight.words import blocked_words

        raise BlockedError(*blocked_words(held))
    await (await backend.launch(plan, order.place)).close()
