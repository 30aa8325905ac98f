"""The probes of preflight, on this machine and on scripted ones."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from msgspec.structs import replace

from console.core.errors import HardwareError
from console.core.models import RunInfo
from console.core.overrides import apply_overrides
from console.core.preflight import NoAnswer, VllmProcess
from console.core.profile import EngineKind, Profile
from console.io import paths, profiles
from console.io.engines import Engine
from console.io.gpu.fake import FakeGpuBackend, idle_gpus
from console.io.preflight import (
    ask_all,
    end_orphans,
    find_vllm,
    processes,
    read_engine_facts,
    read_environment,
    read_gpus,
    read_limits,
    read_memory,
    read_shm,
    read_weights,
)
from console.io.preflight.engine import FLAGS_MIN, read_flags
from console.io.process import process_start_s
from console.io.runs import RunDir

MIB = 1024**2
WAIT_S = 20.0


def wait_for(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)


class TestAsking:
    def test_answers_errors_and_silence(self) -> None:
        forever = threading.Event()

        def fails() -> object:
            raise HardwareError("No permission", "to read", "Ask.")

        def unreadable() -> object:
            return Path("/no/such/file").read_bytes()

        answers = ask_all({"a": lambda: 1, "b": forever.wait, "c": fails, "d": unreadable}, timeout_s=0.3)
        forever.set()
        assert answers["a"] == 1
        assert answers["b"] == NoAnswer(reason="did not answer within 0.3 s")
        assert answers["c"] == NoAnswer(reason="No permission: to read")
        assert answers["d"] == NoAnswer(reason="/no/such/file: No such file or directory")

    def test_several_that_hang_cost_the_limit_once(self) -> None:
        forever = threading.Event()
        began = time.monotonic()
        answers = ask_all({str(number): forever.wait for number in range(8)}, timeout_s=0.5)
        took_s = time.monotonic() - began
        forever.set()
        assert all(isinstance(answer, NoAnswer) for answer in answers.values())
        assert took_s < 8 * 0.5


class TestGpus:
    def test_what_the_driver_tells(self, monkeypatch: pytest.MonkeyPatch) -> None:
        namespace = str(Path("/proc/self/ns/pid").readlink())
        monkeypatch.setattr("console.io.preflight.gpus.FIRST_PID_NAMESPACE", namespace)
        first, second = idle_gpus(2)
        frame = (first, replace(second, memory_used_bytes=80 * 1024**2))
        backend = FakeGpuBackend([frame], used_by_pid={os.getpid(): 5, 2**22 - 1: 6}, mig=True)
        facts = read_gpus(backend)
        assert (facts.driver_version, facts.cuda_version) == ("580.159.04", (13, 0))
        assert [gpu.capability for gpu in facts.gpus] == [(9, 0), (9, 0)]
        assert facts.gpus[0].memory_free_bytes == facts.gpus[0].memory_total_bytes
        assert facts.gpus[1].memory_free_bytes == (second.memory_total_bytes or 0) - 80 * 1024**2
        assert facts.gpus[0].mig is True
        mine, unseen = facts.holders
        assert "python" in mine.name
        assert unseen.name == ""
        with pytest.raises(HardwareError, match="not open"):
            backend.read_all()

    def test_in_a_container_a_pid_may_mean_another_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("console.io.preflight.gpus.FIRST_PID_NAMESPACE", "pid:[1]")
        backend = FakeGpuBackend([idle_gpus(1)], used_by_pid={os.getpid(): 5})
        assert [holder.name for holder in read_gpus(backend).holders] == [""]
        monkeypatch.setattr("console.io.preflight.gpus.uses_gpu", lambda pid: True)
        assert "python" in read_gpus(backend).holders[0].name

    def test_no_driver_is_an_answer_and_a_broken_one_is_not(self) -> None:
        gone = FakeGpuBackend([()], open_errors=[HardwareError("No NVIDIA driver found", "", "Install it.")])
        assert (read_gpus(gone).absent, read_gpus(gone).absent) == ("No NVIDIA driver found", "")
        broken = FakeGpuBackend([()], open_errors=[HardwareError("NVIDIA driver and library differ in version")])
        with pytest.raises(HardwareError, match="differ"):
            read_gpus(broken)


class TestMachine:
    def test_this_machine(self) -> None:
        memory = read_memory()
        assert 0 < memory.available_bytes <= memory.total_bytes
        shm = read_shm()
        assert 0 <= shm.free_bytes <= shm.total_bytes
        limits = read_limits()
        assert limits.soft is None or limits.hard is None or limits.soft <= limits.hard

    @pytest.mark.parametrize("deep", [False, True])
    def test_the_limit_of_a_container(self, tmp_path: Path, deep: bool) -> None:
        group = tmp_path / "a" / "b" if deep else tmp_path
        group.mkdir(parents=True, exist_ok=True)
        (group / "memory.max").write_text(f"{300 * MIB}\n")
        (group / "memory.current").write_text(f"{200 * MIB}\n")
        (group / "memory.stat").write_text(f"anon 1\ninactive_file {50 * MIB}\n")
        membership = tmp_path / "cgroup"
        membership.write_text("0::/a/b\n")
        memory = read_memory(tmp_path, membership)
        assert (memory.total_bytes, memory.limited) == (300 * MIB, True)
        assert memory.available_bytes == 150 * MIB

    def test_the_first_version_of_control_groups_and_none(self, tmp_path: Path) -> None:
        group = tmp_path / "memory"
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(300 * MIB))
        (group / "memory.usage_in_bytes").write_text(str(100 * MIB))
        membership = tmp_path / "cgroup"
        membership.write_text("4:memory:/docker/abc\n3:cpu:/x\nnonsense\n")
        assert read_memory(tmp_path, membership).available_bytes == 200 * MIB
        (group / "memory.limit_in_bytes").write_text("9223372036854771712")
        assert read_memory(tmp_path, membership).limited is False
        (tmp_path / "memory.max").write_text("max\n")
        membership.write_text("0::/\n")
        assert read_memory(tmp_path, membership).limited is False
        assert read_memory(tmp_path, tmp_path / "absent").limited is False

    def test_the_environment_tells_that_there_are_keys_and_not_which(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("HF_HUB_OFFLINE", "CUDA_VISIBLE_DEVICES", "VLLM_SERVER_DEV_MODE", "LD_LIBRARY_PATH"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HF_HOME", "/nowhere")
        bare = read_environment({})
        assert not any((bare.api_key, bare.hf_token, bare.hf_offline, bare.dev_mode, bare.cuda_compat))
        assert bare.visible_gpus is None
        monkeypatch.setenv("VLLM_API_KEY", "")
        assert not read_environment({}).api_key, "vLLM takes an empty key for none"
        monkeypatch.setenv("VLLM_API_KEY", "sk-planted-12345")
        monkeypatch.setenv("HF_TOKEN", "hf_planted_12345")
        full = read_environment(
            {
                "HF_HUB_OFFLINE": "1",
                "CUDA_VISIBLE_DEVICES": "0,1",
                "VLLM_SERVER_DEV_MODE": "1",
                "LD_LIBRARY_PATH": "/usr/local/cuda/compat",
            }
        )
        assert all((full.api_key, full.hf_token, full.hf_offline, full.dev_mode, full.cuda_compat))
        assert full.visible_gpus == "0,1"
        assert "planted" not in repr(full)
        assert read_environment({"VLLM_SERVER_DEV_MODE": "0"}).dev_mode is False

    def test_a_token_in_its_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("HF_TOKEN_PATH", raising=False)
        (tmp_path / "token").write_text("hf_x")
        assert read_environment({"HF_HOME": str(tmp_path)}).hf_token


class TestWeights:
    def profile(self, model: str, tmp_path: Path, **changes: object) -> Profile:
        base = profiles.load("4xh200-fp8-v4-flash").profile
        settings = {"model.id": model, "env.HF_HOME": str(tmp_path / "hf"), **changes}
        return apply_overrides(base, settings)

    def snapshot(self, hub: Path, *, commit: str = "abc", branch: str | None = "main") -> Path:
        repository = hub / "models--o--m"
        blobs, folder = repository / "blobs", repository / "snapshots" / commit
        blobs.mkdir(parents=True)
        folder.mkdir(parents=True)
        (blobs / "1").write_bytes(b"x" * 1000)
        (folder / "model.safetensors").symlink_to(blobs / "1")
        (folder / "config.json").write_text('{"text_config": {"num_attention_heads": 64}}')
        (blobs / "2.incomplete").write_bytes(b"y" * 500)
        if branch:
            (repository / "refs").mkdir()
            (repository / "refs" / branch).write_text(commit)
        return folder

    def test_nothing_there_yet(self, tmp_path: Path) -> None:
        found = read_weights(self.profile("o/m", tmp_path))
        assert (found.exists, found.bytes_present, found.local) == (False, 0, False)
        assert found.path == str(tmp_path / "hf" / "hub")
        assert found.free_bytes

    def test_a_download_is_taken_up_where_it_broke_off(self, tmp_path: Path) -> None:
        folder = self.snapshot(tmp_path / "hf" / "hub")
        config = (folder / "config.json").stat().st_size
        found = read_weights(self.profile("o/m", tmp_path))
        assert (found.exists, found.bytes_present) == (True, 1500 + config)
        assert found.attention_heads == 64
        other = read_weights(self.profile("o/m", tmp_path, **{"model.revision": "v2"}))
        assert (other.exists, other.bytes_present) == (False, 500), "what another revision has does not count"
        same = read_weights(self.profile("o/m", tmp_path, **{"model.revision": "abc"}))
        assert same.exists

    def test_where_it_is_looked_for(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.snapshot(tmp_path / "own")
        chosen = self.profile("o/m", tmp_path, **{"serve.extra.download_dir": str(tmp_path / "own")})
        assert read_weights(chosen).exists
        for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("XDG_CACHE_HOME", "/x")
        assert read_weights(None).path == "/x/huggingface/hub"
        monkeypatch.setenv("HF_HUB_CACHE", "/y")
        assert read_weights(None).path == "/y"
        assert read_weights(profiles.load("cpu-smoke").profile).path == "/y"

    def test_a_directory(self, tmp_path: Path) -> None:
        folder = tmp_path / "model"
        gone = read_weights(self.profile(str(folder), tmp_path))
        assert (gone.local, gone.exists) == (True, False)
        folder.mkdir()
        empty = read_weights(self.profile(str(folder), tmp_path))
        assert (empty.has_config, empty.weight_files) == (False, 0)
        (folder / "config.json").write_text('{"num_attention_heads": 8}')
        (folder / "a.safetensors").write_bytes(b"x" * 100)
        (folder / "model.safetensors.index.json").write_text(
            '{"weight_map": {"x": "a.safetensors", "y": "b.safetensors", "z": "b.safetensors"}}'
        )
        found = read_weights(self.profile(str(folder), tmp_path))
        assert (found.weight_files, found.missing_files) == (1, ("b.safetensors",))
        assert (found.attention_heads, found.has_config) == (8, True)

    def test_damaged_descriptions_tell_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text("[1")
        (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": 7}')
        found = read_weights(self.profile(str(tmp_path), tmp_path))
        assert (found.attention_heads, found.missing_files) == (None, ())


class TestEngine:
    def environment(self, tmp_path: Path, cuda: str = "'13.0'") -> Engine:
        packages = tmp_path / "lib" / "python3.12" / "site-packages"
        (packages / "vllm" / "engine").mkdir(parents=True)
        (packages / "vllm" / "entrypoints" / "serve").mkdir(parents=True)
        literals = "\n".join(f'    group.add_argument("--flag-{number}", **kwargs)' for number in range(FLAGS_MIN))
        (packages / "vllm" / "engine" / "arg_utils.py").write_text(literals)
        (packages / "vllm" / "entrypoints" / "serve" / "cli_args.py").write_text(
            "class Other:\n    not_a_flag: int = 1\n\n"
            "@config\nclass BaseFrontendArgs:\n    '''Doc: text.'''\n    chat_template: str | None = None\n"
            "    def method(self):\n        inner: int = 2\n\n"
            "class FrontendArgs(BaseFrontendArgs):\n    api_key: list[str] | None = None\n\n"
            "def make(parser):\n    local: int = 1\n    parser.add_argument('--headless')\n"
        )
        (packages / "torch").mkdir()
        (packages / "torch" / "version.py").write_text(f"__version__ = '2.14.0'\ncuda: Optional[str] = {cuda}\n")
        command = tmp_path / "bin" / "vllm"
        command.parent.mkdir()
        command.write_text("")
        return Engine(name="e", kind=EngineKind.CUDA, version="0.33.0", executable=command)

    def test_read_from_its_files(self, tmp_path: Path) -> None:
        facts = read_engine_facts(self.environment(tmp_path))
        assert facts.cuda_version == (13, 0)
        assert facts.flags is not None
        assert {"flag-7", "chat-template", "api-key", "headless"} <= facts.flags
        assert not {"not-a-flag", "inner", "local"} & facts.flags

    def test_a_cpu_build_and_an_unknown_layout(self, tmp_path: Path) -> None:
        engine = self.environment(tmp_path, cuda="None")
        (tmp_path / "lib" / "python3.12" / "site-packages" / "vllm" / "engine" / "arg_utils.py").unlink()
        facts = read_engine_facts(engine)
        assert (facts.cuda_version, facts.flags) == (None, None)
        bare = replace(engine, executable=tmp_path / "other" / "bin" / "vllm")
        assert read_engine_facts(bare).flags is None

    @pytest.mark.real
    def test_the_flags_of_a_real_engine(self, cpu_engine: Path) -> None:
        (package,) = cpu_engine.glob("lib/python3*/site-packages/vllm")
        flags = read_flags(package)
        assert flags is not None
        help_text = subprocess.run(
            [cpu_engine / "bin" / "vllm", "serve", "--help=all"],
            capture_output=True,
            text=True,
            timeout=110,
            check=True,
        ).stdout
        for flag in ("max-num-queued-reqs", "host", "api-key", "tensor-parallel-size", "headless", "logging-config"):
            assert flag in flags
            assert f"--{flag}" in help_text
        missing = [flag for flag in flags if f"--{flag}" not in help_text]
        assert len(missing) <= 3, missing


def titled(title: str, shell: str = "sleep 300") -> str:
    """A shell command that becomes a process of this title."""
    return f"exec -a '{title}' {shell}"


@pytest.fixture
def family() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Sessions started by a test; all that is in them is ended."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for child in started:
        for pid in psutil.pids():
            with suppress(ProcessLookupError, PermissionError):
                if os.getsid(pid) == child.pid:
                    os.kill(pid, signal.SIGKILL)
        child.wait(WAIT_S)


def start(family: list[subprocess.Popen[bytes]], script: str, output: Path | None = None) -> subprocess.Popen[bytes]:
    """Run a script in a session of its own, as the supervisor starts a server."""
    with (output or Path(os.devnull)).open("ab") as stream:
        child = subprocess.Popen(["bash", "-c", script], stdout=stream, start_new_session=True)
    family.append(child)
    return child


def found(session: int) -> dict[str, VllmProcess]:
    """Processes of vLLM in a session, by title."""
    members = []
    for each in find_vllm():
        with suppress(ProcessLookupError):
            if os.getsid(each.pid) == session:
                members.append(each)
    return {each.title: each for each in members}


class TestProcesses:
    def test_an_engine_with_its_creator_is_no_orphan(self, family: list[subprocess.Popen[bytes]]) -> None:
        creator = start(family, f"({titled('VLLM::EngineCore')}) & wait")
        wait_for(lambda: found(creator.pid))
        (engine,) = found(creator.pid).values()
        assert (engine.title, engine.orphan, engine.run_id) == ("VLLM::EngineCore", False, "")
        assert engine.memory_bytes
        assert engine.age_s is not None
        assert engine.user == ""

    def test_an_engine_whose_creator_died_is(self, family: list[subprocess.Popen[bytes]]) -> None:
        inner = titled("VLLM::Worker_TP0")
        engine = f'exec -a VLLM::EngineCore bash -c "({inner}) & wait"'
        creator = start(family, f"({engine}) & wait")
        wait_for(lambda: len(found(creator.pid)) == 2)
        assert not any(each.orphan for each in found(creator.pid).values())
        os.kill(creator.pid, signal.SIGKILL)
        creator.wait(WAIT_S)
        left = found(creator.pid)
        assert {title: each.orphan for title, each in left.items()} == {
            "VLLM::EngineCore": True,
            "VLLM::Worker_TP0": True,
        }
        ended = end_orphans(left.values())
        assert all(each.gone for each in ended), ended
        assert not found(creator.pid)

    def test_the_run_that_it_belongs_to(self, family: list[subprocess.Popen[bytes]]) -> None:
        run = RunDir(paths.runs_dir() / "r1")
        run.path.mkdir(parents=True)
        creator = start(family, f"({titled('VLLM::EngineCore')}) & wait", run.log_path)
        wait_for(lambda: found(creator.pid))
        os.kill(creator.pid, signal.SIGKILL)
        creator.wait(WAIT_S)

        def now() -> VllmProcess:
            return found(creator.pid)["VLLM::EngineCore"]

        assert (now().run_id, now().supervised, now().orphan) == ("r1", False, True)
        me = os.getpid()
        info = RunInfo(id="r1", profile_name="p", supervisor_pid=me, supervisor_start_s=process_start_s(me))
        run.write_info(info)
        assert (now().supervised, now().orphan) == (True, False), "its supervisor is about to end it"
        run.write_info(replace(info, supervisor_start_s=1.0))
        assert now().orphan

    @pytest.mark.parametrize(
        ("words", "title"),
        [
            (["/env/bin/python", "/env/bin/vllm", "serve", "m", "--port", "1"], "vllm serve m"),
            (["vllm serve m --port 1"], "vllm serve m"),
            (["python", "-m", "vllm.entrypoints.openai.api_server", "--model"], "vllm serve --model"),
            (["/env/bin/python", "/env/bin/vllm", "bench", "serve"], None),
            (["vim", "serve"], None),
            ([], None),
        ],
    )
    def test_what_a_server_looks_like(self, words: list[str], title: str | None) -> None:
        assert processes._is_server(words) is (title is not None)
        assert title is None or processes._server_title(words) == title

    def test_a_server_is_no_orphan(self, family: list[subprocess.Popen[bytes]]) -> None:
        creator = start(family, titled("vllm serve m"))
        wait_for(lambda: found(creator.pid))
        (server,) = found(creator.pid).values()
        assert (server.title, server.orphan) == ("vllm serve m", False)

    def test_names_that_only_look_like_it(self, family: list[subprocess.Popen[bytes]]) -> None:
        others = ["grep 'VLLM::EngineCore'", "tail -f VLLM::Worker", "vim vllm serve.md", "VLLM::Nothing"]
        sessions = [start(family, titled(name)).pid for name in others]
        last = start(family, titled("VLLM::EngineCore")).pid
        wait_for(lambda: found(last))
        assert not any(found(session) for session in sessions)

    def test_one_that_ignores_sigterm_is_killed_with_its_children(
        self, family: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("console.io.preflight.processes.TERM_WAIT_S", 0.3)
        stubborn = "exec -a VLLM::EngineCore bash -c 'trap : TERM; while :; do sleep 300; done'"
        creator = start(family, f"({stubborn}) & wait")
        wait_for(lambda: found(creator.pid))
        os.kill(creator.pid, signal.SIGKILL)
        creator.wait(WAIT_S)
        wait_for(lambda: psutil.Process(found(creator.pid)["VLLM::EngineCore"].pid).children())
        (ended,) = end_orphans(found(creator.pid).values())
        assert (ended.how, ended.gone) == ("SIGKILL", True)
        wait_for(lambda: not [pid for pid in psutil.pids() if session_of(pid) == creator.pid])

    def test_a_pid_that_means_another_process_by_now_is_left_alone(self, family: list[subprocess.Popen[bytes]]) -> None:
        other = start(family, "exec sleep 300")
        start_s = process_start_s(other.pid)
        assert start_s is not None
        stale = VllmProcess(pid=other.pid, start_s=start_s - 5, title="VLLM::EngineCore", orphan=True)
        (ended,) = end_orphans([stale])
        assert (ended.how, ended.gone) == ("gone already", True)
        assert other.poll() is None


def session_of(pid: int) -> int | None:
    with suppress(ProcessLookupError):
        if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            return os.getsid(pid)
    return None
