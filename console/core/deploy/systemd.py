"""The systemd units of a profile that spans several machines: one for each, and a watch on all but the first.

One machine is `console.core.unit`'s: there the console supervises the server. Here systemd does, with vLLM's own
command. Facts: systemd.service(5), systemd.unit(5), systemd.kill(5), version 252; and, seen with vLLM 0.32, that the
processes of a machine live on when the first machine's have ended, and never join its next ones.
"""

from __future__ import annotations

import math

import msgspec

from console.core.deploy.spec import DeploySpec, command_of, start_budget, stop_s
from console.core.nodes import ADDRESS_UNKNOWN, ports, watched_port
from console.core.profile import RestartPolicy
from console.core.unit import quoted

__all__ = ["GroupUnit", "group_units"]

RESTART_PAUSE_S = 30
RESTARTS_MAX = 5
RESTART_WINDOW_S = 3600
LOOK_S = 5
"""Between two looks of a watch, or of a start, at a port."""
ANY_HOST = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - read, not bound


class GroupUnit(msgspec.Struct, frozen=True, kw_only=True):
    """One unit file."""

    name: str
    rank: int
    text: str


def group_units(spec: DeploySpec, executable: str, user: str, directory: str) -> tuple[GroupUnit, ...]:
    """The units of all machines, those of each machine together.

    Args:
        executable: absolute path of `vllm`, the same on every machine.
        user: whom the server runs as.
        directory: where it runs.

    Raises:
        ValueError: a value cannot stand in a unit.
    """
    units = []
    for rank in range(spec.nodes):
        name = f"{spec.name}-node{rank}.service"
        units.append(GroupUnit(name=name, rank=rank, text=_server(spec, rank, executable, user, directory)))
        watched = watched_port(spec.profile) if rank else None
        if watched is not None:
            watch = f"{spec.name}-node{rank}-watch.service"
            units.append(GroupUnit(name=watch, rank=rank, text=_watch(spec, rank, name, watched)))
    return tuple(units)


def _server(spec: DeploySpec, rank: int, executable: str, user: str, directory: str) -> str:
    command = command_of(spec, spec.profile, spec.node(rank), executable)
    budget, how = start_budget(spec)
    policy = spec.profile.supervise.restart
    lines = [
        f"# Machine {rank} of {spec.nodes}, profile {quoted(spec.profile_name)}. Written by `dsv4-console export`.",
        *_notes(spec, rank),
        "[Unit]",
        f"Description=vLLM with profile {spec.profile_name.replace('%', '%%')}, machine {rank} of {spec.nodes}",
        "After=network-online.target nvidia-persistenced.service",
        "Wants=network-online.target",
        f"StartLimitIntervalSec={RESTART_WINDOW_S}",
        f"StartLimitBurst={RESTARTS_MAX}",
        "",
        "[Service]",
        "Type=exec",
        f"ExecStart={' '.join(quoted(word, command=True) for word in command.argv)}",
    ]
    if rank == 0:
        lines += [
            "# Active is what answers /health. The wait ends with the server, so that a failed start is restarted.",
            f"ExecStartPost=/bin/sh -c {_shell(_until_healthy(spec))}",
            f"# {how}.",
            f"TimeoutStartSec={budget}",
        ]
    lines += [
        f"WorkingDirectory={quoted(directory)}",
        f"User={user}",
        *(f"Environment={quoted(f'{name}={value}')}" for name, value in command.env.items()),
        f"# VLLM_API_KEY and HF_TOKEN, readable by {user} alone.",
        f"EnvironmentFile=-/etc/dsv4-console/{spec.name}.env",
        "# SIGTERM goes to vLLM alone, which lets requests finish; what is left then gets SIGKILL.",
        "KillMode=mixed",
        f"TimeoutStopSec={stop_s(spec.profile)}",
        *_restart(policy),
        "OOMPolicy=continue",
        "TasksMax=infinity",
        "LimitNOFILE=1048576",
        "LimitMEMLOCK=infinity",
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return "\n".join(lines) + "\n"


def _notes(spec: DeploySpec, rank: int) -> list[str]:
    open_ports = ", ".join(str(port) for port in ports(spec.profile))
    lines = [
        f"# The others must reach port {open_ports} of machine 0; vLLM opens more on free ports, so let the machines",
        "# reach each other on all TCP ports of their own network. The same vLLM belongs on every machine.",
    ]
    if rank == 0 and not spec.hosts and spec.profile.network.address is None:
        lines.append(f"# Replace {ADDRESS_UNKNOWN} by machine 0's address, or export with --hosts.")
    if rank and watched_port(spec.profile) is None:
        lines += [
            "# serve.host is machine 0's alone, so that nothing here can see whether its server lives:",
            "# restart this unit whenever that one was restarted.",
        ]
    return lines


def _restart(policy: RestartPolicy) -> list[str]:
    if policy is RestartPolicy.NEVER:
        return ["# supervise.restart = never.", "Restart=no"]
    return [
        "# vLLM may end with code 0 when its engine has died; systemctl stop is never followed by a restart.",
        "Restart=always",
        f"RestartSec={RESTART_PAUSE_S}",
    ]


def _until_healthy(spec: DeploySpec) -> str:
    host = "127.0.0.1" if spec.profile.serve.host in ANY_HOST else spec.profile.serve.host
    host = f"[{host}]" if ":" in host else host
    url = f"http://{host}:{spec.profile.serve.port}/health"
    return f'until curl -fso /dev/null -m {LOOK_S} {url}; do kill -0 "$MAINPID" || exit 1; sleep {LOOK_S}; done'


def _shell(script: str) -> str:
    """A script for `sh -c`: its dollars are the shell's, so systemd is told to leave them."""
    return '"' + script.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$") + '"'


def _watch(spec: DeploySpec, rank: int, server: str, port: int) -> str:
    address = spec.node(rank).address or spec.profile.network.address or ADDRESS_UNKNOWN
    look = f"(: < /dev/tcp/{address}/{port}) 2> /dev/null"
    verb = "stop" if spec.profile.supervise.restart is RestartPolicy.NEVER else "restart"
    script = (
        f"until {look}; do sleep {LOOK_S}; done; while {look}; do sleep {LOOK_S}; done; "
        f"exec systemctl --no-block {verb} {server}"
    )
    lines = [
        "# When the server of machine 0 has gone, its processes here live on and serve no other one:",
        f"# this lets systemd {verb} them.",
        "[Unit]",
        f"Description=Watch of {server} on machine 0's port {port}",
        "# Stopped and restarted with it.",
        f"PartOf={server}",
        f"After={server}",
        "",
        "[Service]",
        "Type=exec",
        f"ExecStart=/bin/bash -c {_shell(script)}",
        f"TimeoutStopSec={math.ceil(LOOK_S * 2)}",
        "",
        "[Install]",
        f"WantedBy={server}",
    ]
    return "\n".join(lines) + "\n"
