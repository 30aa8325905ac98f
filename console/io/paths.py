"""Where this program keeps things, by the XDG rules, and how private they are.

`$XDG_CONFIG_HOME/dsv4-console/profiles` holds the user's profiles, `$XDG_DATA_HOME/dsv4-console` engines and
generated models, `$XDG_STATE_HOME/dsv4-console/runs` one directory per launch.
"""

from __future__ import annotations

import os
import re
import time
from importlib import resources
from pathlib import Path

import platformdirs

from console.core.errors import StateError

__all__ = [
    "cache_dir",
    "config_dir",
    "conversations_dir",
    "data_dir",
    "demo_dir",
    "engines_dir",
    "generated_models_dir",
    "make_new_dir",
    "make_private_dir",
    "runs_dir",
    "shipped_profiles_dir",
    "state_dir",
    "user_profiles_dir",
]

APP = "dsv4-console"


def config_dir() -> Path:
    """Configuration of the user: `config.toml` and `profiles/`."""
    return Path(platformdirs.user_config_dir(APP))


def data_dir() -> Path:
    """Things that can be made again, at a price: engines and generated models."""
    return Path(platformdirs.user_data_dir(APP))


def state_dir() -> Path:
    """What happened here: runs, conversations."""
    return Path(platformdirs.user_state_dir(APP))


def cache_dir() -> Path:
    """Copies of what is elsewhere, which may go at any time."""
    return Path(platformdirs.user_cache_dir(APP))


def user_profiles_dir() -> Path:
    """The user's own profiles; one with a shipped profile's name takes its place."""
    return config_dir() / "profiles"


def engines_dir() -> Path:
    """One virtual environment per vLLM version."""
    return data_dir() / "engines"


def generated_models_dir() -> Path:
    """Tiny models made by this program."""
    return data_dir() / "models"


def runs_dir() -> Path:
    """One directory per launch."""
    return state_dir() / "runs"


def conversations_dir() -> Path:
    """Chats, one JSON-lines file each."""
    return state_dir() / "conversations"


def shipped_profiles_dir() -> Path:
    """The profiles that come with the program: inside the wheel, or beside the package in a checkout."""
    packed = Path(str(resources.files("console"))) / "_profiles"
    return packed if packed.is_dir() else Path(str(resources.files("console"))).parent / "profiles"


def demo_dir() -> Path:
    """The recordings of real runs that come with the program, a run directory each."""
    return Path(str(resources.files("console"))) / "_demo"


def make_private_dir(path: Path) -> Path:
    """Make `path`, readable by its owner alone.

    Raises:
        StateError: it cannot be made or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.chmod(0o700)
    except OSError as error:
        raise StateError(
            "Cannot write the directory",
            f"{path}: {error.strerror}",
            "Make it writable, or point XDG_STATE_HOME, XDG_DATA_HOME or XDG_CONFIG_HOME elsewhere.",
        ) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise StateError(
            "Cannot write the directory",
            f"{path} is not writable by this user",
            "Make it writable, or point XDG_STATE_HOME, XDG_DATA_HOME or XDG_CONFIG_HOME elsewhere.",
        )
    return path


def make_new_dir(root: Path, kind: str, profile_name: str, prefix: str = "") -> Path:
    """Make a directory of its own, named after this moment and this profile, readable by its owner alone.

    Args:
        root: where; made if need be.
        kind: what it is for, in messages: `run`.
        prefix: what its name begins with.

    Raises:
        StateError: it cannot be made.
    """
    make_private_dir(root)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", profile_name)[:48]
    stem = f"{prefix}{time.strftime('%Y%m%d-%H%M%S')}-{name}"
    for suffix in ("", *(f"-{number}" for number in range(2, 100))):
        path = root / f"{stem}{suffix}"
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            continue
        except OSError as error:
            raise StateError(
                f"Cannot make a {kind} directory",
                f"{path}: {error.strerror}",
                "Free some disk space, or set XDG_STATE_HOME.",
            ) from error
        return path
    raise StateError(f"Cannot make a {kind} directory", f"{root} has 99 {kind}s of this second", "Try again.")
