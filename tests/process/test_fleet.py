"""Several servers at once: two runs on one machine, `fleet`, `export proxy`, and a real nginx over two servers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from console.core.fleet import FleetDocument, FleetState
from tests.e2e.world import free_port, wait_for
from tests.process.fake_world import FakeWorld

pytestmark = pytest.mark.timeout(240)
LOAD = "8,2,0.41,1900"


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FakeWorld, list[str]]]:
    """Two runs of one machine, with half of its GPUs each; their addresses."""
    world = FakeWorld(tmp_path_factory.mktemp("fleet"))
    world.fake(load=LOAD)
    urls = []
    try:
        for gpus in ("0,1,2,3", "4,5,6,7"):
            port = free_port()
            urls.append(f"http://127.0.0.1:{port}")
            done = world.run(
                *("--profile", "cpu-smoke", "--detach", "--set", f"serve.port={port}"),
                *("--set", f"env.CUDA_VISIBLE_DEVICES={gpus}", "--set", "cost.usd_per_hour=7.5"),
            )
            assert done.returncode == 0, done.stderr
        yield world, urls
    finally:
        world.close()


def test_two_runs_of_one_machine_are_two_rows_with_gpus_of_their_own(two: tuple[FakeWorld, list[str]]) -> None:
    world, urls = two
    nobody = f"http://127.0.0.1:{free_port()}"
    done = world.run("fleet", "--json", "--watch", nobody, "--watch", f"{urls[0]}/v1")
    assert done.returncode == 0, done.stderr
    found = msgspec.json.decode(done.stdout, type=FleetDocument)
    assert [row.state for row in found.rows] == [FleetState.UNREACHABLE, FleetState.READY, FleetState.READY]
    by_url = {row.url: row for row in found.rows}
    assert set(by_url) == {nobody, *urls}, "a run that is watched too is one server"
    assert [by_url[url].gpus for url in urls] == [(0, 1, 2, 3), (4, 5, 6, 7)]
    for url in urls:
        row = by_url[url]
        assert (row.running, row.waiting, row.kv_cache_usage, row.watched) == (8, 2, 0.41, False)
        assert row.generation_tokens_per_s is not None
    assert by_url[nobody].watched
    assert "connection refused" in by_url[nobody].why
    totals = found.totals
    assert (totals.servers, totals.ready, totals.gpus) == (3, 2, 8)
    assert (totals.running, totals.waiting, totals.usd_per_hour) == (16, 4, 15.0)
    assert (totals.without_figures, totals.without_price) == (1, 1)


def test_the_same_as_a_table(two: tuple[FakeWorld, list[str]]) -> None:
    world, urls = two
    done = world.run("fleet")
    assert done.returncode == 0, done.stderr
    assert "2 of 2 ready · 8 GPUs · running 16 · waiting 4" in done.stdout
    assert "$15.00/h" in done.stdout
    assert all(url in done.stdout for url in urls)
    assert "GPU 4-7" in done.stdout


def test_an_endpoint_has_the_figures_of_its_supervisor(two: tuple[FakeWorld, list[str]], tmp_path: Path) -> None:
    """Seen from a console that did not start it: another operator, with directories of their own."""
    world, urls = two
    other = FakeWorld(tmp_path)
    other.env |= {"EAST_KEY": "sesame"}
    config = tmp_path / "config" / "dsv4-console" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'[watch.east]\nurl = "{urls[0]}"\nkey_env = "EAST_KEY"\nusd_per_hour = 30\n', encoding="utf-8")
    (row,) = msgspec.json.decode(other.run("fleet", "--json").stdout, type=FleetDocument).rows
    assert (row.name, row.watched, row.usd_per_hour, row.model) == ("east", True, 30.0, "tiny")
    status = next(
        found
        for path in world.runs.iterdir()
        if (found := json.loads(world.run("status", path.name, "--json").stdout))["run"]["url"] == urls[0]
    )
    engine: dict[str, Any] = status["snapshot"]["engine"]
    assert row.running == engine["running"]
    assert row.waiting == engine["waiting"]
    assert row.kv_cache_usage == engine["kv_cache_usage"]
    assert "sesame" not in (tmp_path / "config").joinpath("dsv4-console/config.toml").read_text(encoding="utf-8")


def test_a_port_that_the_other_run_has_is_named(two: tuple[FakeWorld, list[str]]) -> None:
    world, urls = two
    port = urls[0].rpartition(":")[2]
    done = world.run("--profile", "cpu-smoke", "--detach", "--set", f"serve.port={port}")
    assert done.returncode != 0
    assert port in done.stderr
    assert "--set serve.port=" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("fleet",), 5, "nothing is watched"),
        (("fleet", "--watch", "10.0.0.7"), 2, "no address to watch"),
        (("fleet", "--watch", "http://me:sesame@h"), 2, "--api-key-env NAME"),
        (("fleet", "--watch", "http://h", "--api-key-env", "NOT_SET"), 2, "NOT_SET is not set"),
        (("fleet", "--api-key-env", "NOT_SET"), 2, "for the endpoints of --watch"),
        (("--profile", "cpu-smoke", "--watch", "http://h"), 2, "--watch is for the terminal UI"),
        (("--watch", "http://h", "status"), 2, "--watch stands before a command"),
        (("export", "proxy"), 2, "nginx, vllm-router"),
        (("export", "proxy", "haproxy"), 2, "'haproxy'"),
        (("export", "proxy", "nginx"), 5, "no server to balance over"),
        (("export", "proxy", "nginx", "--parquet"), 2, "--parquet does not belong here"),
        (("export", "systemd", "cpu-smoke", "extra"), 2, "a third word does not belong here"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, words: tuple[str, ...], code: int, says: str) -> None:
    world = FakeWorld(tmp_path)
    done = world.run(*words)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "sesame" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_mistake_in_the_table_of_endpoints_is_named(tmp_path: Path) -> None:
    world = FakeWorld(tmp_path)
    config = tmp_path / "config" / "dsv4-console" / "config.toml"
    config.parent.mkdir(parents=True)
    for text, says in (
        ('[watch.east]\nurl = "h:1"\n', "watch.east"),
        ('[watch.east]\nurl = "http://h"\nkey = "sesame"\n', "unknown field `key`"),
        ('[watch.east]\nurl = "http://h"\nkey_env = "sk-1"\n', "key_env"),
    ):
        config.write_text(text, encoding="utf-8")
        done = world.run("fleet")
        assert done.returncode == 2, done.stderr
        assert says in done.stderr


def nginx() -> str:
    """The nginx of this machine; skips where there is none."""
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        pytest.skip("nginx is not installed (apt-get install nginx-light)")
    return found


class Nginx:
    """A real nginx with one file of ours in its http block; nothing of it lies outside `folder`."""

    def __init__(self, folder: Path, ours: Path) -> None:
        self.command = [nginx(), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
        temp = "\n".join(
            f"    {name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        user = "user root;\n" if os.geteuid() == 0 else ""
        (folder / "nginx.conf").write_text(
            f"{user}daemon off;\npid {folder}/pid;\nworker_processes 2;\nevents {{}}\n"
            f"http {{\n    access_log off;\n{temp}\n    include {ours};\n}}\n",
            encoding="utf-8",
        )
        self._child: subprocess.Popen[bytes] | None = None

    def check(self) -> None:
        """`nginx -t`."""
        done = subprocess.run([*self.command, "-t"], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr

    def __enter__(self) -> None:
        self._child = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, start_new_session=True)

    def __exit__(self, *_: object) -> None:
        assert self._child is not None
        self._child.terminate()
        self._child.wait(30)


def streamed(url: str, tokens: int) -> tuple[list[float], str]:
    """Arrival of each piece of a streamed answer, in seconds, and its text."""
    body = {
        "model": "tiny",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": tokens,
        "stream": True,
    }
    moments, text = [], ""
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60.0, trust_env=False) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                moments.append(time.monotonic())
                for choice in json.loads(line.removeprefix("data: "))["choices"]:
                    text += choice["delta"].get("content") or ""
    return moments, text


def answered(world: FakeWorld) -> dict[str, int]:
    """Chat requests by address, as the servers' logs have them."""
    counts = {}
    for path in world.runs.iterdir():
        url = json.loads((path / "run.json").read_text(encoding="utf-8"))["url"]
        log = (path / "server.log").read_text(encoding="utf-8", errors="replace")
        counts[url] = log.count('"POST /v1/chat/completions')
    return counts


def test_a_real_nginx_takes_the_file_and_streams_over_both(two: tuple[FakeWorld, list[str]], tmp_path: Path) -> None:
    world, urls = two
    for url in urls:
        httpx.post(f"{url}/fake", json={"tokens_per_s": 20.0}, timeout=10.0, trust_env=False)
    front = f"http://127.0.0.1:{free_port()}"
    ours = tmp_path / "vllm.conf"
    done = world.run("export", "proxy", "nginx", "--listen", front.removeprefix("http://"), "-o", str(ours))
    assert done.returncode == 0, done.stderr
    assert all(url.removeprefix("http://") in ours.read_text(encoding="utf-8") for url in urls)
    server = Nginx(tmp_path, ours)
    server.check()

    def healthy() -> bool:
        try:
            return httpx.get(f"{front}/health", timeout=10.0, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    with server:
        wait_for("nginx to answer", healthy, 60.0)
        assert httpx.get(f"{front}/metrics", timeout=10.0, trust_env=False).status_code == 404
        before = answered(world)
        spans = []
        for _ in range(4):
            moments, text = streamed(front, 12)
            assert text
            spans.append(moments[-1] - moments[0])
        # A buffered answer comes at once, each time; 12 tokens at 20 a second take more than half a second.
        assert max(spans) > 0.25
        after = answered(world)
        assert sum(after.values()) - sum(before.values()) == 4
        assert all(after[url] > before[url] for url in urls), "both got some"


def test_nginx_goes_past_a_server_that_is_gone(two: tuple[FakeWorld, list[str]], tmp_path: Path) -> None:
    world, urls = two
    nobody = f"http://127.0.0.1:{free_port()}"
    front = f"http://127.0.0.1:{free_port()}"
    ours = tmp_path / "vllm.conf"
    done = world.run(
        *("export", "proxy", "nginx", nobody, urls[1], "--listen", front.removeprefix("http://"), "-o", str(ours))
    )
    assert done.returncode == 0, done.stderr
    server = Nginx(tmp_path, ours)
    server.check()

    def serves() -> bool:
        try:
            return streamed(front, 3)[1] != ""
        except (httpx.TransportError, AssertionError):
            return False

    with server:
        wait_for("an answer", serves, 60.0)
        assert all(streamed(front, 3)[1] for _ in range(4))


def test_the_router_gets_the_models_that_endpoints_serve(two: tuple[FakeWorld, list[str]]) -> None:
    world, urls = two
    found = world.json("export", "proxy", "vllm-router", *urls)
    assert found["servers"][0] == {"name": urls[0].removeprefix("http://"), "url": urls[0], "model": "tiny"}
    assert f"--static-backends {','.join(urls)}" in found["text"]
    assert "--static-models tiny,tiny" in found["text"]
    nobody = f"http://127.0.0.1:{free_port()}"
    done = world.run("export", "proxy", "vllm-router", nobody)
    assert done.returncode == 2
    assert "--model NAME" in done.stderr
    assert "--static-models given" in world.run("export", "proxy", "vllm-router", nobody, "--model", "given").stdout
    assert subprocess.run(["sh", "-n"], input=found["text"], text=True, check=False).returncode == 0
