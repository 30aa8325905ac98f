"""Who may come in: a token that is compared in constant time, and the names by which a browser may call this server.

The token alone does not keep out a page from elsewhere: a name that its owner points at 127.0.0.1 (DNS rebinding)
would make that page's requests look like ours, and a websocket may be opened from any page. So `Host` and `Origin`
are held to loopback too. The port is not: over `ssh -L` the browser sees another one.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from typing import Final

from console.core.errors import UsageError
from console.web import TOKEN_VARIABLE

__all__ = ["Access", "new_token"]

HOSTS: Final = frozenset({"127.0.0.1", "localhost"})
TOKEN_BYTES: Final = 32
TOKEN_CHARS_MIN: Final = 16
"""Of a token that the operator chose."""
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{16,256}")
"""What stands in an address and in a cookie as it is."""
_HOST: Final = re.compile(r"(?P<name>[a-z0-9.-]{1,253})(?::\d{1,5})?")


def new_token(chosen: str | None) -> str:
    """The operator's own token, or a random one.

    Raises:
        UsageError: the operator's is too short, or has characters that an address does not take as they are.
    """
    if chosen is None:
        return secrets.token_urlsafe(TOKEN_BYTES)
    if not _TOKEN.fullmatch(chosen):
        raise UsageError(
            f"{TOKEN_VARIABLE} is no token",
            f"allowed: {TOKEN_CHARS_MIN} to 256 letters, digits, - and _",
            f"For example: export {TOKEN_VARIABLE}=$(openssl rand -hex 32), or leave it unset for a random one.",
        )
    return chosen


class Access:
    """The rules of one start."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        # Cookies are shared by all ports of a host: two consoles must not take each other's away.
        self.cookie = f"dsv4_{hashlib.sha256(self._token).hexdigest()[:12]}"

    def knows(self, given: str | None) -> bool:
        """Whether this is the token."""
        return given is not None and hmac.compare_digest(given.encode("utf-8", "replace"), self._token)

    def misnamed(self, host: str | None, origin: str | None, *, socket: bool) -> bool:
        """Whether the request comes by another name than ours, or from another page.

        Args:
            host: the header `Host`.
            origin: the header `Origin`, which browsers send with a websocket and with what a page posts.
            socket: it asks for a websocket, which no browser does without an origin.
        """
        host = (host or "").lower()
        found = _HOST.fullmatch(host)
        if found is None or found["name"] not in HOSTS:
            return True
        return socket if origin is None else origin.lower() != f"http://{host}"
