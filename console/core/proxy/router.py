"""vLLM's production-stack router over several servers, as its command line.

Source: vllm-project/production-stack, src/vllm_router/parsers/parser.py. Its backend health checks are left off: they
ask each model for an answer, which is load and keeps an idle server from being stopped.
"""

from __future__ import annotations

import shlex
from typing import Final

from console.core.proxy.servers import ProxyError, ProxySpec, comment, plain_address

__all__ = ["SESSION_KEY", "router_argv", "router_file"]

COMMAND: Final = "vllm-router"
SESSION_KEY: Final = "x-user-id"
"""Header by which `session` tells users apart, as in the router's own examples."""
STATS_INTERVAL_S: Final = 10


def router_argv(spec: ProxySpec) -> tuple[str, ...]:
    """The router's command.

    Raises:
        ProxyError: a server's model is not known, or one cannot be reached by plain HTTP.
    """
    unknown = [server.url for server in spec.servers if not server.model]
    if unknown:
        raise ProxyError(
            f"the router routes by model, and that of {', '.join(unknown)} is not known; it does not answer "
            "/v1/models here: start it, name its key with --api-key-env, or say --model NAME"
        )
    for server in spec.servers:
        plain_address(server)
        if "," in server.model:
            raise ProxyError(f"{server.model}: the router separates models by commas, and this one has one in it")
    where = spec.where
    session = ("--session-key", SESSION_KEY) if spec.routing == "session" else ()
    return (
        COMMAND,
        *("--host", where.host),
        *("--port", str(where.port)),
        *("--service-discovery", "static"),
        *("--static-backends", ",".join(server.url for server in spec.servers)),
        *("--static-models", ",".join(server.model for server in spec.servers)),
        *("--routing-logic", spec.routing),
        *session,
        *("--engine-stats-interval", str(STATS_INTERVAL_S)),
    )


def router_file(spec: ProxySpec) -> str:
    """A shell script that becomes the router. Raises ProxyError as `router_argv`."""
    command, *words = router_argv(spec)
    pairs = [f"{name} {shlex.quote(value)}" for name, value in zip(words[::2], words[1::2], strict=True)]
    names = ", ".join(comment(server.name) for server in spec.servers)
    lines = [
        "#!/bin/sh",
        "# Written by dsv4-console export proxy vllm-router.",
        f"# Servers: {names}",
        "# The router of https://github.com/vllm-project/production-stack, installed from there or run from its image.",
        "# The package vllm-router on PyPI is another program (vllm-project/router), with other options.",
        " \\\n    ".join([f"exec {command}", *pairs]),
        "",
    ]
    return "\n".join(lines)
