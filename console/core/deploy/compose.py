"""A profile as a Docker Compose file, one for each machine.

Facts: the Compose Specification (https://github.com/compose-spec/compose-spec), GPU access by device reservations
(https://docs.docker.com/compose/how-tos/gpu-support/), `--ipc=host` by vLLM's own notes on Docker
(https://docs.vllm.ai/en/stable/deployment/docker/).
"""

from __future__ import annotations

from typing import Any

from console.core.deploy.spec import CACHE, DeploySpec, command_of, start_budget, stop_s, with_host
from console.core.deploy.yaml import dump
from console.core.nodes import gpus_per_node, ports
from console.core.profile import EngineKind, RestartPolicy

__all__ = ["compose_file", "compose_name"]

HEALTH_INTERVAL_S = 10
HEALTH_TIMEOUT_S = 20
HEALTH_RETRIES = 15
"""A busy server answers /health late: five minutes of silence are a fault, one slow answer is not."""
LOG_FILES = {"max-size": "50m", "max-file": "5"}
ANY = "0.0.0.0"  # noqa: S104 - inside the container; who reaches it is decided by `ports`


def compose_name(spec: DeploySpec, rank: int) -> str:
    """`compose.yaml`, or `compose.node1.yaml` where there are several."""
    return f"compose.node{rank}.yaml" if spec.nodes > 1 else "compose.yaml"


def compose_file(spec: DeploySpec, rank: int = 0) -> str:
    """The file of one machine."""
    alone = spec.nodes == 1
    profile = with_host(spec.profile, ANY) if alone else spec.profile
    command = command_of(spec, profile, spec.node(rank))
    service: dict[str, Any] = {
        "image": spec.image,
        "entrypoint": list(command.argv[:2]),
        "command": [_literal(argument) for argument in command.argv[2:]],
        "environment": {name: _literal(value) for name, value in _environment(command.env).items()},
        "env_file": [{"path": f"{spec.name}.env", "required": True}],
        "volumes": _volumes(spec),
        "ipc": "host",
        "init": True,
        "ulimits": {"memlock": -1, "nofile": {"soft": 1_048_576, "hard": 1_048_576}},
        "security_opt": ["no-new-privileges:true"],
        "stop_grace_period": f"{stop_s(spec.profile)}s",
        "restart": "no" if spec.profile.supervise.restart is RestartPolicy.NEVER else "unless-stopped",
        "logging": {"driver": "json-file", "options": LOG_FILES},
    }
    if alone:
        host, port = spec.profile.serve.host, spec.profile.serve.port
        address = f"[{host}]" if ":" in host else host
        service["ports"] = [f"{address}:{port}:{port}"]
    else:
        service["network_mode"] = "host"
        service["cap_add"] = ["IPC_LOCK"]
    service |= _devices(spec)
    budget, how = start_budget(spec)
    if rank == 0:
        service["healthcheck"] = _health(spec.profile.serve.port if alone else None, spec, budget)
    data = {"name": spec.name, "services": {"vllm": service}, "volumes": {"vllm-cache": {}}}
    return dump([(_comments(spec, rank, how), data)])


def _literal(text: str) -> str:
    """Compose replaces `$NAME` in every value; `$$` stands for a dollar."""
    return text.replace("$", "$$")


def _environment(env: dict[str, str]) -> dict[str, str]:
    return {"HF_HOME": f"{CACHE}/huggingface", "VLLM_CACHE_ROOT": f"{CACHE}/vllm"} | env


def _volumes(spec: DeploySpec) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"type": "bind", "source": "${HF_HOME:-${HOME}/.cache/huggingface}", "target": f"{CACHE}/huggingface"},
        {"type": "volume", "source": "vllm-cache", "target": f"{CACHE}/vllm"},
    ]
    if spec.model_path:
        path = _literal(spec.model_path)
        found.append({"type": "bind", "source": path, "target": path, "read_only": True})
    return found


def _devices(spec: DeploySpec) -> dict[str, Any]:
    if spec.profile.engine.kind is EngineKind.CUDA:
        device = {"driver": "nvidia", "count": gpus_per_node(spec.profile), "capabilities": ["gpu"]}
        return {"deploy": {"resources": {"reservations": {"devices": [device]}}}}
    if spec.profile.engine.kind is EngineKind.ROCM:
        return {"devices": ["/dev/kfd:/dev/kfd", "/dev/dri:/dev/dri"], "group_add": ["video"]}
    return {}


def _health(port: int | None, spec: DeploySpec, budget: int) -> dict[str, Any]:
    host = "127.0.0.1" if port or spec.profile.serve.host in (ANY, "", "::") else spec.profile.serve.host
    host = f"[{host}]" if ":" in host else host
    url = f"http://{host}:{spec.profile.serve.port}/health"
    # Python is in every image of vLLM's; curl need not be.
    ask = f"import urllib.request; urllib.request.urlopen({url!r}, timeout={HEALTH_TIMEOUT_S - 5})"
    return {
        "test": ["CMD", "python3", "-c", ask],
        "interval": f"{HEALTH_INTERVAL_S}s",
        "timeout": f"{HEALTH_TIMEOUT_S}s",
        "retries": HEALTH_RETRIES,
        "start_period": f"{budget}s",
    }


def _comments(spec: DeploySpec, rank: int, how: str) -> list[str]:
    file = compose_name(spec, rank)
    lines = [
        f"Profile {spec.profile_name}: {spec.profile.profile.title}. Written by dsv4-console export compose.",
        f"Keys come from {spec.name}.env beside this file, never from it. Make it readable by you alone (chmod 600):",
        "VLLM_API_KEY=…, which clients must then send, and HF_TOKEN=… where the model asks for one.",
        f"Start: docker compose -f {file} up -d; stop: docker compose -f {file} stop",
        f"start_period: {how}.",
    ]
    if spec.profile.supervise.restart is not RestartPolicy.NEVER:
        lines.append("restart: vLLM may end with code 0 when its engine has died, which on-failure would not restart.")
    if spec.nodes > 1:
        text = ", ".join(str(port) for port in ports(spec.profile))
        lines += [
            f"Machine {rank} of {spec.nodes}. The others must reach port {text} of machine 0, and vLLM opens more on",
            "free ports: let the machines reach each other on all TCP ports of their own network, and nobody else.",
            "Start all of them within the time of a start. If one was restarted, restart all: vLLM does not rejoin.",
            "For InfiniBand add to the service: devices: [/dev/infiniband:/dev/infiniband].",
        ]
    return lines
