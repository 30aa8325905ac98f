"""Keeps the developer's machine out of every test: directories, keys and animations of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

SECRETS = ("VLLM_API_KEY", "HF_TOKEN", "OPENAI_API_KEY")


@pytest.fixture(autouse=True)
def own_directories(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Configuration, data and state below a directory of this test."""
    home = tmp_path_factory.mktemp("xdg")
    for kind in ("CONFIG", "DATA", "STATE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(home / kind.lower()))
    for name in SECRETS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TEXTUAL_ANIMATIONS", "none")
    return home
