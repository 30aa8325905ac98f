"""What a tab is allowed, and how it ends, with a scripted program in place of the console."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator

import psutil
import pytest

from console.web import server, tab
from console.web.access import Access
from console.web.server import ConsoleServer
from console.web.tab import HEIGHT_MAX, WIDTH_MAX, bounded
from tests.web.served import WAIT_S, Address

TOKEN = "0123456789abcdef"
PAINTS = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
out = sys.stdout.buffer
def paint(data):
    out.write(b"D" + len(data).to_bytes(4, "big") + data)
    out.flush()
out.write(b"__GANGLION__\\n")
paint(b"first words")
"""
OBEYS = PAINTS + "while b'quit' not in (said := os.read(0, 4096)) and said: paint(b'heard')\n"
DEAF = PAINTS + "while True: time.sleep(60)\n"
FLOODS = PAINTS + "while True: paint(b'x' * 65536)\n"
NO_CONSOLE = "print('this is not what was expected')\n"


@contextlib.asynccontextmanager
async def serving(script: str) -> AsyncIterator[Address]:
    found = asyncio.get_running_loop().create_future()
    command = [sys.executable, "-c", script]
    running = asyncio.create_task(ConsoleServer(command, os.environ, Access(TOKEN)).run(0, found.set_result))
    try:
        yield Address(f"http://127.0.0.1:{await found}", TOKEN)
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        assert not children()


def children() -> list[psutil.Process]:
    found = []
    for each in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if each.status() != psutil.STATUS_ZOMBIE:
                found.append(each)
    return found


async def gone() -> None:
    async with asyncio.timeout(WAIT_S):
        while children():
            await asyncio.sleep(0.02)


async def test_a_console_is_asked_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tab, "QUIT_WAIT_S", 60.0)
    async with serving(OBEYS) as address:
        async with address.tab() as socket:
            await socket.send_json(["stdin", "a"])
            assert (await socket.receive(WAIT_S)).data == b"heard"
            assert len(children()) == 1
        await gone()


@pytest.mark.parametrize("script", [DEAF, FLOODS])
async def test_one_that_does_not_hear_or_is_not_heard_is_killed(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    monkeypatch.setattr(tab, "QUIT_WAIT_S", 0.2)
    monkeypatch.setattr(tab, "TERMINATE_WAIT_S", 0.2)
    async with serving(script) as address:
        async with address.tab():
            assert len(children()) == 1
        await gone()
        async with address.tab():  # the server serves on, and ends this one with itself
            assert len(children()) == 1


async def test_a_program_that_is_no_console_ends_its_tab() -> None:
    async with serving(NO_CONSOLE) as address, address.session() as session:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in address.cookies.items())}
        async with session.ws_connect(f"{address.base}/ws", origin=address.base, headers=headers) as socket:
            assert (await socket.receive(WAIT_S)).type.name in ("CLOSE", "CLOSED", "CLOSING")


@pytest.mark.parametrize(
    "message", ["no json", "{}", "[]", '["resize"]', '["resize",{}]', '["resize",{"width":"x","height":1}]', "[1]"]
)
async def test_what_is_no_message_ends_its_tab_at_most(message: str, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(OBEYS) as address:
        async with address.tab() as socket:
            await socket.send_str(message)
            await socket.send_json(["resize", {"width": 10**9, "height": -5}])
        await gone()
        async with address.tab():
            assert len(children()) == 1
    assert not caplog.records


@pytest.mark.parametrize("query", [{}, {"width": "x", "height": "24"}, {"width": 80}])
async def test_a_page_that_did_not_measure_itself_gets_80_by_24(query: dict[str, str]) -> None:
    async with serving(OBEYS) as address, address.tab(**query):
        environment = children()[0].environ()
        assert (environment["COLUMNS"], environment["ROWS"]) == ("80", "24")
        assert "LINES" not in environment
        assert "TMUX" not in environment


def test_a_size_is_one_that_can_be_painted() -> None:
    assert bounded(10**9, -5) == (WIDTH_MAX, 1)
    assert bounded(80, 24) == (80, 24)
    assert bounded(0, 10**9) == (1, HEIGHT_MAX)


async def test_consoles_in_browsers_have_a_limit_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "TABS_MAX", 2)
    async with serving(OBEYS) as address, address.session() as session:
        async with address.tab(), address.tab():
            async with session.get(address.base, cookies=address.cookies) as answer:
                assert answer.status == 503
                assert "Close one of them" in await answer.text()
            with pytest.raises(AssertionError, match="CLOSE"):
                async with address.tab():
                    pass
            assert len(children()) == 2
        await gone()
        status = 0
        async with asyncio.timeout(WAIT_S):
            while status != 200:
                async with session.get(address.base, cookies=address.cookies) as answer:
                    status = answer.status
