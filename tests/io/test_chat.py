from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from console.core.models import ChatDelta, ChatMessage, ChatOptions
from console.io.chat import stream_chat
from console.io.http import HttpClient

URL = "http://127.0.0.1:8000"
RECORDED = (Path(__file__).parent.parent / "data" / "metrics" / "chat-stream.sse").read_bytes()
HELLO = (ChatMessage(role="user", content="hello"),)


def event(text: str | None = None, finish_reason: str | None = None, **delta: Any) -> bytes:
    choice = {"delta": {"content": text, **delta}, "finish_reason": finish_reason}
    return b"data: " + msgspec.json.encode({"choices": [choice]}) + b"\n\n"


async def chat(
    content: bytes | AsyncIterator[bytes], status: int = 200, options: ChatOptions | None = None
) -> list[ChatDelta]:
    client = HttpClient(httpx.MockTransport(lambda request: httpx.Response(status, content=content)))
    stream = stream_chat(URL, "tiny", HELLO, options or ChatOptions(), client=client)
    deltas = [delta async for delta in stream]
    await client.close()
    assert [delta.done for delta in deltas] == [False] * (len(deltas) - 1) + [True]
    return deltas


def text(deltas: list[ChatDelta]) -> str:
    return "".join(delta.text for delta in deltas)


async def test_recorded_answer() -> None:
    deltas = await chat(RECORDED)
    assert text(deltas) == "Tck"
    last = deltas[-1]
    assert (last.finish_reason, last.prompt_tokens, last.completion_tokens, last.error) == ("length", 3, 6, "")
    assert last.ttft_s is not None
    assert 0 <= last.ttft_s <= last.elapsed_s
    assert deltas[0].ttft_s == last.ttft_s


async def test_recorded_answer_in_pieces_of_one_byte() -> None:
    async def drops() -> AsyncIterator[bytes]:
        for byte in RECORDED:
            yield bytes([byte])

    assert text(await chat(drops())) == "Tck"


async def test_request_says_what_was_chosen() -> None:
    seen: list[Any] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append((str(request.url), request.headers.get("authorization"), msgspec.json.decode(request.content)))
        return httpx.Response(200, content=RECORDED)

    client = HttpClient(httpx.MockTransport(handler))
    options = ChatOptions(
        temperature=0.0, max_tokens=7, extra={"chat_template_kwargs": {"thinking": True}, "stream": False}
    )
    async for _ in stream_chat(URL + "/", "tiny", HELLO, options, api_key="key", client=client):
        pass
    assert seen == [
        (
            URL + "/v1/chat/completions",
            "Bearer key",
            {
                "model": "tiny",
                "messages": [{"role": "user", "content": "hello"}],
                "temperature": 0.0,
                "max_tokens": 7,
                "chat_template_kwargs": {"thinking": True},
                "stream": True,
                "stream_options": {"include_usage": True},
            },
        )
    ]


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
async def test_reasoning_comes_apart_from_the_answer(field: str) -> None:
    deltas = await chat(event(**{field: "hm"}) + event("yes") + event("", "stop") + b"data: [DONE]\n\n")
    assert [(delta.reasoning, delta.text) for delta in deltas] == [("hm", ""), ("", "yes"), ("", "")]


async def test_the_role_alone_is_no_first_token() -> None:
    (only,) = await chat(event("", role="assistant") + b"data: [DONE]\n\n")
    assert only.ttft_s is None
    (only,) = await chat(event("", role="assistant") + event("") + b"data: [DONE]\n\n")
    assert only.ttft_s is not None


async def test_comments_and_line_separators_in_text() -> None:
    raw = 'data: {"choices":[{"delta":{"content":"a\u2028b"}}]}\n\n'.encode()
    deltas = await chat(b": ping\n\n" + raw + b"data:[DONE]\n\n")
    assert text(deltas) == "a\u2028b"
    assert deltas[-1].error == ""


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, '{"error":{"message":"maximum context length is 1024"}}', "maximum context length is 1024"),
        (404, '{"error":{"message":"The model `x` does not exist."}}', "The model `x` does not exist."),
        (401, '{"error":"Unauthorized"}', "the server wants an API key (HTTP 401): Unauthorized"),
        (500, '{"error":{"message":"EngineDead"}}', "the engine failed (HTTP 500): EngineDead"),
        (503, "", "the engine is dead (HTTP 503)"),
        (400, "", "HTTP 400"),
    ],
)
async def test_refusals(status: int, body: str, error: str) -> None:
    (only,) = await chat(body.encode(), status)
    assert only.error == error


async def test_an_error_in_the_stream_keeps_the_answer() -> None:
    broken = b'data: {"error": {"message": "EngineCore died", "code": 500}}\n\ndata: [DONE]\n\n'
    deltas = await chat(event("so ") + event("far") + broken)
    assert text(deltas) == "so far"
    assert deltas[-1].error == "the server broke off: EngineCore died"


async def test_a_lost_connection_keeps_the_answer() -> None:
    async def dies() -> AsyncIterator[bytes]:
        yield event("so far")
        raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")

    deltas = await chat(dies())
    assert text(deltas) == "so far"
    assert deltas[-1].error == "connection lost before the answer was complete"


async def test_an_answer_that_just_ends_is_incomplete_unless_it_had_a_reason() -> None:
    assert "before the answer was complete" in (await chat(event("so far")))[-1].error
    assert (await chat(event("all", "stop")))[-1].error == ""


@pytest.mark.parametrize("line", [b"data: {", b"data: 7", b'data: {"choices": 3}'])
async def test_an_unreadable_piece_is_said(line: bytes) -> None:
    deltas = await chat(event("so far") + line + b"\n\n")
    assert text(deltas) == "so far"
    assert "cannot be read" in deltas[-1].error


async def test_nobody_listening() -> None:
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    (only,) = [delta async for delta in stream_chat(f"http://127.0.0.1:{port}", "m", HELLO, ChatOptions())]
    assert (only.done, only.error) == (True, "connection refused")


async def test_closing_the_stream_closes_the_connection() -> None:
    closed = asyncio.Event()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + event("a"))
        await writer.drain()
        with contextlib.suppress(ConnectionError):
            while await reader.read(65_536):
                pass
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        closed.set()

    server = await asyncio.start_server(endless, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        stream = stream_chat(f"http://127.0.0.1:{port}", "tiny", HELLO, ChatOptions())
        first = await anext(stream)
        assert first.text == "a"
        assert not closed.is_set()
        await stream.aclose()
        async with asyncio.timeout(5):
            await closed.wait()


async def test_cancelling_the_reader_closes_the_connection() -> None:
    closed, begun = asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        begun.set()
        with contextlib.suppress(ConnectionError):
            while await reader.read(65_536):
                pass
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        closed.set()

    async def read_all(port: int) -> None:
        async for _ in stream_chat(f"http://127.0.0.1:{port}", "tiny", HELLO, ChatOptions()):
            pass

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        task = asyncio.create_task(read_all(server.sockets[0].getsockname()[1]))
        async with asyncio.timeout(5):
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await closed.wait()
