"""The profile changes that rows of the table can propose, made from the text that matched and the server's arguments.

Separate from the rows so that a row stays a row. A change is proposed only where its new value follows from what the
log says; the operator sees it as a difference before anything is done.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from console.core.command import FLAGS
from console.core.models import ProfileChange

__all__ = [
    "Change",
    "Settings",
    "fewer_batched_tokens",
    "fewer_sequences",
    "fitting_divisor",
    "free_port",
    "less_kv_space",
    "less_memory",
    "more_memory",
    "named_backend",
    "own_parser_or_none",
    "pieces_of_8",
    "read_settings",
    "set_to",
    "share_left_free",
    "shorter_context",
    "threads_per_worker",
    "tool_parser",
    "unset_flags",
]

Settings = Mapping[str, Any]
"""What the server was started with, by argument name, as far as its log tells; other arguments have their default."""
Change = Callable[[re.Match[str], Settings], tuple[ProfileChange, ...]]

GPU_MEMORY_DEFAULT: Final = 0.92
"""vLLM's own `gpu_memory_utilization` (vllm/config/cache.py, 0.32)."""
GPU_MEMORY_STEP: Final = 0.04
GPU_MEMORY_MAX: Final = 0.95
GPU_MEMORY_SHARED_MIN: Final = 0.5
"""With less of a GPU free, sharing it is no remedy."""
BATCHED_TOKENS_DEFAULT: Final = 8192
"""What `vllm serve` takes on GPUs of 70 GiB and more (vllm/engine/arg_utils.py, 0.32)."""
BATCHED_TOKENS_MIN: Final = 512
TENSOR_PARALLEL_MAX: Final = 8
PORT_DEFAULT: Final = 8000
PORT_MAX: Final = 65_535

_ARGUMENT = re.compile(r"'(?P<name>\w+)': (?P<value>-?\d+\.\d+|-?\d+|True|False|'[^']*')(?=[,}])")
_FLAG = re.compile(r"(?:^|\s)--(?P<name>[A-Za-z][\w.-]*)(?:(?:=|\s+(?!--))(?P<value>\S+))?")
_FIELD_OF_FLAG: Final = {flag: field for field, flag in FLAGS.items()}


def read_settings(message: str) -> dict[str, Any]:
    """The plain values in vLLM's line `non-default args: {…}`; lists and tables are passed over."""
    return {found["name"]: _value(found["value"]) for found in _ARGUMENT.finditer(message)}


def _value(text: str) -> Any:
    if text.startswith("'"):
        return text[1:-1]
    if text in ("True", "False"):
        return text == "True"
    return float(text) if "." in text else int(text)


def _number(settings: Settings, name: str, default: float) -> float:
    value = settings.get(name)
    return value if isinstance(value, int | float) else default


def _one(key: str, before: Any, after: Any) -> tuple[ProfileChange, ...]:
    return (ProfileChange(key=key, before=before, after=after),)


def set_to(key: str, after: Any, before: str = "") -> Change:
    """A change to a fixed value; `before` names the group that holds the present one, else it is looked up."""

    def change(found: re.Match[str], settings: Settings) -> tuple[ProfileChange, ...]:
        now = found[before] if before else settings.get(key.rpartition(".")[2])
        return _one(key, now, after)

    return change


def shorter_context(found: re.Match[str], settings: Settings) -> tuple[ProfileChange, ...]:
    """The length that vLLM names in groups `asked` and `fits`."""
    if found["fits"] is None:
        return ()
    return _one("serve.max_model_len", int(found["asked"]), int(found["fits"]))


def fewer_sequences(found: re.Match[str], settings: Settings) -> tuple[ProfileChange, ...]:
    """Half as many as the group `sequences` says."""
    asked = int(found["sequences"])
    return _one("serve.max_num_seqs", asked, asked // 2) if asked > 1 else ()


def fewer_batched_tokens(found: re.Match[str], settings: Settings) -> tuple[ProfileChange, ...]:
    """Half as many tokens in one scheduler step."""
    now = settings.get("max_num_batched_tokens")
    after = int(_number(settings, "max_num_batched_tokens", BATCHED_TOKENS_DEFAULT)) // 2
    return _one("serve.max_num_batched_tokens", now, after) if after >= BATCHED_TOKENS_MIN else ()


def less_memory(found: re.Match[str], settings: Settings) -> tuple[ProfileChange, ...]:
    """One step less for weights and KV cache, which leaves more for the rest."""
    now = settings.get("gpu_memory_utilization")
    after = round(_number(settings, "gpu_memory_utilization", GPU_MEMORY_DEFAULT) - GPU_MEMORY_STEP, 2)
    return _one("serve.gpu_memory_utilization", now, after) if after > 0 else ()


def more_memory(found: re.Match[str], settings: Settings) -> tuple[ProfileChange, ...]:
    """More of the memory, or where it has nearly all, smaller steps."""
    now = settings.get("gpu_memory_utilization")
    if _number(settings, "gpu_memory_utilization", GPU_MEMORY_DEFAULT) >= GPU_MEMORY_MAX:
        return fewer_batched_tokens(found, settings)
    return _one("serve.gpu_memory_utilization", now, GPU_MEMORY_MAX)


def share_left_free(found: re.Match[str], settings: Settings) -> tuple[ProfileChange, ...]:
    """The share that was free (groups `free`, `total`), rounded down, if that is enough to serve with."""
    total = float(found["total"])
    # A hundredth is kept back: what is free changes by some MiB between two looks.
    share = int(float(found["free"]) / total * 100) / 100 - 0.01 if total else 0.0
    if share < GPU_MEMORY_SHARED_MIN:
        return ()
    asked = float(found["asked"]) if found["asked"] else settings.get("gpu_memory_utilization")
    return _one("serve.gpu_memory_utilization", asked, round(share, 2))


def fitting_divisor(found: re.Match[str], settings: Settings) -> tuple[ProfileChange, ...]:
    """The largest number of GPUs, not above `asked`, that divides `heads`."""
    heads, asked = int(found["heads"]), int(found["asked"])
    fitting = next((size for size in range(min(heads, asked), 0, -1) if heads % size == 0), 1)
    return _one("serve.tensor_parallel_size", asked, fitting)


def pieces_of_8(found: re.Match[str], settings: Settings) -> tuple[ProfileChange, ...]:
    """Tensor parallelism over 8 GPUs; the rest become groups of layers."""
    now = settings.get("tensor_parallel_size")
    changes = _one("serve.tensor_parallel_size", now, TENSOR_PARALLEL_MAX)
    if isinstance(now, int) and now > TENSOR_PARALLEL_MAX and now % TENSOR_PARALLEL_MAX == 0:
        groups = int(_number(settings, "pipeline_parallel_size", 1))
        changes += _one(
            "serve.pipeline_parallel_size",
            settings.get("pipeline_parallel_size"),
            groups * now // TENSOR_PARALLEL_MAX,
        )
    return changes


def free_port(found: re.Match[str], settings: Settings) -> tuple[ProfileChange, ...]:
    """The next port; the launch checks whether that one is free."""
    port = int(found["port"] or _number(settings, "port", PORT_DEFAULT))
    return _one("serve.port", port, port + 1 if port < PORT_MAX else PORT_DEFAULT)


def less_kv_space(found: re.Match[str], settings: Settings) -> tuple[ProfileChange, ...]:
    """Half of the memory that was free, in whole GiB: the rest of the machine needs some too."""
    return _one("env.VLLM_CPU_KVCACHE_SPACE", found["asked"], str(max(int(float(found["free"]) / 2), 1)))


def threads_per_worker(found: re.Match[str], settings: Settings) -> tuple[ProfileChange, ...]:
    """One core for each worker."""
    return _one("env.VLLM_CPU_OMP_THREADS_BIND", None, "|".join(str(core) for core in range(int(found["workers"]))))


def unset_flags(found: re.Match[str], settings: Settings) -> tuple[ProfileChange, ...]:
    """Leave out every flag of the group `flags`: a `[serve]` field by its name, others below `[serve.extra]`."""
    given: dict[str, Any] = {}
    for flag in _FLAG.finditer(found["flags"]):
        value = found.groupdict().get("value") or flag["value"]
        for key in _keys(flag["name"], valued=bool(value)):
            given.setdefault(key, value or True)
    return tuple(ProfileChange(key=key, before=before, after=None) for key, before in given.items())


def _keys(name: str, *, valued: bool) -> list[str]:
    """The profile keys that may have become `--name`; `--no-x` without a value is also a false `x`."""
    names = [name.removeprefix("no-"), name] if name.startswith("no-") and not valued else [name]
    fields = [_FIELD_OF_FLAG[f"--{each}"] for each in names if f"--{each}" in _FIELD_OF_FLAG]
    if fields:
        return [f"serve.{field}" for field in fields]
    return [f"serve.extra.{each.replace('-', '_')}" for each in names]


def own_parser_or_none(field: str, *needing: str) -> Change:
    """The listed parser whose name differs in spelling only; where there is none, serve without it.

    Args:
        field: of `[serve]`; the groups `name` and `listed` hold what was asked for and what there is.
        needing: other fields that make no sense without it.
    """

    def change(found: re.Match[str], settings: Settings) -> tuple[ProfileChange, ...]:
        name = found["name"]
        listed = re.findall(r"[\w.-]+", found["listed"] or "")
        near = next((other for other in listed if _letters(other) == _letters(name)), None)
        if near is not None:
            return _one(f"serve.{field}", name, near)
        others = tuple(
            ProfileChange(key=f"serve.{other}", before=settings[other]) for other in needing if settings.get(other)
        )
        return (*_one(f"serve.{field}", name, None), *others)

    return change


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


def tool_parser(found: re.Match[str], settings: Settings) -> tuple[ProfileChange, ...]:
    """DeepSeek V4's parser for that model; for others the choice is the operator's."""
    model = _letters(str(settings.get("model", "")))
    if "deepseekv4" in model:
        return _one("serve.tool_call_parser", None, "deepseek_v4")
    return _one("serve.enable_auto_tool_choice", True, None)


def named_backend(found: re.Match[str], settings: Settings) -> tuple[ProfileChange, ...]:
    """The attention backend that the line names in the group `instead`, or vLLM's own choice."""
    return _one("serve.extra.attention_backend", found["name"], found["instead"])
