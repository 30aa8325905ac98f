"""Packs recorded runs into the demo that the program ships: `python -m tests.gpu.demo OUT RUN_DIR [RUN_DIR …]`.

The runs are read and written through the program's own run directories, so that the demo has the format of the day.
What belongs to the machine that they ran on is left out: paths, GPU ids, process ids, the supervisor's own files. Names
that are known are replaced and what then still looks like a path ends the packing.

The shipped one: `python -m tests.gpu.demo console/_demo …-gpu-hints …-gpu-hints` (two runs that followed one another:
a sequence cap of 2 under 64 clients, and the change that its hint proposes).
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from console.core.logparse import LogLine, parse_line
from console.core.models import EventRecord, GpuReading, RunInfo, Sample
from console.io.logtail import LogTail
from console.io.runs import LaunchSpec, RunDir

BYTES_MAX = 400_000
SAMPLES_PER_WRITE = 5
"""As the supervisor does."""
DIGITS = 5
"""Significant digits of a figure: more are noise of the measurement."""
ENGINE = re.compile(r"(?:/[\w.+-]+)+/bin/(?=vllm\b|python)")
PACKAGES = re.compile(r"(?:/[\w.+-]+)+/site-packages/")
MODELS = re.compile(r"(?:/[\w.+-]+)+/models/([a-z0-9-]+?)(?:-[0-9a-f]{8})?(?=[^\w.-]|$)")
HOSTS = re.compile(r"\b(?!127\.0\.0\.1\b)\d{1,3}(?:\.\d{1,3}){3}\b")
CACHES = re.compile(r"(?:/[\w.+-]+)+/\.?cache/")
REPLACED = ((ENGINE, ""), (PACKAGES, ""), (MODELS, r"models/\1"), (CACHES, "~/.cache/"), (HOSTS, "127.0.0.1"))
"""In this order, in every text."""
FORBIDDEN = re.compile(
    r"/(?:work|tmp|root|home|mnt|data|opt|srv|usr)/[\w.]|GPU-[0-9a-f]{8}-|hf_\w{8}|sk-\w{8}|[\w.+-]+@\w"
)
"""What must not be left: paths, GPU ids, keys, addresses of people."""


def plain(text: str) -> str:
    """A text without what belongs to one machine."""
    for pattern, instead in REPLACED:
        text = pattern.sub(instead, text)
    return text


def plain_data(value: Any) -> Any:
    """The same in data; figures are rounded, moments are not."""
    match value:
        case dict():
            return {key: item if str(key).endswith("_s") else plain_data(item) for key, item in value.items()}
        case list() | tuple():
            return [plain_data(item) for item in value]
        case str():
            return plain(value)
        case float():
            return float(f"{value:.{DIGITS}g}")
        case _:
            return value


def info_of(info: RunInfo) -> RunInfo:
    """The run, with no process of it."""
    kept = msgspec.convert(plain_data(msgspec.to_builtins(info)), RunInfo)
    return msgspec.structs.replace(
        kept,
        id=info.id,
        engine_name=f"vllm-{info.engine_version}",
        supervisor_pid=None,
        supervisor_start_s=None,
        guardian_pid=None,
        server_pid=None,
        server_start_s=None,
    )


def sample_of(sample: Sample) -> Sample:
    """The figures, with no machine of theirs."""

    def gpu(reading: GpuReading) -> GpuReading:
        return msgspec.structs.replace(reading, uuid=None, processes=None)

    gpus = None if sample.gpus is None else tuple(map(gpu, sample.gpus))
    data = msgspec.to_builtins(msgspec.structs.replace(sample, gpus=gpus))
    return msgspec.convert({**plain_data(data), "time_s": round(sample.time_s, 2)}, Sample)


def wanted(line: LogLine) -> bool:
    """Leave out one line per request: they tell nothing that the figures do not."""
    return not re.search(r'"(?:POST|GET) /', line.message)


def pack(source: RunDir, target: RunDir) -> None:
    """One run."""
    target.path.mkdir(parents=True)
    target.write_info(info_of(source.read_info()))
    spec = source.read_launch()
    data = {**plain_data(msgspec.to_builtins(spec)), "cwd": "."}
    target.write_launch(msgspec.convert(data, LaunchSpec))
    for event in source.events():
        text = {"text": plain(event.text), "data": {}, "time_s": round(event.time_s, 2)}
        target.append_event(msgspec.convert({**msgspec.to_builtins(event), **text}, EventRecord))
    samples = [sample_of(sample) for sample in source.samples()]
    for first in range(0, len(samples), SAMPLES_PER_WRITE):
        target.append_samples(samples[first : first + SAMPLES_PER_WRITE])
    tail = LogTail(source.log_path)
    with target.log_path.open("w", encoding="utf-8") as log:
        while lines := tail.read(flush=True).lines:
            log.writelines(f"{plain(text)}\n" for text in lines if wanted(parse_line(text)))
    tail.close()


def texts(folder: Path) -> Iterator[tuple[str, str]]:
    """All that a demo says, by run and record: read by the program's own readers, whatever the files look like."""
    for run in map(RunDir, sorted(path for path in folder.iterdir() if path.is_dir())):
        records = {
            "run": run.read_info(),
            "launch": run.read_launch(),
            "events": run.events(),
            "samples": run.samples(),
        }
        for name, record in records.items():
            yield f"{run.id}/{name}", msgspec.json.encode(record).decode()
        yield f"{run.id}/log", run.log_path.read_text(encoding="utf-8")


def check(folder: Path) -> int:
    """Bytes of the demo; ends the program where something of a machine is left, or where it is too large."""
    for name, text in texts(folder):
        if found := FORBIDDEN.search(text) or HOSTS.search(text):
            around = text[max(0, found.start() - 60) : found.end() + 60]
            raise SystemExit(f"{name}: {found[0]!r} must not be in it: …{around}…")
    files = [path for path in folder.rglob("*") if path.is_file()]
    for path in files:
        path.chmod(0o644)  # packaged files are for everybody
    size = sum(path.stat().st_size for path in files)
    if size > BYTES_MAX:
        raise SystemExit(f"{folder} has {size:,} bytes, more than {BYTES_MAX:,}")
    return size


def main() -> int:
    """Pack what is named, in place of what was there."""
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    target = Path(sys.argv[1])
    shutil.rmtree(target, ignore_errors=True)
    for name in sys.argv[2:]:
        pack(RunDir(Path(name)), RunDir(target / Path(name).name))
    print(f"{target}: {check(target):,} bytes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
