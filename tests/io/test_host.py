from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import psutil
import pytest

from console.core.models import HostReading
from console.io.host import FILES_AGE_MAX_S, MEMBERS_AGE_MAX_S, HostSampler, open_files
from console.io.process import session_members

# A leader that starts a busy child and waits for the end of its input; the child ends with it.
TREE = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "print('up', flush=True)\\nwhile True: pass"], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
children = [child]
for line in sys.stdin:
    if line == "more\\n":
        children.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))
    else:
        children[0].kill()
        children[0].wait()
    print("done", flush=True)
for child in children:
    child.kill()
    child.wait()
"""


@pytest.fixture
def tree() -> Iterator[subprocess.Popen[str]]:
    leader = subprocess.Popen(
        [sys.executable, "-c", TREE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert leader.stdin is not None
    assert leader.stdout is not None
    leader.stdout.readline()
    with leader:
        yield leader
        leader.stdin.close()


def until(sampler: HostSampler, pid: int | None, wanted: str) -> HostReading:
    give_up_s = time.monotonic() + 20
    while time.monotonic() < give_up_s:
        reading = sampler.read(pid)
        if getattr(reading, wanted):
            return reading
        time.sleep(0.02)
    pytest.fail(f"no {wanted} within 20 s")


def test_the_machine() -> None:
    sampler = HostSampler()
    first = sampler.read()
    assert first.cpu_percent is None
    assert first.cpu_count == psutil.cpu_count()
    assert first.memory_used_bytes is not None
    assert first.memory_total_bytes is not None
    assert 0 < first.memory_used_bytes < first.memory_total_bytes
    assert first.tree_processes is first.tree_cpu_percent is first.tree_memory_bytes is None


def test_processor_use_needs_two_readings(tree: subprocess.Popen[str]) -> None:
    reading = until(HostSampler(), None, "cpu_percent")
    assert reading.cpu_percent is not None
    assert 0 < reading.cpu_percent <= 100


def test_the_tree_of_a_session(tree: subprocess.Popen[str]) -> None:
    sampler = HostSampler()
    first = sampler.read(tree.pid)
    assert first.tree_processes == 2
    assert first.tree_cpu_percent is None
    busy = until(sampler, tree.pid, "tree_cpu_percent")
    assert busy.tree_cpu_percent is not None
    assert busy.tree_memory_bytes is not None
    rss = sum(psutil.Process(pid).memory_info().rss for pid in session_members(tree.pid))
    assert rss / 4 < busy.tree_memory_bytes <= rss * 1.5


def tell(tree: subprocess.Popen[str], word: str) -> None:
    assert tree.stdin is not None
    assert tree.stdout is not None
    tree.stdin.write(word + "\n")
    tree.stdin.flush()
    assert tree.stdout.readline() == "done\n"


def test_a_process_that_ends_leaves_the_tree_at_once(tree: subprocess.Popen[str]) -> None:
    sampler = HostSampler(clock=lambda: 0.0)
    assert sampler.read(tree.pid).tree_processes == 2
    tell(tree, "kill")
    assert sampler.read(tree.pid).tree_processes == 1


def test_a_new_process_is_found_in_time(tree: subprocess.Popen[str]) -> None:
    now_s = 0.0
    sampler = HostSampler(clock=lambda: now_s)
    assert sampler.read(tree.pid).tree_processes == 2
    tell(tree, "more")
    now_s = MEMBERS_AGE_MAX_S
    assert sampler.read(tree.pid).tree_processes == 3


def test_another_session_starts_afresh(tree: subprocess.Popen[str]) -> None:
    sampler = HostSampler(clock=lambda: 0.0)
    assert sampler.read(tree.pid).tree_processes == 2
    own = sampler.read(os.getsid(0))
    assert own.tree_processes
    assert own.tree_cpu_percent is None
    assert sampler.read(None).tree_processes is None


def test_a_session_that_is_over_is_unknown(tree: subprocess.Popen[str]) -> None:
    sampler = HostSampler()
    sampler.read(tree.pid)
    assert tree.stdin is not None
    tree.stdin.close()
    tree.wait(10)
    reading = sampler.read(tree.pid)
    assert reading.tree_processes is reading.tree_cpu_percent is reading.tree_memory_bytes is None
    assert session_members(tree.pid) == ()


def test_open_files_are_those_of_the_leader(tree: subprocess.Popen[str]) -> None:
    now_s = 0.0
    sampler = HostSampler(clock=lambda: now_s)
    assert sampler.read(None).tree_open_files is None
    reading = sampler.read(tree.pid)
    assert reading.tree_open_files == len(list(Path(f"/proc/{tree.pid}/fd").iterdir()))
    assert reading.tree_open_files_limit == resource.prlimit(tree.pid, resource.RLIMIT_NOFILE)[0]
    resource.prlimit(tree.pid, resource.RLIMIT_NOFILE, (200, 300))
    assert sampler.read(tree.pid).tree_open_files_limit != 200, "counted again only after a while"
    now_s = FILES_AGE_MAX_S
    assert sampler.read(tree.pid).tree_open_files_limit == 200
    own = sampler.read(os.getsid(0))
    assert own.tree_open_files_limit != 200, "another session is looked at afresh"


def test_open_files_of_a_process_that_does_not_tell() -> None:
    class Silent:
        def num_fds(self) -> int:
            raise psutil.AccessDenied

    assert open_files(cast("psutil.Process", Silent())) == (None, None)
