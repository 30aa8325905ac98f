"""Starts that really fail: the real engine's own words lead to the cause, its remedy and the change to try.

Only failures that come within seconds; those that take longer are recorded in `tests/data/logs`.
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from console.core.diagnosis import diagnose
from tests.e2e.world import World

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

FAIL_TIMEOUT_S = 240.0


def damaged(world: World) -> str:
    """A model whose configuration ends in the middle."""
    directory = world.home / "damaged"
    (source,) = Path(world.env["XDG_DATA_HOME"]).glob("dsv4-console/models/tiny-llama")
    shutil.copytree(source, directory)
    text = (directory / "config.json").read_text(encoding="utf-8")
    (directory / "config.json").write_text(text[: len(text) // 2], encoding="utf-8")
    return f"model.id={directory}"


CASES: dict[str, tuple[tuple[str | Callable[[World], str], ...], str, dict[str, Any]]] = {
    "context": (("serve.max_model_len=999999",), "context-above-model", {"serve.max_model_len": 131_072}),
    "parser": (("serve.reasoning_parser=nope",), "reasoning-parser-unknown", {"serve.reasoning_parser": None}),
    "template": (
        ("serve.extra.chat-template=./no-such.jinja",),
        "template-missing",
        {"serve.extra.chat_template": None},
    ),
    "configuration": ((damaged,), "config-unreadable", {}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_failed_start_is_explained(world: World, case: str) -> None:
    settings, cause, change = CASES[case]
    headless = world.headless(*(each if isinstance(each, str) else each(world) for each in settings))
    assert headless.wait_end(FAIL_TIMEOUT_S) == 1, headless.said
    failure = headless.of("failure")[0]
    found = failure["diagnosis"]
    assert found["cause"] == cause, headless.said
    assert {item["key"]: item.get("after") for item in found.get("change", [])} == change

    # Three lines for people, the third names file and line, and what stands there is what is quoted.
    told = [
        line.strip() for line in headless.narration if line.startswith(("  cause:", "  remedy:", "  log:", "  try:"))
    ]
    assert [line.partition(":")[0] for line in told] == ["cause", "remedy", "log", *(["try"] if change else [])]
    log = Path(failure["log"])
    assert f"{log}:{found['line']}: " in told[2]
    lines = log.read_text(encoding="utf-8").splitlines()
    assert found["text"].strip()[:60] in lines[found["line"] - 1]
    again = diagnose(lines, 1)
    assert again is not None
    assert (again.cause, again.line) == (cause, found["line"])

    # The command to try is one that can be run, and no longer has the mistake.
    if change:
        program, *words = shlex.split(told[3].removeprefix("try:"))
        assert program == "dsv4-console"
        planned = world.json(*words, "--dry-run")
        assert "999999" not in planned["argv"]
        assert "nope" not in planned["argv"]
        assert "./no-such.jinja" not in planned["argv"]

    document = world.json("diagnose", "last")
    assert (document["cause"], document["line"]) == (cause, found["line"])
    assert not world.engine_processes()


def test_a_log_from_elsewhere_is_explained(world: World) -> None:
    log = world.home / "docker.log"
    what = "Free memory on device cuda:0 (60.1/79.2 GiB) on startup is less than desired GPU memory utilization"
    line = f"2026-11-23T11:58:03.123456789Z \x1b[31mValueError: {what} (0.92, 72.8 GiB).\x1b[0m\r\n"
    log.write_text(line, encoding="utf-8")
    document = world.json("diagnose", str(log))
    assert document["cause"] == "memory-taken"
    assert json.dumps(document["change"]) == json.dumps(
        [{"key": "serve.gpu_memory_utilization", "before": 0.92, "after": 0.74}]
    )
