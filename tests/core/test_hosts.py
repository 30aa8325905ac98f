"""Runs of several machines in one list: how they are called, and where others reach them."""

from __future__ import annotations

import pytest

from console.core.hosts import called_here, id_there, is_machine, machine_of, machine_row, served_from
from console.core.models import RunInfo


@pytest.mark.parametrize("host", ["box", "me@box", "ssh://me@box:2222", "host", "fe80::1"])
def test_an_id_names_its_machine_and_is_found_there_again(host: str) -> None:
    run = called_here(host, RunInfo(id="20261130-160000-flash", profile_name="flash"))
    assert (machine_of(run.id), id_there(run.id), is_machine(run.id)) == (host, "20261130-160000-flash", False)
    row = machine_row(host)
    assert (machine_of(row.id), is_machine(row.id), row.profile_name) == (host, True, host)


@pytest.mark.parametrize("run_id", ["20261130-160000-flash", "watch:host:8000", "group-20261130-160000-flash"])
def test_what_is_of_this_machine_or_watched_has_none(run_id: str) -> None:
    assert (machine_of(run_id), id_there(run_id), is_machine(run_id)) == ("", run_id, False)


@pytest.mark.parametrize(
    ("argv", "url", "found"),
    [
        (("serve", "m", "--host", "127.0.0.1"), "http://127.0.0.1:8000", ""),
        (("serve", "m", "--host", "localhost"), "http://localhost:8000", ""),
        (("serve", "m", "--host", "::1"), "http://[::1]:8000", ""),
        (("serve", "m", "--host", "0.0.0.0"), "http://127.0.0.1:8000", "http://10.0.0.7:8000"),
        (("serve", "m", "--host=::"), "http://[::1]:8001", "http://10.0.0.7:8001"),
        (("serve", "m", "--host", "10.1.1.1"), "http://10.1.1.1:8000", "http://10.1.1.1:8000"),
    ],
)
def test_where_others_reach_it(argv: tuple[str, ...], url: str, found: str) -> None:
    run = RunInfo(id="r", profile_name="p", argv=argv, url=url)
    assert served_from(run, "10.0.0.7") == found


def test_an_address_of_ipv6_is_written_with_brackets() -> None:
    run = RunInfo(id="r", profile_name="p", argv=("serve", "m", "--host", "::"), url="http://[::1]:8000")
    assert served_from(run, "fd00::7") == "http://[fd00::7]:8000"
