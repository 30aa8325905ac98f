"""The time and the colours of a recording, without recording one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.pictures.camera import Camera, find_font
from tests.pictures.recording import Tape, shared_palette, write_cast, write_gif

GREEN = (64, 200, 96)


class Kept(Tape):
    """A tape that was recorded already."""

    def __init__(self, pieces: Path) -> None:
        self.pieces = pieces
        self.begin = 100.0
        self.frames = []
        self.warps = []


@pytest.fixture
def tape(tmp_path: Path) -> Kept:
    kept = Kept(tmp_path / "pieces.jsonl")
    kept.warps = [(10.0, 50.0, 8.0), (60.0, 64.0, 4.0)]
    return kept


def test_waiting_is_played_faster_and_the_rest_as_it_was(tape: Kept) -> None:
    assert [tape.played(at) for at in (0, 10, 50, 55, 60, 64, 65)] == [0, 10, 15, 20, 25, 26, 27]
    assert tape.played(30) == 12.5
    tape.warps = []
    assert tape.played(7.5) == 7.5


def test_the_cast_is_what_was_written_with_the_times_at_which_it_is_played(tape: Kept, tmp_path: Path) -> None:
    dash = "–".encode()
    rows = [(100.0, b"\x1b[1mhello"), (130.0, dash[:2]), (150.0, dash[2:] + b"\xff"), (155.0, b"x")]
    lines = [json.dumps([at, data.decode("latin-1")]) for at, data in rows]
    tape.pieces.write_text("\n".join(lines), encoding="utf-8")
    write_cast(tape, tmp_path / "a.cast")
    header, *events = [json.loads(line) for line in (tmp_path / "a.cast").read_text(encoding="utf-8").splitlines()]
    assert (header["version"], header["width"], header["height"]) == (2, 80, 24)
    assert "×8 from 10 s" in header["title"]
    assert events == [[0.0, "o", "\x1b[1mhello"], [15.0, "o", "–\ufffd"], [20.0, "o", "x"]]


def test_a_path_of_this_machine_gets_into_no_cast(tape: Kept, tmp_path: Path) -> None:
    tape.pieces.write_text(json.dumps([100.0, "/home/somebody/models"]), encoding="utf-8")
    with pytest.raises(SystemExit, match="must not be in it"):
        write_cast(tape, tmp_path / "a.cast")
    assert not (tmp_path / "a.cast").exists()


def test_a_colour_of_few_pixels_is_kept() -> None:
    from PIL import Image

    picture = Image.new("RGB", (400, 300), (14, 18, 24))
    for step in range(200):
        picture.putpixel((step, 10), (step, step, 255 - step))
    picture.paste(GREEN, (5, 5, 15, 9))
    shown = picture.quantize(palette=shared_palette([picture] * 3), dither=0).convert("RGB").getpixel((8, 7))
    assert isinstance(shown, tuple)
    assert max(abs(a - b) for a, b in zip(shown, GREEN, strict=True)) < 12


def test_the_animation_shows_each_screen_once_for_as_long_as_it_stood(tape: Kept, tmp_path: Path) -> None:
    from PIL import Image

    screens = [f"\x1b[38;2;64;200;96m{word}\x1b[0m\n" + "\n" * 23 for word in ("one", "two", "three")]
    tape.frames = [(0.0, "too early\n"), (1.0, screens[0]), (2.0, screens[0]), (4.0, screens[1]), (50.0, screens[2])]
    path = tmp_path / "a.gif"
    try:
        font = find_font()
    except SystemExit as missing:
        pytest.skip(str(missing))
    write_gif(tape, Camera(tmp_path, font), path)
    with Image.open(path) as film:
        assert film.n_frames == 3
        assert film.height > 400
        lengths = []
        for number in range(3):
            film.seek(number)
            lengths.append(film.info["duration"])
    assert lengths == [3000, 11_000, 2500]
