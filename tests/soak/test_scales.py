"""The judgement of a soak can fail: each kind of growth is named, and a bound is a bound."""

from __future__ import annotations

from dataclasses import replace

from tests.soak.scales import DESCRIPTORS_MAX, MEMORY_MAX_MIB, THREADS_MAX, Held, growth, table

START = {"supervisor": Held(memory_mib=50.0, descriptors=14, threads=3, cpu_s=1.0)}


def test_what_stays_within_its_bounds_is_flat() -> None:
    first = START["supervisor"]
    last = replace(
        first,
        memory_mib=first.memory_mib + MEMORY_MAX_MIB,
        descriptors=first.descriptors + DESCRIPTORS_MAX,
        threads=first.threads + THREADS_MAX,
        cpu_s=90.0,
    )
    assert growth(START, {"supervisor": last}) == []


def test_each_kind_of_growth_is_named() -> None:
    first = START["supervisor"]
    for last, what in (
        (replace(first, memory_mib=90.0), "40 more MiB of memory"),
        (replace(first, descriptors=30), "16 more open files"),
        (replace(first, threads=20), "17 more threads"),
    ):
        (said,) = growth(START, {"supervisor": last})
        assert what in said
        assert said.startswith("supervisor: ")


def test_the_table_shows_the_cpu_between_two_moments() -> None:
    later = {"supervisor": replace(START["supervisor"], cpu_s=2.5)}
    lines = table({"start": (0.0, START), "end": (30.0, later)})
    assert lines[-1].split()[-1] == "5.0"
