"""The catalogue of known failures (rows D1 to D40 of the collected facts): each text is diagnosed, each change fits.

The texts are those of vLLM's source, of its issues, of PyTorch, NCCL, the kernel and the hub's client, as the catalogue
gives them, with figures filled in.
"""

from __future__ import annotations

from typing import Any

import pytest
from packaging.specifiers import SpecifierSet

from console.core.diagnosis import diagnose
from console.core.failures import FAILURES, FailureLevel
from console.core.failures.changes import read_settings
from console.core.models import ProfileChange
from console.core.overrides import apply_changes, diff
from console.core.profile import HardwareSection, ModelSection, Profile, ProfileSection, ServeSection

ARGUMENTS = (
    "non-default args: {'model_tag': 'deepseek-ai/DeepSeek-V4-Flash', 'port': 8000, 'model': "
    "'deepseek-ai/DeepSeek-V4-Flash', 'tensor_parallel_size': 16, 'gpu_memory_utilization': 0.95, 'max_num_seqs': 256, "
    "'max_num_batched_tokens': 16384, 'enable_auto_tool_choice': True, 'kv_cache_dtype': 'fp8', "
    "'speculative_config': {'method': 'mtp'}, 'allowed_origins': ['*']}"
)

Row = tuple[str, str, str, dict[str, Any] | None]
ROWS: tuple[Row, ...] = (
    ("D1", "ValueError: Free memory on device cuda:3 (60.1/79.18 GiB) on startup is less than desired GPU memory "
     "utilization (0.92, 72.84 GiB). Decrease GPU memory utilization", "memory-taken",
     {"serve.gpu_memory_utilization": 0.74}),
    ("D1", "ValueError: Free memory on device cuda:0 (3.2/79.18 GiB) on startup is less than desired GPU memory "
     "utilization (0.92, 72.84 GiB).", "memory-taken", None),
    ("D2", "ValueError: No available memory for the cache blocks. Try increasing", "no-kv-memory",
     {"serve.max_num_batched_tokens": 8192}),
    ("D3", "ValueError: To serve at least one request with the model's max seq len (1048576), (9.12 GiB KV cache is "
     "needed, which is larger than the available KV cache memory (4.00 GiB). Based on the available memory, the "
     "estimated maximum model length is 459776. Try increasing", "context-above-memory",
     {"serve.max_model_len": 459776}),
    ("D3", "ValueError: To serve at least one request with the model's max seq len (1048576), (9.12 GiB KV cache is "
     "needed, which is larger than the available KV cache memory (0.01 GiB). Try increasing", "context-above-memory",
     None),
    ("D4", "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of",
     "gpu-out-of-memory", {"serve.gpu_memory_utilization": 0.91}),
    ("D5", "RuntimeError: CUDA out of memory occurred when warming up sampler with 1024 dummy requests.",
     "sampler-memory", {"serve.max_num_seqs": 512}),
    ("D6", "node:71:105 [2] NCCL WARN Error while creating shared memory segment /dev/shm/nccl-uX7cDk (size 9637888)",
     "shared-memory-nccl", None),
    ("D6", "RuntimeError: NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details)", "nccl-system",
     {"env.NCCL_DEBUG": "WARN"}),
    ("D6", "node:71:105 [2] NCCL WARN Call to posix_fallocate failed : No space left on device", "shared-memory-full",
     None),
    ("D7", "RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 802: system not yet initialized",
     "fabric-manager", None),
    ("D8", "RuntimeError: The NVIDIA driver on your system is too old (found version 12020).", "driver-too-old", None),
    ("D9", "ValueError: No valid attention backend found for cuda with AttentionSelectorConfig(head_size=512). "
     "Reasons: {FLASHMLA_SPARSE: [compute capability not supported]}", "no-attention-backend", None),
    ("D10", "RuntimeError: CUDA error: no kernel image is available for execution on the device", "no-kernel-image",
     None),
    ("D11", "huggingface_hub.errors.GatedRepoError: 403 Client Error. Access to model x is restricted", "model-gated",
     None),
    ("D11", "requests.exceptions.HTTPError: 401 Client Error: Unauthorized for url: https://huggingface.co/x",
     "model-gated", None),
    ("D11", "requests.exceptions.HTTPError: 403 Client Error: Forbidden for url: https://huggingface.co/x",
     "model-gated", None),
    ("D11", "Repository Not Found for url: https://huggingface.co/api/models/none/none/revision/main.",
     "model-not-found", None),
    ("D12", "huggingface_hub.errors.LocalEntryNotFoundError: Cannot find the requested files in the disk cache",
     "model-offline", None),
    ("D12", "OSError: Cannot find an appropriate cached snapshot folder for the specified revision", "model-offline",
     None),
    ("D13", "RuntimeError: Data processing error: No space left on device (os error 28)", "disk-full", None),
    ("D14", "RuntimeError: Cannot find any model weights with `/models/v4`", "weights-missing", None),
    ("D15", "OSError: [Errno 98] Address already in use", "port-in-use", {"serve.port": 8001}),
    ("D15", "ERROR:    [Errno 98] error while attempting to bind on address ('127.0.0.1', 9100): address already in "
     "use", "port-in-use", {"serve.port": 9101}),
    ("D16", "  Value error, Total number of attention heads (64) must be divisible by tensor parallel size (12).",
     "heads-not-divisible", {"serve.tensor_parallel_size": 8}),
    ("D17", "ValueError: Weight output_partition_size = 192 is not divisible by weight quantization block_n = 128.",
     "block-not-divisible", {"serve.tensor_parallel_size": 8, "serve.pipeline_parallel_size": 2}),
    ("D18", "  Value error, User-specified max_model_len (2000000) is greater than the derived max_model_len "
     "(max_position_embeddings=1048576 or model_max_length=None in model's config.json).", "context-above-model",
     {"serve.max_model_len": 1048576}),
    ("D19", "vllm serve: error: argument --dtype: invalid choice: 'fp8' (choose from auto, bfloat16, float)",
     "argument-choice", {"serve.dtype": None}),
    ("D19", "vllm: error: unrecognized arguments: --no-such-flag 3 --max-num-seqs=64 --also.this",
     "argument-unknown", {"serve.extra.no_such_flag": None, "serve.max_num_seqs": None, "serve.extra.also.this": None}),
    ("D19", "pydantic_core._pydantic_core.ValidationError: 1 validation error for AttentionConfig", "attention-config",
     None),
    ("D20", "KeyError: 'invalid tool call parser: deepseek-v4 (chose from { deepseek_v3,deepseek_v4,hermes })'",
     "tool-parser-unknown", {"serve.tool_call_parser": "deepseek_v4"}),
    ("D20", "KeyError: 'invalid tool call parser: deepseek_v4 (chose from { deepseek_v3,hermes })'",
     "tool-parser-unknown", {"serve.tool_call_parser": None, "serve.enable_auto_tool_choice": None}),
    ("D20", "KeyError: \"Reasoning parser 'DeepSeek-V4' not found. Available parsers: deepseek_r1, deepseek_v4\"",
     "reasoning-parser-unknown", {"serve.reasoning_parser": "deepseek_v4"}),
    ("D20", "KeyError: 'invalid reasoning parser: nope (chose from { deepseek_v4,qwen3 })'",
     "reasoning-parser-unknown", {"serve.reasoning_parser": None}),
    ("D21", "ValueError: As of transformers v4.44, default chat template is no longer allowed, so you must provide a "
     "chat template if the tokenizer does not define one.", "no-chat-template",
     {"serve.tokenizer_mode": "deepseek_v4"}),
    ("D22", "ValueError: DeepseekV4 fp8_ds_mla layout only supports fp8 kv-cache, got bfloat16.", "kv-dtype-v4",
     {"serve.kv_cache_dtype": "fp8"}),
    ("D22", "AssertionError: DeepseekV4 only supports fp8 kv-cache format", "kv-dtype-v4",
     {"serve.kv_cache_dtype": "fp8"}),
    ("D23", "ValueError: fp8_e5m2 kv-cache is not supported with fp8 checkpoints.", "kv-dtype-e5m2",
     {"serve.kv_cache_dtype": "fp8"}),
    ("D24", "RuntimeError: DeepGEMM backend is not available or outdated. Please install", "deepgemm-missing", None),
    ("D25", "NotImplementedError: DeepSeek V4 MegaMoE currently requires expert parallel. Enable it with "
     "--enable-expert-parallel", "mega-moe-needs-ep", {"serve.enable_expert_parallel": True}),
    ("D26", "ValueError: DeepSeek V4.1 has no classic-MTP draft: its checkpoints ship DSpark stages", "v41-no-mtp",
     {"serve.speculative_config": {"method": "dspark", "num_speculative_tokens": 5}}),
    ("D27", "TimeoutError: Timed out waiting for engine core processes to start. This is often caused by slow weight "
     "loading for large models. Waited 600s (configured by VLLM_ENGINE_READY_TIMEOUT_S)", "engine-ready-timeout",
     {"env.VLLM_ENGINE_READY_TIMEOUT_S": "3600"}),
    ("D28", "RuntimeError: Did not receive response from front-end process within 5 minutes", "front-end-gone", None),
    ("D29", "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): "
     "{'EngineCore_DP0': 1}", "engine-init-failed", None),
    ("D30", "Exception: WorkerProc initialization failed due to an exception in a background process. See stack trace "
     "for root cause.", "worker-init-failed", None),
    ("D30", "EngineCore failed to start.", "worker-init-failed", None),
    ("D31", "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace (above) for "
     "the root cause.", "engine-dead", None),
    ("D32", "Worker proc VllmWorker-3 died unexpectedly (exit code: 1), shutting down executor.", "engine-exited",
     None),
    ("D32", "Worker proc VllmWorker-3 died unexpectedly, shutting down executor.", "engine-exited", None),
    ("D32", "Worker proc VllmWorker-3 died unexpectedly (exit code: -9), shutting down executor.", "worker-killed",
     None),
    ("D33", "Engine core proc EngineCore_DP0 died unexpectedly, shutting down client.", "engine-exited", None),
    ("D33", "[shutdown] MPClient: engine core exited unexpectedly; starting cleanup", "engine-exited", None),
    ("D35", "TimeoutError: RPC call to execute_model timed out.", "rpc-timeout", {"env.NCCL_DEBUG": "INFO"}),
    ("D36", "[rank3]:[E1123 11:42:26.010902537 ProcessGroupNCCL.cpp:632] [Rank 3] Watchdog caught collective operation "
     "timeout: WorkNCCL(SeqNum=1)", "nccl-watchdog", {"env.NCCL_DEBUG": "INFO"}),
    ("D36", "torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:3690, remote process exited",
     "nccl-error", {"env.NCCL_DEBUG": "INFO"}),
    ("D36", "RuntimeError: [/__w/pytorch/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:537] Read error "
     "[10.77.26.2]:64670: Connection reset by peer. This is typically caused by a remote worker having crashed.",
     "rank-lost", None),
    ("D36", "torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:3690, remote process exited or "
     "there was a network error, NCCL version 2.27.3", "rank-lost", None),
    ("D36", "node:71:105 [2] transport/net_ib.cc:94 NCCL WARN NET/IB : mlx5_0:1 Got async event : port error",
     "nccl-error", {"env.NCCL_DEBUG": "INFO"}),
    ("D37", "torch.AcceleratorError: CUDA error: an illegal memory access was encountered", "illegal-access",
     {"serve.max_num_batched_tokens": 8192}),
    ("D37", "RuntimeError: CUDASymmetricMemory.cu:123 multicast bind failed", "symmetric-memory",
     {"env.TORCH_SYMM_MEM_DISABLE_MULTICAST": "1"}),
    ("D38", "NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, GPU has fallen off the bus.", "xid", None),
    ("D39", "OSError: [Errno 24] Too many open files", "too-many-files", None),
)  # fmt: skip
HARMLESS = (
    ("D34", "No available shared memory broadcast block found in 60 seconds. This typically happens when some "
     "processes are hanging or doing some time-consuming work"),
    ("D39", "Found ulimit of 20000 and failed to automatically increase with error current limit exceeds maximum "
     "limit. This can cause fd limit errors like `OSError: [Errno 24] Too many open files`."),
    ("D40", "resource_tracker: There appear to be 1 leaked shared_memory objects to clean up at shutdown"),
)  # fmt: skip

PROFILE = Profile(
    profile=ProfileSection(title="t"),
    model=ModelSection(id="deepseek-ai/DeepSeek-V4-Flash"),
    hardware=HardwareSection(gpu="H100", count=16),
    serve=ServeSection(
        tensor_parallel_size=16,
        max_model_len=2_000_000,
        tool_call_parser="deepseek_v4",
        enable_auto_tool_choice=True,
        reasoning_parser="nope",
        dtype="bfloat16",
        max_num_seqs=64,
        extra={"no-such-flag": 3, "also.this": True},
    ),
)


def log_of(message: str) -> list[str]:
    """A start that prints its arguments and then this."""
    known = message.startswith(("ERROR", "vllm", "[rank", "node:", "NVRM"))
    return [
        f"(APIServer pid=1) INFO 11-23 10:39:20 [api_utils.py:286] {ARGUMENTS}",
        "(EngineCore pid=2) INFO 11-23 10:39:25 [core.py:1] Initializing a V1 LLM engine (v0.32.0)",
        message if known else f"(Worker_TP0 pid=7) ERROR 11-23 10:39:28 [core.py:1510] {message}",
    ]


def test_every_row_of_the_catalogue_is_here() -> None:
    assert {row[0] for row in ROWS + HARMLESS} == {f"D{number}" for number in range(1, 41)}


@pytest.mark.parametrize(("number", "message", "cause", "change"), ROWS, ids=lambda value: str(value)[:24])
def test_row(number: str, message: str, cause: str, change: dict[str, Any] | None) -> None:
    diagnosis = diagnose(log_of(message))
    assert diagnosis is not None
    assert diagnosis.cause == cause
    assert diagnosis.line == 3
    assert {item.key: item.after for item in diagnosis.change} == (change or {})


@pytest.mark.parametrize(("number", "message"), HARMLESS, ids=lambda value: str(value)[:24])
def test_harmless_row(number: str, message: str) -> None:
    for level in ("INFO", "WARNING", "ERROR"):
        assert diagnose([f"(EngineCore pid=1) {level} 11-23 10:39:28 [a.py:1] {message}"]) is None
    assert diagnose([message]) is None


@pytest.mark.parametrize("row", [row for row in ROWS if row[3]], ids=lambda row: row[1][:40])
def test_every_change_fits_a_profile(row: Row) -> None:
    diagnosis = diagnose(log_of(row[1]))
    assert diagnosis is not None
    changed = apply_changes(PROFILE, diagnosis.change)
    keys = {change.key for change in diff(PROFILE, changed)}
    already = {"serve.tool_call_parser"}  # the profile has the proposed value
    for change in diagnosis.change:
        key = change.key.replace("no_such_flag", "no-such-flag")
        assert any(f"{other}.".startswith(f"{key}.") for other in keys | already), key
    assert all(change.before != change.after for change in diagnosis.change)


def test_every_row_with_a_change_is_in_the_catalogue_or_recorded() -> None:
    seen = {row[2] for row in ROWS}
    elsewhere = {row.id for row in FAILURES if row.change is not None} - seen
    for row in FAILURES:
        if row.id in elsewhere:
            diagnosis = diagnose(log_of(row.example))
            assert diagnosis is not None
            assert diagnosis.change
            apply_changes(PROFILE, diagnosis.change)


@pytest.mark.parametrize("row", FAILURES, ids=lambda row: row.id)
def test_versions_are_requirements(row: Any) -> None:
    assert str(SpecifierSet(row.versions)) == row.versions
    if row.level is FailureLevel.WRAPPER:
        assert row.change is None, "what reports a failure cannot know the remedy"


def test_settings_are_read_from_the_line_of_arguments() -> None:
    settings = read_settings(ARGUMENTS)
    assert settings["gpu_memory_utilization"] == 0.95
    assert settings["max_num_seqs"] == 256
    assert settings["enable_auto_tool_choice"] is True
    assert settings["kv_cache_dtype"] == "fp8"
    assert "allowed_origins" not in settings
    assert read_settings("non-default args: {}") == {}


def test_the_default_of_vllm_counts_where_the_log_says_none() -> None:
    message = "Chunked prefill is enabled with max_num_batched_tokens=2048."
    lines = [
        f"(APIServer pid=1) INFO 11-23 10:39:20 [scheduler.py:1] {message}",
        "an illegal memory access was encountered",
    ]
    diagnosis = diagnose(lines)
    assert diagnosis is not None
    assert diagnosis.change == (ProfileChange(key="serve.max_num_batched_tokens", before=2048, after=1024),)
    bare = diagnose(["torch.OutOfMemoryError: CUDA out of memory"])
    assert bare is not None
    assert [(item.before, item.after) for item in bare.change] == [(None, 0.88)]
    used_up = diagnose([lines[0].replace("2048", "512"), lines[1]])
    assert used_up is not None
    assert not used_up.change
