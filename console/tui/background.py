"""Work beside the event loop, begun by a screen and outliving it; what breaks is told by the app."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from textual.dom import DOMNode

__all__ = ["in_background"]


def in_background(
    node: DOMNode, work: Callable[[], Coroutine[Any, Any, None]], group: str, *, newest_only: bool = True
) -> None:
    """Begin this work.

    Args:
        work: what makes the coroutine: one that is overtaken before it begins is then never made.
        newest_only: it ends what is still going on in its group.
    """
    begin: Any = work
    node.app.run_worker(begin, group=group, exclusive=newest_only, exit_on_error=False)
