"""The product in a real terminal: tmux on a command of a world."""

from __future__ import annotations

import shlex

from tests.e2e.world import World
from tests.tmux import Tmux

__all__ = ["Terminal"]


class Terminal(Tmux):
    """One tmux session of a fixed size that runs a command of a world."""

    def __init__(self, world: World, *arguments: str, width: int = 80, height: int = 24) -> None:
        super().__init__(shlex.join(world.command(*arguments)), world.env, width, height)
