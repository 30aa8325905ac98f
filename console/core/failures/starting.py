"""Failures of arguments, configuration, hardware and download: before the weights are read."""

from __future__ import annotations

import re
from typing import Final

from console.core.failures.changes import (
    fitting_divisor,
    free_port,
    named_backend,
    own_parser_or_none,
    set_to,
    shorter_context,
    tool_parser,
    unset_flags,
)
from console.core.failures.row import SHM_REMEDY, SHM_WHY, Failure, Stage

__all__ = ["STARTING"]

STARTING: Final[tuple[Failure, ...]] = (
    # Arguments: the process ends within seconds, with status 2, or 1 where vLLM checks them itself.
    Failure(
        id="argument-choice",
        needles=("invalid choice: ",),
        pattern=re.compile(r"argument (?P<flags>--[\w.-]+)(?:/\S+)?: invalid choice: '?(?P<value>[^' ]*)'?"),
        stage=Stage.ARGUMENTS,
        title="vLLM does not accept {flags} {value}",
        why="This value is not among those that this release of vLLM knows; the line lists them.",
        remedy="Leave the setting out or take a listed value. Weights that are FP8 need no --dtype: vLLM sees it "
        "in the checkpoint.",
        change=unset_flags,
        example="vllm serve: error: argument --dtype: invalid choice: 'fp8' (choose from 'auto', 'bfloat16')",
    ),
    Failure(
        id="argument-unknown",
        needles=("unrecognized arguments: ",),
        pattern=re.compile(r"unrecognized arguments: (?P<flags>.*\S)"),
        stage=Stage.ARGUMENTS,
        title="vLLM does not know {flags}",
        why="The flag is misspelt, or belongs to another release of vLLM.",
        remedy="Correct or remove it in the profile, or use the vLLM release that the profile was written for. "
        "`vllm serve --help=all` lists the flags of this one.",
        change=unset_flags,
        example="vllm: error: unrecognized arguments: --no-such-flag 3",
    ),
    Failure(
        id="attention-config",
        needles=("validation error",),
        pattern=re.compile(r"\d+ validation errors? for AttentionConfig"),
        stage=Stage.ARGUMENTS,
        title="The attention settings are not those of this vLLM",
        why="Fields of --attention-config differ between releases.",
        remedy="Use the vLLM release that the profile was written for, or remove the field named in the next lines.",
        versions=">=0.25",
        example="pydantic_core._pydantic_core.ValidationError: 1 validation error for AttentionConfig",
    ),
    Failure(
        id="tool-parser-unknown",
        needles=("invalid tool call parser: ",),
        pattern=re.compile(r"invalid tool call parser: (?P<name>\S+)(?: \(chose from \{(?P<listed>[^}]*))?"),
        stage=Stage.ARGUMENTS,
        title="This vLLM has no tool call parser {name}",
        why="Parsers are added with releases; the line lists those that it has.",
        remedy="Take a listed parser or a newer vLLM, or serve without it.",
        change=own_parser_or_none("tool_call_parser", "enable_auto_tool_choice"),
        versions=">=0.25",
        example="KeyError: 'invalid tool call parser: nope (chose from { deepseek_v4,hermes })'",
    ),
    Failure(
        id="reasoning-parser-unknown",
        needles=("invalid reasoning parser: ", "Reasoning parser '"),
        pattern=re.compile(
            r"(?:invalid reasoning parser: |Reasoning parser ')(?P<name>[^\s']+)"
            r"(?: \(chose from \{|' not found\. Available parsers: )(?P<listed>[^}\"]*)"
        ),
        stage=Stage.ARGUMENTS,
        title="This vLLM has no reasoning parser {name}",
        why="Parsers are added with releases; the line lists those that it has.",
        remedy="Take a listed parser or a newer vLLM, or serve without it.",
        change=own_parser_or_none("reasoning_parser"),
        versions=">=0.25",
        example="KeyError: 'invalid reasoning parser: nope (chose from { deepseek_v4,qwen3 })'",
    ),
    Failure(
        id="tool-parser-missing",
        needles=("--enable-auto-tool-choice requires --tool-call-parser",),
        pattern=re.compile(r"--enable-auto-tool-choice requires --tool-call-parser"),
        stage=Stage.ARGUMENTS,
        title="Automatic tool choice needs a tool call parser",
        remedy="Set serve.tool_call_parser (for DeepSeek V4: deepseek_v4), or drop serve.enable_auto_tool_choice.",
        change=tool_parser,
        versions=">=0.25",
        example="TypeError: Error: --enable-auto-tool-choice requires --tool-call-parser",
    ),
    # Start and configuration.
    Failure(
        id="port-in-use",
        needles=("ddress already in use",),
        pattern=re.compile(r"\[Errno (?:98|48)\](?:.*\('[^']*', (?P<port>\d{1,5})\))?.*[Aa]ddress already in use"),
        stage=Stage.START,
        title="The port is taken",
        why="Another process listens on it, often a server that was left running.",
        remedy="Choose another serve.port, or find the owner with `ss -ltnp` and stop it.",
        change=free_port,
        example="OSError: [Errno 98] Address already in use",
    ),
    Failure(
        id="context-above-model",
        needles=("is greater than the derived max_model_len",),
        pattern=re.compile(
            r"User-specified max_model_len \((?P<asked>\d+)\) is greater than the derived max_model_len"
            r"(?: \([^)=]*=(?P<fits>\d+))?"
        ),
        stage=Stage.CONFIG,
        title="The context of {asked} tokens is longer than the model allows",
        remedy="Lower serve.max_model_len to the model's own length, which the line names, or leave it out.",
        change=shorter_context,
        versions=">=0.25",
        example="  Value error, User-specified max_model_len (999999) is greater than the derived max_model_len "
        "(max_position_embeddings=131072 or model_max_length=None in model's config.json).",
    ),
    Failure(
        id="world-above-gpus",
        needles=("is larger than the number of available GPUs",),
        pattern=re.compile(
            r"World size \((?P<asked>\d+)\) is larger than the number of available GPUs \((?P<there>\d+)\)"
        ),
        stage=Stage.CONFIG,
        title="The profile needs {asked} GPUs and the server sees {there}",
        why="Tensor × pipeline parallel size is the number of GPUs of one engine.",
        remedy="Choose a profile for this machine (`dsv4-console profiles list`), or look at what hides GPUs: "
        "CUDA_VISIBLE_DEVICES, the container's --gpus, `nvidia-smi -L`.",
        example="Value error, World size (2) is larger than the number of available GPUs (1) in this node. If this is",
    ),
    Failure(
        id="heads-not-divisible",
        needles=("must be divisible by tensor parallel size",),
        pattern=re.compile(
            r"Total number of attention heads \((?P<heads>\d+)\) must be divisible by tensor parallel size "
            r"\((?P<asked>\d+)\)"
        ),
        stage=Stage.CONFIG,
        title="{heads} attention heads cannot be shared by {asked} GPUs",
        remedy="Set serve.tensor_parallel_size to a divisor of the number of heads; DeepSeek takes 1, 2, 4 or 8.",
        change=fitting_divisor,
        versions=">=0.25",
        example="  Value error, Total number of attention heads (4) must be divisible by tensor parallel size (3).",
    ),
    Failure(
        id="v41-no-mtp",
        needles=("has no classic-MTP draft",),
        pattern=re.compile(r"DeepSeek V4\.1 has no classic-MTP draft"),
        stage=Stage.CONFIG,
        title="DeepSeek V4.1 has no MTP head",
        why="Its checkpoint carries DSpark stages instead.",
        remedy="Use the method dspark in serve.speculative_config, or leave speculation out.",
        change=set_to("serve.speculative_config", {"method": "dspark", "num_speculative_tokens": 5}),
        versions=">=0.30",
        example="ValueError: DeepSeek V4.1 has no classic-MTP draft: its checkpoints ship DSpark stages",
    ),
    Failure(
        id="attention-backend-name",
        needles=("is not a DeepSeek V4 attention backend",),
        pattern=re.compile(r"(?P<name>\w+) is not a DeepSeek V4 attention backend(?:\. Use (?P<instead>[A-Z0-9_]+))?"),
        stage=Stage.CONFIG,
        title="{name} does not serve DeepSeek V4",
        remedy="Leave --attention-backend out, or take the backend that the line names.",
        change=named_backend,
        versions=">=0.25",
        example="ValueError: FLASHINFER_MLA_SPARSE is not a DeepSeek V4 attention backend. "
        "Use FLASHINFER_MLA_SPARSE_DSV4 for DeepSeek V4 FlashInfer sparse MLA.",
    ),
    # Driver and hardware.
    Failure(
        id="fabric-manager",
        needles=("system not yet initialized",),
        pattern=re.compile(r"Error 802: system not yet initialized|system not yet initialized"),
        stage=Stage.START,
        title="The NVSwitch fabric is not up",
        why="CUDA waits for the fabric manager, which is not running or does not match the driver.",
        remedy="Start it (`systemctl start nvidia-fabricmanager`); its version must equal the driver's.",
        example="RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 802: system not yet initialized",
    ),
    Failure(
        id="driver-too-old",
        needles=("The NVIDIA driver on your system is too old",),
        pattern=re.compile(r"The NVIDIA driver on your system is too old"),
        stage=Stage.START,
        title="The NVIDIA driver is too old for this vLLM",
        remedy="Update the driver, or use a vLLM build for an older CUDA.",
        example="RuntimeError: The NVIDIA driver on your system is too old (found version 12020).",
    ),
    Failure(
        id="no-attention-backend",
        needles=("No valid attention backend found for",),
        pattern=re.compile(r"No valid attention backend found for (?P<device>[^\s,]+)"),
        stage=Stage.START,
        title="No attention kernel for this GPU",
        why="vLLM has no kernel for this model's attention on this generation of GPUs: DeepSeek V4 has none for "
        "compute capability 8 (A100).",
        remedy="Use Hopper or Blackwell GPUs (H100, H200, B200), or a model whose attention this GPU supports.",
        versions=">=0.25",
        example="ValueError: No valid attention backend found for cuda with AttentionSelectorConfig(...). Reasons: "
        "{FLASHMLA_SPARSE: [compute capability not supported]}",
    ),
    Failure(
        id="no-kernel-image",
        needles=("no kernel image is available for execution",),
        pattern=re.compile(r"no kernel image is available for execution on the device"),
        stage=Stage.START,
        title="This vLLM was not built for this GPU",
        remedy="Install the wheel or image made for this GPU's architecture.",
        example="RuntimeError: CUDA error: no kernel image is available for execution on the device",
    ),
    Failure(
        id="xid",
        needles=("NVRM: Xid",),
        pattern=re.compile(r"NVRM: Xid \([^)]*\): (?P<number>\d+)"),
        stage=Stage.RUN,
        title="The GPU driver reported Xid {number}",
        why="31 is a memory fault of a program; 48, 94 and 95 are ECC errors; 74 is NVLink; 79 means that the GPU "
        "fell off the bus.",
        remedy="For 48, 79 and 95 drain the machine and reset or replace the GPU; for 74 check NVLink with "
        "`nvidia-smi nvlink -e`; for 31 start again and report it if it comes back.",
        example="NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, GPU has fallen off the bus.",
    ),
    # Model and download.
    Failure(
        id="model-gated",
        needles=("GatedRepoError", " Client Error"),
        pattern=re.compile(r"GatedRepoError|40[13] Client Error"),
        stage=Stage.DOWNLOAD,
        title="The model is gated or the token is not accepted",
        remedy="Accept the licence on the model's page and set HF_TOKEN to a token that may read it.",
        example="huggingface_hub.errors.GatedRepoError: 401 Client Error. Cannot access gated repo",
    ),
    Failure(
        id="model-not-found",
        needles=("Repository Not Found",),
        pattern=re.compile(r"Repository Not Found"),
        stage=Stage.DOWNLOAD,
        title="There is no such model repository",
        remedy="Check model.id for spelling; for a private repository set HF_TOKEN.",
        example="Repository Not Found for url: https://huggingface.co/api/models/nobody/none/revision/main.",
    ),
    Failure(
        id="model-offline",
        needles=("LocalEntryNotFoundError", "appropriate cached snapshot", "in the cached files"),
        pattern=re.compile(
            r"LocalEntryNotFoundError|Cannot find an appropriate cached snapshot folder"
            r"|couldn't find (?:it|them) in the cached files"
        ),
        stage=Stage.DOWNLOAD,
        title="The model is not on this machine and downloads are off or failing",
        remedy="Download it first (`hf download MODEL`), or unset HF_HUB_OFFLINE and check the network.",
        example="huggingface_hub.errors.LocalEntryNotFoundError: Cannot find an appropriate cached snapshot folder "
        "for the specified revision on the local disk and outgoing traffic has been disabled.",
    ),
    Failure(
        id="model-id-invalid",
        needles=("Repo id must", "Invalid repository ID or local directory"),
        pattern=re.compile(r"(?:Repo id must|Invalid repository ID or local directory)[^:]*: '(?P<model>[^']*)'"),
        stage=Stage.CONFIG,
        title="There is no model at {model}",
        why="It is neither a directory with a config.json nor the name of a repository.",
        remedy="Correct model.id: the path of a directory with config.json, or OWNER/NAME on Hugging Face.",
        example="huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or "
        "'namespace/repo_name': '/models/none'. Use `repo_type` argument if needed.",
    ),
    Failure(
        id="weights-missing",
        needles=("Cannot find any model weights with",),
        pattern=re.compile(r"Cannot find any model weights with `?(?P<model>[^`]*)`?"),
        stage=Stage.LOAD,
        title="No weights in {model}",
        why="The download is incomplete, or the directory holds the configuration only.",
        remedy="Download it again (`hf download MODEL`), or set serve.load_format to dummy for a trial.",
        versions=">=0.25",
        example="RuntimeError: Cannot find any model weights with `models/tiny`",
    ),
    Failure(
        id="shared-memory-nccl",
        needles=("Error while creating shared memory segment",),
        pattern=re.compile(r"Error while creating shared memory segment"),
        stage=Stage.START,
        title="Shared memory is too small for the GPUs to talk",
        why=SHM_WHY,
        remedy=SHM_REMEDY,
        example="node:71:105 [2] include/shm.h:43 NCCL WARN Error while creating shared memory segment",
    ),
    Failure(
        id="shared-memory-full",
        needles=("posix_fallocate failed",),
        pattern=re.compile(r"Call to posix_fallocate failed : No space left on device"),
        stage=Stage.START,
        title="Shared memory is full",
        why=SHM_WHY,
        remedy=SHM_REMEDY,
        example="node:71:105 [2] NCCL WARN Call to posix_fallocate failed : No space left on device",
    ),
    Failure(
        id="disk-full",
        needles=("No space left on device",),
        pattern=re.compile(r"No space left on device(?: \(os error 28\))?"),
        stage=Stage.RUN,
        title="The disk is full",
        why="DeepSeek V4 Pro takes about 0.9 TB, V4 Flash 0.17 TB.",
        remedy="Free space (`df -h`, `hf cache scan`), or move HF_HOME to a larger disk.",
        example="RuntimeError: File reconstruction error: No space left on device (os error 28)",
    ),
)
