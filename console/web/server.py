"""The web server: textual-serve's, held to loopback and a token, with a page that fetches nothing from elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import html
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler
from textual_serve.server import Server

from console.core.errors import HardwareError
from console.web import ADDRESS
from console.web.access import Access
from console.web.tab import Tab

__all__ = ["ConsoleServer"]

PAGE: Final = Path(__file__).parent / "page"
TABS_MAX: Final = 8
"""Consoles at once: each is a process of some 70 MB."""
SIZE_DEFAULT: Final = (80, 24)
HEARTBEAT_S: Final = 15.0
"""A browser that is gone without a word, with its laptop, is noticed after about so long."""
CLOSE_WAIT_S: Final = 6.0
"""For all tabs at the end; each is killed after 5 s."""
HEADERS: Final = {
    # xterm.js writes style elements; everything else is our own files, and nothing may come from elsewhere.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "font-src 'self'; img-src 'self' data:; connect-src 'self'{sockets}; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
NO_TOKEN: Final = (
    "This console is open to those who have its token.",
    "Open the address that “dsv4-console web” printed when it started: it ends in ?token=… and is needed once for each "
    "browser.",
    "If it is out of sight, end that command with ctrl+c and start it again: every start has a new token. Servers go "
    "on meanwhile.",
)
MISNAMED: Final = (
    "This console answers to 127.0.0.1 and to localhost, and to its own page alone.",
    "From another machine, forward the port: ssh -L 8600:127.0.0.1:8600 MACHINE – then open the printed address there.",
)
TOO_MANY: Final = (
    f"{TABS_MAX} consoles are open in browsers, which is as many as there may be.",
    "Close one of them, then load this page again.",
)


class ConsoleServer(Server):
    """Serves the console to browsers on this machine.

    Args:
        argv: the command of the UI, run once for each tab.
        environment: its environment.
        access: who may come in.
    """

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str], access: Access) -> None:
        super().__init__("dsv4-console", host=ADDRESS)
        self._argv = tuple(argv)
        self._environment = environment
        self._access = access
        self._tabs: set[Tab] = set()

    async def run(self, port: int, listening: Callable[[int], None]) -> None:
        """Serve until cancelled; then every UI is ended.

        Args:
            port: 0 takes a free one.
            listening: called with the port, once it is open.

        Raises:
            HardwareError: the port cannot be had.
        """
        # No log of requests: the first address has the token in it.
        runner = web.AppRunner(await self._make_app(), access_log=None, shutdown_timeout=CLOSE_WAIT_S)
        with open_port(port) as door:
            await runner.setup()
            try:
                await web.SockSite(runner, door).start()
                listening(door.getsockname()[1])
                await asyncio.Event().wait()
            finally:
                await runner.cleanup()

    async def _make_app(self) -> web.Application:
        app = await super()._make_app()
        app.router.add_static("/page", PAGE)
        app.middlewares.append(self._guard)
        app.on_response_prepare.append(self._add_headers)
        return app

    async def on_startup(self, app: web.Application) -> None:
        """Nothing: the command says where it is, and no logo is needed for that."""

    async def on_shutdown(self, app: web.Application) -> None:
        """End the UI of every tab."""
        await asyncio.gather(*(tab.stop() for tab in tuple(self._tabs)))

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Every route, those that do not exist included."""
        asks_socket = request.path == "/ws" or "Upgrade" in request.headers
        if self._access.misnamed(request.headers.get("Host"), request.headers.get("Origin"), socket=asks_socket):
            return told(403, *MISNAMED)
        if request.method == "GET" and request.path == "/" and self._access.knows(request.query.get("token")):
            return self._let_in(request)
        if not self._access.knows(request.cookies.get(self._access.cookie)):
            return told(403, *NO_TOKEN)
        return await handler(request)

    def _let_in(self, request: web.Request) -> web.Response:
        """Keep the token as a cookie and take it out of the address.

        By a page that goes on to the console and not by a redirect: where a link was followed from another site (a
        terminal in a browser), `SameSite=Strict` would keep the cookie out of the redirected request.
        """
        response = told(200, "The console opens.", head='<meta http-equiv="refresh" content="0; url=/">')
        token = request.query["token"]
        response.set_cookie(self._access.cookie, token, httponly=True, samesite="Strict", path="/")
        return response

    async def _add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        # `'self'` covers websockets in new browsers only. The name was checked; of a refused request it is not used.
        sockets = f" ws://{request.headers.get('Host', '')}" if response.status == 200 else ""
        for name, value in HEADERS.items():
            response.headers[name] = value.replace("{sockets}", sockets)
        response.headers.setdefault("Cache-Control", "no-store" if request.path in ("/", "/ws") else "no-cache")

    async def handle_index(self, request: web.Request) -> web.StreamResponse:
        """The page with the terminal in it."""
        if len(self._tabs) >= TABS_MAX:
            return told(503, *TOO_MANY)
        return web.FileResponse(PAGE / "index.html")

    async def handle_websocket(self, request: web.Request) -> web.WebSocketResponse:
        """A tab from its opening to its end."""
        browser = web.WebSocketResponse(heartbeat=HEARTBEAT_S)
        await browser.prepare(request)
        if len(self._tabs) >= TABS_MAX:
            await browser.close()
            return browser
        tab = Tab(
            self._argv,
            self._environment,
            write_bytes=browser.send_bytes,
            write_str=browser.send_str,
            close=browser.close,
            download_manager=self.download_manager,
        )
        self._tabs.add(tab)
        try:
            await tab.start(*size_of(request.query))
            # What is no message of ours ends the tab: nothing but our own page speaks here.
            with contextlib.suppress(ValueError, TypeError, KeyError, IndexError, AssertionError, ConnectionError):
                await self._process_messages(browser, tab)
        finally:
            await tab.stop()
            self._tabs.discard(tab)
            await browser.close()
        return browser


def size_of(query: Mapping[str, str]) -> tuple[int, int]:
    """Width and height in cells, as the page measured them."""
    try:
        return int(query["width"]), int(query["height"])
    except (KeyError, ValueError):
        return SIZE_DEFAULT


def told(status: int, *sentences: str, head: str = "") -> web.Response:
    """A page of sentences, each a paragraph."""
    text = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in sentences)
    page = (PAGE / "told.html").read_text(encoding="utf-8")
    body = page.replace("<!-- head -->", head).replace("<!-- sentences -->", text)
    return web.Response(status=status, text=body, content_type="text/html")


def open_port(port: int) -> socket.socket:
    """A listening socket on loopback.

    Raises:
        HardwareError: it cannot be had.
    """
    door = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind((ADDRESS, port))
        door.listen()
    except OSError as error:
        door.close()
        raise HardwareError(
            f"Port {port} cannot be used", f"{ADDRESS}:{port}: {error.strerror}", "Choose another with --port, or 0."
        ) from error
    return door
