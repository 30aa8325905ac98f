"""`dsv4-console --profile NAME`: follows a launch, narrates what happens and stops it, without a terminal UI.

It is only a front end: when its terminal vanishes it leaves, and the server goes on under its supervisor. When the
supervisor vanishes, it attaches to the server again.
"""

from __future__ import annotations

from console.headless.failure import set_options
from console.headless.follow import follow
from console.headless.narrator import Narrator
from console.headless.service import ServiceNotices

__all__ = ["Narrator", "ServiceNotices", "follow", "set_options"]
