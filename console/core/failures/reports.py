"""Texts that report a failure whose cause stands earlier, and texts that only look like one."""

from __future__ import annotations

import re
from typing import Final

from console.core.failures.row import Failure, FailureLevel, Stage

__all__ = ["REPORTS"]

_RESTART_REMEDY: Final = "Read the log from that line on, then start the server again."

REPORTS: Final[tuple[Failure, ...]] = (
    # Reports of a failure that stands earlier.
    Failure(
        id="engine-init-failed",
        needles=("See root cause above",),
        pattern=re.compile(r"(?:Engine core initialization failed|Frontend process failed)\b.*See root cause above"),
        stage=Stage.START,
        title="The engine did not start",
        remedy="Look further up in the log for the first ERROR of a worker or of the engine.",
        level=FailureLevel.WRAPPER,
        versions=">=0.25",
        example="RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}",
    ),
    Failure(
        id="worker-init-failed",
        needles=("WorkerProc initialization failed", "failed to start."),
        pattern=re.compile(r"WorkerProc initialization failed|(?:EngineCore|WorkerProc) failed to start\."),
        stage=Stage.START,
        title="A worker did not start",
        remedy="Look further up in the log for its first ERROR.",
        level=FailureLevel.WRAPPER,
        versions=">=0.25",
        example="Exception: WorkerProc initialization failed due to an exception in a background process.",
    ),
    Failure(
        id="engine-dead",
        needles=("EngineCore encountered",),
        pattern=re.compile(r"EngineCore encountered (?:an issue\. See stack trace|a fatal error)"),
        stage=Stage.RUN,
        title="The engine died",
        remedy=_RESTART_REMEDY,
        level=FailureLevel.WRAPPER,
        versions=">=0.25",
        example="vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace (above) "
        "for the root cause.",
    ),
    Failure(
        id="worker-exception",
        needles=("WorkerProc hit an exception", "Worker failed with error"),
        pattern=re.compile(r"WorkerProc hit an exception|Worker failed with error .*check the stack trace above"),
        stage=Stage.RUN,
        title="A worker failed",
        remedy=_RESTART_REMEDY,
        level=FailureLevel.WRAPPER,
        versions=">=0.25",
        example="RuntimeError: Worker failed with error 'x', please check the stack trace above for the root cause",
    ),
    Failure(
        id="output-handler",
        needles=("AsyncLLM output_handler failed",),
        pattern=re.compile(r"AsyncLLM output_handler failed"),
        stage=Stage.RUN,
        title="The API server lost its engine",
        remedy=_RESTART_REMEDY,
        level=FailureLevel.WRAPPER,
        versions=">=0.25",
        example="AsyncLLM output_handler failed.",
    ),
    Failure(
        id="engine-exited",
        needles=("died unexpectedly", "exited unexpectedly"),
        pattern=re.compile(
            r"Engine core proc \S+ died unexpectedly|engine core exited unexpectedly"
            r"|(?:proc|process) \S+ died unexpectedly"
        ),
        stage=Stage.RUN,
        title="A process of the server ended unexpectedly",
        remedy="Look further up for its own error. If there is none, look for `Out of memory` in `dmesg -T`.",
        level=FailureLevel.WRAPPER,
        versions=">=0.25",
        example="[shutdown] MPClient: engine core exited unexpectedly; starting cleanup",
    ),
    Failure(
        id="front-end-gone",
        needles=("Did not receive response from front-end",),
        pattern=re.compile(r"Did not receive response from front-end process within \d+ minutes"),
        stage=Stage.START,
        title="The engine was left alone by its API server",
        why="The API server died or hung while the engine waited for it.",
        remedy="End what is left of this server (`pgrep -af VLLM::`) and start again.",
        level=FailureLevel.WRAPPER,
        versions=">=0.25",
        example="RuntimeError: Did not receive response from front-end process within 5 minutes",
    ),
    Failure(
        id="rank-hangs",
        needles=("No available shared memory broadcast block found",),
        pattern=re.compile(r"No available shared memory broadcast block found in (?P<seconds>\d+) seconds"),
        stage=Stage.RUN,
        title="A worker keeps the others waiting",
        why="Once or twice this means a slow load or compilation; repeated it means that a worker hangs.",
        remedy="Look for a worker that printed nothing lately and for Xid lines in `dmesg -T`; start again with "
        "NCCL_DEBUG=INFO in [env].",
        level=FailureLevel.WRAPPER,
        repeats=5,
        at_info=True,
        versions=">=0.25",
        example="No available shared memory broadcast block found in 60 seconds. This typically happens when some "
        "processes are hanging or doing some time-consuming work",
    ),
    # No errors.
    Failure(
        id="shared-memory-leaked",
        needles=("leaked shared_memory", "leaked semaphore"),
        pattern=re.compile(r"leaked (?:shared_memory|semaphore) objects to clean up at shutdown"),
        stage=Stage.EXIT,
        title="Shared memory was cleaned up late",
        remedy="Nothing to do.",
        level=FailureLevel.NOISE,
        example="resource_tracker: There appear to be 1 leaked shared_memory objects to clean up at shutdown",
    ),
    Failure(
        id="input-dump",
        needles=("Dumping ",),
        pattern=re.compile(r"Dumping (?:input data for|scheduler output for|scheduler stats:)"),
        stage=Stage.RUN,
        title="The engine wrote down what it was working on",
        remedy="Add these lines to a report of the error that follows.",
        level=FailureLevel.NOISE,
        versions=">=0.25",
        example="Dumping scheduler stats: SchedulerStats(num_running_reqs=1)",
    ),
    Failure(
        id="file-limit-warning",
        needles=("failed to automatically increase",),
        pattern=re.compile(r"Found ulimit of \d+ and failed to automatically increase"),
        stage=Stage.START,
        title="The limit of open files is low",
        remedy="Raise it before many clients come: `ulimit -n 65536`, or LimitNOFILE= in the service.",
        level=FailureLevel.NOISE,
        versions=">=0.25",
        example="Found ulimit of 20000 and failed to automatically increase with error current limit exceeds",
    ),
)
