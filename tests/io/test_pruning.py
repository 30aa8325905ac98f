"""Old runs go by count and by size; what is alive stays."""

from __future__ import annotations

import os

import pytest

from console.core.models import RunInfo
from console.io import process, runs
from console.io.config import Configuration
from console.io.pruning import disk_bytes, prune_runs, pruned_event
from console.io.runs import RunDir

MIB = 2**20


def make(created_s: float, mib: int = 0, **fields: object) -> RunDir:
    run = runs.create_run("p")
    run.write_info(RunInfo(id=run.id, profile_name="p", created_s=created_s, **fields))  # type: ignore[arg-type]
    run.log_path.write_bytes(os.urandom(mib * MIB))
    return run


def alive() -> dict[str, object]:
    return {"server_pid": os.getpid(), "server_start_s": process.process_start_s(os.getpid())}


def test_pruning_by_count_spares_what_is_alive() -> None:
    live = make(0.5, **alive())
    old = [make(float(second)) for second in range(1, 5)]
    planned = prune_runs(Configuration(runs_kept=2), dry_run=True)
    assert [each.id for each in planned] == [old[0].id, old[1].id]
    assert all(run.path.exists() for run in old)
    assert prune_runs(Configuration(runs_kept=2)) == planned
    assert [run.path.exists() for run in (live, *old)] == [True, False, False, True, True]
    assert prune_runs(Configuration(runs_kept=2)) == ()


def test_pruning_by_size_goes_from_the_oldest_and_never_takes_the_newest() -> None:
    first, second, third = (make(float(second), mib=2) for second in range(1, 4))
    gone = prune_runs(Configuration(runs_gib=5 * MIB / 2**30))
    assert [each.id for each in gone] == [first.id]
    assert "GiB of runs" in gone[0].why
    assert gone[0].size_bytes >= 2 * MIB
    gone = prune_runs(Configuration(runs_gib=1 * MIB / 2**30))
    assert [each.id for each in gone] == [second.id]
    assert third.path.exists()


def test_a_run_with_a_supervisor_that_is_not_entered_yet_is_left_alone() -> None:
    old = make(1.0)
    make(2.0)
    with old.claim() as mine:
        assert mine
        assert prune_runs(Configuration(runs_kept=1)) == ()
    assert len(prune_runs(Configuration(runs_kept=1))) == 1


def test_space_freed_inside_a_file_does_not_count() -> None:
    run = make(1.0)
    with run.log_path.open("wb") as file:
        file.truncate(100 * MIB)
    assert disk_bytes(run.path) < MIB


def test_the_next_run_says_what_went() -> None:
    assert pruned_event(()) is None
    make(1.0)
    make(2.0)
    event = pruned_event(prune_runs(Configuration(runs_kept=1)))
    assert event is not None
    assert event.text.startswith("1 old run was removed, ")


@pytest.mark.parametrize("limits", [{"runs_kept": 0}, {"runs_gib": 0}])
def test_limits_have_limits(limits: dict[str, int]) -> None:
    from console.io import paths
    from console.io.config import read_configuration

    paths.config_dir().mkdir(parents=True, exist_ok=True)
    (paths.config_dir() / "config.toml").write_text("\n".join(f"{k} = {v}" for k, v in limits.items()))
    with pytest.raises(Exception, match="configuration has a mistake"):
        read_configuration()
