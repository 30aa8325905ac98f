"""One archive of a run for a bug tracker: everything that explains it, and no secret.

A table of parts, each a file of the archive: what cannot be had is left out and named with the reason, so that a
report never fails because a machine is odd.
"""

from __future__ import annotations

import gzip
import io
import platform
import tarfile
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from console import __version__
from console.core.diagnosis import diagnose
from console.core.errors import StateError, UsageError
from console.core.models import Diagnosis, RunInfo, Sample
from console.core.text import HIDDEN, Redactor, clean, is_secret_name, redact_argv
from console.io import evidence
from console.io.evidence import MissingError
from console.io.gpu.nvml import NvmlBackend
from console.io.logtail import LogTail
from console.io.runs import RunDir
from console.io.secrets import known_secrets

__all__ = ["PARTS", "Part", "Report", "write_report"]

HEAD_LINES: Final = 2_000
TAIL_LINES: Final = 5_000
AROUND_LINES: Final = 200
"""Before and after the line of the diagnosis."""
SAMPLES_MAX: Final = 900
"""Before the end: a quarter of an hour."""
EVENTS_MAX: Final = 5_000
SUPERVISOR_LOG_BYTES: Final = 256 * 1024


class Part(msgspec.Struct, frozen=True):
    """One file of the archive."""

    name: str
    about: str
    make: Callable[[Report], str]
    """Raises MissingError, OSError or StateError where it cannot be had."""


class Report:
    """What the parts are made from."""

    def __init__(self, run: RunDir, info: RunInfo) -> None:
        self.run = run
        self.info = info
        self.redact = Redactor(known_secrets(info))
        self.head: list[str] = []
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self.around: list[str] = []
        self.diagnosis: Diagnosis | None = info.diagnosis
        self.log_error = ""
        self._read_log()

    def safe(self, value: Any) -> Any:
        """JSON data without secrets, by name and by value."""
        match value:
            case dict():
                return {
                    str(key): HIDDEN
                    if item and is_secret_name(str(key)) and isinstance(item, str | list)
                    else self.safe(item)
                    for key, item in value.items()
                }
            case list() | tuple():
                return [self.safe(item) for item in value]
            case str():
                return self.redact(value)
            case _:
                return value

    def json(self, value: Any) -> str:
        """The same as text."""
        return msgspec.json.format(msgspec.json.encode(self.safe(msgspec.to_builtins(value)))).decode()

    def _read_log(self) -> None:
        """Head, tail and the lines around the diagnosis, in one pass and in bounded memory."""
        wanted = self.diagnosis.line if self.diagnosis is not None else None
        try:
            for number, text in _lines(self.run.log_path, self.redact):
                line = f"{number:>8}  {text}"
                if number <= HEAD_LINES:
                    self.head.append(line)
                self.tail.append(line)
                if wanted is not None and abs(number - wanted) <= AROUND_LINES:
                    self.around.append(line)
        except OSError as error:
            self.log_error = str(error)
        if self.diagnosis is None and self.info.state in {"failed", "crashed"}:
            self.diagnosis = diagnose(line[10:] for line in self.tail)


def _lines(path: Path, redact: Callable[[str], str]) -> Iterator[tuple[int, str]]:
    tail = LogTail(path, redact)
    try:
        while (page := tail.read(flush=True)).lines:
            if page.skipped:
                yield page.first_line - 1, f"[{page.skipped:,} lines up to here are no longer kept]"
            yield from enumerate(page.lines, page.first_line)
    finally:
        tail.close()


def _launch(report: Report) -> str:
    spec = report.run.read_launch()
    data = msgspec.to_builtins(spec)
    data["argv"] = list(redact_argv(spec.argv))
    return report.json(data)


def _versions(report: Report) -> str:
    lines = [
        f"dsv4-console {__version__}",
        f"Python {platform.python_version()} (of the console)",
        f"engine {report.info.engine_name or '?'}: vLLM {report.info.engine_version or '?'}",
    ]
    try:
        lines.append(f"NVIDIA driver {_driver()}")
    except MissingError as error:
        lines.append(f"NVIDIA driver: {error}")
    try:
        if not report.info.argv:
            raise MissingError("the run names no engine")
        lines += ["", "packages of the engine:", *evidence.package_versions(Path(report.info.argv[0]))]
    except MissingError as error:
        lines.append(f"packages of the engine: {error}")
    return "\n".join(lines)


def _driver() -> str:
    backend = NvmlBackend()
    try:
        backend.open()
        return backend.driver_version() or "unknown"
    except Exception as error:
        raise MissingError(str(error).replace("\n", ": ")) from error
    finally:
        backend.close()


def _diagnosis(report: Report) -> str:
    if report.diagnosis is None:
        raise MissingError(f"there is none; the run's last state is {report.info.state}: {report.info.reason}")
    return report.json(report.diagnosis)


def _events(report: Report) -> str:
    events = report.run.events()[-EVENTS_MAX:]
    if not events:
        raise MissingError("no event was written")
    return "\n".join(msgspec.json.encode(report.safe(msgspec.to_builtins(event))).decode() for event in events)


def _samples(report: Report) -> str:
    known = report.run.sampled()
    samples: tuple[Sample, ...] = ()
    if known is not None:
        samples = report.run.samples(since_s=known[1] - SAMPLES_MAX)[-SAMPLES_MAX:]
    if not samples:
        raise MissingError("no sample was written")
    return "\n".join(msgspec.json.encode(report.safe(msgspec.to_builtins(sample))).decode() for sample in samples)


def _log(report: Report, lines: list[str]) -> str:
    if not lines:
        raise MissingError(report.log_error or "the log is empty or missing")
    return "\n".join(lines)


def _around(report: Report) -> str:
    if report.info.diagnosis is None or report.info.diagnosis.line is None:
        raise MissingError("no diagnosis names a line")
    return _log(report, report.around)


def _supervisor_log(report: Report) -> str:
    with report.run.supervisor_log_path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - SUPERVISOR_LOG_BYTES))
        text = file.read().decode("utf-8", "replace")
    if not text.strip():
        raise MissingError("it is empty: the supervisor had no trouble of its own")
    return "\n".join(map(report.redact, text.splitlines()))


def _asked(ask: Callable[[], str]) -> Callable[[Report], str]:
    return lambda report: "\n".join(map(report.redact, ask().splitlines()))


PARTS: Final[tuple[Part, ...]] = (
    Part("run.json", "what was launched, its last state, its diagnosis", lambda report: report.json(report.info)),
    Part("launch.json", "the profile as used, arguments, environment that was added", _launch),
    Part("versions.txt", "console, Python, vLLM, PyTorch and other packages, driver", _versions),
    Part("diagnosis.json", "cause, remedy, line of the log", _diagnosis),
    Part("events.jsonl", f"what happened, the last {EVENTS_MAX:,}", _events),
    Part("samples.jsonl", f"figures of each second, the last {SAMPLES_MAX:,}", _samples),
    Part("log-around-diagnosis.txt", f"{AROUND_LINES} lines before and after it", _around),
    Part("log-head.txt", f"first {HEAD_LINES:,} lines, numbered", lambda report: _log(report, report.head)),
    Part("log-tail.txt", f"last {TAIL_LINES:,} lines, numbered", lambda report: _log(report, list(report.tail))),
    Part("supervisor.log", "the supervisor's own trouble", _supervisor_log),
    Part("gpu.txt", "nvidia-smi", _asked(evidence.gpu_text)),
    Part("kernel.txt", "kernel messages on GPUs, memory and killed processes", _asked(evidence.kernel_text)),
    Part("host.txt", "processors, memory, disks", _asked(evidence.host_text)),
)

_README: Final = """\
Report of run {run}, made by dsv4-console {version} on {date}.

{parts}

Left out:
{missing}

Keys and tokens are replaced by {hidden}: values of environment variables and flags with a secret's name wherever they
occur, and texts that look like a key (hf_…, sk-…, Bearer …). What the operator's prompts, paths and names are is not
known to this program: the archive still holds host name, user name in paths, model and profile names, and whatever
vLLM logs of requests. Read it before you publish it.
"""


def write_report(run: RunDir, info: RunInfo, target: Path) -> tuple[tuple[str, str], ...]:
    """Write the archive (`.tar.gz`, mode 0600). Returns the parts that were left out, each with the reason.

    Raises:
        UsageError: the file is there already.
        StateError: it cannot be written.
    """
    if target.exists():
        raise UsageError("The file is there already", str(target), "Name another one with -o FILE.")
    report = Report(run, info)
    files: list[tuple[str, str]] = []
    missing: list[tuple[str, str]] = []
    for part in PARTS:
        try:
            files.append((part.name, part.make(report)))
        except (MissingError, OSError, StateError) as error:
            missing.append((part.name, report.redact(str(error).replace("\n", ": "))))
    made = {name for name, _ in files}
    readme = _README.format(
        run=info.id,
        version=__version__,
        date=time.strftime("%Y-%m-%d %H:%M:%S %z"),
        parts="\n".join(f"{part.name:<26}{part.about}" for part in PARTS if part.name in made),
        missing="\n".join(f"{name:<26}{why}" for name, why in missing) or "nothing",
        hidden=HIDDEN,
    )
    _write(target, info.id, [("README.txt", readme), *files])
    return tuple(missing)


def _write(target: Path, name: str, files: list[tuple[str, str]]) -> None:
    """Into a file of its own first: a report is whole or not there."""
    now = time.time()
    try:
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
            part = Path(file.name)
            try:
                with gzip.GzipFile("", "wb", 6, file) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
                    for path, text in files:
                        shown = "\n".join(clean(line) for line in text.rstrip("\n").split("\n"))
                        data = f"{shown}\n".encode("utf-8", "replace")
                        entry = tarfile.TarInfo(f"dsv4-report-{name}/{path}")
                        entry.size, entry.mtime, entry.mode = len(data), int(now), 0o600
                        archive.addfile(entry, io.BytesIO(data))
                file.flush()
                part.replace(target)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise StateError(
            "Cannot write the report", f"{target}: {error.strerror}", "Name another place: -o FILE."
        ) from error
