"""vLLM engines: virtual environments of their own, installed, listed, chosen and removed by this program.

An engine is never imported: it is a `vllm` command with a kind and a version.
"""

from __future__ import annotations

from console.io.engines.choice import choose, offer
from console.io.engines.installer import install
from console.io.engines.locate import clean_environment, engine_at, find_on_path
from console.io.engines.records import RECIPES, Engine, Recipe, install_command
from console.io.engines.store import EngineBusyError, list_engines, remove

__all__ = [
    "RECIPES",
    "Engine",
    "EngineBusyError",
    "Recipe",
    "choose",
    "clean_environment",
    "engine_at",
    "find_on_path",
    "install",
    "install_command",
    "list_engines",
    "offer",
    "remove",
]
