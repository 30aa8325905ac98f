"""Failures of loading, memory and running."""

from __future__ import annotations

import re
from typing import Final

from console.core.failures.changes import (
    fewer_batched_tokens,
    fewer_sequences,
    less_memory,
    more_memory,
    pieces_of_8,
    set_to,
    share_left_free,
    shorter_context,
)
from console.core.failures.row import SHM_REMEDY, Failure, Stage

__all__ = ["SERVING"]

SERVING: Final[tuple[Failure, ...]] = (
    # Loading.
    Failure(
        id="memory-taken",
        needles=("on startup is less than ",),
        pattern=re.compile(
            r"Free memory on device (?P<device>\S+) \((?P<free>[\d.]+)/(?P<total>[\d.]+) GiB\) on startup is less"
            r"(?:.* \((?P<asked>[\d.]+), )?"
        ),
        stage=Stage.LOAD,
        title="Only {free} of {total} GiB are free on {device}",
        why="Another process holds GPU memory, often workers of a server that was killed.",
        remedy="List the processes with `nvidia-smi` and end those that should not be there, or lower "
        "serve.gpu_memory_utilization.",
        change=share_left_free,
        versions=">=0.25",
        example="ValueError: Free memory on device cuda:0 (3.2/79.18 GiB) on startup is less than desired GPU memory "
        "utilization (0.92, 72.84 GiB). Decrease GPU memory utilization",
    ),
    Failure(
        id="block-not-divisible",
        needles=("weight quantization block_n",),
        pattern=re.compile(r"(?P<size>\d+) is not divisible by weight quantization block_n = (?P<block>\d+)"),
        stage=Stage.LOAD,
        title="Tensor parallelism cuts the weights too small",
        why="Slices of {size} do not hold whole quantization blocks of {block}.",
        remedy="Use serve.tensor_parallel_size 8 and add pipeline or data parallelism for more GPUs.",
        change=pieces_of_8,
        versions=">=0.25",
        example="Weight output_partition_size = 192 is not divisible by weight quantization block_n = 128.",
    ),
    Failure(
        id="kv-dtype-v4",
        needles=("only supports fp8 ",),
        pattern=re.compile(
            r"DeepseekV4 (?:fp8_ds_mla layout )?only supports fp8 kv-cache(?: format)?(?:, got (?P<dtype>\w+))?"
        ),
        stage=Stage.LOAD,
        title="DeepSeek V4 keeps its KV cache in FP8",
        remedy="Set serve.kv_cache_dtype to fp8, or leave it out.",
        change=set_to("serve.kv_cache_dtype", "fp8", "dtype"),
        versions=">=0.25",
        example="ValueError: DeepseekV4 fp8_ds_mla layout only supports fp8 kv-cache, got bfloat16.",
    ),
    Failure(
        id="kv-dtype-e5m2",
        needles=("fp8_e5m2 kv-cache is not supported",),
        pattern=re.compile(r"(?P<dtype>fp8_e5m2) kv-cache is not supported with fp8 checkpoints"),
        stage=Stage.LOAD,
        title="An FP8 checkpoint cannot use a KV cache of type fp8_e5m2",
        remedy="Set serve.kv_cache_dtype to fp8.",
        change=set_to("serve.kv_cache_dtype", "fp8", "dtype"),
        versions=">=0.25",
        example="ValueError: fp8_e5m2 kv-cache is not supported with fp8 checkpoints.",
    ),
    Failure(
        id="deepgemm-missing",
        needles=("DeepGEMM backend is not available",),
        pattern=re.compile(r"DeepGEMM backend is not available or outdated"),
        stage=Stage.LOAD,
        title="DeepGEMM is missing or too old",
        remedy="Install the DeepGEMM that this vLLM asks for, or choose another MoE backend.",
        versions="<0.25",
        example="RuntimeError: DeepGEMM backend is not available or outdated.",
    ),
    Failure(
        id="mega-moe-needs-ep",
        needles=("MegaMoE currently requires expert parallel",),
        pattern=re.compile(r"MegaMoE currently requires expert parallel"),
        stage=Stage.LOAD,
        title="The MegaMoE backend needs expert parallelism",
        remedy="Set serve.enable_expert_parallel, or choose another MoE backend.",
        change=set_to("serve.enable_expert_parallel", True),
        versions=">=0.25",
        example="ValueError: DeepSeek V4 MegaMoE currently requires expert parallel. Enable it with …",
    ),
    Failure(
        id="engine-ready-timeout",
        needles=("Timed out waiting for engine core processes to start",),
        pattern=re.compile(r"Timed out waiting for engine core processes to start(?:.*Waited (?P<seconds>\d+)s)?"),
        stage=Stage.LOAD,
        title="Loading took longer than vLLM waits",
        why="vLLM gives its engine 600 s by default; hundreds of gigabytes take longer.",
        remedy="Set VLLM_ENGINE_READY_TIMEOUT_S to 3600 in [env]; faster storage helps more.",
        change=set_to("env.VLLM_ENGINE_READY_TIMEOUT_S", "3600", "seconds"),
        versions=">=0.25",
        example="TimeoutError: Timed out waiting for engine core processes to start. Waited 600s (configured by",
    ),
    # Memory.
    Failure(
        id="no-kv-memory",
        needles=("No available memory for the cache blocks",),
        pattern=re.compile(r"No available memory for the cache blocks"),
        stage=Stage.MEMORY,
        title="Nothing is left for the KV cache",
        why="Weights and working memory take all that vLLM may use.",
        remedy="Share the model among more GPUs, raise serve.gpu_memory_utilization, or lower serve.max_num_seqs and "
        "serve.max_num_batched_tokens.",
        change=more_memory,
        versions=">=0.25",
        example="ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`",
    ),
    Failure(
        id="context-above-memory",
        needles=("To serve at least one request with the model",),
        pattern=re.compile(
            r"max seq len \((?P<asked>\d+)\), \(?(?P<needed>[\d.]+) GiB KV cache is needed.*?"
            r"available KV cache memory \((?P<available>[\d.]+) GiB\)"
            r"(?:.*estimated maximum model length is (?P<fits>\d+))?"
        ),
        stage=Stage.MEMORY,
        title="A context of {asked} tokens does not fit into the KV cache",
        why="One request of full length needs more KV cache ({needed} GiB) than there is ({available} GiB).",
        remedy="Lower serve.max_model_len to what the line names, or make room: more GPUs, a higher "
        "serve.gpu_memory_utilization, an FP8 KV cache.",
        change=shorter_context,
        versions=">=0.25",
        example="ValueError: To serve at least one request with the model's max seq len (131072), (8.00 GiB KV cache "
        "is needed, which is larger than the available KV cache memory (1.00 GiB). Based on the available memory, "
        "the estimated maximum model length is 16384. Try increasing `gpu_memory_utilization`",
    ),
    Failure(
        id="sampler-memory",
        needles=("occurred when warming up sampler with",),
        pattern=re.compile(r"CUDA out of memory occurred when warming up sampler with (?P<sequences>\d+)"),
        stage=Stage.MEMORY,
        title="GPU memory ran out at {sequences} sequences",
        remedy="Lower serve.max_num_seqs, or serve.gpu_memory_utilization to leave more room outside the KV cache.",
        change=fewer_sequences,
        versions=">=0.25",
        example="RuntimeError: CUDA out of memory occurred when warming up sampler with 1024 dummy requests.",
    ),
    Failure(
        id="weights-out-of-memory",
        needles=("CUDA out of memory", "OutOfMemoryError"),
        pattern=re.compile(r"CUDA out of memory|OutOfMemoryError"),
        stage=Stage.LOAD,
        title="The weights do not fit into GPU memory",
        why="It ran out while the model was being made, before any KV cache.",
        remedy="Use more GPUs (serve.tensor_parallel_size, expert parallel for the experts), GPUs with more memory, "
        "or a checkpoint of lower precision. No other setting makes room for weights.",
        after="in load_model",
        example="torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 160.00 MiB. GPU 0 has a total capacity",
    ),
    Failure(
        id="gpu-out-of-memory",
        needles=("CUDA out of memory", "OutOfMemoryError", "CUDA error: out of memory"),
        pattern=re.compile(r"CUDA out of memory|OutOfMemoryError|CUDA error: out of memory"),
        stage=Stage.MEMORY,
        title="GPU memory ran out",
        why="Working memory of a step, or of CUDA graphs, went beyond what vLLM had left free.",
        remedy="Lower serve.gpu_memory_utilization by 0.03 to 0.05, or serve.max_num_batched_tokens, "
        "--max-cudagraph-capture-size or serve.max_num_seqs.",
        change=less_memory,
        example="torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has",
    ),
    # Running.
    Failure(
        id="worker-killed",
        needles=("died unexpectedly",),
        pattern=re.compile(r"(?:proc|process) (?P<name>\S+) died unexpectedly \(exit code: -9\)"),
        stage=Stage.RUN,
        title="{name} was killed",
        why="SIGKILL comes from the kernel when memory of the machine or container runs out, or from a person.",
        remedy="Look for `Out of memory` in `dmesg -T` and at the container's memory limit; give it more RAM.",
        versions=">=0.26",
        example="Worker proc VllmWorker-0 died unexpectedly (exit code: -9), shutting down executor.",
    ),
    Failure(
        id="worker-bus-error",
        needles=("died unexpectedly",),
        pattern=re.compile(r"(?:proc|process) (?P<name>\S+) died unexpectedly \(exit code: -7\)"),
        stage=Stage.RUN,
        title="{name} died of a bus error",
        why="The usual reason is a full /dev/shm.",
        remedy=SHM_REMEDY,
        versions=">=0.26",
        example="Worker proc VllmWorker-0 died unexpectedly (exit code: -7), shutting down executor.",
    ),
    Failure(
        id="worker-crashed",
        needles=("died unexpectedly",),
        pattern=re.compile(r"(?:proc|process) (?P<name>\S+) died unexpectedly \(exit code: -(?:11|6|4)\)"),
        stage=Stage.RUN,
        title="{name} crashed in native code",
        remedy="Start it again; if it comes back, report it with this log, and try another vLLM release or "
        "serve.enforce_eager.",
        versions=">=0.26",
        example="Worker proc VllmWorker-0 died unexpectedly (exit code: -11), shutting down executor.",
    ),
    Failure(
        id="rpc-timeout",
        needles=("RPC call to ",),
        pattern=re.compile(r"RPC call to (?P<name>\w+) timed out\."),
        stage=Stage.RUN,
        title="A worker did not answer",
        why="It hangs in {name}, most often in communication between GPUs.",
        remedy="Start it again with NCCL_DEBUG=INFO in [env]; look for Xid lines in `dmesg -T`. If a step takes "
        "that long by nature, raise VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS.",
        change=set_to("env.NCCL_DEBUG", "INFO"),
        versions=">=0.25",
        example="TimeoutError: RPC call to execute_model timed out.",
    ),
    Failure(
        id="nccl-watchdog",
        needles=("collective operation timeout",),
        pattern=re.compile(r"Watchdog caught collective operation timeout"),
        stage=Stage.RUN,
        title="The GPUs stopped talking to each other",
        why="One of them is dead or stuck, and the others waited for it.",
        remedy="Look for Xid lines in `dmesg -T` and check links with `nvidia-smi nvlink -s`; start again with "
        "NCCL_DEBUG=INFO in [env].",
        change=set_to("env.NCCL_DEBUG", "INFO"),
        example="[rank3]:[E1123 11:42:26.010902537 ProcessGroupNCCL.cpp:632] [Rank 3] Watchdog caught collective "
        "operation timeout: WorkNCCL(SeqNum=1, OpType=ALLREDUCE)",
    ),
    Failure(
        id="nccl-system",
        needles=("unhandled system error",),
        pattern=re.compile(r"unhandled system error"),
        stage=Stage.START,
        title="NCCL failed on a system call",
        why="Most often /dev/shm is too small.",
        remedy=SHM_REMEDY + " NCCL_DEBUG=WARN in [env] names the call.",
        change=set_to("env.NCCL_DEBUG", "WARN"),
        example="RuntimeError: NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details)",
    ),
    Failure(
        id="rank-lost",
        needles=("by peer", "remote process exit"),
        pattern=re.compile(
            r"gloo/transport/\S+\].* Connection (?:reset|closed) by peer"
            r"|remote process exited or there was a network error|a remote process exiting prematurely"
        ),
        stage=Stage.RUN,
        title="Another rank has gone",
        why="Its connection broke in the middle of their common work.",
        remedy="Look at the logs of the other workers and machines: one of them ended first, and says why. Where none "
        "does, look at the network between them.",
        example="RuntimeError: [/__w/pytorch/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:537] Read error "
        "[10.0.0.2]:64670: Connection reset by peer. This is typically caused by a remote worker having crashed.",
    ),
    Failure(
        id="nccl-error",
        needles=("NCCL error", "ncclUnhandled", "NET/IB"),
        pattern=re.compile(r"NCCL error|ncclUnhandled\w+Error|NET/IB ?:? .*(?:error|fail|Got completion)"),
        stage=Stage.RUN,
        title="Communication between the GPUs failed",
        remedy="Start again with NCCL_DEBUG=INFO in [env]; check links (`nvidia-smi nvlink -s`, `ibstat`) and Xid "
        "lines in `dmesg -T`.",
        change=set_to("env.NCCL_DEBUG", "INFO"),
        example="torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:3690, internal error",
    ),
    Failure(
        id="symmetric-memory",
        needles=("CUDASymmetricMemory",),
        pattern=re.compile(r"CUDASymmetricMemory"),
        stage=Stage.LOAD,
        title="Symmetric memory of the GPUs failed",
        why="Multicast between these GPUs does not work.",
        remedy="Set TORCH_SYMM_MEM_DISABLE_MULTICAST to 1 in [env]; if it still fails, try another vLLM release.",
        change=set_to("env.TORCH_SYMM_MEM_DISABLE_MULTICAST", "1"),
        example="RuntimeError: CUDASymmetricMemory.cu:123 multicast bind failed",
    ),
    Failure(
        id="illegal-access",
        needles=("an illegal memory access was encountered",),
        pattern=re.compile(r"an illegal memory access was encountered"),
        stage=Stage.RUN,
        title="A GPU kernel read or wrote where it must not",
        why="A defect of a kernel, often at large batches.",
        remedy="Lower serve.max_num_batched_tokens, or try another vLLM release; report it with this log.",
        change=fewer_batched_tokens,
        example="RuntimeError: CUDA error: an illegal memory access was encountered",
    ),
    Failure(
        id="too-many-files",
        needles=("Too many open files",),
        pattern=re.compile(r"^(?!.*Found ulimit of).*Too many open files"),
        stage=Stage.RUN,
        title="The limit of open files was reached",
        remedy="Raise it: `ulimit -n 65536` before the start, or LimitNOFILE= in the service.",
        example="OSError: [Errno 24] Too many open files",
    ),
    Failure(
        id="no-chat-template",
        needles=("default chat template is no longer allowed",),
        pattern=re.compile(r"default chat template is no longer allowed"),
        stage=Stage.REQUEST,
        title="The model has no chat template",
        why="The checkpoint brings none; vLLM's DeepSeek V4 tokenizer mode does.",
        remedy="Set serve.tokenizer_mode to deepseek_v4, or pass --chat-template.",
        change=set_to("serve.tokenizer_mode", "deepseek_v4"),
        versions=">=0.25",
        example="ValueError: As of transformers v4.44, default chat template is no longer allowed",
    ),
)
