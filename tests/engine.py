"""The real CPU engine that tests and long runs use, installed by the product's own command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

__all__ = ["installed_engine"]

INSTALL_TIMEOUT_S = 1_200


def installed_engine(home: Path) -> Path:
    """`home` as a data directory with a CPU engine in it; one that is there is used again.

    Raises:
        AssertionError: it could not be installed.
    """
    if not list(home.glob("dsv4-console/engines/*/engine.json")):
        done = subprocess.run(
            [sys.executable, "-P", "-m", "console", "engine", "install", "--cpu", "--json"],
            env={**os.environ, "XDG_DATA_HOME": str(home), "XDG_STATE_HOME": str(home / "state")},
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["version"] == "0.32.0+cpu"
    return home
