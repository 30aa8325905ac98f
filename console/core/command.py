"""From a profile to the exact `vllm serve` command: arguments, environment, and how both look in a shell.

The only place that knows how a value becomes an argument. `[serve]` flags come from the metadata in
`console.core.profile`, so a new field there needs no change here. Nothing is quoted anywhere else.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from console.core.nodes import Node, node_arguments, node_environment
from console.core.profile import Profile, ServeSection
from console.core.text import HIDDEN, redact, redact_argv

__all__ = [
    "FLAGS",
    "GATES",
    "GENERATED",
    "Command",
    "Gate",
    "build_command",
    "is_local_model",
    "served_name",
    "shell_line",
]

GENERATED = "generated:"
"""A model id that starts so is a model made by this program."""
ENGINE_READY_TIMEOUT_S_MIN = 3600
"""vLLM's own 600 s is too short for 0.9 TB of weights; its recipes use 3600."""
QUIET_ENDPOINTS = "/health,/metrics"
"""Polled every second, so their access lines would fill the log."""
JSON_LISTS = frozenset({"allowed-origins", "allowed-methods", "allowed-headers"})
"""Flags that take a list as one JSON value (vLLM 0.32's parser)."""
REPEATED = frozenset({"middleware"})
"""Flags that are given once per value."""
BARE_FLAGS = frozenset(
    {
        "aggregate-engine-logging",
        "data-parallel-multi-port-external-lb",
        "disable-log-stats",
        "grpc",
        "headless",
    }
)
"""Switches without a `--no-` form: false leaves them out."""

_PUBLISHED_MIN = SpecifierSet(">=0.20.2")

FLAGS: dict[str, str] = {
    field.encode_name: field.type.extra["flag"]
    for field in msgspec.inspect.type_info(ServeSection).fields  # type: ignore[attr-defined]
    if isinstance(field.type, msgspec.inspect.Metadata) and field.type.extra
}
"""`[serve]` field to vLLM flag, in the order of the fields."""


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """What to run."""

    argv: tuple[str, ...]
    env: dict[str, str]
    """What is added to the operator's environment, in the clear."""
    warnings: tuple[str, ...] = ()


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """A setting that only some vLLM versions know."""

    id: str
    versions: str
    applies: Callable[[Profile], bool]
    text: str


def _uses(part: str) -> Callable[[Profile], bool]:
    def applies(profile: Profile) -> bool:
        return any(part in f"{key}={value}".replace("-", "_") for key, value in profile.serve.extra.items())

    return applies


def _architecture(prefix: str) -> Callable[[Profile], bool]:
    return lambda profile: (profile.model.architecture or "").startswith(prefix)


# Version limits as read in vLLM's published wheels 0.20 to 0.33.
GATES: tuple[Gate, ...] = (
    Gate(id="v4", versions=">=0.20", applies=_architecture("deepseek-v4"), text="the DeepSeek V4 architecture"),
    Gate(id="v4.1", versions=">=0.30", applies=_architecture("deepseek-v4.1"), text="DeepSeek V4.1-Flash"),
    Gate(
        id="dspark",
        versions=">=0.25",
        applies=lambda profile: (profile.serve.speculative_config or {}).get("method") == "dspark",
        text="speculation with method dspark",
    ),
    Gate(
        id="fp4-indexer",
        versions="<0.30",
        applies=_uses("use_fp4_indexer_cache"),
        text="attention_config.use_fp4_indexer_cache (later: attention_config.indexer_kv_dtype = mxfp4)",
    ),
    Gate(
        id="indexer-dtype",
        versions=">=0.28",
        applies=_uses("indexer_kv_dtype"),
        text="attention_config.indexer_kv_dtype",
    ),
    Gate(id="queue-limit", versions=">=0.30", applies=_uses("max_num_queued"), text="--max-num-queued-reqs/-tokens"),
    Gate(id="log-config", versions=">=0.32", applies=_uses("logging_config"), text="--logging-config"),
)


def is_local_model(model_id: str) -> bool:
    """Whether the model is a directory or one of this program's own, so that no hub is asked for it."""
    return model_id.startswith((GENERATED, "/", "./", "../", "~"))


def served_name(profile: Profile) -> str:
    """The name by which clients must ask for the model."""
    return profile.model.served_name or profile.model.id.removeprefix(GENERATED)


def build_command(
    profile: Profile,
    executable: str,
    model_path: str | None = None,
    engine_version: str | None = None,
    node: Node | None = None,
) -> Command:
    """The command that serves `profile`, or one machine's part of it.

    Args:
        executable: path of the `vllm` command of the engine.
        model_path: directory of a generated or local model; otherwise vLLM is given the model's id.
        engine_version: as `vllm --version` says it; flags that this version lacks are left out or warned of.
        node: which machine of several; the first where it is not given.
    """
    node = node or Node()
    serve = profile.serve
    version = _version(engine_version)
    argv = [executable, "serve", model_path or profile.model.id, "--served-model-name", served_name(profile)]
    if profile.model.revision and not is_local_model(profile.model.id):
        argv += ["--revision", profile.model.revision]
    for field, flag in FLAGS.items():
        value = getattr(serve, field)
        if value is not None:
            argv += _arguments(flag, value)
    argv += node_arguments(profile, node)
    extra = {_flag_of(key): value for key, value in serve.extra.items()}
    for flag, value in extra.items():
        argv += _arguments(flag, value)
    if version is None or _PUBLISHED_MIN.contains(version, prereleases=True):
        if "--disable-access-log-for-endpoints" not in extra:
            argv += ["--disable-access-log-for-endpoints", QUIET_ENDPOINTS]
        if "--shutdown-timeout" not in extra:
            argv += ["--shutdown-timeout", str(math.ceil(profile.supervise.drain_timeout_s))]
    return Command(
        argv=tuple(argv),
        env=_environment(profile) | node_environment(profile, node),
        warnings=_warnings(profile, version),
    )


def shell_line(argv: Sequence[str], env: Mapping[str, str]) -> str:
    """The command as one would type it, secrets as `•••`."""
    variables = [f"{name}={_quote(value)}" for name, value in redact(env).items()]
    return " ".join([*variables, *(_quote(argument) for argument in redact_argv(argv))])


def _quote(text: str) -> str:
    return text if text == HIDDEN else shlex.quote(text)


def _flag_of(key: str) -> str:
    """`max_num_queued_reqs` to `--max-num-queued-reqs`; what follows a dot keeps its underscores."""
    name, dot, rest = key.partition(".")
    return f"--{name.replace('_', '-')}{dot}{rest}"


def _arguments(flag: str, value: Any) -> list[str]:
    name = flag.removeprefix("--")
    if value is True:
        return [flag]
    if value is False:
        return [] if name in BARE_FLAGS else [f"--no-{name}"]
    if isinstance(value, list | tuple) and name not in JSON_LISTS:
        if name in REPEATED:
            return [argument for item in value for argument in (flag, _text(item))]
        return [flag, *(_text(item) for item in value)]
    text = _text(value)
    # A separate argument with a leading dash would be read as a flag.
    return [f"{flag}={text}"] if text.startswith("-") else [flag, text]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _environment(profile: Profile) -> dict[str, str]:
    env = {
        "PYTHONUNBUFFERED": "1",
        "NO_COLOR": "1",
        "VLLM_LOGGING_COLOR": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_ENGINE_READY_TIMEOUT_S": str(
            max(ENGINE_READY_TIMEOUT_S_MIN, math.ceil(profile.supervise.ready_timeout_s))
        ),
    }
    if is_local_model(profile.model.id):
        env["HF_HUB_OFFLINE"] = "1"
    return env | profile.env


def _version(text: str | None) -> Version | None:
    try:
        return Version(text) if text else None
    except InvalidVersion:
        return None


def _warnings(profile: Profile, version: Version | None) -> tuple[str, ...]:
    if version is None:
        return ()
    return tuple(
        f"vLLM {version} may refuse {gate.text}: known in {gate.versions}"
        for gate in GATES
        if gate.applies(profile) and not SpecifierSet(gate.versions).contains(version, prereleases=True)
    )
