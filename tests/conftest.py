"""Keeps the developer's machine out of every test, and gives the real engine to those that need it.

The engine is installed once per test run, by the product's own command.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.engine import installed_engine
from tests.faults.table import GROUP_ROW, ROW, group_heading, heading
from tests.turns import once_for_all, scheduler, turn

# Programs that a test starts must hear that their terminal is gone, also where the tests themselves were started with
# `nohup`: what is ignored here is ignored in all of them.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

SECRETS = ("VLLM_API_KEY", "HF_TOKEN", "OPENAI_API_KEY")


@pytest.fixture(autouse=True)
def own_directories(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Configuration, data, state and caches below a directory of this test."""
    home = tmp_path_factory.mktemp("xdg")
    for kind in ("CONFIG", "DATA", "STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(home / kind.lower()))
    for name in SECRETS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TEXTUAL_ANIMATIONS", "none")
    return home


@pytest.fixture(scope="session")
def data_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a CPU engine in it, which all workers share.

    `DSV4_TEST_DATA_HOME` names a directory to keep and reuse it in between runs while developing.
    """
    kept = os.environ.get("DSV4_TEST_DATA_HOME")
    shared = shared_folder(tmp_path_factory)
    with once_for_all(shared, "engine"):
        return installed_engine(Path(kept) if kept else shared / "data")


@pytest.fixture(scope="session")
def cpu_engine(data_home: Path) -> Path:
    """The environment of that engine."""
    (record,) = data_home.glob("dsv4-console/engines/*/engine.json")
    return record.parent


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """A directory of this test run, the same for all its workers."""
    own = factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Tests that share a server stay on one worker."""
    return scheduler(config, log)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Each test waits for its turn, before its time limit begins."""
    factory: pytest.TempPathFactory = item.config._tmp_path_factory  # type: ignore[attr-defined]
    with turn(shared_folder(factory), alone=item.get_closest_marker("alone") is not None):
        return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The faults that were done to the real engine, as docs/supervision.md and docs/nodes.md show them."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, ())]
    for kind, title, head in ((ROW, "faults", heading()), (GROUP_ROW, "faults of a group", group_heading())):
        rows = [value for report in reports for name, value in report.user_properties if name == kind]
        if rows:
            terminalreporter.section(title)
            for text in (head, *rows):
                terminalreporter.write_line(str(text))
