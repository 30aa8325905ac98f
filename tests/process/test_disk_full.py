"""A really full disk: a small tmpfs in a mount namespace of its own, the supervisor and a scripted server on it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SIZE_MIB = 6

DRIVER = """
import json, os, subprocess, sys
from pathlib import Path
import httpx
from tests.e2e.world import wait_for
from tests.process.fake_world import FakeWorld

home = Path(sys.argv[1])
(home / "state").mkdir()
subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={sys.argv[2]}m", "none", str(home / "state")], check=True)
world = FakeWorld(home)
answer = {}

def disk():
    snapshot = world.status()["snapshot"] or {}
    return next((s["error"] for s in snapshot.get("sources", ()) if s["name"] == "disk"), "")

def healthy():
    return httpx.get(f"{world.url}/health", timeout=5, trust_env=False).status_code == 200

try:
    run = Path(world.detached()["log"]).parent
    filler = home / "state" / "filler"
    with open(filler, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    world.post("/fake", {"log_storm": 2000})
    answer["full"] = wait_for("full", lambda: "is full" in disk() and disk(), 40)
    answer["healthy"] = wait_for("health", healthy, 10)
    answer["code"] = world.run("status").returncode
    world.post("/fake", {"log_storm": 0})
    filler.unlink()
    (run / "server.log").write_bytes(b"")
    answer["room"] = wait_for("room", lambda: "is full" not in disk() and (disk() or "none"), 40)
    answer["stop"] = world.run("stop").returncode
    answer["events"] = [json.loads(line)["text"] for line in (run / "events.jsonl").read_text().splitlines()]
    answer["state"] = json.loads((run / "run.json").read_text())["state"]
finally:
    world.close()
print(json.dumps(answer))
"""


def _namespaces() -> bool:
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"]
    return (
        shutil.which("unshare") is not None
        and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )


@pytest.mark.skipif(not _namespaces(), reason="this user may make no mount namespace")
def test_serving_goes_on_and_the_loss_is_said(tmp_path: Path) -> None:
    done = subprocess.run(
        ["unshare", "-rm", sys.executable, "-c", DRIVER, str(tmp_path), str(SIZE_MIB)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answer = json.loads(done.stdout)
    assert "serving goes on. Free some space" in answer["full"]
    assert answer["healthy"]
    assert answer["code"] == 0
    assert answer["stop"] == 0
    assert answer["state"] == "stopped"
    assert any("records could not be written: No space left on device" in text for text in answer["events"]), answer
