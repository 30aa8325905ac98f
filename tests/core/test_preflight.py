"""Every verdict of every check, on facts that no machine has to have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from console.core.overrides import apply_overrides
from console.core.preflight import (
    Check,
    EngineFacts,
    Environment,
    Facts,
    Gpu,
    GpuFacts,
    GpuHolder,
    Limits,
    Memory,
    NoAnswer,
    Override,
    PortFacts,
    Preflight,
    Space,
    Verdict,
    VllmProcess,
    Weights,
)
from console.core.preflight.report import MARKS
from console.core.preflight.serving import is_loopback
from console.core.preflight.table import CHECKS, judge
from console.core.preflight.words import blocked_words
from console.core.profile import Profile
from console.core.profile_read import read_profile

GIB = 1024**3
PROFILES = Path(__file__).parents[2] / "profiles"
FLAGS = frozenset(
    [
        "host",
        "port",
        "tensor-parallel-size",
        "enable-expert-parallel",
        "kv-cache-dtype",
        "block-size",
        "trust-remote-code",
        "tokenizer-mode",
        "reasoning-parser",
        "tool-call-parser",
        "enable-auto-tool-choice",
        "speculative-config",
        "reasoning-config",
        "max-num-seqs",
        "max-model-len",
        "load-format",
        "enforce-eager",
        "data-parallel-size",
        "pipeline-parallel-size",
        "gpu-memory-utilization",
    ]
)


def profile(name: str = "4xh200-fp8-v4-flash", **changes: Any) -> Profile:
    path = PROFILES / f"{name}.toml"
    read = read_profile(path.read_text(encoding="utf-8"), path.name)
    return apply_overrides(read, {key.replace("__", "."): value for key, value in changes.items()})


def h200(count: int = 4, **changes: Any) -> tuple[Gpu, ...]:
    whole = Gpu(
        index=0,
        name="NVIDIA H200",
        uuid="GPU-aaaa",
        capability=(9, 0),
        memory_total_bytes=141 * GIB,
        memory_free_bytes=140 * GIB,
        mig=False,
    )
    return tuple(replace(whole, index=i, uuid=f"GPU-{i}aaa", **changes) for i in range(count))


def driver(**changes: Any) -> GpuFacts:
    return replace(GpuFacts(gpus=h200(), driver_version="580.65.06", cuda_version=(13, 0)), **changes)


GOOD = Facts(
    gpu=driver(),
    processes=(),
    memory=Memory(total_bytes=1000 * GIB, available_bytes=900 * GIB),
    shm=Space(path="/dev/shm", total_bytes=500 * GIB, free_bytes=499 * GIB),
    limits=Limits(soft=1024, hard=1_048_576),
    weights=Weights(path="/cache/hub", exists=False, free_bytes=2000 * GIB),
    port=PortFacts(free=True, text="127.0.0.1:8000 is free"),
    engine=EngineFacts(name="cuda-0.33.0", version="0.33.0", cuda_version=(13, 0), flags=FLAGS),
)
ENGINE = EngineFacts(name="cuda-0.33.0", version="0.33.0", cuda_version=(13, 0), flags=FLAGS)
CORE = VllmProcess(pid=77, start_s=1.0, title="VLLM::EngineCore", age_s=60.0, memory_bytes=3 * GIB)
LOCAL = Weights(path="/models/m", local=True, bytes_present=10 * GIB, free_bytes=GIB, weight_files=2)


def one(name: str, facts: Facts = GOOD, of: Profile | None = None, **changes: Any) -> Check | None:
    report = judge(replace(facts, **changes), of)
    return next((check for check in report.checks if check.id == name), None)


Case = tuple[str, Callable[[], Check | None], Verdict, str]
PUBLIC = profile(serve__host="0.0.0.0")
V3 = profile("8xa100-int4-v3")
CPU = profile("cpu-smoke")
V41 = profile(
    model__architecture="deepseek-v4.1-flash",
    serve__speculative_config={"method": "dspark"},
    serve__data_parallel_size=1,
)
CASES: tuple[Case, ...] = (
    ("gpus", lambda: one("gpus", of=profile()), Verdict.OK, "4 × NVIDIA H200"),
    ("gpus", lambda: one("gpus"), Verdict.OK, "4 × NVIDIA H200"),
    ("gpus", lambda: one("gpus", gpu=driver(gpus=())), Verdict.INFO, "none: CPU profiles only"),
    (
        "gpus",
        lambda: one("gpus", gpu=GpuFacts(absent="No NVIDIA driver found", absent_remedy="Install it.")),
        Verdict.INFO,
        "No NVIDIA driver found",
    ),
    (
        "gpus",
        lambda: one("gpus", of=profile(), gpu=GpuFacts(absent="No NVIDIA driver found", absent_remedy="Install it.")),
        Verdict.BLOCKED,
        "needs 4 × H200",
    ),
    ("gpus", lambda: one("gpus", of=profile(), gpu=driver(gpus=h200(2))), Verdict.BLOCKED, "uses 4 GPUs, found 2 ×"),
    (
        "gpus",
        lambda: one("gpus", of=profile(), environment=Environment(visible_gpus="0,1")),
        Verdict.BLOCKED,
        "found 2 × NVIDIA H200 (4 in the machine, CUDA_VISIBLE_DEVICES)",
    ),
    (
        "gpus",
        lambda: one("gpus", of=profile(), gpu=driver(gpus=h200(name="NVIDIA B200"))),
        Verdict.WARN,
        "made for 4 × H200, found 4 × NVIDIA B200",
    ),
    (
        "gpus",
        lambda: one("gpus", gpu=NoAnswer(reason="did not answer within 1.5 s")),
        Verdict.UNKNOWN,
        "did not answer",
    ),
    ("capability", lambda: one("capability", of=profile()), Verdict.OK, "9.0"),
    ("capability", lambda: one("capability"), Verdict.OK, "DeepSeek V4 has an attention backend"),
    ("capability", lambda: one("capability", gpu=driver(gpus=h200(capability=(8, 0)))), Verdict.INFO, "no DeepSeek V4"),
    (
        "capability",
        lambda: one("capability", of=profile(), gpu=driver(gpus=h200(capability=(8, 0)))),
        Verdict.BLOCKED,
        "needs 9.0, 10.x or 12.x",
    ),
    (
        "capability",
        lambda: one("capability", of=profile(), gpu=driver(gpus=h200(capability=(11, 0)))),
        Verdict.WARN,
        "known for 9.0",
    ),
    ("capability", lambda: one("capability", of=V3, gpu=driver(gpus=h200(8, capability=(8, 0)))), Verdict.OK, "8.0"),
    (
        "capability",
        lambda: one("capability", of=V3, gpu=driver(gpus=h200(8, capability=(7, 5)))),
        Verdict.WARN,
        "below 8.0",
    ),
    (
        "capability",
        lambda: one("capability", of=profile(), gpu=driver(gpus=h200(capability=None))),
        Verdict.UNKNOWN,
        "does not tell",
    ),
    ("driver", lambda: one("driver", of=profile()), Verdict.OK, "needs 580"),
    (
        "driver",
        lambda: one("driver", of=profile(), gpu=driver(driver_version="550.54.15")),
        Verdict.BLOCKED,
        "CUDA 13.0, which needs 580",
    ),
    (
        "driver",
        lambda: one(
            "driver", of=profile(), gpu=driver(driver_version="550.54.15"), engine=replace(ENGINE, cuda_version=(12, 8))
        ),
        Verdict.OK,
        "needs 525",
    ),
    (
        "driver",
        lambda: one(
            "driver",
            of=profile(),
            gpu=driver(driver_version="550.54.15"),
            environment=Environment(cuda_compat=True),
        ),
        Verdict.WARN,
        "may bridge it",
    ),
    ("driver", lambda: one("driver", gpu=driver(driver_version=None)), Verdict.UNKNOWN, "does not tell"),
    (
        "driver",
        lambda: one("driver", of=profile(), engine=replace(ENGINE, cuda_version=(15, 0))),
        Verdict.UNKNOWN,
        "not known which driver",
    ),
    ("driver", lambda: one("driver", of=profile(), engine=EngineFacts()), Verdict.UNKNOWN, "no CUDA engine"),
    ("driver", lambda: one("driver", engine=EngineFacts()), Verdict.INFO, "580.65.06 (CUDA 13.0)"),
    ("gpu-memory", lambda: one("gpu-memory", of=profile()), Verdict.OK, "140 GiB of 141 GiB free"),
    ("gpu-memory", lambda: one("gpu-memory"), Verdict.OK, "free on GPU 0"),
    (
        "gpu-memory",
        lambda: one("gpu-memory", of=profile(), gpu=driver(gpus=h200(memory_free_bytes=100 * GIB))),
        Verdict.BLOCKED,
        "100 GiB of 141 GiB free on GPU 0, 130 GiB needed",
    ),
    (
        "gpu-memory",
        lambda: one("gpu-memory", of=profile(), gpu=driver(gpus=h200(memory_free_bytes=int(130.3 * GIB)))),
        Verdict.WARN,
        "CUDA context",
    ),
    (
        "gpu-memory",
        lambda: one("gpu-memory", of=profile(), gpu=driver(gpus=h200(memory_free_bytes=None))),
        Verdict.UNKNOWN,
        "does not tell",
    ),
    (
        "gpu-memory",
        lambda: one("gpu-memory", gpu=driver(holders=(GpuHolder(gpu=0, pid=7, name="python", memory_bytes=GIB),))),
        Verdict.INFO,
        "free on GPU 0",
    ),
    ("mig", lambda: one("mig", of=profile()), Verdict.OK, "off"),
    ("mig", lambda: one("mig", gpu=driver(gpus=h200(mig=True))), Verdict.INFO, "on: GPU 0, 1"),
    ("mig", lambda: one("mig", of=profile(), gpu=driver(gpus=h200(mig=True))), Verdict.BLOCKED, "cannot work together"),
    (
        "mig",
        lambda: one("mig", of=profile(serve__tensor_parallel_size=1), gpu=driver(gpus=h200(mig=True))),
        Verdict.WARN,
        "whole GPU",
    ),
    ("orphans", lambda: one("orphans"), Verdict.OK, "none"),
    ("orphans", lambda: one("orphans", processes=(replace(CORE, orphan=True),)), Verdict.WARN, "1 left by servers"),
    (
        "orphans",
        lambda: one("orphans", processes=(replace(CORE, title="vllm serve m"),)),
        Verdict.INFO,
        "other vLLM servers run here: 1",
    ),
    (
        "orphans",
        lambda: one("orphans", processes=(replace(CORE, title="vllm serve m", run_id="r1"),)),
        Verdict.INFO,
        "r1 serves without its supervisor",
    ),
    (
        "orphans",
        lambda: one("orphans", processes=(replace(CORE, title="vllm serve m", run_id="r1", supervised=True),)),
        Verdict.OK,
        "none",
    ),
    ("orphans", lambda: one("orphans", processes=NoAnswer(reason="hangs")), Verdict.UNKNOWN, "hangs"),
    ("fit", lambda: one("fit", of=profile()), Verdict.OK, "fits: weights 39.7 GiB"),
    (
        "fit",
        lambda: one("fit", of=profile(), gpu=driver(gpus=h200(memory_total_bytes=60 * GIB))),
        Verdict.INFO,
        "tight",
    ),
    (
        "fit",
        lambda: one("fit", of=profile(), gpu=driver(gpus=h200(memory_total_bytes=46 * GIB))),
        Verdict.WARN,
        "does not fit by arithmetic",
    ),
    (
        "fit",
        lambda: one("fit", of=profile(), gpu=driver(gpus=h200(memory_total_bytes=24 * GIB))),
        Verdict.BLOCKED,
        "weights alone",
    ),
    ("fit", lambda: one("fit", of=profile(model__architecture="new")), Verdict.UNKNOWN, "unknown architecture new"),
    ("fit", lambda: one("fit", of=CPU), Verdict.OK, "fits"),
    ("fit", lambda: one("fit", of=CPU, memory=NoAnswer(reason="hangs")), Verdict.UNKNOWN, "host memory: hangs"),
    ("parallel", lambda: one("parallel", of=profile()), Verdict.OK, "TP4; 64 attention heads"),
    (
        "parallel",
        lambda: one("parallel", of=profile(hardware__count=3, serve__tensor_parallel_size=3)),
        Verdict.BLOCKED,
        "64 attention heads cannot be divided by TP3",
    ),
    (
        "parallel",
        lambda: one("parallel", of=profile(), gpu=driver(gpus=h200(2))),
        Verdict.BLOCKED,
        "takes 4 GPUs, there are 2",
    ),
    (
        "parallel",
        lambda: one(
            "parallel", of=profile(hardware__count=16, serve__tensor_parallel_size=16), gpu=driver(gpus=h200(16))
        ),
        Verdict.WARN,
        "8 output groups",
    ),
    (
        "parallel",
        lambda: one(
            "parallel",
            of=profile(
                hardware__count=16,
                serve__tensor_parallel_size=16,
                model__architecture="deepseek-v4-pro",
                serve__enable_expert_parallel=False,
            ),
            gpu=driver(gpus=h200(16)),
        ),
        Verdict.WARN,
        "no whole blocks of 128",
    ),
    (
        "parallel",
        lambda: one("parallel", of=profile(model__architecture="new")),
        Verdict.UNKNOWN,
        "heads of this model are not known",
    ),
    (
        "parallel",
        lambda: one("parallel", of=profile(), weights=replace(LOCAL, attention_heads=6)),
        Verdict.BLOCKED,
        "6 attention heads",
    ),
    ("flags", lambda: one("flags", of=profile()), Verdict.OK, "all known to vLLM 0.33.0"),
    ("flags", lambda: one("flags", of=profile(), engine=EngineFacts()), Verdict.INFO, "no engine yet"),
    (
        "flags",
        lambda: one("flags", of=profile(), engine=replace(ENGINE, flags=None)),
        Verdict.UNKNOWN,
        "could not be read",
    ),
    ("flags", lambda: one("flags", of=profile(), engine=replace(ENGINE, version="dev")), Verdict.UNKNOWN, "no version"),
    (
        "flags",
        lambda: one("flags", of=profile(), engine=replace(ENGINE, version="0.24.0")),
        Verdict.BLOCKED,
        "vLLM 0.24.0 does not know",
    ),
    (
        "flags",
        lambda: one("flags", of=profile(serve__extra__reasonin_konfig="x")),
        Verdict.WARN,
        "does not seem to know 1",
    ),
    ("port", lambda: one("port", of=profile()), Verdict.OK, "is free"),
    ("port", lambda: one("port", port=PortFacts(free=False, title="Port 8000 is taken")), Verdict.INFO, "is taken"),
    (
        "port",
        lambda: one(
            "port", of=profile(), port=PortFacts(free=False, title="Port 8000 is taken", text="by x", remedy="Stop it.")
        ),
        Verdict.BLOCKED,
        "Port 8000 is taken: by x",
    ),
    ("port", lambda: one("port", of=profile(), port=NoAnswer(reason="hangs")), Verdict.UNKNOWN, "hangs"),
    ("address", lambda: one("address", of=profile()), Verdict.OK, "127.0.0.1: this machine alone"),
    ("address", lambda: one("address", of=PUBLIC), Verdict.BLOCKED, "and there is no key"),
    (
        "address",
        lambda: one("address", of=PUBLIC, allow_public=True),
        Verdict.WARN,
        "--allow-public-without-key allows",
    ),
    (
        "address",
        lambda: one("address", of=PUBLIC, environment=Environment(api_key=True)),
        Verdict.INFO,
        "guards /v1, /v2, /inference and /cohere alone",
    ),
    ("machines", lambda: one("machines", of=profile("cpu-smoke-2nodes")), Verdict.OK, "2, the first at 127.0.0.1"),
    (
        "machines",
        lambda: one("machines", of=profile("2x8xh100-native-v4-pro")),
        Verdict.INFO,
        "nobody has said the first one's address",
    ),
    ("dev-mode", lambda: one("dev-mode", of=profile()), Verdict.OK, "off"),
    ("dev-mode", lambda: one("dev-mode", of=profile(), environment=Environment(dev_mode=True)), Verdict.INFO, "alone"),
    (
        "dev-mode",
        lambda: one("dev-mode", of=PUBLIC, environment=Environment(dev_mode=True, api_key=True)),
        Verdict.BLOCKED,
        "reached by other machines",
    ),
    ("engine", lambda: one("engine"), Verdict.OK, "cuda-0.33.0 (vLLM 0.33.0)"),
    ("engine", lambda: one("engine", engine=EngineFacts(offer="dsv4-console engine install")), Verdict.INFO, "none"),
    ("engine", lambda: one("engine", engine=NoAnswer(reason="hangs")), Verdict.UNKNOWN, "hangs"),
    ("model", lambda: one("model", of=profile()), Verdict.OK, "downloaded at the start"),
    ("model", lambda: one("model", of=CPU), Verdict.OK, "made by this program"),
    (
        "model",
        lambda: one("model", of=profile(), environment=Environment(hf_offline=True)),
        Verdict.BLOCKED,
        "HF_HUB_OFFLINE is set",
    ),
    ("model", lambda: one("model", of=profile(model__id="meta-llama/Llama-4-Maverick")), Verdict.WARN, "gated"),
    (
        "model",
        lambda: one("model", of=profile(model__id="meta-llama/X"), environment=Environment(hf_token=True)),
        Verdict.OK,
        "downloaded",
    ),
    ("model", lambda: one("model", of=profile(model__id="/models/m"), weights=LOCAL), Verdict.OK, "2 files, 10.0 GiB"),
    (
        "model",
        lambda: one("model", of=profile(model__id="/models/m"), weights=replace(LOCAL, exists=False)),
        Verdict.BLOCKED,
        "/models/m is not there",
    ),
    (
        "model",
        lambda: one("model", of=profile(model__id="/models/m"), weights=replace(LOCAL, has_config=False)),
        Verdict.BLOCKED,
        "no config.json",
    ),
    (
        "model",
        lambda: one("model", of=profile(model__id="/models/m"), weights=replace(LOCAL, weight_files=0)),
        Verdict.BLOCKED,
        "no weights",
    ),
    (
        "model",
        lambda: one("model", of=profile(model__id="/models/m"), weights=replace(LOCAL, missing_files=("a", "b"))),
        Verdict.BLOCKED,
        "lacks 2 files of its index: a, b",
    ),
    ("disk", lambda: one("disk", of=profile()), Verdict.OK, "156 GiB to download"),
    ("disk", lambda: one("disk"), Verdict.OK, "free in /cache/hub"),
    (
        "disk",
        lambda: one("disk", of=profile(), weights=Weights(path="/c", exists=False, free_bytes=100 * GIB)),
        Verdict.BLOCKED,
        "156 GiB to download",
    ),
    (
        "disk",
        lambda: one(
            "disk", of=profile(), weights=Weights(path="/c", exists=False, free_bytes=100 * GIB, bytes_present=90 * GIB)
        ),
        Verdict.OK,
        "65.5 GiB to download, 90.0 GiB are there",
    ),
    (
        "disk",
        lambda: one("disk", of=profile(), weights=Weights(path="/c", exists=False, free_bytes=160 * GIB)),
        Verdict.WARN,
        "156 GiB to download",
    ),
    (
        "disk",
        lambda: one("disk", of=profile(), weights=Weights(path="/c", free_bytes=GIB, bytes_present=int(166.6e9))),
        Verdict.OK,
        "already in /c",
    ),
    ("disk", lambda: one("disk", of=V3, weights=Weights(path="/c")), Verdict.UNKNOWN, "is not known"),
    ("disk", lambda: one("disk", of=profile(model__weights_gb="")), Verdict.UNKNOWN, "is not known (model.weights_gb)"),
    ("disk", lambda: one("disk", of=CPU), Verdict.OK, "nothing to download"),
    ("memory", lambda: one("memory"), Verdict.OK, "900 GiB of 1000 GiB available"),
    ("memory", lambda: one("memory", of=profile()), Verdict.OK, "about 16.0 GiB needed"),
    (
        "memory",
        lambda: one("memory", of=profile(), memory=Memory(total_bytes=16 * GIB, available_bytes=8 * GIB, limited=True)),
        Verdict.WARN,
        "of the container's limit",
    ),
    (
        "memory",
        lambda: one("memory", of=V41, memory=Memory(total_bytes=128 * GIB, available_bytes=GIB)),
        Verdict.BLOCKED,
        "Engram",
    ),
    ("memory", lambda: one("memory", memory=NoAnswer(reason="hangs")), Verdict.UNKNOWN, "hangs"),
    ("shm", lambda: one("shm", of=profile()), Verdict.OK, "499 GiB of 500 GiB free"),
    (
        "shm",
        lambda: one("shm", of=profile(), shm=Space(path="/dev/shm", total_bytes=1, free_bytes=64 * 2**20)),
        Verdict.WARN,
        "NCCL needs",
    ),
    ("shm", lambda: one("shm", of=CPU, shm=Space(path="/dev/shm", total_bytes=1, free_bytes=1)), Verdict.OK, "free"),
    ("shm", lambda: one("shm", shm=Space(path="/dev/shm", total_bytes=1, free_bytes=1)), Verdict.INFO, "little"),
    (
        "shm",
        lambda: one(
            "shm",
            of=apply_overrides(V41, {"serve.data_parallel_size": 2, "serve.tensor_parallel_size": 2}),
            shm=Space(path="/dev/shm", total_bytes=1, free_bytes=64 * GIB),
        ),
        Verdict.WARN,
        "Engram tables (189 GiB)",
    ),
    ("open-files", lambda: one("open-files"), Verdict.OK, "vLLM raises it"),
    ("open-files", lambda: one("open-files", limits=Limits(soft=None, hard=None)), Verdict.OK, "unlimited"),
    ("open-files", lambda: one("open-files", limits=Limits(soft=1024, hard=4096)), Verdict.WARN, "at most 4,096"),
    ("open-files", lambda: one("open-files", of=CPU, limits=Limits(soft=1024, hard=20_000)), Verdict.OK, "enough"),
    ("open-files", lambda: one("open-files", limits=NoAnswer(reason="hangs")), Verdict.UNKNOWN, "hangs"),
)


@pytest.mark.parametrize(
    ("name", "ask", "verdict", "text"), CASES, ids=[f"{case[0]}-{case[2]}-{i}" for i, case in enumerate(CASES)]
)
def test_verdicts(name: str, ask: Callable[[], Check | None], verdict: Verdict, text: str) -> None:
    check = ask()
    assert check is not None
    assert check.id == name
    assert (check.verdict, text in check.text) == (verdict, True), check.text
    if verdict in (Verdict.WARN, Verdict.BLOCKED):
        assert check.remedy, "who is warned must know what to do"
    if verdict is Verdict.BLOCKED:
        assert check.consequence, "who forces it must know what follows"


def test_the_table() -> None:
    names = [rule.id for rule in CHECKS]
    assert len(set(names)) == len(names)
    assert {case[0] for case in CASES} == set(names), "each check has its cases"
    for rule in CHECKS:
        assert set(rule.needs) <= set(Facts.__struct_fields__)
        assert len(rule.title) <= 14, "titles stand in a column"
    for rule in CHECKS:
        seen = {case[2] for case in CASES if case[0] == rule.id}
        assert Verdict.OK in seen
        assert len(seen) > 1, f"{rule.id} is tested with one verdict alone"
    assert set(MARKS) == set(Verdict)


def test_nothing_asked_is_never_ok() -> None:
    report = judge(Facts(), profile())
    needing = {rule.id for rule in CHECKS if rule.needs}
    assert all(check.verdict is Verdict.UNKNOWN for check in report.checks if check.id in needing)
    assert all(check.text == "not asked" for check in report.checks if check.id in needing)


def test_what_is_good_is_quiet() -> None:
    for name in ("4xh200-fp8-v4-flash", "cpu-smoke"):
        report = judge(GOOD, profile(name), name)
        assert report.notable == (), [check.text for check in report.notable]
        assert report.verdict in (Verdict.OK, Verdict.INFO)


def test_no_gpu_rows_without_a_gpu() -> None:
    ids = {
        check.id
        for check in judge(
            replace(GOOD, gpu=GpuFacts(absent="No NVIDIA driver found", absent_remedy="Install it."))
        ).checks
    }
    assert "gpus" in ids
    assert not ids & {"capability", "driver", "gpu-memory", "mig"}
    assert not {check.id for check in judge(GOOD, CPU).checks} & {"gpus", "parallel", "driver", "mig"}


def test_who_holds_the_memory_is_named() -> None:
    crowd = tuple(GpuHolder(gpu=0, pid=100 + i, name=f"job{i}", memory_bytes=i * GIB) for i in range(9))
    full = driver(
        gpus=h200(memory_free_bytes=10 * GIB), holders=(GpuHolder(gpu=1, pid=77, memory_bytes=90 * GIB), *crowd)
    )
    check = one("gpu-memory", of=profile(), gpu=full, processes=(replace(CORE, orphan=True),))
    assert check is not None
    assert check.figures[0] == "GPU 1: 90.0 GiB by VLLM::EngineCore (pid 77)"
    assert check.figures[-1] == "and 4 more"
    assert "--end-orphans" in check.remedy
    ours = one("gpu-memory", of=profile(), gpu=full, processes=(replace(CORE, run_id="r1", supervised=True),))
    assert ours is not None
    assert ours.remedy.endswith("dsv4-console stop r1")
    unseen = one("gpu-memory", of=profile(), gpu=replace(full, holders=()))
    assert unseen is not None
    assert "cannot be seen from here" in unseen.figures[0]
    assert "--set serve.gpu_memory_utilization=0.06" in unseen.remedy


def test_only_gpus_that_would_be_used_count() -> None:
    last = (*h200(4), *h200(1, memory_free_bytes=0))
    eight = driver(gpus=tuple(replace(gpu, index=i, uuid=f"GPU-{i}aaa") for i, gpu in enumerate(last)))
    free = one("gpu-memory", of=profile(), gpu=eight)
    assert free is not None
    assert free.verdict is Verdict.OK
    moved = one("gpu-memory", of=profile(env__CUDA_VISIBLE_DEVICES="4,GPU-2aaa,1,0"), gpu=eight)
    assert moved is not None
    assert (moved.verdict, "free on GPU 4" in moved.text) == (Verdict.BLOCKED, True)
    ended = one("gpus", of=profile(), gpu=eight, environment=Environment(visible_gpus="0,1,-1,2,3"))
    assert ended is not None
    assert "found 2 ×" in ended.text, "as in CUDA, the first entry that names no GPU ends the list"


def test_orphans_of_others_name_their_user() -> None:
    check = one("orphans", processes=(replace(CORE, orphan=True, user="ada", gpu_memory_bytes=GIB, run_id="r1"),))
    assert check is not None
    assert check.figures == ("VLLM::EngineCore (pid 77)  3.0 GiB, 1.0 GiB on GPUs, of ada, run r1",)
    assert check.remedy.endswith("(as ada)")


def test_a_directory_of_unknown_size_is_weighed() -> None:
    path = profile(model__id="/models/m", model__weights_gb="")
    fits = one("fit", of=path, weights=replace(LOCAL, bytes_present=167_000_000_000))
    assert fits is not None
    assert "weights 39.7 GiB" in fits.text


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("LOCALHOST", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("10.0.0.7", False),
        ("::ffff:10.0.0.7", False),
        ("fe80::1%eth0", False),
        ("node7", False),
        ("127.0.0.1.example.org", False),
    ],
)
def test_who_can_reach_an_address(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_what_lifts_a_block() -> None:
    bad = replace(
        GOOD, port=PortFacts(free=False, title="Port 8000 is taken"), gpu=driver(gpus=h200(memory_free_bytes=0))
    )
    report = judge(bad, PUBLIC, "p")
    assert [check.id for check in report.blocked] == ["gpu-memory", "port", "address"]
    assert [check.id for check in report.held_by(force=True)] == ["port", "address"]
    assert {check.id: check.override for check in report.blocked} == {
        "gpu-memory": Override.FORCE,
        "port": Override.NONE,
        "address": Override.PUBLIC,
    }
    allowed = judge(replace(bad, allow_public=True), PUBLIC, "p")
    assert "address" not in {check.id for check in allowed.blocked}
    assert report.verdict is Verdict.BLOCKED


def test_the_open_routes_are_said_at_every_public_launch() -> None:
    report = judge(replace(GOOD, environment=Environment(api_key=True)), PUBLIC)
    (told,) = report.notable
    assert told.id == "address"
    for route in ("/metrics", "/health", "/version", "/load", "/tokenize", "/invocations"):
        assert route in " ".join(told.figures)
    assert report.blocked == ()


def test_words_of_a_refusal() -> None:
    full = judge(replace(GOOD, gpu=driver(gpus=h200(memory_free_bytes=0))), profile())
    title, message, fix = blocked_words(full.blocked)
    assert title == "Not launched: GPU memory"
    assert "0 B of 141 GiB free" in message
    assert fix.endswith("To launch all the same: --force")
    both = judge(replace(GOOD, gpu=driver(gpus=h200(memory_free_bytes=0))), PUBLIC)
    title, message, fix = blocked_words(both.blocked)
    assert title == "Not launched: GPU memory, Address"
    assert "→ Set VLLM_API_KEY" in message
    assert "--force" not in fix, "it would not be enough"
    _, _, fix = blocked_words([check for check in both.blocked if check.id == "address"])
    assert "--allow-public-without-key" in fix


def test_an_empty_report() -> None:
    assert Preflight().verdict is Verdict.OK
    assert Preflight().held_by() == ()
