"""`dsv4-console web` by plain requests: who is refused, what a tab is, and what is left when it ends."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from console.cli import main
from console.cli.parser import parse
from console.cli.web import ui_command
from console.core.errors import ExitCode
from console.web import TOKEN_VARIABLE
from tests.web.served import Served, serve, until

ROUTES = ("/", "/ws", "/static/js/textual.js", "/static/", "/page/page.js", "/download/x", "/nothing", "/?token=")
WITHOUT = """
import sys
class Nowhere:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Nowhere())
from console.cli import main
sys.exit(main(["web", "--demo", "--port", "0"]))
"""
CHOSEN = "chosen-by-the-operator-0123456789"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory.mktemp("web"), "--demo") as found:
        yield found


async def test_without_the_token_nothing_is_shown_and_it_is_said_what_to_do(served: Served) -> None:
    name, token = next(iter(served.cookies.items()))
    wrong: tuple[dict[str, Any], ...] = (
        {},
        {"cookies": {name: token[:-1]}},
        {"cookies": {name: ""}},
        {"cookies": {"token": token}},
        {"headers": {"Authorization": f"Bearer {token}"}},
    )
    async with served.session() as session:
        for route in ROUTES:
            for options in wrong:
                headers = {"Origin": served.base, **options.pop("headers", {})}
                async with session.get(served.base + route, headers=headers, **options) as answer:
                    text = await answer.text()
                    assert answer.status == 403, (route, options)
                    assert "dsv4-console web” printed when it started" in text
                    assert token not in text
                    assert "Set-Cookie" not in answer.headers
        async with session.get(f"{served.base}/?token={token}x") as answer:
            assert answer.status == 403
        # Only the first page takes it from the address.
        async with session.get(f"{served.base}/page/page.js?token={token}") as answer:
            assert answer.status == 403
        async with session.post(f"{served.base}/?token={token}") as answer:
            assert answer.status == 403
    assert served.children() == []


async def test_the_address_is_good_for_a_cookie_that_scripts_and_other_sites_do_not_get(served: Served) -> None:
    async with served.session() as session:
        async with session.get(served.url, allow_redirects=False) as answer:
            assert answer.status == 200
            cookie = answer.headers["Set-Cookie"]
            assert "HttpOnly" in cookie
            assert "SameSite=Strict" in cookie
            assert served.token not in await answer.text()
            assert answer.headers["Referrer-Policy"] == "no-referrer"
            assert answer.headers["Cache-Control"] == "no-store"
        async with session.get(served.base, cookies=served.cookies) as answer:
            assert answer.status == 200
            page = await answer.text()
            rules = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in rules
            assert "frame-ancestors 'none'" in rules
            assert answer.headers["X-Frame-Options"] == "DENY"
        assert not re.search(r"(?:src|href)=\"(?!/|data:)", page), "something of another host"
        for path in re.findall(r"(?:src|href)=\"(/[^\"]+)", page):
            async with session.get(served.base + path, cookies=served.cookies) as answer:
                assert answer.status == 200, path
                text = await answer.text()
                if path.endswith(".css"):
                    assert not re.search(r"url\((?!\"/static/)|@import", text), path


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "0.0.0.0:{port}"])
async def test_a_foreign_name_is_refused_although_it_has_the_token(served: Served, host: str) -> None:
    name = host.format(port=served.base.rpartition(":")[2])
    async with served.session() as session:
        for address in (served.url, served.base, f"{served.base}/page/page.js"):
            async with session.get(address, headers={"Host": name}, cookies=served.cookies) as answer:
                assert answer.status == 403
                assert "127.0.0.1" in await answer.text()
                assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("origin", ["http://evil.example", "null", None, "http://localhost:1"])
async def test_a_foreign_page_gets_no_websocket(served: Served, origin: str | None) -> None:
    async with served.session() as session:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in served.cookies.items())}
        with pytest.raises(aiohttp.WSServerHandshakeError) as error:
            await session.ws_connect(f"{served.base}/ws", origin=origin, headers=headers)
    assert error.value.status == 403
    assert served.children() == []


async def test_it_listens_on_loopback_alone(served: Served) -> None:
    listening = [c for c in psutil.Process(served.process.pid).net_connections() if c.status == psutil.CONN_LISTEN]
    assert [c.laddr.ip for c in listening] == ["127.0.0.1"]


async def test_each_tab_is_a_console_that_ends_with_it(served: Served) -> None:
    async with served.tab(width=100, height=30) as socket:
        (child,) = served.children()
        assert child.cmdline() == [sys.executable, "-P", "-m", "console", "--demo"]
        environment = child.environ()
        assert (environment["COLUMNS"], environment["ROWS"]) == ("100", "30")
        painted = b""
        async with asyncio.timeout(60):
            while b"DEMO" not in painted:
                painted += (await socket.receive()).data
            await socket.send_json(["stdin", "?"])
            while b"Keys" not in painted:
                painted += (await socket.receive()).data
    until("it is gone", lambda: served.children() == [])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
async def test_consoles_end_with_the_server_however_it_ends(tmp_path: Path, number: signal.Signals) -> None:
    with serve(tmp_path, "--demo", env={TOKEN_VARIABLE: CHOSEN}) as own:
        assert own.url.endswith("/?token=$DSV4_WEB_TOKEN"), "a chosen token is not printed"
        own.token = CHOSEN
        async with own.tab():
            (child,) = own.children()
            assert TOKEN_VARIABLE not in child.environ()
            code = await asyncio.to_thread(own.end, number)
            until("none is left", lambda: not alive(child))
        assert code == {signal.SIGINT: ExitCode.OK, signal.SIGTERM: ExitCode.TERMINATED}.get(number, -number)
        said = own.errors.read_text()
        assert CHOSEN not in said
        assert "Traceback" not in said


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_the_random_token_is_printed_once_and_stands_nowhere_else(tmp_path: Path) -> None:
    with serve(tmp_path, "--demo") as own:
        async with own.tab(), own.session() as session:
            async with session.get(own.url) as answer:
                assert answer.status == 200
            everyone = [psutil.Process(own.process.pid), *own.children()]
            assert len(everyone) == 2
            for process in everyone:
                assert own.token not in " ".join(process.cmdline())
                assert own.token not in str(process.environ())
        own.end()
        assert own.process.stdout is not None
        assert own.process.stdout.read() == ""
        assert own.token not in own.errors.read_text()
        assert not any(own.token in path.read_text("utf-8", "replace") for path in tmp_path.rglob("*.*"))


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(["web", *words])
    return code, capsys.readouterr().err


def test_what_cannot_be_opened_is_said_in_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refused(capsys, "--replay", "nothing-of-this-name")[0] == ExitCode.NOT_RUNNING
    assert refused(capsys, "--attach", "nothing-of-this-name")[0] == ExitCode.NOT_RUNNING
    code, said = refused(capsys, "--demo", "--replay", "last")
    assert code == ExitCode.USAGE
    assert "exclude one another" in said
    assert refused(capsys, "--port", "65536")[0] == ExitCode.USAGE
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, said = refused(capsys, "--demo", "--port", str(taken.getsockname()[1]))
    assert code == ExitCode.ENVIRONMENT
    assert "Address already in use" in said
    assert "--port" in said
    monkeypatch.setenv(TOKEN_VARIABLE, "short")
    assert refused(capsys, "--demo")[0] == ExitCode.USAGE


@pytest.mark.parametrize("missing", ["textual_serve", "aiohttp"])
def test_without_the_extra_it_says_what_to_install(missing: str) -> None:
    done = subprocess.run([sys.executable, "-P", "-c", WITHOUT, missing], capture_output=True, text=True, check=False)
    assert done.returncode == ExitCode.ENVIRONMENT, done.stderr
    assert f"{missing} is not installed" in done.stderr
    assert "uv tool install" in done.stderr
    assert "[web]" in done.stderr


def test_json_is_one_line_with_the_address(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "console", "web", "--port", "0", "--demo", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        assert told["address"] == "127.0.0.1"
        assert told["url"].startswith(f"http://127.0.0.1:{told['port']}/?token=")
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == ""
    assert process.returncode == ExitCode.OK


def test_the_command_of_a_tab_is_words_that_no_shell_reads() -> None:
    odd = "a run; touch x && $(id) 'q\""
    arguments = parse(["web", "--attach", odd, "--ascii", "--no-mouse", "--engine", "-x y"])
    words = ui_command(arguments)
    assert words[:4] == [sys.executable, "-P", "-m", "console"]
    assert set(words[4:]) == {f"--attach={odd}", "--ascii", "--no-mouse", "--engine=-x y"}
    again = parse(words[4:])
    assert (again.attach, again.ascii, again.no_mouse, again.engine) == (odd, True, True, "-x y")
    endpoints = ["http://a:8000", "http://b:8000"]
    words = ui_command(parse(["web", *(word for url in endpoints for word in ("--watch", url))]))
    assert parse(words[4:]).watch == endpoints


def test_every_option_of_the_terminal_ui_is_one_of_the_browser() -> None:
    from console.cli.parser import build

    parser = build()
    screen = next(group for group in parser._action_groups if group.title == "terminal UI")
    there = set(vars(parse(["web"])))
    assert {f"ui_{action.dest}" for action in screen._group_actions} <= there
