"""The table of faults: who is killed or stopped, when, and what must come of it."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import socket
import subprocess
import termios
import time
from collections.abc import Callable

import psutil

from tests.e2e.world import wait_for
from tests.faults.case import TP2, FaultCase, FaultWorld

__all__ = ["CASES"]

KILL, STOP, CONT = signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT
RESTARTING = ("supervise.restart=on-failure",)
QUICK_HANG = ("supervise.hang_timeout_s=10",)
SAMPLES_SEEN = 10
"""So many after a jump of the clock: the supervisor works as before."""
CLOCK_SPENT_MAX_S = 3_600.0
"""More than such a case takes, and far less than a day."""
COMMAND_S = 300.0
"""A `stop` or `restart` whose supervisor was killed has ended by then: a restart includes a whole start."""
CANARY = ("supervise.canary_s=5", "supervise.hang_timeout_s=0")


def killing(*roles: str) -> Callable[[FaultWorld], None]:
    return lambda world: world.signal(KILL, *roles)


def killing_then_console(*roles: str) -> Callable[[FaultWorld], None]:
    """Kill, and start the console again: `status` is the least of its starts."""

    def inject(world: FaultWorld) -> None:
        world.signal(KILL, *roles)
        wait_for(f"{roles} to be gone", lambda: not any(world.alive(role) for role in roles), 20.0)
        world.run("status")

    return inject


def stopping(role: str) -> Callable[[FaultWorld], None]:
    def inject(world: FaultWorld) -> None:
        pid = world.pid(role)
        world.harmed()
        os.kill(pid, STOP)

    return inject


def said(*words: str) -> Callable[[FaultWorld], str]:
    """An event since the harm that has one of these."""

    def detected(world: FaultWorld) -> str:
        events = world.events((world.harmed_s or 0.0) - 0.05)
        return next((event for event in events if any(word in event for word in words)), "")

    return detected


def said_then_go_on(role: str, *words: str) -> Callable[[FaultWorld], str]:
    """As `said`; what was stopped then goes on."""
    look = said(*words)

    def detected(world: FaultWorld) -> str:
        event = look(world)
        if event:
            os.kill(world.pid(role), CONT)
        return event

    return detected


def unharmed(world: FaultWorld) -> str:
    """Nothing happened to it, for some seconds."""
    if time.time() - (world.harmed_s or 0.0) < 3.0:
        return ""
    same = all(world.info()[key] == world.before[key] for key in ("supervisor_pid", "server_pid"))
    return "nothing: server and supervisor are the same" if same else ""


def kill_terminal_ui(world: FaultWorld) -> None:
    child = in_terminal(world)
    time.sleep(2.0)
    world.harmed()
    child.kill()
    child.wait(20.0)


def hang_up_terminal(world: FaultWorld) -> None:
    parent, terminal = pty.openpty()
    child = in_terminal(world, terminal)
    os.close(terminal)
    time.sleep(2.0)
    world.harmed()
    os.close(parent)
    child.wait(20.0)


def in_terminal(world: FaultWorld, terminal: int | None = None) -> subprocess.Popen[bytes]:
    """The terminal UI in a terminal of its own, of which nobody reads."""
    own = pty.openpty() if terminal is None else (None, terminal)
    child = subprocess.Popen(
        world.command(),
        env={**world.env, "TERM": "xterm-256color"},
        stdin=own[1],
        stdout=own[1],
        stderr=own[1],
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
    )
    if terminal is None:
        os.close(own[1])
    return child


def two_consoles(world: FaultWorld) -> None:
    """Both find a lost supervisor at the same time."""
    world.signal(KILL, "guardian", "supervisor")
    wait_for("both to be gone", lambda: not world.alive("supervisor"), 20.0)
    children = [world.spawn(["status", "--json"]) for _ in range(2)]
    for child in children:
        child.communicate(timeout=60.0)
        assert child.returncode == 0
    # The one that came second leaves as soon as it finds that.
    wait_for("one guardian and one supervisor", lambda: len(supervisors(world)) == 2, 30.0)


def supervisors(world: FaultWorld) -> list[int]:
    """Guardian and supervisor processes of the run."""
    run = str(world.run_dir)
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if "console.supervisor" in command and run in command:
            found.append(process.pid)
    return found


def until_stopping(world: FaultWorld) -> None:
    """Return in the moment in which the stop begins: an idle server may need no longer than a tenth of a second."""
    deadline_s = time.monotonic() + 60.0
    while not any("→ stopping" in event for event in world.events(world.begun_s)):
        assert time.monotonic() < deadline_s, "the stop did not begin"
        time.sleep(0.002)


def killed_during(command: str) -> Callable[[FaultWorld], None]:
    """Kill the supervisor in the middle of what this command asks for."""

    def inject(world: FaultWorld) -> None:
        child = world.spawn([command])
        until_stopping(world)
        world.signal(KILL, "supervisor")
        child.communicate(timeout=COMMAND_S)

    return inject


def jump_clock(world: FaultWorld) -> None:
    """A day ahead, and two days back from there, each for long enough that every timer looks at it."""
    for day in (1, -1):
        world.shift_clock(day * 86_400)
        if day == 1:
            world.harmed()
        before = len(world.samples())
        wait_for("samples to go on", lambda before=before: len(world.samples()) > before + SAMPLES_SEEN, 60.0)
    assert world.spent_s() < CLOCK_SPENT_MAX_S, "a clock that jumps costs nothing"


def stop_under_load(world: FaultWorld) -> None:
    child = world.spawn(["stop"])
    world.harmed()
    child.communicate(timeout=120.0)
    assert child.returncode == 0


def too_long_a_context(world: FaultWorld) -> None:
    arguments = ["--profile", "cpu-smoke", "--set", f"serve.port={world.port}", "--set", "serve.max_model_len=999999"]
    child = world.spawn(arguments)
    world.harmed()
    child.communicate(timeout=240.0)
    assert child.returncode == 1


def taken_port(world: FaultWorld) -> None:
    with socket.create_server(("127.0.0.1", world.port)):
        world.harmed()
        done = world.run("--profile", "cpu-smoke", "--set", f"serve.port={world.port}")
    assert done.returncode == 6
    world.before = {"said": done.stderr}


def diagnosed(world: FaultWorld) -> str:
    """What the run's record names as the cause."""
    found = world.info().get("diagnosis") or {}
    return str(found.get("title", ""))


def refused(world: FaultWorld) -> str:
    """What the launch was refused with; no run was begun."""
    assert not (world.runs.exists() and any(world.runs.iterdir()))
    return next((line.strip() for line in world.before["said"].splitlines() if str(world.port) in line), "")


CASES: tuple[FaultCase, ...] = (
    FaultCase(
        id="tui-killed", title="SIGKILL to the terminal UI", inject=kill_terminal_ui, detected=unharmed, expect="serves"
    ),
    FaultCase(
        id="terminal-hangup",
        title="SIGHUP: the terminal vanishes",
        inject=hang_up_terminal,
        detected=unharmed,
        expect="serves",
    ),
    FaultCase(
        id="guardian-killed",
        title="SIGKILL to the guardian",
        inject=killing("guardian"),
        detected=unharmed,
        expect="serves",
    ),
    FaultCase(
        id="guardian-supervisor-killed",
        title="SIGKILL to guardian and supervisor, then a console",
        inject=killing_then_console("guardian", "supervisor"),
        detected=said("took over"),
        expect="serves",
    ),
    FaultCase(
        id="supervisor-killed",
        title="SIGKILL to the supervisor, under load",
        inject=killing("supervisor"),
        loaded=True,
        may_lose=False,
        detected=said("took over"),
        expect="serves",
    ),
    FaultCase(
        id="two-consoles",
        title="two consoles at once find a lost supervisor",
        inject=two_consoles,
        detected=said("took over"),
        expect="serves",
    ),
    FaultCase(
        id="engine-stopped-idle",
        title="SIGSTOP to the engine core, idle",
        inject=stopping("engine"),
        detected=said_then_go_on("engine", "→ unhealthy"),
        expect="serves",
    ),
    FaultCase(
        id="worker-stopped-idle",
        title="SIGSTOP to a worker, idle",
        inject=stopping("worker"),
        detected=said_then_go_on("worker", "→ unhealthy"),
        expect="serves",
    ),
    FaultCase(
        id="engine-stopped-load",
        title="SIGSTOP to the engine core, under load, then SIGCONT",
        needs="fresh",
        settings=QUICK_HANG,
        loaded=True,
        inject=stopping("engine"),
        detected=said_then_go_on("engine", "no token and no KV cache block moved", "→ unhealthy"),
        expect="serves",
    ),
    FaultCase(
        id="worker-stopped-load",
        title="SIGSTOP to a worker, under load: restarted by policy",
        needs="fresh",
        settings=(*QUICK_HANG, *RESTARTING),
        loaded=True,
        inject=stopping("worker"),
        detected=said("→ unhealthy"),
        expect="serves",
    ),
    FaultCase(
        id="engine-stopped-canary",
        title="SIGSTOP to the engine core, idle, found by the canary or the kernel",
        needs="fresh",
        settings=CANARY,
        inject=stopping("engine"),
        detected=said_then_go_on("engine", "→ unhealthy"),
        expect="serves",
    ),
    FaultCase(
        id="server-killed-restart",
        title="SIGKILL to the API server, restarted by policy",
        needs="fresh",
        settings=RESTARTING,
        inject=killing("server"),
        detected=said("→ crashed"),
        expect="serves",
    ),
    FaultCase(
        id="engine-killed-restart",
        title="SIGKILL to the engine core, restarted by policy",
        needs="fresh",
        settings=RESTARTING,
        inject=killing("engine"),
        detected=said("→ crashed"),
        expect="serves",
    ),
    FaultCase(
        id="server-killed",
        title="SIGKILL to the API server",
        needs="fresh",
        inject=killing("server"),
        detected=said("→ crashed"),
        expect="nothing left",
    ),
    FaultCase(
        id="engine-killed",
        title="SIGKILL to the engine core",
        needs="fresh",
        inject=killing("engine"),
        detected=said("→ crashed"),
        expect="nothing left",
    ),
    FaultCase(
        id="worker-killed",
        title="SIGKILL to one of two workers",
        needs="tp2",
        settings=TP2,
        inject=killing("worker"),
        detected=said("→ crashed"),
        expect="nothing left",
    ),
    FaultCase(
        id="supervisor-server-killed",
        title="SIGKILL to supervisor and API server",
        needs="fresh",
        inject=killing("supervisor", "server"),
        detected=said("→ crashed"),
        expect="nothing left",
    ),
    FaultCase(
        id="all-killed",
        title="SIGKILL to guardian, supervisor and API server, then a console",
        needs="fresh",
        inject=killing_then_console("guardian", "supervisor", "server"),
        detected=said("→ crashed"),
        expect="nothing left",
    ),
    FaultCase(
        id="killed-during-start",
        title="SIGKILL to the supervisor during a start",
        needs="fresh",
        until="loading",
        inject=killing("supervisor"),
        detected=said("took over"),
        expect="serves",
    ),
    FaultCase(
        id="killed-during-stop",
        title="SIGKILL to the supervisor during a stop",
        needs="fresh",
        inject=killed_during("stop"),
        detected=said("took over"),
        expect="nothing left",
    ),
    FaultCase(
        id="killed-during-restart",
        title="SIGKILL to the supervisor during a restart",
        needs="fresh",
        inject=killed_during("restart"),
        detected=said("took over"),
        expect="serves",
    ),
    FaultCase(
        id="clock-jumps",
        title="the clock jumps a day ahead, then two days back",
        needs="fresh",
        loaded=True,
        own_clock=True,
        may_lose=False,
        inject=jump_clock,
        detected=unharmed,
        expect="serves",
    ),
    FaultCase(
        id="stop-under-load",
        title="a stop under load",
        needs="fresh",
        loaded=True,
        may_lose=False,
        inject=stop_under_load,
        detected=said("drain:", "→ stopping"),
        expect="nothing left",
    ),
    FaultCase(
        id="context-too-long",
        title="a start that cannot work: a context longer than the model's",
        needs="nothing",
        inject=too_long_a_context,
        detected=diagnosed,
        expect="nothing left",
    ),
    FaultCase(
        id="port-taken",
        title="a start on a port that another program has",
        needs="nothing",
        inject=taken_port,
        leaves_run=False,
        detected=refused,
        expect="nothing left",
    ),
)
