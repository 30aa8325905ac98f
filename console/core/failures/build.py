"""What a build of vLLM, or its environment, lacks."""

from __future__ import annotations

import re
from typing import Final

from console.core.failures.row import Failure, Stage

__all__ = ["BUILD"]

BUILD: Final = (
    Failure(
        id="triton-missing",
        needles=("'function' object is not subscriptable",),
        pattern=re.compile(r"TypeError: 'function' object is not subscriptable"),
        stage=Stage.RUN,
        title="The model needs Triton, which this build of vLLM lacks",
        why="A kernel written for Triton was called, and vLLM had switched Triton off at its start.",
        remedy="Serve this model on a GPU build of vLLM; on the CPU build take a model with plain attention.",
        after="Disabling Triton",
        example="TypeError: 'function' object is not subscriptable",
    ),
    Failure(
        id="module-missing",
        needles=("No module named",),
        pattern=re.compile(r"ModuleNotFoundError: No module named '(?P<module>[\w.]+)'"),
        stage=Stage.LOAD,
        title="The engine's environment has no Python module {module}",
        why="vLLM imports some packages only when a model needs them, so that an incomplete environment starts well.",
        remedy="Install vLLM again with all that it requires (`dsv4-console engine install`), or look in that "
        "environment for what is missing: `python -m pip check`.",
        example="ModuleNotFoundError: No module named 'cutlass'",
    ),
)
