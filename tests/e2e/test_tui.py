"""The terminal UI at 80×24 in tmux on the real engine: pick, launch, chat, load, leave, attach again, stop."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.terminal import Terminal
from tests.e2e.world import World, load, wait_for

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]


@pytest.fixture
def own_profile(world: World) -> None:
    """The user's own `cpu-smoke`, on this test's port."""
    shipped = Path(__file__).parents[2] / "profiles" / "cpu-smoke.toml"
    directory = world.home / "config" / "dsv4-console" / "profiles"
    directory.mkdir(parents=True)
    text = shipped.read_text(encoding="utf-8").replace("[serve]\n", f"[serve]\nport = {world.port}\n")
    (directory / "cpu-smoke.toml").write_text(text, encoding="utf-8")


@pytest.fixture
def terminals(world: World) -> Iterator[list[Terminal]]:
    """Terminals that a test opened; closed with their programs when it ends."""
    opened: list[Terminal] = []
    yield opened
    for terminal in opened:
        terminal.close()


def healthy(world: World) -> bool:
    try:
        return httpx.get(f"{world.url}/health", timeout=5.0, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.usefixtures("own_profile")
def test_pick_launch_chat_load_leave_attach_stop(world: World, terminals: list[Terminal]) -> None:
    first = Terminal(world)
    terminals.append(first)
    screen = first.see("cpu-smoke")
    assert re.search(r"[▸>].*cpu-smoke", screen), screen
    first.keys("Enter")
    first.see("Launch cpu-smoke on 127.0.0.1")
    first.keys("Enter")
    first.see("read the configuration")
    first.see("READY", 300.0)
    assert healthy(world)

    first.keys("3")
    first.see("Write a message")
    first.type("Say [/bold] something")
    first.keys("Enter")
    answer = first.see("tok/s")
    assert "Say [/bold] something" in answer
    assert "TTFT" in answer
    first.keys("Escape")
    first.see("1 overview")  # the key bar names it once the input has let go of the keys
    first.keys("1")
    first.see("Hints")

    with load(world.url, 16):
        # The rate, since most looks at `running` fall between bursts on two cores.
        wait_for("figures to move under load", lambda: re.search(r"\boutput\s+[1-9]", first.text), 120.0)

    first.keys("q")
    first.see("Leave the console?")
    first.keys("Enter")
    first.see("exit=0")
    assert first.state() == "0 0 1", "the terminal is left as it was"
    assert healthy(world)

    second = Terminal(world)
    terminals.append(second)
    second.see("READY")
    second.keys("2")
    second.see("following")  # the pane's own line; the overview shows the log's end too
    second.keys("g")
    second.see("version 0.32.0")
    second.keys("s")
    second.see("Stop cpu-smoke?")
    second.keys("y")
    second.see("STOPPED", 120.0)
    assert not world.engine_processes()
    second.keys("q")
    second.see("exit=0")
    assert second.state() == "0 0 1"
    wait_for("the supervisor to leave", lambda: not world.status()["supervised"], 30.0)


def test_a_terminal_that_is_too_small_says_so(world: World, terminals: list[Terminal]) -> None:
    terminal = Terminal(world, width=40, height=10)
    terminals.append(terminal)
    terminal.see("60")
    # A key that comes before the console has started is dropped.
    wait_for("it to leave at q", lambda: "exit=0" in terminal.text or terminal.keys("q"), 30.0)
