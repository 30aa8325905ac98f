"""The store of samples: small, bounded, in order whatever happens to its files."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from console.core.models import EngineReading, Sample, ServerState
from console.io import samplestore as module
from console.io.samplestore import SEAL_ROWS, TIERS, SampleStore, Tier, read_blocks, read_samples, time_range
from tests.io.day import BEGAN_S, day

MIB = 2**20


def sample(time_s: float, running: int = 1) -> Sample:
    return Sample(time_s=time_s, state=ServerState.READY, engine=EngineReading(running=running))


def fill(folder: Path, start: int, stop: int, store: SampleStore | None = None) -> SampleStore:
    store = store or SampleStore(folder)
    for at in range(start, stop, 5):
        store.append([sample(float(second)) for second in range(at, min(at + 5, stop))])
    return store


def seconds(folder: Path) -> list[float]:
    return [each.time_s for each in read_samples(folder)]


def ticks(folder: Path) -> int:
    return sum(each.count for each in read_samples(folder))


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.timeout(300)
def test_a_day_of_eight_gpus_is_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = SampleStore(tmp_path)
    for first, columns in day(SEAL_ROWS):
        if first == 43_200:
            usual = columns.data["engine.kv_cache_usage"]
            columns.data["engine.kv_cache_usage"] = [*usual[:7], 1.0, *usual[8:]]
        if first != 50_100:
            store.seal(columns, first, columns.rows)
    with capsys.disabled():
        print(f"\na day at 1 Hz with 8 GPUs: {size(tmp_path) / 1e6:.1f} MB")
    assert size(tmp_path) < 50 * MIB
    fine = read_samples(tmp_path, since_s=BEGAN_S + 86_400 - 3_600, only=("engine.running",))
    assert len(fine) == 3_600
    points = read_samples(tmp_path, points_max=1_000, only=("engine.kv_cache_usage",))
    assert len(points) <= 1_000
    assert sum(each.count for each in points) == 86_400 - SEAL_ROWS
    usage = [each.engine.kv_cache_usage for each in points if each.engine]
    assert max(filter(None, usage)) == 1.0, "a peak of one second half a day ago"
    gaps = [b.time_s - b.span_s - a.time_s for a, b in itertools.pairwise(points)]
    assert max(gaps) == pytest.approx(SEAL_ROWS, abs=2.0), "five minutes that are missing"
    assert sorted(gaps)[-2] < 5.0


def test_what_is_written_is_read_in_order_each_once(tmp_path: Path) -> None:
    fill(tmp_path, 0, 1_003)
    assert seconds(tmp_path) == [float(t) for t in range(1_003)]
    assert time_range(tmp_path) == (0.0, 1_002.0)
    assert [s.time_s for s in read_samples(tmp_path, since_s=598.0, until_s=602.0)] == [
        598.0,
        599.0,
        600.0,
        601.0,
        602.0,
    ]
    coarse = list(read_blocks(tmp_path, width_s=10.0, until_s=800.0))
    assert coarse[0].rows == 30
    assert (tmp_path / "now.blocks").stat().st_mode & 0o777 == 0o600


def test_nothing_there(tmp_path: Path) -> None:
    assert read_samples(tmp_path / "none") == ()
    assert read_samples(tmp_path / "none", points_max=10) == ()
    assert time_range(tmp_path / "none") is None


def test_a_torn_last_block_costs_that_block_only(tmp_path: Path) -> None:
    fill(tmp_path, 0, 100)
    now = tmp_path / "now.blocks"
    for cut in (1, 30, module.HEADER.size + 5):
        whole = now.read_bytes()
        now.write_bytes(whole[:-cut])
        assert seconds(tmp_path) == [float(t) for t in range(95)]
        fill(tmp_path, 95, 100)
        assert seconds(tmp_path) == [float(t) for t in range(100)]


def test_a_damaged_block_costs_that_block_only(tmp_path: Path) -> None:
    fill(tmp_path, 0, 100)
    now = tmp_path / "now.blocks"
    blocks = module.scan(now)
    data = bytearray(now.read_bytes())
    data[blocks[3].offset + module.HEADER.size + 2] ^= 0xFF
    data[blocks[7].offset] ^= 0xFF  # not even its header can be known
    now.write_bytes(bytes(data))
    lost = {*range(15, 20), *range(35, 40)}
    assert seconds(tmp_path) == [float(t) for t in range(100) if t not in lost]
    fill(tmp_path, 100, 320)
    assert seconds(tmp_path) == [float(t) for t in range(320) if t not in lost]


def test_a_damaged_fine_block_is_told_by_the_coarse_one(tmp_path: Path) -> None:
    fill(tmp_path, 0, 900)
    (fine,) = tmp_path.glob("1s-*")
    block = module.scan(fine)[1]
    data = bytearray(fine.read_bytes())
    data[block.offset + module.HEADER.size + 2] ^= 0xFF
    fine.write_bytes(bytes(data))
    found = read_samples(tmp_path)
    assert sum(each.count for each in found) == 900
    assert {each.count for each in found if 300 <= each.time_s < 600} == {10}


def test_a_restart_goes_on_and_loses_nothing(tmp_path: Path) -> None:
    for start in range(0, 1_400, 140):
        fill(tmp_path, start, start + 140)
    assert seconds(tmp_path) == [float(t) for t in range(1_400)]


@pytest.mark.parametrize("written", range(len(TIERS) + 1))
def test_a_crash_while_the_tiers_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int) -> None:
    class Crash(BaseException):
        """What no handler catches."""

    store = fill(tmp_path, 0, 295)
    left = written
    append = module.append_whole

    def dies(path: Path, data: bytes) -> None:
        nonlocal left
        if path.name != "now.blocks":
            if not left:
                raise Crash
            left -= 1
        append(path, data)

    monkeypatch.setattr(module, "append_whole", dies)
    if written < len(TIERS):
        with pytest.raises(Crash):
            fill(tmp_path, 295, 300, store)
    else:
        monkeypatch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(Crash))
        with pytest.raises(Crash):
            fill(tmp_path, 295, 300, store)
    monkeypatch.undo()
    assert seconds(tmp_path) == [float(t) for t in range(300)]
    fill(tmp_path, 300, 700)
    assert seconds(tmp_path) == [float(t) for t in range(700)]
    for tier in TIERS:
        blocks = [block for path in tmp_path.glob(f"{tier.name}-*") for block in module.scan(path)]
        assert [block.first for block in blocks] == [0, 300]


def test_a_full_disk_costs_what_does_not_fit_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = fill(tmp_path, 0, 290)
    append = module.append_whole

    def full(path: Path, data: bytes) -> None:
        if path.name != "now.blocks":
            raise OSError(28, "No space left on device")
        append(path, data)

    monkeypatch.setattr(module, "append_whole", full)
    fill(tmp_path, 290, module.NOW_ROWS_MAX, store)
    with pytest.raises(OSError, match="No space"):
        store.append([sample(1e6)])
    assert seconds(tmp_path) == [float(t) for t in range(module.NOW_ROWS_MAX)]
    monkeypatch.undo()
    fill(tmp_path, 2_000, 2_010, store)
    assert ticks(tmp_path) == module.NOW_ROWS_MAX + 10
    assert not module.scan(tmp_path / "now.blocks")[0].first < module.NOW_ROWS_MAX


def test_it_is_bounded_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiers = (Tier("1s", 0.0, 600, 2, MIB), Tier("10s", 10.0, 120, 3, MIB), Tier("60s", 60.0, 60, 4, 6_000))
    monkeypatch.setattr(module, "TIERS", tiers)
    store = SampleStore(tmp_path)
    sizes = []
    for start in range(0, 40_000, 4_000):
        fill(tmp_path, start, start + 4_000, store)
        sizes.append(size(tmp_path))
    assert max(sizes) < 16_000
    found = read_samples(tmp_path)
    assert found[-1].time_s == 39_999.0
    assert [each.count for each in found[-700:]] == [1] * 700
    assert found[0].count == 60, "the oldest are the coarsest"
    assert [b.time_s - b.span_s - a.time_s for a, b in itertools.pairwise(found)] == [1.0] * (len(found) - 1)


def test_a_clock_that_jumps_stops_nothing(tmp_path: Path) -> None:
    store = fill(tmp_path, 100_000, 100_400)
    fill(tmp_path, 0, 400, store)
    assert seconds(tmp_path) == [float(t) for t in (*range(100_000, 100_400), *range(400))]
    again = SampleStore(tmp_path)
    fill(tmp_path, 400, 500, again)
    assert ticks(tmp_path) == 900


def test_a_reader_beside_the_writer_sees_each_sample_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = fill(tmp_path, 0, 295)
    segments = module._segments

    def sealed_meanwhile(folder: Path, tier: Tier) -> list[Path]:
        monkeypatch.setattr(module, "_segments", segments)
        fill(tmp_path, 295, 305, store)
        return segments(folder, tier)

    monkeypatch.setattr(module, "_segments", sealed_meanwhile)
    assert seconds(tmp_path) == [float(t) for t in range(300)]
