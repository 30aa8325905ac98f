"""Failures of the checkpoint and what goes with it: configuration, quantization, weights, template."""

from __future__ import annotations

import re
from typing import Final

from console.core.failures.changes import set_to
from console.core.failures.row import Failure, Stage

__all__ = ["CHECKPOINT"]

_AGAIN: Final = "Download the checkpoint again (`hf download MODEL`), or correct the directory."

CHECKPOINT: Final[tuple[Failure, ...]] = (
    Failure(
        id="config-unreadable",
        needles=("is not a valid JSON file",),
        pattern=re.compile(r"config file at '(?P<path>[^']*)' is not a valid JSON file"),
        stage=Stage.CONFIG,
        title="The model's configuration is damaged",
        why="{path} is cut off or is no JSON.",
        remedy=_AGAIN,
        example="OSError: It looks like the config file at 'models/tiny/config.json' is not a valid JSON file.",
    ),
    Failure(
        id="architecture-unknown",
        needles=("are not supported for now", "does not recognize this architecture"),
        pattern=re.compile(
            r"Model architectures \[(?P<name>[^\]]*)\] are not supported for now"
            r"|model type `(?P<type>[^`]*)` but Transformers does not recognize this architecture"
        ),
        stage=Stage.CONFIG,
        title="This vLLM does not know the model's architecture",
        why="The checkpoint is newer than this release, or its config.json names another program's architecture.",
        remedy="Use a newer vLLM (`dsv4-console engine install VERSION`): DeepSeek V4 needs 0.20, V4.1 needs 0.30.",
        example="  Value error, Model architectures ['NoSuchForCausalLM'] are not supported for now. Supported",
    ),
    Failure(
        id="quantization-mismatch",
        needles=("does not match the quantization method",),
        pattern=re.compile(
            r"Quantization method specified in the model config \((?P<has>[^)]*)\) does not match the quantization "
            r"method specified in the `quantization` argument \((?P<asked>[^)]*)\)"
        ),
        stage=Stage.CONFIG,
        title="The checkpoint is quantized with {has}, not with {asked}",
        remedy="Leave serve.quantization out: vLLM sees the method in the checkpoint.",
        change=set_to("serve.quantization", None, "asked"),
        example="  Value error, Quantization method specified in the model config (fp8) does not match the "
        "quantization method specified in the `quantization` argument (awq).",
    ),
    Failure(
        id="quantization-unknown",
        needles=("Unknown quantization method: ",),
        pattern=re.compile(r"Unknown quantization method: (?P<asked>[^.\s]*)"),
        stage=Stage.CONFIG,
        title="This vLLM does not know the quantization {asked}",
        why="The method is named by the checkpoint or by serve.quantization; the line lists the known ones.",
        remedy="Take a checkpoint with a listed method, or a newer vLLM.",
        versions=">=0.25",
        example="  Value error, Unknown quantization method: int3. Must be one of ['awq', 'fp8'].",
    ),
    Failure(
        id="weights-damaged",
        needles=("SafetensorError", "while deserializing header", "Weights file is truncated"),
        pattern=re.compile(r"SafetensorError|[Ee]rror while deserializing header"),
        stage=Stage.LOAD,
        title="A weights file is damaged",
        why="It is cut off, or not a safetensors file: an interrupted download, or the pointer of a large file.",
        remedy="Compare file sizes with the repository and download again (`hf download MODEL --force-download`).",
        example="safetensors_rust.SafetensorError: Error while deserializing header: incomplete metadata, file not "
        "fully covered",
    ),
    Failure(
        id="template-missing",
        needles=("appears path-like, but doesn't exist",),
        pattern=re.compile(r"chat template string \((?P<path>[^)]*)\) appears path-like, but doesn't exist"),
        stage=Stage.ARGUMENTS,
        title="There is no chat template at {path}",
        remedy="Correct --chat-template, or leave it out to use the checkpoint's own.",
        change=set_to("serve.extra.chat_template", None, "path"),
        versions=">=0.25",
        example="vllm.exceptions.VLLMValidationError: The supplied chat template string (./no.jinja) appears "
        "path-like, but doesn't exist! Tried: ./no.jinja",
    ),
)
