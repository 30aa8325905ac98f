"""A `vllm` whose `bench serve` is scripted: it takes the real one's options and writes the real one's result.

`FAKE_BENCH` says what goes wrong; pids of what must be ended go to `FAKE_PIDS`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from console.core.profile import EngineKind
from console.io.engines import Engine

SCRIPT = r"""#!PYTHON
import argparse, json, os, signal, subprocess, sys, time

parser = argparse.ArgumentParser()
parser.add_argument("verb"); parser.add_argument("what")
for name in ("backend base-url endpoint model tokenizer tokenizer-mode dataset-name random-prefix-len "
             "random-input-len random-output-len random-range-ratio num-prompts max-concurrency seed "
             "temperature ready-check-timeout-sec percentile-metrics metric-percentiles result-dir "
             "result-filename").split():
    parser.add_argument("--" + name)
for name in ("ignore-eos", "save-result", "trust-remote-code"):
    parser.add_argument("--" + name, action="store_true")
args = parser.parse_args()
mode = os.environ.get("FAKE_BENCH", "")
number, clients = int(args.num_prompts), int(args.max_concurrency)

def note(*pids):
    with open(os.environ["FAKE_PIDS"], "a") as file:
        file.write(" ".join(map(str, pids)) + "\n")

if path := os.environ.get("FAKE_CALLS"):
    with open(path, "a") as file:
        told = {"argv": sys.argv[1:], "env": {name: os.environ.get(name) for name in ENV}}
        file.write(json.dumps(told) + "\n")
# The how manieth call hangs.
if os.environ.get("FAKE_BENCH_AT") == str(sum(1 for _ in open(path)) if path else 0):
    mode = "hang"
if mode == "exit":
    print("Traceback (most recent call last):\n  File \"/x/serve.py\", line 1, in <module>")
    sys.exit("ValueError: something is odd")
if mode == "module":
    sys.exit("ModuleNotFoundError: No module named 'pandas'")
if mode == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
print("Starting main benchmark run...")
if mode in ("hang", "stubborn"):
    if mode == "stubborn":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    deaf = "import signal,time;signal.signal(2,signal.SIG_IGN);time.sleep(300)"
    other = subprocess.Popen([sys.executable, "-c", deaf])
    sys.stderr.write("\r  0%%|          | 0/%d [00:00<?, ?it/s]\r" % number); sys.stderr.flush()
    note(os.getpid(), other.pid)
    time.sleep(300)
if mode == "leaves":
    other = subprocess.Popen([sys.executable, "-c", "import time;time.sleep(300)"])
    note(os.getpid(), other.pid)
for done in range(number + 1):
    sys.stderr.write("\r%3d%%|#####| %d/%d [00:01<00:01, 9.0it/s]" % (100 * done / number, done, number))
failed = {"none": number, "some": 2, "unknown-model": number, "key": number}.get(mode, 0)
words = {"unknown-model": "Not Found", "key": "Unauthorized", "some": "ServerDisconnectedError"}.get(mode, "")
if mode == "none":
    words = "aiohttp.client_exceptions.ClientConnectorError: Cannot connect to host 127.0.0.1:1 ssl:default"
if failed:
    print("Failed requests during benchmark run detected (capping to 10):")
    for index in range(min(failed, 10)):
        print(f"Error {index}: {words}")
if mode == "silent":
    sys.exit(0)
ms = float(os.environ.get("FAKE_MS", "10"))
rate = 100.0 * clients / (1 + clients / 64)
data = {"duration": 0.5, "completed": number - failed, "failed": failed, "request_throughput": rate / 64,
        "output_throughput": rate, "total_token_throughput": 3 * rate}
for name in ("ttft", "tpot", "itl", "e2el"):
    for which, factor in (("mean", 1.1), ("median", 1.0), ("p99", 2.0)):
        data[f"{which}_{name}_ms"] = 0 if number == failed else ms * factor * (1 + clients / 8)
with open(os.path.join(args.result_dir, args.result_filename), "w") as file:
    file.write("{garbage" if mode == "garbage" else json.dumps(data))
"""
SHOWN = ("OPENAI_API_KEY", "HF_HUB_OFFLINE", "NO_PROXY", "HF_HOME")


def scripted(folder: Path) -> Path:
    """Write that `vllm` into a folder; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "vllm"
    path.write_text(SCRIPT.replace("PYTHON", sys.executable, 1).replace("in ENV", f"in {SHOWN!r}"))
    path.chmod(0o755)
    return path


def engine(folder: Path) -> Engine:
    """An engine with that `vllm`."""
    return Engine(name="scripted", kind=EngineKind.CPU, version="0.32.0+cpu", executable=scripted(folder))
