from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from console.io import http
from console.io.http import Health, HttpClient, HttpError, error_message

URL = "http://127.0.0.1:8000"
Handler = Callable[[httpx.Request], httpx.Response]


def client(handler: Handler) -> HttpClient:
    return HttpClient(httpx.MockTransport(handler))


def answering(status: int, body: bytes | str = b"") -> HttpClient:
    return client(lambda request: httpx.Response(status, content=body))


def raising(error: type[httpx.TransportError]) -> HttpClient:
    def fail(request: httpx.Request) -> httpx.Response:
        raise error("as the network says", request=request)

    return client(fail)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, Health(True, 200, "")),
        (503, Health(False, 503, "the engine is dead (HTTP 503)")),
        (500, Health(False, 500, "the engine failed (HTTP 500)")),
        (302, Health(False, 302, "HTTP 302")),
    ],
)
async def test_health_by_status(status: int, expected: Health) -> None:
    assert await answering(status).health(URL) == expected


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (httpx.ConnectError, "connection refused"),
        (httpx.ConnectTimeout, "no connection: timed out"),
        (httpx.ReadTimeout, "no answer within 2 s"),
        (httpx.RemoteProtocolError, "connection lost"),
        (httpx.ReadError, "connection lost"),
    ],
)
async def test_health_without_an_answer(error: type[httpx.TransportError], sentence: str) -> None:
    assert await raising(error).health(URL) == Health(False, None, sentence)


async def test_a_bad_address_is_no_crash() -> None:
    client = HttpClient()
    for address in ("nonsense", "ftp://127.0.0.1", "http://[::"):
        assert await client.health(address) == Health(False, None, "not an address that can be asked")
    await client.close()


async def test_metrics_text_and_its_errors() -> None:
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(200, text="vllm:num_requests_running 1\n")

    assert await client(handler).metrics(URL + "/") == "vllm:num_requests_running 1\n"
    assert asked == [URL + "/metrics"]
    with pytest.raises(HttpError) as caught:
        await answering(401, '{"error":"Unauthorized"}').metrics(URL)
    assert (caught.value.status, caught.value.message) == (401, "Unauthorized")
    assert "API key" in caught.value.title


async def test_an_endless_answer_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "BODY_BYTES_MAX", 1000)
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b"x" * 100

    with pytest.raises(HttpError, match="answered more than"):
        await client(lambda request: httpx.Response(200, content=endless())).metrics(URL)
    assert sent <= 20


async def test_models() -> None:
    body = '{"object":"list","data":[{"id":"tiny","root":"/models/tiny","max_model_len":1024,"owned_by":"vllm"}]}'
    keys: list[str | None] = []

    def handler(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers.get("authorization"))
        return httpx.Response(200, text=body)

    (model,) = await client(handler).models(URL, api_key="key")
    assert model == ("tiny", "/models/tiny", 1024)
    assert keys == ["Bearer key"]
    with pytest.raises(HttpError, match="something else"):
        await answering(200, "[]").models(URL)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"error":{"message":"too long","type":"BadRequestError","param":null,"code":400}}', "too long"),
        ('{"object":"error","message":"too long","code":400}', "too long"),
        ('{"error":"Unauthorized"}', "Unauthorized"),
        ('{"detail":"Not Found"}', "Not Found"),
        ('{"detail":[{"loc":["body"]}]}', '[{"loc":["body"]}]'),
        ("Internal Server Error", "Internal Server Error"),
        ("<html>Bad Gateway</html>", ""),
        ('{"code":1}', ""),
        ("", ""),
    ],
)
def test_error_message(body: str, message: str) -> None:
    assert error_message(body) == message
    assert error_message(body.encode()) == message


async def test_lines_end_at_line_feeds_alone() -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield "a\u2028b\u0085c\r\nd".encode()
        yield "é".encode()[:1]
        yield "é".encode()[1:] + b"\n\nlast"

    async with client(lambda request: httpx.Response(200, content=parts())).post(URL, {}) as reply:
        assert [line async for line in reply.lines()] == ["a\u2028b\u0085c", "dé", "", "last"]


async def test_a_line_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LINE_BYTES_MAX", 100)
    async with answering(200, "x" * 500).post(URL, {}) as reply:
        with pytest.raises(HttpError, match="a line of more than"):
            [line async for line in reply.lines()]


async def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    client = HttpClient()
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert (await client.health(f"http://127.0.0.1:{port}")).ok
    assert await client.health(f"http://127.0.0.1:{port}") == Health(False, None, "connection refused")
    await client.close()


async def test_a_silent_server_is_given_up_in_time() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        closed.set()

    closed = asyncio.Event()
    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    client = HttpClient()
    async with server:
        port = server.sockets[0].getsockname()[1]
        health = await client.health(f"http://127.0.0.1:{port}", timeout_s=0.05)
        assert health == Health(False, None, "no answer within 0.05 s")
        async with asyncio.timeout(5):
            await closed.wait()
    await client.close()
