"""Downloads a model with the engine's own `hf`, as a supervised child: asked first, measured on disk, explained after.

The engine's huggingface_hub knows the cache that vLLM will read, and the console needs none of its own. Tokens reach it
by the environment alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec

from console.core.download import (
    EXCLUDED,
    DownloadProgress,
    DownloadResult,
    HubFile,
    Listing,
    RateMeter,
    refusal,
    telling,
)
from console.core.errors import DownloadError
from console.core.text import Redactor, clean
from console.core.units import bytes_text, elapsed_text
from console.io import hubcache, paths
from console.io.engines.child import InstallLog, run_step, uninterrupted
from console.io.engines.locate import clean_environment
from console.io.secrets import known_secrets

__all__ = ["download", "find_hf", "interpreter_of"]

ASK_TIMEOUT_S = 120.0
"""To import huggingface_hub and ask one question: 2 s were seen, a cold network disk takes longer."""
DOWNLOAD_TIMEOUT_S = 7 * 86_400.0
INTERVAL_S = 1.0
LOGS_MAX = 20
TAIL_LINES_SHOWN = 8
FILES_MAX = 20_000
"""More files than this are not counted: no checkpoint has them."""
HEAD_BYTES = 4_096

ASK = """
import json, sys
def say(kind, value):
    print("@" + kind + " " + json.dumps(value), flush=True)
try:
    from huggingface_hub import HfApi
    found = HfApi().model_info(sys.argv[1], revision=sys.argv[2] or None, files_metadata=True, timeout=60)
    for each in found.siblings or ():
        lfs = each.lfs
        sha = lfs.get("sha256") if isinstance(lfs, dict) else getattr(lfs, "sha256", None)
        say("file", {"name": each.rfilename, "size_bytes": each.size or 0, "blob": sha or each.blob_id})
    say("commit", found.sha)
except Exception as error:
    status = getattr(getattr(error, "response", None), "status_code", "")
    say("error", f"{type(error).__name__} {status} {error}"[:2000])
"""
"""Run by the engine's own Python. Its `hf` can only round sizes for people."""

QUIETLY = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "NO_COLOR": "1",
    "PYTHONUNBUFFERED": "1",
}


class _Answer:
    """The lines of `ASK`, among whatever else is printed."""

    def __init__(self) -> None:
        self.commit = ""
        self.error = ""
        self.files: list[HubFile] = []

    def read(self, line: str) -> None:
        kind, _, value = line.partition(" ")
        with contextlib.suppress(msgspec.DecodeError):
            if kind == "@file" and len(self.files) < FILES_MAX:
                self.files.append(msgspec.json.decode(value, type=HubFile))
            elif kind == "@commit":
                self.commit = msgspec.json.decode(value, type=str)
            elif kind == "@error":
                self.error = msgspec.json.decode(value, type=str)


def find_hf(executable: Path) -> Path:
    """The `hf` command beside a `vllm` command.

    Raises:
        DownloadError: there is none.
    """
    for folder in (executable.parent, executable.resolve().parent):
        if os.access(folder / "hf", os.X_OK):
            return folder / "hf"
    raise DownloadError(
        "The engine has no download command",
        f"there is no `hf` beside {executable}",
        "Launch without it: vLLM downloads at its start. Or install an engine: dsv4-console engine install",
    )


async def download(
    model: str,
    revision: str | None,
    cache: Path,
    executable: Path,
    env: Mapping[str, str],
    progress: Callable[[DownloadProgress], None],
) -> DownloadResult:
    """Download a repository into `cache`; at once if all of it is there.

    Args:
        revision: branch, tag or commit; `None` for the main branch.
        executable: the engine's `vllm`, beside which `hf` is.
        env: added to this process's environment.
        progress: told once before the start and then every second.

    Cancelling ends the child. What is finished stays, and a later call goes on from there.

    Raises:
        DownloadError: refused, no space, or broken off; the message has the cause, the fix what to do.
        console.core.errors.StateError: the state directory cannot be written.
    """
    hf = find_hf(executable)
    folder = paths.make_private_dir(paths.state_dir() / "downloads")
    whole_env = clean_environment() | dict(env) | QUIETLY
    with _lock(folder, model) as lock_fd, _log(folder, model) as log:
        work = _Download(model, cache, whole_env, log, progress)
        await asyncio.to_thread(hubcache.sweep, cache, model)
        await work.ask(interpreter_of(hf), revision, folder, lock_fd)
        await work.check_room()
        if work.last is not None and work.last.files_done == work.last.files_total and work.has_snapshot():
            return work.result()
        argv = (str(hf), "download", model, "--exclude", EXCLUDED, "--cache-dir", str(cache))
        await work.run((*argv, *(("--revision", revision) if revision else ())), folder, lock_fd)
        return work.result()


class _Download:
    """One download under way."""

    def __init__(
        self,
        model: str,
        cache: Path,
        env: Mapping[str, str],
        log: InstallLog,
        progress: Callable[[DownloadProgress], None],
    ) -> None:
        self.model = model
        self.cache = cache
        self.env = env
        self.log = log
        self.progress = progress
        self.listing = Listing(commit="", files=())
        self.meter = RateMeter()
        self.began_s = time.monotonic()
        self.bytes_before = 0
        self.last: DownloadProgress | None = None

    async def ask(self, interpreter: str, revision: str | None, folder: Path, lock_fd: int) -> None:
        """Ask the hub what there is to download."""
        answer = _Answer()
        argv = (interpreter, "-c", ASK, self.model, revision or "")
        code = await self._step(argv, folder, lock_fd, ASK_TIMEOUT_S, answer.read)
        if code or answer.error or not answer.commit:
            raise self.failure(tuple(answer.error.splitlines()) or tuple(self.log.tail))
        self.listing = Listing(commit=answer.commit, files=tuple(answer.files))

    async def check_room(self) -> None:
        """Measure for the first time, and refuse what cannot fit."""
        now = await asyncio.to_thread(self.measured)
        self.bytes_before = now.bytes_done
        self.progress(now)
        if now.free_bytes is not None and now.missing_bytes > now.free_bytes:
            raise DownloadError(
                "Not enough disk space",
                f"{self.model}: {bytes_text(now.missing_bytes)} to download, "
                f"{bytes_text(now.free_bytes)} free in {self.cache}",
                "Free some space, or set HF_HOME to a larger disk where you start the console.",
            )

    async def run(self, argv: tuple[str, ...], folder: Path, lock_fd: int) -> None:
        """Run `hf` to its end, and tell how far it is meanwhile."""
        before = frozenset(hubcache.incomplete_files(self.cache, self.model))
        child = asyncio.ensure_future(self._step(argv, folder, lock_fd, DOWNLOAD_TIMEOUT_S, lambda line: None))
        try:
            while not (await asyncio.wait({child}, timeout=INTERVAL_S))[0]:
                self.progress(await asyncio.to_thread(self.measured))
        finally:
            if not child.done():
                child.cancel()
                await uninterrupted(asyncio.wait({child}))
            await uninterrupted(asyncio.to_thread(hubcache.sweep, self.cache, self.model, before))
        code = child.result()
        now = await asyncio.to_thread(self.measured)
        self.progress(now)
        if code:
            raise self.failure(tuple(self.log.tail))
        if now.files_done < now.files_total:
            missing = f"`hf` says it is done, and {now.files_total - now.files_done} files are not in {self.cache}"
            raise self.failure((missing,))

    async def _step(
        self, argv: tuple[str, ...], folder: Path, lock_fd: int, timeout_s: float, on_line: Callable[[str], None]
    ) -> int:
        try:
            return await run_step(
                argv, self.log, on_line, env=self.env, cwd=folder, lock_fd=lock_fd, timeout_s=timeout_s
            )
        except TimeoutError as error:
            raise self.failure((f"{argv[0]} timed out after {elapsed_text(timeout_s)}",)) from error
        except OSError as error:
            raise self.failure((f"{argv[0]}: {error.strerror}",)) from error

    def measured(self) -> DownloadProgress:
        """What is here now."""
        done, files = hubcache.measure(self.cache, self.model, self.listing)
        self.meter.add(time.monotonic(), done)
        total = self.listing.size_bytes
        self.last = DownloadProgress(
            path=str(self.cache),
            bytes_done=done,
            bytes_total=total,
            files_done=files,
            files_total=len(self.listing.wanted),
            free_bytes=_free(self.cache),
            rate_bytes_per_s=self.meter.rate_bytes_per_s,
            left_s=self.meter.left_s(total - done),
            quiet_s=self.meter.quiet_s,
        )
        return self.last

    def has_snapshot(self) -> bool:
        """Whether every file is where vLLM looks for it, not only its content."""
        snapshot = hubcache.snapshot_path(self.cache, self.model, self.listing.commit)
        return all((snapshot / file.name).exists() for file in self.listing.wanted)

    def result(self) -> DownloadResult:
        """Of a download that is complete."""
        return DownloadResult(
            model=self.model,
            commit=self.listing.commit,
            path=str(hubcache.snapshot_path(self.cache, self.model, self.listing.commit)),
            bytes_total=self.listing.size_bytes,
            bytes_downloaded=max(0, self.listing.size_bytes - self.bytes_before),
            seconds=time.monotonic() - self.began_s,
        )

    def failure(self, lines: tuple[str, ...]) -> DownloadError:
        """The error that these lines of output mean."""
        redact = Redactor(known_secrets())
        said = [redact(clean(line)) for line in telling(lines) or lines]
        row = refusal(said)
        message = "\n".join([self.model, *(f"  {line}" for line in said[-TAIL_LINES_SHOWN:]), f"Log: {self.log.path}"])
        kept = ""
        if self.last is not None and self.last.bytes_done:
            kept = f" {bytes_text(self.last.bytes_done)} are here and stay; the same command goes on from there."
        remedy = row.remedy.format(model=self.model) if row else "The log has the whole output."
        return DownloadError(row.title if row else "The download failed", message, f"{remedy}{kept}")


def interpreter_of(hf: Path) -> str:
    """The Python that runs `hf`, from its first lines; what pip and uv write where a path is long starts with sh."""
    with contextlib.suppress(OSError), hf.open("rb") as file:
        head = file.read(HEAD_BYTES).decode(errors="replace")
        if match := re.search(r"\A#!\s*(/\S*python[\d.]*)\s*$|^'''exec' '?(/[^'\n]*python[\d.]*)", head, re.MULTILINE):
            return match[1] or match[2]
    return str(hf.with_name("python"))


def _free(path: Path) -> int | None:
    for folder in (path, *path.absolute().parents):
        if folder.exists():
            return shutil.disk_usage(folder).free
    return None


def _slug(model: str) -> str:
    return re.sub(r"[^\w.-]", "--", model, flags=re.ASCII)


@contextlib.contextmanager
def _lock(folder: Path, model: str) -> Iterator[int]:
    """A lock on this model. The child has it too, so that one that outlives this process is not doubled.

    Raises:
        DownloadError: somebody downloads it.
    """
    handle = os.open(folder / f"{_slug(model)}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DownloadError(
                "This model is being downloaded already",
                model,
                f"Wait for that download, or look for it: pgrep -af 'download.* {model}'",
            ) from error
        yield handle
    finally:
        os.close(handle)


@contextlib.contextmanager
def _log(folder: Path, model: str) -> Iterator[InstallLog]:
    """A new log; of the older ones the newest stay."""
    for old in sorted(folder.glob("*.log"), key=lambda path: path.stat().st_mtime)[: -LOGS_MAX + 1]:
        old.unlink(missing_ok=True)
    path = folder / f"{_slug(model)}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    with path.open("wb") as file:
        yield InstallLog(path, file)
