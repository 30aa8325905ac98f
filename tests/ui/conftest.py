"""No screen test touches the developer's files or waits for an animation."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual import constants


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Own state directory, no animation."""
    for name in ("STATE", "DATA", "CONFIG", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(constants, "TEXTUAL_ANIMATIONS", "none")
