"""Endpoints that this console did not start: what an operator says of one, and what can be wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

import msgspec
from msgspec import Meta

from console.core.errors import UsageError
from console.core.models import RunInfo, SourceStatus

__all__ = [
    "WATCH",
    "Trouble",
    "WatchSection",
    "WatchTarget",
    "is_watched",
    "named_targets",
    "target_of",
    "trouble_of",
    "trouble_words",
]

WATCH = "watch"
"""Before the name in the id of a watched endpoint, and the source whose error is its `Trouble`."""
EXAMPLE = "http://10.0.0.7:8000"
SCHEMES = ("http", "https")
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
OPENAI_PATH = "/v1"
"""Many write an endpoint with it; what is asked here lies beside it."""


class WatchSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[watch.NAME]` of `config.toml`."""

    url: str
    key_env: Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    """Environment variable with its API key. The key itself stands in no file."""
    usd_per_hour: Annotated[float, Meta(ge=0)] | None = None
    """What its machine costs, in dollars an hour."""


class WatchTarget(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint to watch."""

    name: str
    url: str
    """Without `/v1` and without a slash at its end."""
    key_env: str | None = None
    usd_per_hour: float | None = None

    @property
    def id(self) -> str:
        """By which it is attached to: `watch:NAME`."""
        return f"{WATCH}:{self.name}"


class Trouble(StrEnum):
    """Why an endpoint cannot be watched as it should be."""

    UNREACHABLE = "unreachable"
    """No connection, or no answer in time."""
    KEY = "wants a key"
    """HTTP 401 or 403."""
    FOREIGN = "not a vLLM"
    """It answers, and has no metrics of vLLM."""


def is_watched(run: RunInfo) -> bool:
    """Whether this is an endpoint that the console did not start."""
    return run.id.startswith(f"{WATCH}:")


def trouble_of(sources: Iterable[SourceStatus]) -> Trouble | None:
    """What a snapshot says is wrong with an endpoint; `None` for a run, and where nothing is."""
    return next((Trouble(each.error) for each in sources if each.name == WATCH and each.error), None)


def trouble_words(trouble: Trouble, target: WatchTarget, said: str) -> str:
    """The trouble in a sentence, with what to do.

    Args:
        said: what the call brought, in a few words.
    """
    match trouble:
        case Trouble.UNREACHABLE:
            return f"{target.url}: {said}"
        case Trouble.KEY if target.key_env is None:
            return f"{said}; name the variable that has it: --api-key-env NAME, or key_env in its [watch.NAME]"
        case Trouble.KEY:
            return f"{said}; the one in {target.key_env} is not taken"
        case Trouble.FOREIGN:
            return f"{target.url} answers, and is not a vLLM server: {said}"


def target_of(
    url: str, *, name: str | None = None, key_env: str | None = None, usd_per_hour: float | None = None
) -> WatchTarget:
    """Judge an address that an operator gave.

    Raises:
        UsageError: it is no address of an HTTP server, or has a password in it.
    """
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError as error:
        raise _wrong(url, str(error)) from error
    if parts.scheme not in SCHEMES:
        raise _wrong(url, f"it begins with none of {', '.join(f'{scheme}://' for scheme in SCHEMES)}")
    if "@" in parts.netloc:
        raise UsageError(
            "An address to watch has a user or a password in it",
            "what stands on a command line or in a file is read by others",
            "Leave it out, and name the variable that has the API key: --api-key-env NAME.",
        )
    if not parts.hostname or any(character.isspace() or ord(character) < ord(" ") for character in url.strip()):
        raise _wrong(url, "it names no host")
    if parts.query or parts.fragment:
        raise _wrong(url, "it has a ? or # in it")
    if key_env is not None and ENV_NAME.fullmatch(key_env) is None:
        raise UsageError(
            "--api-key-env takes the name of an environment variable",
            f"found a value of {len(key_env)} characters that is no name",
            "Export the key, for example as VLLM_API_KEY, and give that name.",
        )
    path = parts.path.rstrip("/").removesuffix(OPENAI_PATH).rstrip("/")
    return WatchTarget(
        name=name or _name(parts, port, path),
        url=f"{parts.scheme}://{parts.netloc}{path}",
        key_env=key_env,
        usd_per_hour=usd_per_hour,
    )


def _name(parts: SplitResult, port: int | None, path: str) -> str:
    """`10.0.0.7:8000`, `[fd00::7]:8000`; a path that tells endpoints of one host apart stays."""
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return f"{host}{'' if port is None else f':{port}'}{path}"


def _wrong(url: str, why: str) -> UsageError:
    return UsageError("This is no address to watch", f"{url}: {why}", f"For example: --watch {EXAMPLE}")


def named_targets(targets: Sequence[WatchTarget]) -> tuple[WatchTarget, ...]:
    """These, each address once (the first that names it wins) and no name twice."""
    by_url: dict[str, WatchTarget] = {}
    for target in targets:
        by_url.setdefault(target.url, target)
    names: set[str] = set()
    found: list[WatchTarget] = []
    for target in by_url.values():
        name, number = target.name, 1
        while name in names:
            number += 1
            name = f"{target.name}-{number}"
        names.add(name)
        found.append(msgspec.structs.replace(target, name=name))
    return tuple(found)
