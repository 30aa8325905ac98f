"""A download in figures: what a repository holds, how much of it is here, how fast the rest comes, and why it failed.

Pure, so that the arithmetic is tested without a network; `console.io.download` measures and runs the child.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

import msgspec

from console.core.units import UNKNOWN, bytes_text, elapsed_text

__all__ = [
    "EXCLUDED",
    "REFUSALS",
    "DownloadProgress",
    "DownloadResult",
    "HubFile",
    "Listing",
    "RateMeter",
    "Refusal",
    "is_repository",
    "progress_text",
    "refusal",
    "start_text",
    "telling",
]

EXCLUDED = "original/*"
"""What vLLM does not load either (`LoadConfig.ignore_patterns`): a second copy of the weights in another format."""
WINDOW_S = 30.0
"""The rate is that of the last so many seconds: files end and begin, and one second says little."""
SPAN_S_MIN = 2.0
"""A shorter time gives no rate."""
QUIET_S = 20.0
"""Nothing new for so long is said."""
NOT_TELLING = (" ", "Traceback ", "Hint:", "During handling of", "The above exception was")
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


class Data(msgspec.Struct, frozen=True, kw_only=True):
    """Base of the records here."""


class HubFile(Data, frozen=True, kw_only=True):
    """One file of a repository."""

    name: str
    size_bytes: int
    blob: str
    """Name of its content in the cache: the ETag, which is the SHA-256 for large files."""


class Listing(Data, frozen=True, kw_only=True):
    """What one commit of a repository holds."""

    commit: str
    files: tuple[HubFile, ...]

    @property
    def wanted(self) -> tuple[HubFile, ...]:
        """The files that are downloaded."""
        return tuple(file for file in self.files if not fnmatchcase(file.name, EXCLUDED))

    @property
    def size_bytes(self) -> int:
        """Of the wanted files; two files of one content are stored once."""
        return sum({file.blob: file.size_bytes for file in self.wanted}.values())


class DownloadProgress(Data, frozen=True, kw_only=True):
    """How far a download is."""

    path: str
    """The cache that it goes into."""
    bytes_done: int
    bytes_total: int
    files_done: int
    files_total: int
    free_bytes: int | None = None
    """On the disk of `path`."""
    rate_bytes_per_s: float | None = None
    left_s: float | None = None
    quiet_s: float = 0.0
    """For so long nothing came."""

    @property
    def fraction(self) -> float:
        """The share that is here, 0 to 1; an empty repository is all here."""
        return min(1.0, self.bytes_done / self.bytes_total) if self.bytes_total else 1.0

    @property
    def missing_bytes(self) -> int:
        """What is still to come."""
        return max(0, self.bytes_total - self.bytes_done)


class DownloadResult(Data, frozen=True, kw_only=True):
    """A download that is complete."""

    model: str
    commit: str
    path: str
    """The snapshot."""
    bytes_total: int
    bytes_downloaded: int
    """By this call; 0 where everything was here."""
    seconds: float


class RateMeter:
    """Bytes per second over the last `WINDOW_S`, from readings of how much is here.

    A reading may be lower than the one before: a file that begins again takes its part back. The rate never is below 0.
    """

    def __init__(self) -> None:
        self._readings: deque[tuple[float, int]] = deque()
        self._grew_s: float | None = None

    def add(self, time_s: float, bytes_done: int) -> None:
        """Take a reading; `time_s` on a clock that does not jump."""
        if self._grew_s is None or (self._readings and bytes_done > self._readings[-1][1]):
            self._grew_s = time_s
        self._readings.append((time_s, bytes_done))
        while len(self._readings) > 2 and self._readings[1][0] <= time_s - WINDOW_S:
            self._readings.popleft()

    @property
    def rate_bytes_per_s(self) -> float | None:
        """`None` until there is enough to tell."""
        if not self._readings:
            return None
        (first_s, first), (last_s, last) = self._readings[0], self._readings[-1]
        return max(0.0, (last - first) / (last_s - first_s)) if last_s - first_s >= SPAN_S_MIN else None

    @property
    def quiet_s(self) -> float:
        """Seconds since the last reading that was higher than the one before."""
        return self._readings[-1][0] - self._grew_s if self._readings and self._grew_s is not None else 0.0

    def left_s(self, missing_bytes: int) -> float | None:
        """Seconds that `missing_bytes` take at this rate; `None` where nothing comes."""
        if missing_bytes <= 0:
            return 0.0
        rate = self.rate_bytes_per_s
        return missing_bytes / rate if rate else None


def is_repository(model_id: str) -> bool:
    """Whether this is the name of a repository on the hub, `OWNER/NAME`, as far as its form tells."""
    return REPOSITORY.fullmatch(model_id) is not None and not model_id.startswith(".")


def start_text(progress: DownloadProgress) -> str:
    """What is about to be downloaded, in a line."""
    here = f"{bytes_text(progress.bytes_done)} of it are here, " if progress.bytes_done else ""
    return (
        f"{bytes_text(progress.bytes_total)} in {progress.files_total} files; {here}"
        f"{bytes_text(progress.missing_bytes)} to come, {bytes_text(progress.free_bytes)} free in {progress.path}"
    )


def progress_text(progress: DownloadProgress) -> str:
    """How far it is, in a line of at most 78 characters."""
    rate = UNKNOWN if progress.rate_bytes_per_s is None else f"{bytes_text(progress.rate_bytes_per_s)}/s"
    left = f"{elapsed_text(progress.left_s)} left"
    if progress.quiet_s >= QUIET_S:
        left = f"nothing came for {elapsed_text(progress.quiet_s)}"
    return (
        f"{progress.fraction * 100:3.0f}%  {bytes_text(progress.bytes_done)} of {bytes_text(progress.bytes_total)}"
        f"  {rate}  {left}  {progress.files_done}/{progress.files_total} files"
    )


class Refusal(Data, frozen=True, kw_only=True):
    """A reason for which a download ends, and what to do."""

    id: str
    pattern: str
    """Of what `hf` or huggingface_hub says; any case."""
    title: str
    remedy: str
    """`{model}` is the repository."""


SET_IT = "set HF_TOKEN in the environment of dsv4-console to a token that may read it"
REFUSALS: tuple[Refusal, ...] = (
    Refusal(
        id="gated",
        pattern=r"GatedRepo|requires approval|Cannot access gated repo|not in the authorized list",
        title="The model is gated",
        remedy=f"Accept its licence at https://huggingface.co/{{model}}, then {SET_IT}.",
    ),
    Refusal(
        id="token",
        pattern=r"Invalid (?:user token|credentials|username or password)|token (?:is|has) (?:expired|invalid)",
        title="The hub does not accept the token",
        remedy="Make a new one at https://huggingface.co/settings/tokens and set HF_TOKEN to it, or unset HF_TOKEN.",
    ),
    Refusal(
        id="revision",
        pattern=r"RevisionNotFound|Revision not found|Invalid rev id",
        title="The repository has no such revision",
        remedy="Look at the branches and tags of https://huggingface.co/{model}; correct --revision or model.revision.",
    ),
    Refusal(
        id="missing",
        pattern=r"RepositoryNotFound|Repository Not Found|Model '[^']*' not found",
        title="There is no such model repository, or it is private",
        remedy=f"Check model.id for spelling; for a private repository {SET_IT}.",
    ),
    Refusal(
        id="refused",
        pattern=r"Error 40[13]\b|\b40[13] Client|Forbidden|Unauthorized",
        title="The hub refuses access",
        remedy=f"See whether you may read https://huggingface.co/{{model}}, and {SET_IT}.",
    ),
    Refusal(
        id="disk",
        pattern=r"No space left|Disk quota|os error 28|Errno (?:27|28|122)\b|File too large",
        title="The disk is full",
        remedy="Free some space, or set HF_HOME to a larger disk where you start the console.",
    ),
    Refusal(
        id="permission",
        pattern=r"Permission denied|Read-only file system",
        title="The cache cannot be written",
        remedy="Make it writable for you, or set HF_HOME to another directory where you start the console.",
    ),
    Refusal(
        id="offline",
        pattern=r"OfflineMode|offline mode|HF_HUB_OFFLINE",
        title="Downloads are switched off",
        remedy="Unset HF_HUB_OFFLINE where you start the console.",
    ),
    Refusal(
        id="too-many",
        pattern=r"Error 429\b|\b429 Client|Too Many Requests",
        title="The hub asks to come back later",
        remedy="Wait some minutes; with HF_TOKEN set more requests are allowed.",
    ),
    Refusal(
        id="network",
        pattern=r"Connect(?:ion)?(?:Error| reset| refused| aborted)|timed? ?out|Timeout|ProtocolError|ProxyError"
        r"|peer closed connection|Name or service not known|name resolution|Consistency check failed|SSLError|SSL:"
        r"|LocalEntryNotFound|IncompleteSnapshot|Error 50[0234]\b|\b50[0234] Server",
        title="The connection to the hub failed",
        remedy="Check the network, HTTPS_PROXY, and HF_ENDPOINT if you use a mirror.",
    ),
)
"""The first row that matches any line counts: a reason that the hub names goes before the number that repeats it."""


def telling(lines: Iterable[str]) -> tuple[str, ...]:
    """The lines of an output that tell a reason: no frames of a traceback, whose numbers and names mean nothing."""
    return tuple(line for line in lines if line.strip() and not line.startswith(NOT_TELLING))


def refusal(lines: Sequence[str]) -> Refusal | None:
    """The row that explains this output, `None` if none does."""
    return next(
        (row for row in REFUSALS if any(re.search(row.pattern, line, re.IGNORECASE) for line in lines)),
        None,
    )
