"""Finds and reads what can be replayed: a run by its name, a run directory, the archive of a report, the shipped demo.

What is there is played and what is missing is said. Everything is read with the same bounds, since a directory or an
archive may come from another machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from operator import attrgetter
from pathlib import Path
from statistics import median
from typing import Any, Final, TypeVar

import msgspec

from console.core.errors import NotRunningError, StateError, UsageError
from console.core.hints.window import GAP_S
from console.core.logtimes import line_times, stamp_s, utc_offset_s
from console.core.models import EventRecord, RunInfo, Sample
from console.core.profile import Profile
from console.core.recording import SAMPLE_HOLD_S, RecordedLog, Recording
from console.core.text import Redactor, clean
from console.core.units import elapsed_text
from console.io import runs
from console.io.logtail import LogTail
from console.io.paths import demo_dir
from console.io.reportfile import read_report
from console.io.runs import LaunchSpec, RunDir
from console.io.secrets import known_secrets

__all__ = ["LINES_MAX", "demo", "find", "from_directory", "from_report"]

LAST: Final = "last"
"""Names the newest run."""
HEAD_BYTES: Final = 8 * 1024 * 1024
"""Of a log that is longer than both, these first bytes are played …"""
TAIL_BYTES: Final = 24 * 1024 * 1024
"""… and these last ones."""
LINES_MAX: Final = 200_000
SAMPLES_MAX: Final = 100_000
"""More than a day at 1 Hz; of more, the newest."""
EVENTS_MAX: Final = 50_000
GPUS_MAX: Final = 128
FIGURE_MAX: Final = 1e18
"""No figure of a sample is beyond it; one that is makes its sample worthless."""
TIME_MIN_S: Final = 946_684_800.0
"""2000-01-01: moments outside these two come from a broken clock or a broken file."""
TIME_MAX_S: Final = 7_258_118_400.0
"""2200-01-01."""

_NUMBERED = re.compile(r" {0,12}(\d{1,12})  (.*)", re.DOTALL)

T = TypeVar("T")
Timed = TypeVar("Timed", Sample, EventRecord)


def find(name: str) -> Recording:
    """What `--replay NAME` names: a directory, an archive, a run, a profile (its newest run) or `last`.

    Raises:
        ConsoleError: there is no such thing, or it cannot be read.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return from_directory(RunDir(path.absolute()))
    if path.is_file():
        return from_report(path.absolute())
    found = runs.list_runs()
    if name != LAST:
        found = tuple(pair for pair in found if name in (pair[1].id, pair[1].profile_name))
    if not found:
        raise NotRunningError(
            "There is nothing of this name to replay",
            f"{name!r} is no run, no profile that was launched, no run directory and no report",
            "See what there is: dsv4-console runs list",
        )
    return from_directory(found[0][0])


def demo() -> tuple[Recording, ...]:
    """The recordings that come with the program, in order of time.

    Raises:
        StateError: they are not there.
    """
    folder = demo_dir()
    found = sorted(path for path in folder.iterdir() if (path / "run.json").is_file()) if folder.is_dir() else []
    if not found:
        raise StateError("The demo is not installed", f"no recording in {folder}", "Install dsv4-console again.")
    return tuple(from_directory(RunDir(path)) for path in found)


def from_directory(run: RunDir) -> Recording:
    """A run directory.

    Raises:
        StateError: its `run.json` is missing or cannot be understood, or nothing was recorded.
    """
    info = run.read_info()
    missing: list[str] = []
    profile = None
    try:
        profile = run.read_launch().profile
    except StateError as error:
        missing.append(_no_profile(error.message))
    log = _log_of(run, info, missing)
    if runs.is_supervised(info):
        missing.append("The run is still alive: it is played up to now; --attach shows it as it is")
    return _recording(info, profile, run.samples(), run.events(), log, missing)


def _no_profile(why: str) -> str:
    return f"Hints: not judged, since the profile of the launch cannot be read ({why})"


def _log_of(run: RunDir, info: RunInfo, missing: list[str]) -> dict[int, str]:
    lines: dict[int, str] = {}
    tail = LogTail(run.log_path, Redactor(known_secrets(info)))
    try:
        size = run.log_path.stat().st_size
        skipped = False
        while len(lines) < LINES_MAX and (page := tail.read(flush=True)).lines:
            lines.update(enumerate(page.lines, page.first_line))
            if not skipped and size > HEAD_BYTES + TAIL_BYTES and tail.offset >= HEAD_BYTES:
                skipped = True
                tail.skip_to_last(TAIL_BYTES)
    except OSError as error:
        missing.append(f"Log: {error.strerror or error}")
    finally:
        tail.close()
    return lines


def from_report(path: Path) -> Recording:
    """The archive that `dsv4-console report` writes; it may come from anywhere.

    Raises:
        UsageError: it is no such archive, too large, or without a readable `run.json`.
    """
    parts, said = read_report(path)
    missing = list(said)
    info = _decoded(parts.get("run.json"), RunInfo)
    if info is None:
        raise UsageError(
            "This is no report that can be played",
            f"{path}: its run.json is missing or cannot be understood",
            "Make one with: dsv4-console report RUN",
        )
    spec = _decoded(parts.get("launch.json"), LaunchSpec)
    if spec is None:
        missing.append(_no_profile("launch.json is missing or of another version"))
    lines: dict[int, str] = {}
    for name in ("log-head.txt", "log-around-diagnosis.txt", "log-tail.txt"):
        lines.update(_numbered(parts.get(name, b"")))
    samples = _decoded_lines(parts.get("samples.jsonl"), Sample, _sound_sample, SAMPLES_MAX)
    events = _decoded_lines(parts.get("events.jsonl"), EventRecord, _sound_moment, EVENTS_MAX)
    return _recording(info, spec.profile if spec else None, samples, events, lines, missing)


def _decoded(data: bytes | None, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(data, type=kind) if data is not None else None
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def _decoded_lines(data: bytes | None, kind: type[T], sound: Callable[[T], bool], count_max: int) -> list[T]:
    decoder = msgspec.json.Decoder(kind)
    out: list[T] = []
    for line in (data or b"").splitlines()[-count_max:]:
        try:
            item = decoder.decode(line)
        except (msgspec.DecodeError, ValueError, RecursionError):
            continue
        if sound(item):
            out.append(item)
    return out


def _sound_moment(item: Sample | EventRecord) -> bool:
    return TIME_MIN_S <= item.time_s <= TIME_MAX_S


def _sound_sample(sample: Sample) -> bool:
    return _sound_moment(sample) and len(sample.gpus or ()) <= GPUS_MAX and _sound_figures(msgspec.to_builtins(sample))


def _sound_figures(value: Any) -> bool:
    match value:
        case dict():
            return all(map(_sound_figures, value.values()))
        case list() | tuple():
            return all(map(_sound_figures, value))
        case int() | float():
            return abs(value) <= FIGURE_MAX
        case _:
            return True


def _numbered(data: bytes) -> Iterable[tuple[int, str]]:
    for line in data.decode("utf-8", "replace").split("\n")[:LINES_MAX]:
        if (found := _NUMBERED.fullmatch(line)) is not None:
            yield int(found[1]), clean(found[2])


def _recording(
    info: RunInfo,
    profile: Profile | None,
    samples: Sequence[Sample],
    events: Sequence[EventRecord],
    lines: dict[int, str],
    missing: list[str],
) -> Recording:
    """Put it together, in order, and say what is not there.

    Raises:
        UsageError: there is nothing to play.
    """
    samples = _ordered(samples, SAMPLES_MAX)
    events = _ordered(events, EVENTS_MAX)
    moments = [sample.time_s for sample in (*samples[:1], *samples[-1:])]
    moments += [event.time_s for event in (*events[:1], *events[-1:])]
    if not moments:
        raise UsageError(
            "There is nothing to replay",
            f"{info.id} has neither samples nor events",
            "See what else it holds: dsv4-console logs RUN",
        )
    begin_s, end_s = min(moments), max(moments)
    if TIME_MIN_S <= info.created_s <= begin_s and begin_s - info.created_s <= GAP_S:
        begin_s = info.created_s
    numbers = sorted(lines)
    texts = [lines[number] for number in numbers]
    first = next((at for text in texts if (at := stamp_s(text, begin_s)) is not None), None)
    offset_s = utc_offset_s(info.id, info.created_s or begin_s, first)
    times = line_times(texts, begin_s=begin_s, end_s=end_s, offset_s=offset_s, events=events)
    if samples and samples[0].time_s - begin_s > SAMPLE_HOLD_S:
        missing.append(f"Figures: none of the first {elapsed_text(samples[0].time_s - begin_s)}")
    for what, there in (("Figures", samples), ("Events", events), ("Log", numbers)):
        if not there and not any(sentence.startswith(what) for sentence in missing):
            missing.append(f"{what}: none in this recording")
    if numbers and numbers[-1] - numbers[0] + 1 > len(numbers):
        missing.append(f"Log: {numbers[-1] - len(numbers):,} of its {numbers[-1]:,} lines are not here")
    steps = [after.time_s - before.time_s for before, after in pairwise(samples)]
    if steps and median(steps) > GAP_S:
        missing.append(f"Hints: not judged, since the figures are {median(steps):.0f} s apart")
    return Recording(
        run=info,
        profile=profile,
        samples=samples,
        events=events,
        log=RecordedLog(tuple(numbers), tuple(texts), tuple(times)),
        begin_s=begin_s,
        end_s=end_s,
        missing=tuple(missing),
        utc_offset_s=offset_s,
    )


def _ordered(items: Sequence[Timed], count_max: int) -> tuple[Timed, ...]:
    """In order of time, the newest of too many; those with a moment that cannot be are left out."""
    kept = [item for item in items if _sound_moment(item)]
    kept.sort(key=attrgetter("time_s"))
    return tuple(kept[-count_max:])
