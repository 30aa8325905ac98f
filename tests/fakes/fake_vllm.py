#!/usr/bin/env python3
"""Behaves like `vllm serve` for the faults that a real one cannot be made to show. Standard library alone.

`fake_vllm.py --version` and `fake_vllm.py serve MODEL [any vllm flags]`; `--host`, `--port`, `--served-model-name`,
`--max-model-len`, `--max-num-seqs`, `--shutdown-timeout`, `--nnodes`, `--node-rank`, `--master-addr`, `--master-port`
and `--headless` have their effect, all others are accepted. Of several nodes, rank 0 waits at its master port for the
others, which hold a connection to it; they live on when it ends, and it fails at the first request without them. Log
lines, process titles, exit codes and the order of events follow vLLM 0.26 to 0.33. It forks `VLLM::EngineCore`, which
forks `VLLM::Worker_TP0…`, all in the caller's session; like the real ones, EngineCore outlives a parent that is killed.

Steered by environment variables, all optional; an unknown `FAKE_VLLM_` variable is an error:

    FAKE_VLLM_VERSION=0.33.0      what --version says
    FAKE_VLLM_LOAD_S=0.3          how long the start takes, spread over its phases
    FAKE_VLLM_HANG_AT=PHASE       stay in this phase for ever
    FAKE_VLLM_CRASH_AT=PHASE      fail in this phase, or at `ready` or `request` (the first chat request)
    FAKE_VLLM_ERROR=oom           with which error, a key of ERRORS
    FAKE_VLLM_EXIT=CODE           exit code of that crash, in place of the error's own
    FAKE_VLLM_EXIT_AFTER_S=S      end unasked so long after being ready, with FAKE_VLLM_EXIT (0 unless set)
    FAKE_VLLM_UNHEALTHY_AFTER_S=S answer /health with 503 so long after being ready
    FAKE_VLLM_HANG_AFTER_S=S      produce no more tokens so long after being ready; /health goes on answering 200
    FAKE_VLLM_IGNORE_TERM=N       take no notice of the first N SIGTERMs; -1 for all
    FAKE_VLLM_STUBBORN=1          the children take no notice of SIGTERM
    FAKE_VLLM_WORKERS=1           how many workers; 0 for no children at all
    FAKE_VLLM_NOISE=a,b           log also: ansi, long, invalid (UTF-8), markup, nul
    FAKE_VLLM_LOG_STORM=N         lines per second once ready
    FAKE_VLLM_LOAD=R,W,K,T        pretend R running, W waiting, KV usage K (0 to 1) and T output tokens per second
    FAKE_VLLM_METRICS=on          off (404), broken (no exposition) or slow (answers after 30 s)
    FAKE_VLLM_ANSWER=TEXT         what a chat answers; unset: as many words as max_tokens
    FAKE_VLLM_REASONING=TEXT      reasoning in front of the answer
    FAKE_VLLM_TOKENS_PER_S=200    speed of a chat's answer

Phases: arguments, config, download, weights, compile, memory, graphs, server. While it runs, `POST /fake` with a JSON
object sets any of `unhealthy`, `hang`, `running`, `waiting`, `kv`, `tokens_per_s`, `preemptions`, `log_storm`, and
`crash` (a key of ERRORS) makes the engine die.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn

PREFIX = "FAKE_VLLM_"
PR_SET_NAME = 15
TICK_S = 0.02
STOPS = (signal.SIGTERM, signal.SIGINT)

Line = tuple[str, str, str]
"""Process, source, message."""

PHASES: dict[str, tuple[Line, ...]] = {
    "arguments": (
        ("APIServer", "api_utils.py:345", ""),
        ("APIServer", "api_utils.py:345", "       █     █     █▄   ▄█"),
        ("APIServer", "api_utils.py:345", " ▄▄ ▄█ █     █     █ ▀▄▀ █  version {version}"),
        ("APIServer", "api_utils.py:345", "  █▄█▀ █     █     █     █  model   {model}"),
        ("APIServer", "api_utils.py:345", "   ▀▀  ▀▀▀▀▀ ▀▀▀▀▀ ▀     ▀"),
        ("APIServer", "api_utils.py:273", "non-default args: {args}"),
    ),
    "config": (
        ("APIServer", "model.py:623", "Resolved architecture: DeepseekV4ForCausalLM"),
        ("APIServer", "model.py:1788", "Using max model len {max_model_len}"),
        ("APIServer", "scheduler.py:252", "Chunked prefill is enabled with max_num_batched_tokens=8192."),
        ("EngineCore", "core.py:116", "Initializing a V1 LLM engine (v{version}) with config: model='{model}'"),
        (
            "Worker_TP0",
            "parallel_state.py:1615",
            "world_size=1 rank=0 local_rank=0 distributed_init_method=tcp://127.0.0.1:46391 backend=nccl",
        ),
        ("Worker_TP0", "parallel_state.py:1946", "rank 0 in world size 1 is assigned as DP rank 0, TP rank 0"),
        ("Worker_TP0", "cuda.py:482", "Using DeepSeek's fp8_ds_mla KV cache format."),
    ),
    "download": (
        ("Worker_TP0", "weight_utils.py:574", "Time spent downloading weights for {model}: 1.234567 seconds"),
    ),
    "weights": (
        ("Worker_TP0", "model_runner.py:284", "Loading model from scratch..."),
        (
            "Worker_TP0",
            "bar",
            "Loading safetensors checkpoint shards: {percent:3d}% Completed | {done}/46 [00:0{i}<00:0{i},  9.9it/s]",
        ),
        ("Worker_TP0", "default_loader.py:398", "Loading weights took 3.96 seconds"),
        ("Worker_TP0", "model_runner.py:305", "Model loading took 38.55 GiB and 4.960412 seconds"),
    ),
    "compile": (
        (
            "Worker_TP0",
            "backends.py:1094",
            "Using cache directory: ~/.cache/vllm/torch_compile_cache/2681771f5a/rank_0_0/backbone for vLLM's "
            "torch.compile",
        ),
        ("Worker_TP0", "backends.py:1155", "Dynamo bytecode transform time: 6.26 s"),
        ("Worker_TP0", "backends.py:393", "Compiling a graph for compile range (1, 8192) takes 12.71 s"),
        ("Worker_TP0", "monitor.py:53", "torch.compile took 22.12 s in total"),
    ),
    "memory": (
        ("Worker_TP0", "gpu_worker.py:560", "Available KV cache memory: 28.14 GiB"),
        (
            "EngineCore",
            "kv_cache_utils.py:2327",
            "GPU KV cache size: 1,067,264 tokens, Maximum concurrency for {max_model_len:,} tokens per request: 8.14x",
        ),
    ),
    "graphs": (
        (
            "Worker_TP0",
            "bar",
            "Capturing CUDA graphs (FULL): {percent:3d}%|█████     | {done}/46 [00:0{i}<00:0{i}, 46.15it/s]",
        ),
        ("Worker_TP0", "model_runner.py:747", "Graph capturing finished in 2 secs, took 0.18 GiB"),
        (
            "EngineCore",
            "core.py:402",
            "init engine (profile, create kv cache, warmup model) took 32.01 s (compilation: 22.12 s)",
        ),
    ),
    "server": (
        ("APIServer", "entry.py:136", "Supported tasks: ['generate']"),
        ("APIServer", "entry.py:140", "Starting vLLM server on http://{host}:{port}"),
        ("APIServer", "launcher.py:186", "Available routes are:"),
        ("APIServer", "launcher.py:195", "Route: /health, Methods: GET"),
        ("APIServer", "launcher.py:195", "Route: /v1/chat/completions, Methods: POST"),
    ),
}

WRAPPED = "Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore_DP0': 1}"
ERRORS: dict[str, tuple[str, str, int]] = {
    "oom": (
        "Worker_TP0",
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of "
        "79.18 GiB of which 1.21 GiB is free.",
        1,
    ),
    "memory-taken": (
        "Worker_TP0",
        "ValueError: Free memory on device cuda:0 (10.12/79.18 GiB) on startup is less than desired GPU memory "
        "utilization (0.92, 72.84 GiB). Decrease GPU memory utilization or reduce GPU memory used by other "
        "processes.",
        1,
    ),
    "no-cache-blocks": (
        "EngineCore",
        "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when "
        "initializing the engine.",
        1,
    ),
    "context-too-long": (
        "EngineCore",
        "ValueError: To serve at least one request with the model's max seq len (1048576), (3.76 GiB KV cache is "
        "needed, which is larger than the available KV cache memory (1.25 GiB). Based on the available memory, the "
        "estimated maximum model length is 348160.",
        1,
    ),
    "gated": (
        "APIServer",
        "huggingface_hub.errors.GatedRepoError: 401 Client Error. Cannot access gated repo for url "
        "https://huggingface.co/meta-llama/x/resolve/main/config.json.",
        1,
    ),
    "disk-full": ("APIServer", "OSError: [Errno 28] No space left on device (os error 28)", 1),
    "heads": (
        "APIServer",
        "ValueError: Total number of attention heads (64) must be divisible by tensor parallel size (7).",
        1,
    ),
    "arguments": ("usage", "vllm serve: error: argument --dtype: invalid choice: 'fp8' (choose from 'auto')", 2),
    "nccl": (
        "Worker_TP0",
        "RuntimeError: NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details)",
        1,
    ),
    "illegal-access": (
        "Worker_TP0",
        "torch.AcceleratorError: CUDA error: an illegal memory access was encountered",
        1,
    ),
    "unknown": ("EngineCore", "RuntimeError: flux capacitor out of phase (code 88)", 1),
    "quiet": ("", "", 1),
}
"""Process that says it, what it says, exit code."""

NOISE: dict[str, bytes] = {
    "ansi": b"\x1b[31mred \x1b[1;4mbold\x1b[0m \x1b[2J\x1b[H \x1b]0;title\x07 after\n",
    "long": b"L" * 200_000 + b"\n",
    "invalid": b"bad \xff\xfe\xc3( utf-8\n",
    "markup": b"[bold]not markup[/bold] [/foo] [link=x]\n",
    "nul": b"nul \x00 and bell \x07 and backspace \x08\n",
}


def opened(name: str, default: Any, kind: type) -> Any:
    """The value of one `FAKE_VLLM_` variable."""
    text = os.environ.get(PREFIX + name.upper())
    return default if text is None else kind(text)


@dataclass
class Settings:
    """All variables, by their names in lower case."""

    version: str = "0.33.0"
    load_s: float = 0.3
    hang_at: str = ""
    crash_at: str = ""
    error: str = "oom"
    exit: int = -1
    exit_after_s: float = -1.0
    unhealthy_after_s: float = -1.0
    hang_after_s: float = -1.0
    ignore_term: int = 0
    stubborn: int = 0
    workers: int = 1
    noise: str = ""
    log_storm: float = 0.0
    load: str = "0,0,0,0"
    metrics: str = "on"
    answer: str = ""
    reasoning: str = ""
    tokens_per_s: float = 200.0

    @classmethod
    def read(cls) -> Settings:
        """From the environment.

        Raises:
            SystemExit: a variable is unknown or names something that is not there.
        """
        known = {PREFIX + each.name.upper() for each in fields(cls)}
        if stray := sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known):
            sys.exit(f"fake_vllm: unknown variable {', '.join(stray)}")
        found = cls(**{each.name: opened(each.name, each.default, type(each.default)) for each in fields(cls)})
        for value, allowed in (
            (found.hang_at, {"", *PHASES}),
            (found.crash_at, {"", *PHASES, "ready", "request"}),
            (found.error, set(ERRORS)),
            (found.metrics, {"on", "off", "broken", "slow"}),
            *((each, {*NOISE}) for each in found.noise.split(",") if each),
        ):
            if value not in allowed:
                sys.exit(f"fake_vllm: {value!r} is none of {', '.join(sorted(allowed))}")
        return found


def flag(argv: list[str], name: str, default: str) -> str:
    """Value of `--name value` or `--name=value`, with `-` and `_` alike."""
    wanted = name.replace("-", "_")
    for place, word in enumerate(argv):
        head, equals, tail = word.partition("=")
        if head.startswith("--") and head[2:].replace("-", "_") == wanted:
            return tail if equals else argv[place + 1]
    return default


def say(text: str, stream: int = 1) -> None:
    """Write to a stream at once and whole, as several processes share it."""
    with contextlib.suppress(OSError):
        os.write(stream, text.encode())


def set_title(title: str) -> None:
    """Show `title` in `ps`, in the command line and in the name, as setproctitle does."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_NAME, title.encode()[:15], 0, 0, 0)
    stat = Path("/proc/self/stat").read_text(encoding="utf-8")
    start, end = (int(word) for word in stat.rpartition(")")[2].split()[45:47])
    ctypes.memset(start, 0, end - start)
    ctypes.memmove(start, title.encode()[: end - start - 1], min(len(title.encode()), end - start - 1))


@dataclass
class Engine:
    """What clients and metrics see."""

    name: str
    settings: Settings
    max_model_len: int
    lock: threading.Lock = field(default_factory=threading.Lock)
    in_flight: int = 0
    running: int = 0
    waiting: int = 0
    kv: float = 0.0
    rate: float = 0.0
    preemptions: int = 0
    prompt_tokens: int = 0
    generation_tokens: float = 0.0
    finished: int = 0
    aborted: int = 0
    first_tokens: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    prompt_lengths: list[float] = field(default_factory=list)
    answer_lengths: list[float] = field(default_factory=list)
    unhealthy: bool = False
    hang: bool = False
    dead: bool = False
    crash: str = ""
    nodes: Nodes | None = None

    def exposition(self) -> str:
        """`/metrics`, the families that matter, in vLLM's own names."""
        labels = f'engine="0",model_name="{self.name}"'
        out: list[str] = []

        def family(name: str, kind: str, value: float, more: str = "", total: str = "") -> None:
            out.append(f"# HELP vllm:{name}{total} -\n# TYPE vllm:{name}{total} {kind}")
            out.append(f"vllm:{name}{total}{{{labels}{more}}} {float(value)}")

        family("num_requests_running", "gauge", self.running + self.in_flight)
        family("num_requests_waiting", "gauge", self.waiting)
        family("kv_cache_usage_perc", "gauge", self.kv)
        for name, value in (
            ("num_preemptions", self.preemptions),
            ("prompt_tokens", self.prompt_tokens),
            ("generation_tokens", int(self.generation_tokens)),
            ("prefix_cache_queries", self.prompt_tokens),
            ("prefix_cache_hits", self.prompt_tokens // 2),
        ):
            family(name, "counter", value, total="_total")
        family("request_success", "counter", self.finished, ',finished_reason="stop"', "_total")
        out.append(f'vllm:request_success_total{{{labels},finished_reason="abort"}} {float(self.aborted)}')
        for name, (bounds, values) in self.histograms().items():
            out.append(f"# HELP vllm:{name} -\n# TYPE vllm:{name} histogram")
            out.extend(
                f'vllm:{name}_bucket{{{labels},le="{bound}"}} {float(sum(v <= bound for v in values))}'
                for bound in bounds
            )
            out.append(f'vllm:{name}_bucket{{{labels},le="+Inf"}} {float(len(values))}')
            out.append(f"vllm:{name}_count{{{labels}}} {float(len(values))}")
            out.append(f"vllm:{name}_sum{{{labels}}} {float(sum(values))}")
        family(
            "cache_config_info",
            "gauge",
            1,
            ',block_size="256",cache_dtype="fp8",enable_prefix_caching="True",gpu_memory_utilization="0.92",'
            'kv_cache_size_tokens="1067264",num_gpu_blocks="4169"',
        )
        return "\n".join(out) + "\n"

    def histograms(self) -> dict[str, tuple[tuple[float, ...], list[float]]]:
        """All of vLLM's by name, with their bounds and what was observed; most are only there for the size."""
        quick = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0)
        slow = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 240.0, 480.0, 960.0)
        lengths = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0, 20_000.0)
        times = (f"request_{part}_time_seconds" for part in ("queue", "inference", "prefill", "decode"))
        unseen = (
            "request_max_num_generation_tokens",
            "request_params_n",
            "request_params_max_tokens",
            "request_num_preemptions",
            "request_prefill_kv_computed_tokens",
            "iteration_tokens_total",
        )
        return {
            "time_to_first_token_seconds": (quick, self.first_tokens),
            "inter_token_latency_seconds": (quick, self.gaps),
            "request_prompt_tokens": (lengths, self.prompt_lengths),
            "request_generation_tokens": (lengths, self.answer_lengths),
            "request_time_per_output_token_seconds": (quick, []),
            "e2e_request_latency_seconds": (slow, []),
            **{name: (slow, []) for name in times},
            **{name: (lengths, []) for name in unseen},
        }


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    engine: Engine
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        """As uvicorn writes it."""
        host, port = self.client_address[:2]
        say(f'INFO:     {host}:{port} - "{self.requestline}" {int(code)} {HTTPStatus(code).phrase}\n')

    def reply(self, status: int, body: str, kind: str = "application/json") -> None:
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def authorized(self) -> bool:
        """As vLLM: with `VLLM_API_KEY` set, everything below /v1 wants it. Answers 401 where it is not there."""
        key = os.environ.get("VLLM_API_KEY")
        if not key or not self.path.startswith("/v1") or self.headers.get("Authorization") == f"Bearer {key}":
            return True
        self.reply(401, '{"error":"Unauthorized"}')
        return False

    def do_GET(self) -> None:
        engine = self.engine
        if not self.authorized():
            return
        if self.path == "/health":
            self.reply(503 if engine.unhealthy or engine.dead else 200, "")
        elif self.path == "/metrics" and engine.settings.metrics != "off":
            if engine.settings.metrics == "slow":
                time.sleep(30)
            broken = engine.settings.metrics == "broken"
            text = "<html>not an exposition</html>" if broken else engine.exposition()
            self.reply(200, text, "text/plain; version=0.0.4")
        elif self.path == "/version":
            self.reply(200, json.dumps({"version": engine.settings.version}))
        elif self.path == "/v1/models":
            card = {"id": engine.name, "object": "model", "root": engine.name, "max_model_len": engine.max_model_len}
            self.reply(200, json.dumps({"object": "list", "data": [card]}))
        else:
            self.reply(404, '{"detail":"Not Found"}')

    def do_POST(self) -> None:
        engine = self.engine
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        if not self.authorized():
            return
        if self.path == "/fake":
            for name, value in body.items():
                setattr(engine.settings if name in ("log_storm", "tokens_per_s") else engine, name, value)
            self.reply(200, "{}")
        elif self.path != "/v1/chat/completions":
            self.reply(404, '{"detail":"Not Found"}')
        elif engine.nodes is not None and not engine.nodes.complete():
            engine.crash = "nccl"
            self.reply(500, '{"error":{"message":"EngineCore encountered an issue."}}')
        elif engine.settings.crash_at == "request" or engine.dead:
            engine.crash = engine.crash or engine.settings.error
            message = "EngineCore encountered an issue. See stack trace (above) for the root cause."
            self.reply(500, json.dumps({"error": {"message": message, "type": "InternalServerError", "code": 500}}))
        else:
            self.chat(body)

    def chat(self, body: dict[str, Any]) -> None:
        engine = self.engine
        with engine.lock:
            engine.in_flight += 1
            length = sum(len(str(each.get("content", "")).split()) for each in body["messages"])
            engine.prompt_tokens += length
        done = False
        try:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream; charset=utf-8")
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            pieces = list(self.pieces(int(body.get("max_tokens") or 16)))
            self.event({"role": "assistant", "content": ""})
            before = started = time.monotonic()
            for kind, text in pieces:
                while engine.hang or engine.dead:
                    time.sleep(TICK_S)
                time.sleep(1 / engine.settings.tokens_per_s)
                self.event({kind: text})
                now = time.monotonic()
                with engine.lock:
                    (engine.gaps if before > started else engine.first_tokens).append(now - before)
                    engine.generation_tokens += 1
                before = now
            self.event({"content": ""}, "stop")
            usage = {
                "prompt_tokens": length,
                "completion_tokens": len(pieces),
                "total_tokens": length + len(pieces),
            }
            if (body.get("stream_options") or {}).get("include_usage"):
                self.send({"choices": [], "usage": usage})
            self.wfile.write(b"data: [DONE]\n\n")
            done = True
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            with engine.lock:
                engine.in_flight -= 1
                engine.finished += done
                engine.aborted += not done
                if done:
                    engine.prompt_lengths.append(length)
                    engine.answer_lengths.append(len(pieces))

    def pieces(self, count: int) -> Iterator[tuple[str, str]]:
        """The answer, word by word."""
        settings = self.engine.settings
        for kind, text in (("reasoning", settings.reasoning), ("content", settings.answer)):
            for word in text.split(" ") if text else ():
                yield kind, word + " "
        if not settings.answer:
            yield from (("content", f"word{place} ") for place in range(count))

    def event(self, delta: dict[str, str], finish: str | None = None) -> None:
        self.send({"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]})

    def send(self, more: dict[str, Any]) -> None:
        head = {"id": "chatcmpl-fake", "object": "chat.completion.chunk", "created": 1, "model": self.engine.name}
        self.wfile.write(f"data: {json.dumps(head | more)}\n\n".encode())
        self.wfile.flush()


class Server(ThreadingHTTPServer):
    """Takes its port early and answers late, as vLLM does."""

    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error."""


class Nodes:
    """The other nodes, as TCP connections to the head's master port."""

    def __init__(self, argv: list[str]) -> None:
        self.count = int(flag(argv, "nnodes", "1"))
        self.rank = int(flag(argv, "node-rank", "0"))
        self.where = (flag(argv, "master-addr", "127.0.0.1"), int(flag(argv, "master-port", "29501")))
        self.door: socket.socket | None = None
        self.lines: list[socket.socket] = []

    def listen(self) -> None:
        if self.count > 1:
            self.door = socket.create_server(self.where)
            self.door.settimeout(TICK_S)

    def meet(self) -> None:
        """Wait until all others have said that they are nodes: a look at the port is none."""
        while len(self.lines) < self.count - 1 and self.door is not None:
            with contextlib.suppress(OSError):
                line, _ = self.door.accept()
                line.settimeout(1.0)
                if line.recv(4) == b"node":
                    self.lines.append(line)
                else:
                    line.close()
        threading.Thread(target=self.turn_away, daemon=True).start()

    def turn_away(self) -> None:
        """Whoever only looks whether the port is open."""
        while self.door is not None:
            with contextlib.suppress(OSError):
                self.door.accept()[0].close()

    def join(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                line = socket.create_connection(self.where, 1.0)
                line.sendall(b"node")
                self.lines.append(line)
                return
            time.sleep(TICK_S)

    def complete(self) -> bool:
        """Whether all hold on. Nothing else looks at it, as between two requests nothing goes over these lines."""
        for line in self.lines:
            line.setblocking(False)
            try:
                if line.recv(1) == b"":
                    return False
            except BlockingIOError:
                pass
            except OSError:
                return False
        return True


class Terminated(Exception):
    """SIGTERM or SIGINT was heard."""


class FakeVllm:
    """One `vllm serve`."""

    def __init__(self, argv: list[str], settings: Settings) -> None:
        self.settings = settings
        self.args = argv
        self.model = argv[0] if argv and not argv[0].startswith("-") else flag(argv, "model", "fake/model")
        self.host = flag(argv, "host", "127.0.0.1")
        self.port = int(flag(argv, "port", "8000"))
        self.max_model_len = int(flag(argv, "max-model-len", "131072"))
        self.drain_s = float(flag(argv, "shutdown-timeout", "0"))
        self.engine = Engine(flag(argv, "served-model-name", self.model), settings, self.max_model_len)
        running, waiting, kv, rate = (float(word) for word in settings.load.split(","))
        self.engine.running, self.engine.waiting, self.engine.kv, self.engine.rate = (
            int(running),
            int(waiting),
            kv,
            rate,
        )
        self.terms = 0
        self.stopping = False
        self.port_fd = -1
        self.nodes = Nodes(argv)
        self.pids = {"APIServer": os.getpid(), "EngineCore": os.getpid(), "Worker_TP0": os.getpid()}
        self.core_pid: int | None = None

    def run(self) -> int:
        """Start, serve, stop; the exit code."""
        signal.signal(signal.SIGTERM, self.heard)
        signal.signal(signal.SIGINT, self.heard)
        if self.nodes.rank:
            return self.run_headless()
        try:
            server = Server((self.host, self.port), Handler, bind_and_activate=False)
            try:
                server.server_bind()
                self.port_fd = server.fileno()
            except OSError as error:
                say(f"Traceback (most recent call last):\nOSError: {error}\n", 2)
                return 1
            self.nodes.listen()
            for phase in PHASES:
                self.pass_through(phase)
                if phase == "config":
                    self.nodes.meet()
            self.engine.nodes = self.nodes
            server.RequestHandlerClass = type("Bound", (Handler,), {"engine": self.engine})
            server.server_activate()
            threading.Thread(target=server.serve_forever, args=(TICK_S,), daemon=True).start()
            say(f"INFO:     Started server process [{os.getpid()}]\nINFO:     Waiting for application startup.\n", 2)
            say("INFO:     Application startup complete.\n", 2)
            return self.serve()
        except Terminated:
            return self.stop()

    def run_headless(self) -> int:
        """A node without HTTP server: joins the head, works, and lives on without it."""
        try:
            self.nodes.join()
            for phase in PHASES:
                if phase != "server":
                    self.pass_through(phase)
            while not self.core_gone():
                time.sleep(TICK_S)
            self.log(
                "Worker_TP0", "multiproc_executor.py:101", "Worker proc died unexpectedly, shutting down.", "ERROR"
            )
            return 1
        except Terminated:
            self.end_children()
            return 0

    def heard(self, number: int, frame: Any) -> None:
        """A signal that asks to stop."""
        self.terms += 1
        if self.stopping:
            self.drain_s = 0.0
            return
        if self.settings.ignore_term < 0 or self.terms <= self.settings.ignore_term:
            return
        raise Terminated

    def log(self, process: str, source: str, message: str, level: str = "INFO") -> None:
        stamp = time.strftime("%m-%d %H:%M:%S")
        say(f"({process} pid={self.pids.get(process, os.getpid())}) {level} {stamp} [{source}] {message}\n")

    def pass_through(self, phase: str) -> None:
        """Say the lines of one phase, and hang or crash in its midst if asked to."""
        words = {
            "version": self.settings.version, "model": self.model, "args": {"model_tag": self.model},
            "host": self.host, "port": self.port, "max_model_len": self.max_model_len,
        }  # fmt: skip
        lines = PHASES[phase]
        for place, (process, source, message) in enumerate(lines):
            if process != "APIServer" and self.core_pid is None and self.settings.workers:
                self.fork_engine()
            if source == "bar":
                self.bar(process, message)
            else:
                self.log(process, source, message.format(**words))
            time.sleep(self.settings.load_s / len(PHASES) / len(lines))
            if place == len(lines) // 2:
                while self.settings.hang_at == phase:
                    time.sleep(TICK_S)
                if self.settings.crash_at == phase:
                    self.fail(self.settings.error)
        if phase == "config":
            for name in filter(None, self.settings.noise.split(",")):
                os.write(1, NOISE[name])

    def bar(self, process: str, message: str) -> None:
        """A progress bar of tqdm's, on standard error, with carriage returns."""
        for done in (0, 3, 23, 46):
            text = message.format(percent=done * 100 // 46, done=done, i=done // 10)
            say(f"\r({process} pid={self.pids[process]}) {text}", 2)
        say("\n", 2)

    def fork_engine(self) -> None:
        """EngineCore, which forks the workers and tells their process ids."""
        ours, theirs = os.pipe()
        # Held back until the children have handlers of their own: ours would run in them.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
        self.core_pid = os.fork()
        if self.core_pid == 0:
            os.close(ours)
            if self.port_fd >= 0:
                os.close(self.port_fd)
            engine_core(theirs, self.settings)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
        os.close(theirs)
        with os.fdopen(ours) as told:
            worker = told.readline()
        self.pids |= {"EngineCore": self.core_pid, "Worker_TP0": int(worker or self.core_pid)}

    def fail(self, error: str) -> NoReturn:
        """Die of an error during the start, with the traces that vLLM leaves."""
        process, text, code = ERRORS[error]
        if process == "APIServer":
            frame = '  File "site/vllm/entrypoints/cli/main.py", line 73, in main'
            say(f"Traceback (most recent call last):\n{frame}\n{text}\n", 2)
        elif process == "usage":
            say(f"usage: vllm serve [model_tag] [options]\n{text}\n", 2)
        elif process:
            self.trace(process, text)
            if process != "EngineCore":
                self.trace(
                    "EngineCore",
                    "Exception: WorkerProc initialization failed due to an exception in a background process.",
                )
            say(f"(APIServer pid={os.getpid()}) RuntimeError: {WRAPPED}\n", 2)
        self.end_children()
        sys.exit(code if self.settings.exit < 0 else self.settings.exit)

    def trace(self, process: str, text: str) -> None:
        for line in (
            "Traceback (most recent call last):",
            '  File "site/vllm/v1/engine/core.py", line 1167, in run',
            text,
        ):
            self.log(process, "core.py:1099", line, "ERROR")

    def serve(self) -> int:
        """Ready: keep time until something ends it."""
        ready = before = time.monotonic()
        owed = 0.0
        settings, engine = self.settings, self.engine
        if settings.crash_at == "ready":
            engine.crash = settings.error
        while True:
            time.sleep(TICK_S)
            now = time.monotonic()
            age = now - ready
            engine.unhealthy |= 0 <= settings.unhealthy_after_s <= age
            engine.hang |= 0 <= settings.hang_after_s <= age
            if not engine.hang:
                with engine.lock:
                    engine.generation_tokens += engine.rate * (now - before)
            owed = self.storm(owed + settings.log_storm * (now - before))
            before = now
            if engine.crash or self.core_gone():
                return self.engine_died(engine.crash)
            if 0 <= settings.exit_after_s <= age:
                self.end_children()
                return max(0, settings.exit)

    def storm(self, owed: float) -> float:
        """Log as many lines as are due; what is left of one."""
        if owed >= 1:
            stamp = time.strftime("%m-%d %H:%M:%S")
            line = (
                f"(APIServer pid={os.getpid()}) INFO {stamp} [loggers.py:335] Engine 000: Avg prompt throughput: "
                "512.0 tokens/s, Avg generation throughput: 937.6 tokens/s, Running: 8 reqs, Waiting: 2 reqs, "
                "GPU KV cache usage: 41.7%, Prefix cache hit rate: 12.0%\n"
            )
            access = 'INFO:     127.0.0.1:57210 - "POST /v1/chat/completions HTTP/1.1" 200 OK\n'
            say("".join(line if place % 4 == 0 else access for place in range(int(owed))))
        return owed % 1

    def core_gone(self) -> bool:
        """Whether EngineCore ended by itself."""
        return bool(self.core_pid) and os.waitpid(self.core_pid, os.WNOHANG)[0] != 0

    def engine_died(self, error: str) -> int:
        """vLLM's end when its engine dies: /health says 503 for a moment, then exit 0."""
        self.engine.dead = True
        process, text, _ = ERRORS[error] if error else ("", "", 0)
        if process:
            self.trace(process, text)
            self.log("EngineCore", "core.py:1100", "EngineCore encountered a fatal error.", "ERROR")
        message = "[shutdown] MPClient: engine core exited unexpectedly; starting cleanup"
        self.log("APIServer", "core_client.py:651", message, "ERROR")
        dead = "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace (above)"
        self.log("APIServer", "async_llm.py:906", f"{dead} for the root cause.", "ERROR")
        time.sleep(0.3)
        self.end_children()
        return max(0, self.settings.exit)

    def stop(self) -> int:
        """Drain if asked to, end the children, exit 0: as vLLM does once it serves."""
        self.stopping = True
        mode = "drain" if self.drain_s else "abort"
        self.log("APIServer", "launcher.py:254", "[shutdown] API server: shutdown triggered")
        message = f"[shutdown] API server: stopping engine client mode={mode} timeout={self.drain_s:.0f}s"
        self.log("APIServer", "launcher.py:270", message)
        started = time.monotonic()
        while self.engine.in_flight and time.monotonic() - started < self.drain_s:
            time.sleep(TICK_S)
        self.end_children()
        say("INFO:     Shutting down\nINFO:     Application shutdown complete.\n", 2)
        return 0

    def end_children(self) -> None:
        """SIGTERM to EngineCore; it is killed if it is stubborn only by whoever cleans the session."""
        if not self.core_pid:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.core_pid, signal.SIGTERM)
        deadline = time.monotonic() + 0.5
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(self.core_pid, os.WNOHANG)[0] == 0 and time.monotonic() < deadline:
                time.sleep(TICK_S)


def engine_core(tell: int, settings: Settings) -> NoReturn:
    """The process `VLLM::EngineCore`: outlives its parent, ends its workers when it ends, and ends if one does."""
    alive, alive_here = os.pipe()
    for rank in range(settings.workers):
        pid = os.fork()
        if pid == 0:
            os.close(alive_here)
            os.close(tell)
            worker(rank, alive, settings)
        if rank == 0:
            os.write(tell, f"{pid}\n".encode())
    os.close(tell)
    os.close(alive)
    child("VLLM::EngineCore", settings)
    os.wait()
    os._exit(1)


def worker(rank: int, alive: int, settings: Settings) -> NoReturn:
    """A process `VLLM::Worker_TPn`: ends once its EngineCore is gone, as vLLM's death pipe has it."""
    child(f"VLLM::Worker_TP{rank}", settings)
    while os.read(alive, 1):
        pass
    os._exit(0)


def child(title: str, settings: Settings) -> None:
    """What both kinds of children begin with."""
    set_title(title)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN if settings.stubborn else lambda number, frame: os._exit(0))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)


def main(argv: list[str]) -> int:
    """The command line."""
    settings = Settings.read()
    if "--version" in argv:
        print(settings.version)
        return 0
    if argv[:1] != ["serve"]:
        print("usage: vllm serve [model_tag] [options]", file=sys.stderr)
        return 2
    return FakeVllm(argv[1:], settings).run()


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)
