"""The console in a browser: textual-serve on loopback, behind a token. Needs the extra `web`.

Each tab is one more front end: a process of its own with the same UI, which ends with its tab. Servers are the
supervisors' and go on.
"""

from __future__ import annotations

from typing import Final

__all__ = ["ADDRESS", "BROWSER_DRIVER", "EXTRA", "PORT_DEFAULT", "TOKEN_VARIABLE"]

ADDRESS: Final = "127.0.0.1"
"""The only address it listens on: what drives a terminal drives the machine."""
PORT_DEFAULT: Final = 8600
"""Not vLLM's own 8000."""
TOKEN_VARIABLE: Final = "DSV4_WEB_TOKEN"  # noqa: S105 - its name, not its value
BROWSER_DRIVER: Final = "textual.drivers.web_driver:WebDriver"
"""What textual-serve sets in `TEXTUAL_DRIVER` of the UI: stdin and stdout are then pipes to it, and no terminal."""
EXTRA: Final = "Install it with its extra: uv tool install --constraints constraints.txt '.[web]'"
