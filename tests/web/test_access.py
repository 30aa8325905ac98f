"""Who may come in, by the rules alone."""

from __future__ import annotations

import pytest

from console.core.errors import UsageError
from console.web.access import Access, new_token

TOKEN = "0123456789abcdef"
FOREIGN_HOSTS = (
    None,
    "",
    "evil.example",
    "127.0.0.1.evil.example",
    "localhost.evil.example:8600",
    "evil.example:127.0.0.1",
    "0.0.0.0:8600",
    "127.0.0.1@evil.example",
    "127.0.0.1:",
    "127.0.0.1:8600:1",
    "[::1]:8600",
    "127.1",
    " localhost",
)
FOREIGN_ORIGINS = (
    None,
    "null",
    "http://evil.example",
    "https://localhost:8600",
    "http://localhost:8601",
    "http://127.0.0.1:8600",
    "http://localhost:8600.evil.example",
    "http://localhost:8600/",
    "file://",
    "",
)


def test_a_token_is_random_unless_the_operator_chose_one() -> None:
    assert new_token(None) != new_token(None)
    assert len(new_token(None)) >= 43
    assert new_token(TOKEN) == TOKEN
    for bad in ("", "short", "0123456789abcde", "with blanks in it", "0123456789abcdef;", "ü" * 20, "x" * 257):
        with pytest.raises(UsageError, match="DSV4_WEB_TOKEN is no token") as error:
            new_token(bad)
        assert not bad or bad not in str(error.value)


@pytest.mark.parametrize(
    ("given", "known"),
    [(TOKEN, True), (None, False), ("", False), (TOKEN[:-1], False), (TOKEN + "0", False), ("\ud800ü" * 8, False)],
)
def test_the_whole_token_and_nothing_else(given: str | None, known: bool) -> None:
    assert Access(TOKEN).knows(given) is known


def test_two_consoles_have_two_cookies_that_do_not_hold_the_token_in_their_name() -> None:
    assert Access(TOKEN).cookie == Access(TOKEN).cookie != Access(TOKEN[::-1]).cookie
    assert TOKEN not in Access(TOKEN).cookie


@pytest.mark.parametrize("host", ["127.0.0.1:8600", "localhost:8600", "LOCALHOST", "127.0.0.1", "localhost:1"])
def test_loopback_by_any_port(host: str) -> None:
    access = Access(TOKEN)
    assert not access.misnamed(host, None, socket=False)
    assert not access.misnamed(host, f"http://{host}", socket=True)


@pytest.mark.parametrize(
    "host",
    FOREIGN_HOSTS,
)
def test_no_other_name(host: str | None) -> None:
    assert Access(TOKEN).misnamed(host, None, socket=False)


@pytest.mark.parametrize(
    "origin",
    FOREIGN_ORIGINS,
)
def test_a_websocket_from_our_own_page_alone(origin: str | None) -> None:
    assert Access(TOKEN).misnamed("localhost:8600", origin, socket=True)
