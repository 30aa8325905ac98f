"""Configurations of load balancers: what they say, and what is refused."""

from __future__ import annotations

import argparse
import shlex
from typing import Any

import pytest
from msgspec.structs import replace

from console.core.proxy import PROXIES, Balanced, ProxyError, ProxySpec
from console.core.proxy.router import router_argv
from console.core.routing import ROUTINGS

ONE = Balanced(name="one", url="http://10.0.0.7:8000", model="m")
TWO = Balanced(name="two\n}\nserver { listen 1; }", url="http://[fd00::7]:8001", model="m")
SPEC = ProxySpec(servers=(ONE, TWO), listen="127.0.0.1:8080")


def test_nginx_streams_and_repeats_no_request_that_was_taken() -> None:
    text = PROXIES["nginx"](SPEC)
    assert "least_conn;" in text
    assert "server 10.0.0.7:8000 max_fails=2 fail_timeout=10s;" in text
    assert "server [fd00::7]:8001 " in text
    assert "proxy_buffering off;" in text
    assert "proxy_http_version 1.1;" in text
    assert 'proxy_set_header Connection "";' in text
    settings = [line.strip() for line in text.splitlines() if not line.strip().startswith("#")]
    assert "proxy_next_upstream error timeout;" in settings
    assert not [line for line in settings if "non_idempotent" in line]


def test_a_name_from_outside_stays_in_its_comment() -> None:
    for kind in PROXIES:
        assert "listen 1;" not in [line.split("#")[0].strip() for line in PROXIES[kind](SPEC).splitlines()]
        assert not [line for line in PROXIES[kind](SPEC).splitlines() if line.startswith("server { listen 1")]


def test_the_router_gets_one_model_per_server() -> None:
    argv = router_argv(SPEC)
    given = dict(zip(argv[1::2], argv[2::2], strict=True))
    assert given["--static-backends"] == "http://10.0.0.7:8000,http://[fd00::7]:8001"
    assert given["--static-models"] == "m,m"
    assert given["--service-discovery"] == "static"
    for routing in ROUTINGS:
        words = router_argv(replace(SPEC, routing=routing))
        assert ("--session-key" in words) is (routing == "session")
    assert PROXIES["vllm-router"](replace(SPEC, servers=(replace(ONE, model="a'b c"),))).count("'a'\"'\"'b c'") == 1


ROUTER_OPTIONS: dict[str, dict[str, Any]] = {
    "--host": {},
    "--port": {"type": int},
    "--service-discovery": {"choices": ["static", "k8s"]},
    "--static-backends": {},
    "--static-models": {},
    "--static-backend-health-checks": {"action": "store_true"},
    "--routing-logic": {
        "choices": ["roundrobin", "session", "kvaware", "prefixaware", "disaggregated_prefill", "priority"]
    },
    "--session-key": {},
    "--engine-stats-interval": {"type": int},
}
"""Those that concern static backends, of production-stack's src/vllm_router/parsers/parser.py at commit 008a23bd4837:
names, types and values. It cannot be installed here: on the package index its name is another program's."""


@pytest.mark.parametrize("routing", ROUTINGS)
def test_the_router_understands_its_command(routing: str) -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)
    for name, kind in ROUTER_OPTIONS.items():
        parser.add_argument(name, **kind)
    script = PROXIES["vllm-router"](replace(SPEC, routing=routing))
    line = script[script.index("exec ") :].removeprefix("exec ").replace("\\\n", " ")
    command, *words = shlex.split(line)
    given = parser.parse_args(words)
    assert command == "vllm-router"
    assert (given.host, given.port) == ("127.0.0.1", 8080)
    # What its `validate_args` asks for.
    assert given.service_discovery == "static"
    assert len(given.static_backends.split(",")) == len(given.static_models.split(",")) == len(SPEC.servers)
    assert given.routing_logic == routing
    assert given.session_key or routing != "session"
    assert given.engine_stats_interval > 0
    assert not given.static_backend_health_checks, "they would need the models' types, and are load"


@pytest.mark.parametrize(
    ("kind", "servers", "listen", "says"),
    [
        ("nginx", (ONE, replace(TWO, model="other")), "127.0.0.1:1", "cannot tell requests apart by model"),
        ("nginx", (replace(ONE, url="https://a"),), "127.0.0.1:1", "stands behind a proxy already"),
        ("nginx", (replace(ONE, url="http://a/path"),), "127.0.0.1:1", "stands behind a proxy already"),
        ("nginx", (replace(ONE, url="http://a;b"),), "127.0.0.1:1", "no address that can be written down"),
        ("nginx", (ONE,), "8080", "an address and a port"),
        ("vllm-router", (replace(ONE, model=""),), "127.0.0.1:1", "is not known"),
        ("vllm-router", (replace(ONE, model="a,b"),), "127.0.0.1:1", "has one in it"),
        ("vllm-router", (ONE,), "127.0.0.1:99999", "an address and a port"),
    ],
)
def test_what_is_refused(kind: str, servers: tuple[Balanced, ...], listen: str, says: str) -> None:
    with pytest.raises(ProxyError, match=says):
        PROXIES[kind](ProxySpec(servers=servers, listen=listen))
