"""The systemd unit of a profile, as text. Pure, so that every line of it can be tested.

Facts are those of systemd.service(5), systemd.kill(5), systemd.exec(5) and systemd.unit(5), version 252.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import msgspec

from console.core.profile import SuperviseSection

__all__ = ["UnitSpec", "environment_text", "quoted", "unit_name", "unit_text"]

START_SPARE_S = 120
"""Beyond the profile's limit for readiness: the console names the cause of a failed start itself."""
STOP_SPARE_S = 45
"""Beyond drain and stop: SIGKILL to the session, and the proof that nothing is left."""
RESTART_PAUSE_S = 30
RESTARTS_MAX = 5
RESTART_WINDOW_S = 3600
_NAME = re.compile(r"[^A-Za-z0-9_.-]+")


class UnitSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What goes into a unit."""

    profile: str
    argv: tuple[str, ...]
    """The command, its first word an absolute path."""
    directory: str
    supervise: SuperviseSection
    environment: Mapping[str, str]
    environment_file: str
    user: str | None
    """Whom a system unit runs as; `None` for a unit of the user's own manager."""


def unit_name(profile: str) -> str:
    """`dsv4-console-PROFILE.service`."""
    return f"dsv4-console-{_NAME.sub('-', profile).strip('-.') or 'profile'}.service"


def quoted(word: str, *, command: bool = False) -> str:
    """One word as systemd reads it back: quotes, backslashes, `%`, and in a command `$`, mean themselves.

    Raises:
        ValueError: it has a control character, which no unit can hold.
    """
    if not word.isprintable():
        raise ValueError(f"a control character in {word!r}")
    text = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    if command:
        text = text.replace("$", "$$")
    return f'"{text}"' if not word or re.search(r"[^A-Za-z0-9_./:=,@%+-]", word) else text


def _line(words: Sequence[str]) -> str:
    return " ".join(quoted(word, command=True) for word in words)


def unit_text(spec: UnitSpec) -> str:
    """The unit file.

    Raises:
        ValueError: a value cannot stand in a unit.
    """
    watch = spec.supervise
    system = spec.user is not None
    lines = [
        f"# Written by `dsv4-console service install --profile {quoted(spec.profile)}`.",
        "[Unit]",
        f"Description=dsv4-console: vLLM with profile {spec.profile.replace('%', '%%')}",
        *(("After=network-online.target nvidia-persistenced.service", "Wants=network-online.target") if system else ()),
        f"StartLimitIntervalSec={RESTART_WINDOW_S}",
        f"StartLimitBurst={RESTARTS_MAX}",
        "",
        "[Service]",
        "# The console says READY=1 when the server answers /health; only it speaks to systemd.",
        "Type=notify",
        "NotifyAccess=main",
        f"ExecStart={_line(spec.argv)}",
        f"WorkingDirectory={quoted(spec.directory)}",
        *((f"User={spec.user}",) if system else ()),
        *(f"Environment={quoted(f'{name}={value}')}" for name, value in sorted(spec.environment.items())),
        f"# VLLM_API_KEY and HF_TOKEN, readable by {spec.user or 'you'} alone.",
        f"EnvironmentFile=-{quoted(spec.environment_file)}",
        "# SIGTERM goes to the console alone, which lets requests finish and sees to it that nothing is left. What is",
        "# there after TimeoutStopSec gets SIGKILL: supervisor, server and workers are all in this unit's cgroup.",
        "KillMode=mixed",
        f"TimeoutStartSec={math.ceil(watch.ready_timeout_s) + START_SPARE_S}",
        f"TimeoutStopSec={math.ceil(watch.drain_timeout_s + watch.stop_timeout_s) + STOP_SPARE_S}",
        f"# The supervisor restarts the server by policy ({watch.restart}); systemd restarts the console where that",
        "# is lost (a signal, 70) or the machine lacks something (3, 6). 1: given up, 2: profile, 4: never ready.",
        "Restart=on-failure",
        "RestartPreventExitStatus=1 2 4 5",
        f"RestartSec={RESTART_PAUSE_S}",
        "# Ended by SIGINT or SIGTERM before it was ready.",
        "SuccessExitStatus=130 143",
        "# A worker killed for memory is the supervisor's to judge, not a reason to end everything.",
        "OOMPolicy=continue",
        "TasksMax=infinity",
        *(("LimitNOFILE=1048576", "LimitMEMLOCK=infinity") if system else ()),
        "",
        "[Install]",
        f"WantedBy={'multi-user.target' if system else 'default.target'}",
    ]
    return "\n".join(lines) + "\n"


def environment_text(profile: str) -> str:
    """The first content of the environment file."""
    return (
        f"# Environment of dsv4-console with profile {profile}. Keep it readable by its owner alone.\n"
        "# VLLM_API_KEY=\n"
        "# HF_TOKEN=\n"
    )
