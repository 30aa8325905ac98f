"""The server's HTTP interface; the only importer of httpx.

The server is on this machine, so proxies and `.netrc` of the environment are left alone. Every call has its own
deadline, every answer a size limit, and every failure is one short sentence for the operator.
"""

from __future__ import annotations

# ruff: noqa: E402 - something must be said before httpx is imported
import asyncio
import contextlib
import sys
import types
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

# With rich and click installed httpx imports its command-line tool along with itself: 6 MiB in a supervisor that paints
# nothing. An empty module in that tool's place makes httpx go on without it.
sys.modules.setdefault("httpx._main", types.ModuleType("httpx._main"))

import httpx
import msgspec

from console.core.errors import ConsoleError

__all__ = ["Health", "HttpClient", "HttpError", "Reply", "ServedModel", "error_message", "status_sentence"]

CALL_TIMEOUT_S = 2.0
"""For `/health`, `/metrics` and `/v1/models`, from connecting to the last byte."""
CONNECT_TIMEOUT_S = 5.0
PIECE_TIMEOUT_S = 600.0
"""Between two pieces of a stream: the first one may wait in a long queue."""
BODY_BYTES_MAX = 16 * 1024 * 1024
ERROR_BYTES_MAX = 64 * 1024
LINE_BYTES_MAX = 1024 * 1024
MESSAGE_CHARS_MAX = 2000

STATUS_SENTENCES: dict[int, str] = {
    401: "the server wants an API key",
    403: "the server refuses this request",
    404: "the server has no such address",
    429: "the server takes no more requests for now",
    500: "the engine failed",
    503: "the engine is dead",
}


class HttpError(ConsoleError):
    """A call that brought no usable answer. `title` is the sentence; `status` is `None` if nothing was answered."""

    def __init__(self, title: str, message: str = "", status: int | None = None) -> None:
        super().__init__(title, message)
        self.status = status


class Health(NamedTuple):
    """Answer of `/health`."""

    ok: bool
    status: int | None
    """`None` if nothing was answered."""
    error: str
    """Empty when ok."""


class ServedModel(NamedTuple):
    """One entry of `/v1/models`."""

    id: str
    root: str | None
    max_model_len: int | None


class ModelEntry(msgspec.Struct, frozen=True):
    id: str
    root: str | None = None
    max_model_len: int | None = None


class ModelList(msgspec.Struct, frozen=True):
    data: tuple[ModelEntry, ...]


class VersionAnswer(msgspec.Struct, frozen=True):
    version: str


class Reply:
    """An answer that is still coming in."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.status = response.status_code

    async def body(self, bytes_max: int = ERROR_BYTES_MAX) -> bytes:
        """All of it, or its first `bytes_max` bytes.

        Raises:
            HttpError: the connection was lost.
        """
        parts: list[bytes] = []
        size = 0
        with mapped(PIECE_TIMEOUT_S):
            async for part in self._response.aiter_bytes():
                parts.append(part)
                size += len(part)
                if size >= bytes_max:
                    break
        return b"".join(parts)[:bytes_max]

    async def lines(self) -> AsyncGenerator[str, None]:
        """Its lines as they come, without their end.

        Only a line feed ends a line: a model may well write U+2028 or U+0085, which `str.splitlines` cuts at.

        Raises:
            HttpError: the connection was lost, a pause was too long, or a line was.
        """
        rest = b""
        with mapped(PIECE_TIMEOUT_S):
            async for part in self._response.aiter_bytes():
                *whole, rest = (rest + part).split(b"\n")
                for line in whole:
                    yield line.rstrip(b"\r").decode("utf-8", "replace")
                if len(rest) > LINE_BYTES_MAX:
                    raise HttpError(f"the server sent a line of more than {LINE_BYTES_MAX // 1024} KiB")
        if rest:
            yield rest.decode("utf-8", "replace")


class HttpClient:
    """Talks to one or more local servers and keeps connections open between calls.

    Args:
        transport: replaces the network in tests.
        socket_path: a Unix socket that leads to the server, whatever the address says.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None, socket_path: Path | None = None) -> None:
        if socket_path is not None:
            transport = httpx.AsyncHTTPTransport(uds=str(socket_path))
        self._client = httpx.AsyncClient(
            trust_env=False,
            follow_redirects=False,
            transport=transport,
            timeout=httpx.Timeout(PIECE_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def health(self, base_url: str, timeout_s: float = CALL_TIMEOUT_S, api_key: str | None = None) -> Health:
        """Ask `/health`. Never raises for what the server does or fails to do."""
        try:
            status, _ = await self._get(base_url, "/health", timeout_s, ERROR_BYTES_MAX, api_key)
        except HttpError as error:
            return Health(False, None, error.title)
        return Health(True, status, "") if status == 200 else Health(False, status, status_sentence(status))

    async def metrics(self, base_url: str, timeout_s: float = CALL_TIMEOUT_S, api_key: str | None = None) -> str:
        """The text of `/metrics`.

        Raises:
            HttpError: no answer, another status than 200, or too large.
        """
        return (await self._get_ok(base_url, "/metrics", timeout_s, api_key)).decode("utf-8", "replace")

    async def version(self, base_url: str, api_key: str | None = None, timeout_s: float = CALL_TIMEOUT_S) -> str:
        """What `/version` says of vLLM.

        Raises:
            HttpError: no answer, another status than 200, or no version.
        """
        body = await self._get_ok(base_url, "/version", timeout_s, api_key)
        try:
            return msgspec.json.decode(body, type=VersionAnswer).version
        except msgspec.DecodeError as error:
            raise HttpError("/version answered something else than a version", str(error), 200) from error

    async def models(
        self, base_url: str, api_key: str | None = None, timeout_s: float = CALL_TIMEOUT_S
    ) -> tuple[ServedModel, ...]:
        """What `/v1/models` names.

        Raises:
            HttpError: no answer, another status than 200, or no list of models.
        """
        body = await self._get_ok(base_url, "/v1/models", timeout_s, api_key)
        try:
            entries = msgspec.json.decode(body, type=ModelList).data
        except msgspec.DecodeError as error:
            raise HttpError("/v1/models answered something else than models", str(error), 200) from error
        return tuple(ServedModel(entry.id, entry.root, entry.max_model_len) for entry in entries)

    @contextlib.asynccontextmanager
    async def post(self, url: str, payload: Mapping[str, Any], api_key: str | None = None) -> AsyncIterator[Reply]:
        """Send JSON and read the answer as it comes. Leaving the block early closes the connection.

        Raises:
            HttpError: no connection, or it was lost before the answer began.
        """
        headers = {"Content-Type": "application/json", **bearer(api_key)}
        request = self._client.build_request("POST", url, content=msgspec.json.encode(payload), headers=headers)
        with mapped(PIECE_TIMEOUT_S):
            response = await self._client.send(request, stream=True)
        try:
            yield Reply(response)
        finally:
            await response.aclose()

    async def _get_ok(self, base_url: str, path: str, timeout_s: float, api_key: str | None = None) -> bytes:
        status, body = await self._get(base_url, path, timeout_s, BODY_BYTES_MAX, api_key)
        if status != 200:
            raise HttpError(status_sentence(status), error_message(body), status)
        if len(body) >= BODY_BYTES_MAX:
            raise HttpError(f"{path} answered more than {BODY_BYTES_MAX // 1024**2} MiB", status=status)
        return body

    async def _get(
        self, base_url: str, path: str, timeout_s: float, bytes_max: int, api_key: str | None = None
    ) -> tuple[int, bytes]:
        with mapped(timeout_s):
            async with asyncio.timeout(timeout_s):
                request = self._client.build_request("GET", base_url.rstrip("/") + path, headers=bearer(api_key))
                response = await self._client.send(request, stream=True)
                try:
                    return response.status_code, await Reply(response).body(bytes_max)
                finally:
                    await response.aclose()


def bearer(api_key: str | None) -> dict[str, str]:
    """The header that carries an API key."""
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


@contextlib.contextmanager
def mapped(timeout_s: float) -> Iterator[None]:
    """Turn what httpx and asyncio raise into an `HttpError` with one sentence."""
    try:
        yield
    except (httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        raise HttpError("no connection: timed out") from error
    except (httpx.TimeoutException, TimeoutError) as error:
        raise HttpError(f"no answer within {timeout_s:g} s") from error
    except httpx.ConnectError as error:
        raise HttpError("connection refused", str(error)) from error
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise HttpError("not an address that can be asked", str(error)) from error
    except (httpx.TransportError, httpx.StreamError) as error:
        raise HttpError("connection lost", str(error)) from error


def status_sentence(status: int) -> str:
    """What an HTTP status means here: `the engine is dead (HTTP 503)`."""
    known = STATUS_SENTENCES.get(status)
    return f"{known} (HTTP {status})" if known else f"HTTP {status}"


def error_message(body: bytes | str) -> str:
    """The message inside an error answer, in all the forms vLLM gives it; empty if there is none.

    Forms: `{"error": {"message": …}}`, `{"object": "error", "message": …}` (older),
    `{"error": "Unauthorized"}` (API key), `{"detail": …}` (the web framework), plain text.
    """
    try:
        data: Any = msgspec.json.decode(body)
    except msgspec.DecodeError:
        plain = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
        return "" if plain.lstrip().startswith("<") else plain.strip()[:MESSAGE_CHARS_MAX]
    for key in ("error", "message", "detail"):
        while isinstance(data, dict) and key in data:
            data = data[key]
    if isinstance(data, str):
        return data.strip()[:MESSAGE_CHARS_MAX]
    return "" if isinstance(data, dict) else msgspec.json.encode(data).decode()[:MESSAGE_CHARS_MAX]
