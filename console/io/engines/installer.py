"""Makes an engine: a virtual environment of its own with one version of vLLM in it.

It is built where it will stay, since an environment's commands hold its path, and becomes an engine only when
`engine.json` is written, after `vllm --version` ran. Whatever ends the work earlier leaves what was there before.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from console.core import versions
from console.core.errors import EngineError
from console.core.profile import EngineKind
from console.io import paths
from console.io.engines import recipe as steps
from console.io.engines.child import InstallLog, run_step, uninterrupted
from console.io.engines.locate import clean_environment, version_in_output
from console.io.engines.progress import CHECKED, CHECKING, PREPARING, Progress, ProgressReader
from console.io.engines.records import (
    ENGINE_FILE,
    RECIPES,
    Engine,
    EngineRecord,
    Recipe,
    install_command,
    read_engine,
    write_record,
)
from console.io.engines.store import EngineLock, aside_path, lock_engine, settle, sweep, tools_path

__all__ = ["install"]

STEP_TIMEOUT_S = 7_200.0
CHECK_TIMEOUT_S = 600.0
"""`vllm --version` on a cold network disk; 25 s were seen on a local one."""
LOGS_MAX = 20
TAIL_LINES_SHOWN = 12
SURE_SHARE = 0.25
"""With less than this share of the space free, even hard links into uv's cache cannot save the installation."""

FAILURES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"No space left|Disk quota|os error 28", re.I), "Free disk space, then install again."),
    (
        re.compile(r"unexpected argument|unrecognized subcommand|invalid value .* for '--"),
        "Update uv (`uv self update`), then install again.",
    ),
    (
        re.compile(r"No interpreter found|No download found|Python .* is not (?:available|installed)", re.I),
        "Install that Python (`uv python install VERSION`), then install again.",
    ),
    (
        re.compile(r"ensurepip is not|No module named (?:venv|ensurepip)", re.I),
        "Install uv (https://docs.astral.sh/uv), or Python's venv package, then install again.",
    ),
    (
        re.compile(r"No solution found|there is no version of|No matching distribution", re.I),
        "Ask for a version that the package index has for this platform.",
    ),
    (
        re.compile(r"dns error|error sending request|Connection (?:refused|reset)|timed? ?out|Failed to fetch", re.I),
        "Check the network, or name a reachable index (UV_DEFAULT_INDEX), then install again.",
    ),
)
"""What the last lines of an installer say, and what to do about it: the first that matches counts."""


async def install(version: str | None, kind: EngineKind, progress: Progress, force: bool = False) -> Engine:
    """Install vLLM `version` (`None` for the recipe's own) and return the engine; at once if it is there already.

    `force` makes it anew; the old one stays until the new one is proven. Cancelling ends the installer with all that
    it started and leaves nothing half-made.

    Raises:
        EngineError: no such version, no space, being installed already, or a step failed; the message names the log.
        console.core.errors.StateError: a directory cannot be written.
    """
    recipe = RECIPES[kind]
    wanted = versions.normal(version or recipe.version)
    if wanted is None or "+" in wanted:
        raise EngineError("Not a vLLM version", f"{version!r}", f"Write it like {recipe.version}.")
    root = paths.make_private_dir(paths.engines_dir())
    directory = root / steps.engine_name(kind, wanted)
    await asyncio.to_thread(sweep, root)
    with lock_engine(root, directory.name) as lock:
        present = read_engine(directory)
        if present and not force:
            progress("installed already", CHECKED)
            return present
        _make_room(directory, recipe, progress)
        lock.claim()
        if directory.exists():
            directory.rename(aside_path(directory))
        try:
            with _open_log(directory.name) as log:
                await _Build(directory, recipe, wanted, lock, log, progress).run(kind)
        finally:
            await uninterrupted(asyncio.to_thread(settle, directory))
    finished = read_engine(directory)
    if finished is None:
        raise EngineError("The engine is gone", str(directory), f"Run: {install_command(kind, wanted)}")
    progress(f"installed {finished.name}", CHECKED)
    return finished


class _Build:
    """One installation under way."""

    def __init__(
        self, directory: Path, recipe: Recipe, version: str, lock: EngineLock, log: InstallLog, progress: Progress
    ) -> None:
        self.directory = directory
        self.recipe = recipe
        self.version = version
        self.lock = lock
        self.log = log
        self.progress = progress
        self.reader = ProgressReader()
        self.env = clean_environment() | {"NO_COLOR": "1"}

    async def run(self, kind: EngineKind) -> None:
        recipe, directory = self.recipe, self.directory
        uv = steps.find_uv() or await self._fetch_uv()
        self.progress(f"making an environment, Python {recipe.python}", PREPARING)
        await self._step(steps.venv_argv(uv, recipe, directory))
        (directory / steps.OVERRIDES_FILE).write_text(steps.overrides_text(recipe), encoding="utf-8")
        self.progress(f"resolving {recipe.package} {self.version}", PREPARING)
        await self._step(steps.install_argv(uv, recipe, self.version, directory, self.env))
        try:
            if recipe.rename:
                steps.rename_package(directory, recipe, self.version)
            reported = await self._check(directory / "bin")
            python = self._python_version()
            record = EngineRecord(
                name=directory.name, kind=kind, version=reported, python=python, created_s=time.time()
            )
            write_record(directory, record)
        except OSError as error:
            raise self._failure(f"{error.filename}: {error.strerror}") from error

    async def _fetch_uv(self) -> tuple[str, ...]:
        self.progress("uv is not on PATH: fetching it with pip", PREPARING)
        commands, uv = steps.bootstrap_commands(tools_path(self.directory))
        for argv in commands:
            await self._step(argv, tell=False)
        return uv

    async def _check(self, programs: Path) -> str:
        """Run `vllm --version` and return what it says.

        A CUDA build cannot even say its version where there is no driver ("Failed to infer device type", vLLM 0.32).
        There its package is asked, and PyTorch is loaded to see that the environment is whole.
        """
        before = len(self.log.tail)
        if self.recipe.torch_backend != "auto" or steps.has_nvidia_driver():
            self.progress("checking vllm --version (loads PyTorch: up to a minute when cold)", CHECKING)
            await self._step((str(programs / "vllm"), "--version"), timeout_s=CHECK_TIMEOUT_S)
        else:
            self.progress("no NVIDIA driver here: checking the packages without running vLLM", CHECKING)
            await self._step((str(programs / "python"), "-c", steps.ASK_PACKAGES), timeout_s=CHECK_TIMEOUT_S)
        reported = version_in_output("\n".join(list(self.log.tail)[before:] or self.log.tail))
        if reported is None or not versions.satisfies(reported, f"=={self.version}"):
            raise self._failure(f"vllm --version says {reported or 'no version'}, not {self.version}")
        return reported

    def _python_version(self) -> str:
        text = (self.directory / "pyvenv.cfg").read_text(encoding="utf-8")
        match = re.search(r"^version(?:_info)?\s*=\s*(\S+)", text, re.MULTILINE)
        return match.group(1) if match else ""

    async def _step(self, argv: tuple[str, ...], timeout_s: float | None = None, tell: bool = True) -> None:
        limit_s = STEP_TIMEOUT_S if timeout_s is None else timeout_s
        try:
            code = await run_step(
                argv,
                self.log,
                self._tell if tell else lambda line: None,
                env=self.env,
                cwd=self.directory.parent,
                lock_fd=self.lock.fd,
                timeout_s=limit_s,
            )
        except TimeoutError as error:
            raise self._failure(f"`{Path(argv[0]).name}` did not end within {limit_s:,.0f} s") from error
        except OSError as error:
            raise self._failure(f"{argv[0]}: {error.strerror}") from error
        if code:
            raise self._failure(f"`{Path(argv[0]).name} {' '.join(argv[1:3])}` ended with {code}")

    def _tell(self, line: str) -> None:
        if step := self.reader.read(line):
            self.progress(*step)

    def _failure(self, what: str) -> EngineError:
        tail = list(self.log.tail)
        fix = next(
            (fix for pattern, fix in FAILURES if any(map(pattern.search, tail))), "The log has the whole output."
        )
        lines = [f"{self.directory.name}: {what}", *(f"  {line}" for line in tail[-TAIL_LINES_SHOWN:])]
        return EngineError("The engine could not be installed", "\n".join([*lines, f"Log: {self.log.path}"]), fix)


def _make_room(directory: Path, recipe: Recipe, progress: Progress) -> None:
    """Refuse a foreign directory in the way and a disk that is certainly too full; warn of one that may be.

    Raises:
        EngineError: as above.
    """
    if directory.is_symlink() or (directory.exists() and not (directory / ENGINE_FILE).is_file()):
        raise EngineError("In the way of the engine", f"{directory} was not made by this program", "Move it away.")
    free = shutil.disk_usage(directory.parent).free
    text = f"{directory.name} needs about {recipe.disk_bytes / 1e9:.0f} GB, {free / 1e9:.1f} GB are free"
    if free < recipe.disk_bytes * SURE_SHARE:
        raise EngineError(
            "Not enough disk space", f"{text} in {directory.parent}", "Free some, or point XDG_DATA_HOME elsewhere."
        )
    if free < recipe.disk_bytes:
        progress(f"warning: {text}", None)


@contextlib.contextmanager
def _open_log(name: str) -> Iterator[InstallLog]:
    """A new log in the state directory; of the older ones the newest stay."""
    folder = paths.make_private_dir(paths.state_dir() / "installs")
    for old in sorted(folder.glob("*.log"), key=lambda path: path.stat().st_mtime)[: -LOGS_MAX + 1]:
        old.unlink(missing_ok=True)
    path = folder / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    with path.open("wb") as file:
        yield InstallLog(path, file)
