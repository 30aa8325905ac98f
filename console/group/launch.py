"""Before a group starts: are the machines alike, can they reach each other? And the coordinator's own start."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from console.client.launch import base_url
from console.core.command import served_name
from console.core.cost import with_price
from console.core.errors import BlockedError, EngineError, RemoteError, StateError, UsageError
from console.core.group import begin
from console.core.grouporder import Facts, differences
from console.core.nodes import Layout, is_loopback, layout, watched_port
from console.core.overrides import apply_overrides
from console.core.peers import Reach
from console.core.profile import Profile
from console.group.driver import order_for, target_of
from console.io import profiles
from console.io.config import read_configuration
from console.io.groups import GroupDir, GroupRecord, GroupSpec, create_group, is_held
from console.io.ssh import SshConnection, SshTarget, address_of

__all__ = ["check_hosts", "draft", "hold", "make_group"]

CHECK_TIMEOUT_S = 180.0
HOLD_TIMEOUT_S = 60.0
HOLD_LOOK_S = 0.05
ADDRESS = "network.address"
PRICE = "cost.usd_per_hour"


def draft(
    profile_name: str,
    overrides: Mapping[str, Any],
    hosts: Sequence[str],
    *,
    engine: str | None,
    allow_public: bool,
    force: bool,
    ssh_config: str | None,
    ssh_commands: Sequence[str],
) -> tuple[GroupSpec, Profile]:
    """What a group of these hosts would be, without its id and the addresses of all but the head.

    Raises:
        ConsoleError: the profile is wrong, is not for so many machines, or leaves a machine that would not notice the
            head's end.
    """
    stored = profiles.load(profile_name)
    changes = dict(overrides)
    profile = apply_overrides(stored.profile, changes) if changes else stored.profile
    nodes = profile.hardware.nodes
    if len(set(hosts)) != len(hosts) or len(hosts) != nodes:
        raise UsageError(
            f"The profile is for {nodes} {'machine' if nodes == 1 else 'machines'}, --hosts names {len(hosts)}",
            f"{stored.name}: hardware.nodes = {nodes}; hosts: {', '.join(hosts)}",
            "Name each machine once, the head first." if nodes > 1 else "Choose a profile with hardware.nodes above 1.",
        )
    if ADDRESS not in changes and (profile.network.address is None or is_loopback(profile.network.address)):
        changes[ADDRESS] = address_of(SshTarget(hosts[0], _path(ssh_config), ssh_commands[0]))
        profile = apply_overrides(stored.profile, changes)
    address = profile.network.address or ""
    port = watched_port(profile)
    if port is None:
        raise UsageError(
            "A machine could not notice when the head's server ends",
            f"data parallel engines, and serve.host = {profile.serve.host}, which only the head itself reaches",
            f"Serve an address that the others reach: --set serve.host={address}",
        )
    profile = with_price(profile, read_configuration().price)
    spec = GroupSpec(
        id="",
        profile_name=profile_name,
        overrides=changes,
        engine=engine,
        allow_public=allow_public,
        force=force,
        hosts=tuple(hosts),
        addresses=(address, *("" for _ in hosts[1:])),
        port=port,
        meets=layout(profile) is Layout.EXECUTOR,
        ssh_config=ssh_config,
        ssh_commands=tuple(ssh_commands),
        url=_url(profile),
        model=served_name(profile),
        created_s=time.time(),
    )
    return _priced(spec, profile.cost.usd_per_hour), profile


async def check_hosts(spec: GroupSpec, *, ask: bool) -> GroupSpec:
    """Look at all machines before anything starts. Returns the spec with their addresses.

    Args:
        spec: as drafted.
        ask: OpenSSH may ask on the terminal.

    Raises:
        RemoteError: a machine cannot be reached, or reaches not the head.
        EngineError: a machine has no engine for it.
        BlockedError: a launch would fail there.
        UsageError: they differ in what must be the same.
    """
    facts = await _facts(spec, ask=ask)
    for host, one in zip(spec.hosts, facts, strict=True):
        if one.engine is None:
            raise EngineError(
                "No engine for this profile is installed", f"on {host}", f"Run there: {one.offer or 'pip install vllm'}"
            )
    if different := differences(spec.hosts, facts):
        raise UsageError(
            "The machines are not alike", "\n".join(different), "Make them equal: the same versions, the same profile."
        )
    for host, one in zip(spec.hosts, facts, strict=True):
        if one.blocked:
            raise BlockedError(
                f"The launch would fail on {host}", "\n".join(one.blocked), f"ssh {host} dsv4-console doctor"
            )
    where = f"{spec.addresses[0]}:{spec.port}"
    for host, one in zip(spec.hosts, facts, strict=True):
        if one.reach == Reach.SILENT:
            raise RemoteError(
                f"{host} does not reach the head",
                f"{where} gives no answer there, not even a refusal",
                "Open the TCP ports between the machines, or name the head's right address: --set network.address=…",
            )
        if one.reach == Reach.OPEN:
            raise BlockedError(
                f"Port {spec.port} of the head is taken",
                f"{where} accepts a connection from {host}, and nothing of this group runs yet",
                "End what listens there, or choose another: --set network.master_port=29511",
            )
    own = [one.usd_per_hour for one in facts]
    if spec.usd_per_hour is None and None not in own:
        spec = _priced(spec, sum(price or 0.0 for price in own))
    return msgspec.structs.replace(spec, addresses=(spec.addresses[0], *(one.address for one in facts[1:])))


def _priced(spec: GroupSpec, usd_per_hour: float | None) -> GroupSpec:
    """The spec with the price of all its machines, which goes with every order: the head counts it."""
    if usd_per_hour is None:
        return spec
    return msgspec.structs.replace(spec, usd_per_hour=usd_per_hour, overrides={**spec.overrides, PRICE: usd_per_hour})


async def _facts(spec: GroupSpec, *, ask: bool) -> tuple[Facts, ...]:
    connections = [SshConnection(target_of(spec, rank)) for rank in range(len(spec.hosts))]
    try:
        for connection in connections:
            # One after the other, as each may ask.
            await asyncio.to_thread(connection.open, ask=ask)
        return tuple(await asyncio.gather(*(_ask(spec, rank, each) for rank, each in enumerate(connections))))
    finally:
        for connection in connections:
            await asyncio.to_thread(connection.close)


async def _ask(spec: GroupSpec, rank: int, connection: SshConnection) -> Facts:
    host = spec.hosts[rank]
    order = msgspec.json.encode(order_for(spec, rank, 0))
    try:
        done = await connection.run_console(["node", "check", "--json"], stdin=order, timeout_s=CHECK_TIMEOUT_S)
        if done.code == 0:
            return msgspec.json.decode(done.stdout, type=Facts)
        said = done.stderr.strip() or done.stdout.decode(errors="replace").strip()
    except TimeoutError as error:
        raise RemoteError(f"{host} does not answer", f"nothing for {CHECK_TIMEOUT_S:.0f} s") from error
    except msgspec.DecodeError as error:
        raise RemoteError(
            f"The console on {host} is of another version", str(error), "Install the same version on all machines."
        ) from error
    raise RemoteError(f"{host} cannot take part", said, f"Look there: ssh {host} dsv4-console doctor")


def make_group(spec: GroupSpec, profile: Profile) -> GroupDir:
    """Write a group directory that a coordinator can start from.

    Raises:
        StateError: the state directory is not writable.
    """
    folder = create_group(spec.profile_name.rpartition("/")[2].removesuffix(".toml"))
    spec = msgspec.structs.replace(spec, id=folder.id)
    try:
        folder.write(GroupRecord(spec=spec, group=begin(spec.hosts, profile.supervise.restart)))
    except OSError as error:
        raise StateError(
            "Cannot write the group directory", f"{folder.path}: {error.strerror}", "Free some disk space."
        ) from error
    return folder


async def hold(folder: GroupDir) -> None:
    """See to it that a coordinator holds the group, unless it is over.

    Raises:
        StateError: it did not come up.
    """
    if folder.read().group.over or is_held(folder.read()):
        return
    child = _spawn(folder)
    deadline = time.monotonic() + HOLD_TIMEOUT_S
    while time.monotonic() < deadline:
        record = folder.read()
        if record.group.over or is_held(record):
            break
        if child.poll() not in (None, 0):
            break
        await asyncio.sleep(HOLD_LOOK_S)
    alive = child.poll() is None
    if alive:
        child.returncode = 0  # it outlives us; the interpreter need not warn of that
    if not (alive or folder.read().group.over or is_held(folder.read())):
        text = folder.log_path.read_text(encoding="utf-8", errors="replace")[-2000:].strip()
        raise StateError("The coordinator did not come up", f"{folder.log_path}:\n{text}", "Report this defect.")


def _spawn(folder: GroupDir) -> subprocess.Popen[bytes]:
    with folder.log_path.open("ab") as log:
        os.fchmod(log.fileno(), 0o600)
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "console.group", str(folder.path)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _url(profile: Profile) -> str:
    """Where others reach the head's server, if they do."""
    host = profile.serve.host
    if host in ("0.0.0.0", "::", "") and profile.network.address:  # noqa: S104 - read, not bound
        serve = msgspec.structs.replace(profile.serve, host=profile.network.address)
        profile = msgspec.structs.replace(profile, serve=serve)
    return base_url(profile)


def _path(text: str | None) -> Path | None:
    return Path(text) if text is not None else None
