"""Run by an engine's Python: reads commands with the parsers of several vLLM versions. Input and output are JSON.

On stdin, version to `{"sources": DIRECTORY, "commands": {NAME: {"argv": [...], "env": [...]}}}`; sources are `null` for
the engine's own vLLM. After `ANSWERS `, version to name to what is wrong. One process per version, forked from one that
has imported PyTorch: that is nine tenths of the time an import of vLLM takes.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import multiprocessing
import sys

HEAVY = ("torch", "torch._inductor.standalone_compile", "transformers", "transformers.models.auto", "openai", "fastapi")
"""What vLLM imports before it has parsed an argument."""


def main() -> None:
    """Ask all versions, two at a time."""
    asked = json.load(sys.stdin)
    for name in HEAVY:
        importlib.import_module(name)
    rows = [(version, row["sources"], row["commands"]) for version, row in asked.items()]
    with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
        answers = dict(zip(asked, pool.starmap(ask, rows, chunksize=1), strict=True))
    print("ANSWERS " + json.dumps(answers))


def ask(version: str, sources: str | None, commands: dict[str, dict[str, list[str]]]) -> dict[str, list[str]]:
    """What is wrong with each command; in a process of its own."""
    if sources:
        sys.path.insert(0, sources)
        # Without compiled parts: the CPU platform, which vLLM chooses by this version, imports none.
        real = importlib.metadata.version
        importlib.metadata.version = lambda name: f"{version}+cpu" if name == "vllm" else real(name)
    import vllm

    assert vllm.__file__.startswith(sources or sys.prefix), vllm.__file__
    parser = make_parser()
    problem: list[str] = []

    def error(message: str) -> None:
        problem.append(message)
        raise SystemExit(2)

    parser.error = error
    answers = {}
    for name, command in commands.items():
        problem.clear()
        try:
            parsed = parser.parse_args(command["argv"])
            wrong = list(wrong_names(parsed)) + list(wrong_variables(command["env"]))
        except (SystemExit, Exception) as caught:
            wrong = [(problem or [repr(caught)])[0]]
        answers[name] = wrong
    return answers


def make_parser():
    """`vllm serve`'s parser, which has moved twice."""
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    for place in ("common", "launchers", "openai"):
        try:
            return importlib.import_module(f"vllm.entrypoints.{place}.cli_args").make_arg_parser(
                FlexibleArgumentParser()
            )
        except (ImportError, AttributeError):
            continue
    raise SystemExit("no parser found")


def wrong_names(parsed):
    """Values that the parser takes as text and the server refuses."""
    from vllm.config import speculative
    from vllm.reasoning import ReasoningParserManager
    from vllm.tokenizers.registry import _VLLM_TOKENIZERS
    from vllm.tool_parsers import ToolParserManager

    known = (
        ("tool-call-parser", parsed.tool_call_parser, ToolParserManager.list_registered()),
        ("reasoning-parser", parsed.reasoning_parser, ReasoningParserManager.list_registered()),
        ("tokenizer-mode", parsed.tokenizer_mode, {"auto", "hf", "slow", *_VLLM_TOKENIZERS}),
    )
    for flag, value, allowed in known:
        if value and value not in allowed:
            yield f"{flag}: {value} is not one of {sorted(allowed)}"
    config = parsed.speculative_config or {}
    for key in config:
        if key not in speculative.SpeculativeConfig.__dataclass_fields__:
            yield f"speculative-config: no such key: {key}"
    methods = speculative.SpeculativeMethod.__args__
    if config.get("method", methods[0]) not in flat(methods):
        yield f"speculative-config: no such method: {config['method']}"


def flat(literals):
    """The values of nested `Literal`s."""
    for item in literals:
        yield from flat(item.__args__) if hasattr(item, "__args__") else (item,)


def wrong_variables(names):
    """vLLM's variables that this version does not read."""
    from vllm import envs

    return (f"no such variable: {name}" for name in names if name not in envs.environment_variables)


if __name__ == "__main__":
    main()
