"""One short recording of a real run, in a real terminal: `recording.cast` (asciinema 2) and `recording.gif`.

The console runs in tmux; what it writes to its terminal is the cast, and what the terminal then shows are the frames of
the animation. Waiting is played faster, and the header of the cast says so.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from tests.pictures.camera import FORBIDDEN, NARROW, Camera
from tests.pictures.real import CLIENTS, load

__all__ = ["DEMO", "REAL", "Step", "record"]

FRAME_S = 0.4
"""Between two looks at the terminal, in seconds of the recording."""
LAST_S = 2.5
"""The last frame stays for so long before it begins again."""
END_S = 20.0
"""For the console, once its terminal is gone."""
KEY_S = 0.06
"""Between two keys: as one types."""
ESCAPE_S = 0.5
"""After escape: a key that follows at once would be one with alt."""
GIF_PX = 880
COLOURS = 128
PALETTE_FRAMES = 12
"""Of the recording, from which its colours are taken."""
CAST_VERSION = 2
# Copies what comes, each piece with the moment at which it came.
STAMP = """
import json, os, sys, time
with open(sys.argv[1], "w", encoding="utf-8") as out:
    while data := os.read(0, 65536):
        print(json.dumps([time.monotonic(), data.decode("latin-1")]), file=out, flush=True)
"""


@dataclass(frozen=True, kw_only=True)
class Step:
    """Keys, what they lead to, and how long it is looked at."""

    keys: tuple[str, ...] = ()
    """By tmux's names; pressed one after the other."""
    see: str
    """Waited for, at `pace`; empty waits for nothing."""
    hold_s: float = 2.0
    """Looked at for so long afterwards, at the clock's own pace."""
    pace: float = 1.0
    """How much faster the waiting is played."""
    limit_s: float = 300.0
    clients: int = 0
    """From this step on, so many clients ask the server."""


REAL = (
    Step(see="cpu-smoke", hold_s=2.0),
    Step(keys=("Enter",), see="Launch cpu-smoke", hold_s=1.5),
    Step(keys=("y",), see="READY", pace=8.0, limit_s=900.0),
    Step(see="max_num_seqs 2 →", pace=8.0, hold_s=3.0, clients=CLIENTS),
    Step(keys=("h", "Enter"), see="Seen", hold_s=3.0),
    Step(keys=("Escape", "l"), see="Engine 000", hold_s=2.0),
    Step(keys=("c",), see="Chat", hold_s=0.5),
    Step(keys=(*"Why is the KV cache full?", "Enter"), see="TTFT", hold_s=3.0, pace=4.0),
    Step(keys=("Escape", "1"), see="running", hold_s=2.0),
    Step(keys=("s",), see="Stop", hold_s=1.5),
    Step(keys=("y",), see="STOPPED", pace=4.0, hold_s=2.0),
)
"""From the profile list to a stopped server."""
DEMO = (
    Step(see="DEMO", hold_s=1.0),
    Step(keys=("Space", "]", "]"), see="2 → 64", hold_s=3.0),
    Step(keys=("h", "Enter"), see="Seen", hold_s=3.0),
    Step(keys=("Escape", "l"), see="Engine 000", hold_s=2.0),
    Step(keys=("1", "]", "]"), see="64/64", hold_s=3.0),
)
"""The shipped recording of an H100: for trying this without an engine."""


def neutral(text: str) -> str:
    """Without the directory of this machine's Python, which the log names: another of the same length stands there."""
    first = Path(sys.base_prefix).parts[1]
    return text.replace(f"/{first}/", f"/{'python'[: len(first)].ljust(len(first), '_')}/")


class Tape:
    """A command in tmux, its output with times, and what its terminal showed."""

    def __init__(self, folder: Path, command: list[str], env: dict[str, str]) -> None:
        self._socket = f"tape-{uuid.uuid4().hex[:8]}"
        self._env = env
        self.pieces = folder / "pieces.jsonl"
        self.frames: list[tuple[float, str]] = []
        """Seconds since the begin, and the screen with its colours."""
        self.warps: list[tuple[float, float, float]] = []
        """From and to (seconds since the begin) and how much faster that is played."""
        width, height = NARROW
        # `read` holds the console back until what it writes is taken down.
        line = f"read -r _; {shlex.join(command)}; exec sleep 600"
        self._tmux("-f", os.devnull, "new-session", "-d", "-x", str(width), "-y", str(height), line)
        self._tmux("set", "-g", "status", "off")
        self._tmux("set", "-g", "escape-time", "10")
        self._tmux("pipe-pane", "-O", shlex.join([sys.executable, "-c", STAMP, str(self.pieces)]))
        self.begin = time.monotonic()
        self._tmux("send-keys", "Enter")

    def _tmux(self, *arguments: str) -> str:
        command = ["tmux", "-L", self._socket, *arguments]
        return subprocess.run(command, env=self._env, capture_output=True, text=True, check=True).stdout

    def look(self) -> str:
        """Take a frame; gives the screen without colours."""
        screen = neutral(self._tmux("capture-pane", "-p", "-e"))
        self.frames.append((time.monotonic() - self.begin, screen))
        return self._tmux("capture-pane", "-p")

    def play(self, step: Step) -> None:
        """One step."""
        for key in step.keys:
            self._tmux("send-keys", *(("-l", key) if len(key) == 1 else (key,)))
            time.sleep(ESCAPE_S if key == "Escape" else KEY_S)
        began = time.monotonic()
        while step.see not in (seen := self.look()):
            if time.monotonic() - began > step.limit_s:
                raise SystemExit(f"the recording never shows {step.see!r}:\n{seen}")
            time.sleep(FRAME_S * step.pace)
        if step.pace != 1.0:
            self.warps.append((began - self.begin, time.monotonic() - self.begin, step.pace))
        held = time.monotonic()
        while time.monotonic() - held < step.hold_s:
            time.sleep(FRAME_S)
            self.look()

    def played(self, at_s: float) -> float:
        """The moment of the recording at which this moment is played."""
        saved = sum((min(at_s, end) - begin) * (1 - 1 / pace) for begin, end, pace in self.warps if at_s > begin)
        return at_s - saved

    def close(self) -> None:
        """End tmux and all in it, and wait: what still runs may still write."""
        with contextlib.suppress(subprocess.CalledProcessError, psutil.Error):
            pane = psutil.Process(int(self._tmux("display-message", "-p", "#{pane_pid}")))
            running = [pane, *pane.children(recursive=True)]
            self._tmux("kill-server")
            psutil.wait_procs(running, timeout=END_S)


def record(camera: Camera, folder: Path, words: tuple[str, ...], steps: tuple[Step, ...]) -> None:
    """Run `dsv4-console` with these words through these steps, and write both files."""
    if shutil.which("tmux") is None:
        raise SystemExit("no tmux here; install it: apt-get install tmux")
    env = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    for name in ("TMUX", "COLUMNS", "LINES"):
        env.pop(name, None)
    tape = Tape(folder, [sys.executable, "-P", "-m", "console", *words], env)
    try:
        with contextlib.ExitStack() as clients:
            for step in steps:
                if step.clients:
                    clients.enter_context(load(url(), step.clients))
                tape.play(step)
    finally:
        tape.close()
    write_cast(tape, camera.out / "recording.cast")
    write_gif(tape, camera, camera.out / "recording.gif")


def url() -> str:
    """Where the server of the newest run listens."""
    from console.io import runs

    return runs.list_runs()[0][1].url


def write_cast(tape: Tape, path: Path) -> None:
    """Everything that was written to the terminal, as asciinema's player takes it."""
    width, height = NARROW
    notes = ", ".join(f"×{pace:g} from {tape.played(begin):.0f} s" for begin, _, pace in tape.warps)
    header = {
        "version": CAST_VERSION,
        "width": width,
        "height": height,
        "title": f"dsv4-console; waiting is played faster: {notes}" if notes else "dsv4-console",
        "env": {"TERM": "xterm-256color"},
    }
    lines = [json.dumps(header)]
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for line in tape.pieces.read_text(encoding="utf-8").splitlines():
        at_s, piece = json.loads(line)
        text = decoder.decode(piece.encode("latin-1"))
        if text:
            shown = neutral(text)
            lines.append(json.dumps([round(tape.played(at_s - tape.begin), 3), "o", shown], ensure_ascii=False))
    cast = "\n".join(lines) + "\n"
    if wrong := FORBIDDEN.search(cast):
        raise SystemExit(f"{path.name}: {wrong.group()!r} must not be in it")
    path.write_text(cast, encoding="utf-8")
    print(f"{path.name} ({path.stat().st_size // 1024} KiB, {len(lines) - 1} pieces)")


def pictures(tape: Tape, camera: Camera) -> Iterator[tuple[float, Any]]:
    """Each screen that differs from the one before: when it came, and its picture."""
    from PIL import Image
    from rich.ansi import AnsiDecoder
    from rich.console import Console

    width, height = NARROW
    last = ""
    for at_s, screen in tape.frames:
        if screen == last or screen.count("\n") < height:
            continue  # the same again, or from before the console
        last = screen
        paper = Console(width=width, record=True, file=io.StringIO(), force_terminal=True, color_system="truecolor")
        for line in AnsiDecoder().decode(screen):  # a colour goes on over the end of a line
            paper.print(line, no_wrap=True, overflow="crop")
        svg = camera.clean("recording", paper.export_svg(title="dsv4-console"))
        picture = Image.open(io.BytesIO(camera.png(svg, GIF_PX))).convert("RGB")
        yield tape.played(at_s), picture


def shared_palette(pictures: list[Any]) -> Any:
    """Colours for all of them. By coverage and not by area: a green word is few pixels, and green is what it says."""
    from PIL import Image

    chosen = pictures[:: max(len(pictures) // PALETTE_FRAMES, 1)]
    width, height = chosen[0].size
    together = Image.new("RGB", (width, height * len(chosen)))
    for row, picture in enumerate(chosen):
        together.paste(picture, (0, row * height))
    return together.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE)


def write_gif(tape: Tape, camera: Camera, path: Path) -> None:
    """The frames with a palette that they share; what does not change between two is not stored again."""
    taken = list(pictures(tape, camera))
    if not taken:
        raise SystemExit("the recording shows nothing")
    moments = [at_s for at_s, _ in taken]
    lengths = [round(1000 * max(after - at, 0.04)) for at, after in pairwise(moments)]
    palette = shared_palette([picture for _, picture in taken])
    frames = [picture.quantize(palette=palette, dither=0) for _, picture in taken]
    frames[0].save(
        path,
        save_all=True,
        append_images=frames[1:],
        duration=[*lengths, round(1000 * LAST_S)],
        loop=0,
        optimize=False,
    )
    print(
        f"{path.name} ({path.stat().st_size // 1024} KiB, {len(frames)} frames, {sum(lengths) / 1000 + LAST_S:.0f} s)"
    )
