"""The Prometheus endpoint over real sockets: what it answers, what it refuses, and that it stays on this machine."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from console.supervisor import metricsdoor as module
from console.supervisor.metricsdoor import MetricsDoor


class Scraped:
    """An endpoint on a free port."""

    def __init__(self) -> None:
        self.text: bytes | None = b"a 1\n"
        self.door = MetricsDoor(lambda: self.text)

    @property
    def port(self) -> int:
        assert self.door.port is not None
        return self.door.port

    async def ask(self, request: bytes) -> bytes:
        """All of the answer."""
        reader, writer = await asyncio.open_connection(module.HOST, self.port)
        writer.write(request)
        try:
            return await asyncio.wait_for(reader.read(), 10)
        except ConnectionError:
            return b""
        finally:
            writer.close()

    async def get(self, target: str, method: str = "GET") -> tuple[int, bytes]:
        answer = await self.ask(f"{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body


@pytest.fixture
async def scraped() -> AsyncIterator[Scraped]:
    scraped = Scraped()
    assert await scraped.door.open(0, server_port=1) == ""
    yield scraped
    await scraped.door.close()


async def test_answers(scraped: Scraped) -> None:
    assert await scraped.get("/metrics") == (200, b"a 1\n")
    assert await scraped.get("/metrics?x=1") == (200, b"a 1\n")
    assert await scraped.get("/metrics", "HEAD") == (200, b"")
    assert (await scraped.get("/"))[0] == 200
    assert (await scraped.get("/etc/passwd"))[0] == 404
    assert (await scraped.get("/metrics", "POST"))[0] == 405
    scraped.text = None
    assert (await scraped.get("/metrics"))[0] == 503
    head = (await scraped.ask(b"GET /metrics HTTP/1.0\r\n\r\n")).split(b"\r\n\r\n")[0]
    assert b"Connection: close" in head


@pytest.mark.parametrize("request_text", [b"\r\n\r\n", b"\xff\xfe\r\n\r\n", b"GET\r\n\r\n", b"GET  \r\n\r\n"])
async def test_nonsense_is_answered_and_does_no_harm(scraped: Scraped, request_text: bytes) -> None:
    assert (await scraped.ask(request_text)).startswith(b"HTTP/1.1 40")
    assert await scraped.get("/metrics") == (200, b"a 1\n")


async def test_a_long_request_is_cut_off(scraped: Scraped) -> None:
    answer = await scraped.ask(b"GET /metrics HTTP/1.1\r\nX: " + b"x" * module.REQUEST_BYTES_MAX * 3)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 431")
    assert await scraped.get("/metrics") == (200, b"a 1\n")


async def test_slow_clients_are_bounded_in_number_and_time(scraped: Scraped, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.5)
    slow = [await asyncio.open_connection(module.HOST, scraped.port) for _ in range(module.CLIENTS_MAX)]
    assert (await scraped.get("/metrics"))[0] == 503
    for reader, writer in slow:
        assert await asyncio.wait_for(reader.read(), 10) == b"", "cut off without an answer"
        writer.close()
    async with asyncio.timeout(10):
        while (await scraped.get("/metrics"))[0] != 200:
            await asyncio.sleep(0.01)


async def test_it_listens_on_the_loopback_alone(scraped: Scraped) -> None:
    assert scraped.door._server is not None
    assert {each.getsockname()[0] for each in scraped.door._server.sockets} == {"127.0.0.1"}


async def test_a_port_that_cannot_be_had_is_said() -> None:
    with socket.socket() as taken:
        taken.bind((module.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        door = MetricsDoor(lambda: b"")
        why = await door.open(port, server_port=1)
        assert f"127.0.0.1:{port}" in why
        assert "metrics_port" in why
        assert door.port is None
        await door.close()
    assert "server's own" in await MetricsDoor(lambda: b"").open(8_000, server_port=8_000)


async def test_closing_cuts_those_that_wait(scraped: Scraped) -> None:
    reader, writer = await asyncio.open_connection(module.HOST, scraped.port)
    writer.write(b"GET /metr")
    await writer.drain()
    await scraped.get("/metrics")
    await scraped.door.close()
    assert await asyncio.wait_for(reader.read(), 10) == b""
    writer.close()
