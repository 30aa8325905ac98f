"""What the coordinator of a group asks of a machine, and what that machine answers: JSON over SSH, one document each.

`dsv4-console node check|start|find` reads an order on stdin and prints an answer. Both sides are this program, perhaps
of different versions, which `check` finds out before anything starts.
"""

from __future__ import annotations

from typing import Any

import msgspec

from console.core.models import NodePlace, RunInfo
from console.core.profile import Profile

__all__ = ["Facts", "Found", "Order", "differences", "flattened"]


class Order(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One machine's part."""

    profile: str
    overrides: dict[str, Any] = {}
    engine: str | None = None
    allow_public: bool = False
    force: bool = False
    place: NodePlace


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a machine is, before the start."""

    console: str
    """Version of this program."""
    engine: str | None
    """Version of vLLM; `None` if none that fits is installed."""
    offer: str
    """The command that installs one."""
    profile: dict[str, Any]
    """With overrides applied, key by key."""
    address: str
    """From which it reaches the head."""
    reach: str
    """What came of a connection to the head's port: a `Reach`."""
    blocked: tuple[str, ...]
    """What would keep a launch from succeeding here."""
    usd_per_hour: float | None = None
    """Price of this machine alone, as its own `config.toml` has it."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """The run of one machine's part of one attempt."""

    run: RunInfo | None
    """`None` if there is none."""
    socket: str = ""
    """Where its supervisor listens, there."""
    supervised: bool = False
    live: bool = False
    """Its supervisor or its server runs, or processes are left."""


def flattened(profile: Profile) -> dict[str, Any]:
    """A profile as dotted keys; title, description and price, by which nothing runs otherwise, are left out."""
    flat: dict[str, Any] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                walk(f"{prefix}.{key}" if prefix else str(key), item)
        else:
            flat[prefix] = value

    tables = msgspec.to_builtins(profile)
    for name in ("profile", "cost"):
        tables.pop(name, None)
    walk("", tables)
    return flat


def differences(names: tuple[str, ...], facts: tuple[Facts, ...]) -> tuple[str, ...]:
    """A sentence for each thing that must be the same on all machines and is not, with both values."""
    found = []
    first, *others = zip(names, facts, strict=True)
    for name, other in others:
        pairs = [("dsv4-console", first[1].console, other.console), ("vLLM", first[1].engine, other.engine)]
        keys = sorted({*first[1].profile, *other.profile})
        pairs += [(key, first[1].profile.get(key), other.profile.get(key)) for key in keys]
        found += [
            f"{what}: {_shown(one)} on {first[0]}, {_shown(two)} on {name}" for what, one, two in pairs if one != two
        ]
    return tuple(found)


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)
