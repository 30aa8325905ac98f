"""What may be imported: only the UI knows Textual, nothing knows vLLM, and asking for help loads next to nothing."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
import time

import pytest

import console

NEVER = {"vllm", "torch", "transformers"}
HEAVY = {"textual", "rich", "httpx", "msgspec", "psutil", "pynvml", "tomlkit", "prometheus_client", "packaging"}
HELP_LIMIT_S = 0.15
ATTEMPTS_MAX = 20

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(console.__path__, "console.")
    if not module.name.startswith(("console.tui", "console.__main__", "console.supervisor.__main__"))
)


def loaded_after(code: str) -> set[str]:
    """Top-level modules that are loaded once a fresh interpreter ran `code`."""
    program = (
        f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\nprint(*sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stderr.split()}


def test_no_module_but_the_ui_imports_textual_and_none_vllm() -> None:
    assert len(MODULES) > 50
    # One by one in the same interpreter: the first that brings one in is named.
    program = (
        "import importlib, sys\n"
        f"for name in {MODULES}:\n"
        "    importlib.import_module(name)\n"
        f"    found = {NEVER | {'textual'}} & set(sys.modules)\n"
        "    assert not found, f'{name} imports {found}'\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_supervisor_loads_nothing_that_paints() -> None:
    loaded = loaded_after("import console.supervisor.__main__, console.supervisor.service")
    assert "httpx" in loaded
    assert not {"rich", "pygments", "click", "textual"} & loaded


def test_the_ui_does_not_import_vllm_either() -> None:
    loaded = loaded_after("import console.tui.app")
    assert "textual" in loaded
    assert not NEVER & loaded


@pytest.mark.parametrize("option", ["--help", "--version", "status --help"])
def test_help_loads_nothing_heavy(option: str) -> None:
    assert not (HEAVY | NEVER) & loaded_after(f"import console.cli; console.cli.main({option.split()})")


@pytest.mark.parametrize("command", ["status", "logs", "stop", "fleet", "engine list", "profiles check"])
def test_commands_that_send_no_request_do_not_load_a_client_for_it(command: str) -> None:
    loaded = loaded_after(f"import console.cli; console.cli.main({command.split()})")
    assert not ({"httpx", "textual", "rich"} | NEVER) & loaded


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_answers_at_once(option: str) -> None:
    took = []
    # What other work on this machine costs is not the program's doing: one good attempt is proof.
    for _ in range(ATTEMPTS_MAX):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-P", "-m", "console", option], stdout=subprocess.DEVNULL, check=True)
        took.append(time.perf_counter() - began)
        if took[-1] < HELP_LIMIT_S:
            return
    raise AssertionError(f"took {took} s")
