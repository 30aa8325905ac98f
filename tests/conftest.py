"""Keeps the developer's machine out of every test, and gives the real engine to those that need it.

The engine is installed once per test run, by the product's own command.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.engine import installed_engine
from tests.faults.table import SEEN, heading, line

SECRETS = ("VLLM_API_KEY", "HF_TOKEN", "OPENAI_API_KEY")


@pytest.fixture(autouse=True)
def own_directories(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Configuration, data and state below a directory of this test."""
    home = tmp_path_factory.mktemp("xdg")
    for kind in ("CONFIG", "DATA", "STATE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(home / kind.lower()))
    for name in SECRETS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TEXTUAL_ANIMATIONS", "none")
    return home


@pytest.fixture(scope="session")
def data_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a CPU engine in it.

    `DSV4_TEST_DATA_HOME` names a directory to keep and reuse it in between runs while developing.
    """
    kept = os.environ.get("DSV4_TEST_DATA_HOME")
    return installed_engine(Path(kept) if kept else tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def cpu_engine(data_home: Path) -> Path:
    """The environment of that engine."""
    (record,) = data_home.glob("dsv4-console/engines/*/engine.json")
    return record.parent


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The faults that were done to the real engine, as the README shows them."""
    if SEEN:
        terminalreporter.section("faults")
        for text in (heading(), *map(line, SEEN)):
            terminalreporter.write_line(text)
