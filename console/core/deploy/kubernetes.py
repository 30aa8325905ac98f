"""A profile as Kubernetes manifests: a Deployment for one machine, a LeaderWorkerSet for several.

Facts: Kubernetes 1.37 (probes, Pod, Deployment), LeaderWorkerSet v1 (https://lws.sigs.k8s.io/docs/reference/: it sets
LWS_LEADER_ADDRESS, LWS_GROUP_SIZE and, since 0.6, LWS_WORKER_INDEX in each container; its service of the leader answers
before the leader is ready), Prometheus operator (ServiceMonitor, monitoring.coreos.com/v1).
"""

from __future__ import annotations

import math
from typing import Any

from console.core.deploy.spec import CACHE, DeploySpec, cache_gib, command_of, start_budget, stop_s, with_host
from console.core.deploy.yaml import Document, dump
from console.core.nodes import Layout, Node, gpus_per_node, layout
from console.core.preflight.machine import ENGRAM_BYTES, host_need
from console.core.profile import EngineKind

__all__ = ["manifests"]

PORT = "http"
PROBE_PERIOD_S = 10
LIVENESS_PERIOD_S, LIVENESS_FAILURES = 20, 15
PROBE_TIMEOUT_S = 15
"""A busy server answers /health late. A server whose engine has died ends by itself, so nothing hangs on haste here."""
PRE_STOP_S = 10
"""Until every proxy has heard that the pod takes no more requests."""
SHM_GIB = 16
CPUS_PER_GPU, CPUS_SPARE = 2, 2
LEADER_ADDRESS = "$(LWS_LEADER_ADDRESS)"
WORKER_INDEX = "LWS_WORKER_INDEX"
GPU_RESOURCES = {EngineKind.CUDA: "nvidia.com/gpu", EngineKind.ROCM: "amd.com/gpu"}
ANY = "0.0.0.0"  # noqa: S104 - inside the pod; the Service and network policies decide who reaches it


def manifests(spec: DeploySpec, namespace: str | None = None) -> str:
    """All objects in one YAML stream."""
    documents: list[Document] = [
        (_comments(spec), _claim(spec)),
        _workload(spec),
        ((), _service(spec)),
        (("Needs the Prometheus operator; without it, leave this object out.",), _monitor(spec)),
    ]
    if namespace:
        for _, each in documents:
            each["metadata"]["namespace"] = namespace
    return dump(documents)


def _labels(spec: DeploySpec) -> dict[str, str]:
    return {"app.kubernetes.io/name": "vllm", "app.kubernetes.io/instance": spec.name}


def _meta(spec: DeploySpec, suffix: str = "") -> dict[str, Any]:
    labels = _labels(spec) | {"app.kubernetes.io/managed-by": "dsv4-console"}
    return {"name": f"{spec.name}{suffix}", "labels": labels}


def _claim(spec: DeploySpec) -> dict[str, Any]:
    mode = "ReadWriteMany" if spec.nodes > 1 else "ReadWriteOnce"
    size = {"requests": {"storage": f"{cache_gib(spec.profile)}Gi"}}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": _meta(spec, "-cache"),
        "spec": {"accessModes": [mode], "resources": size},
    }


def _service(spec: DeploySpec) -> dict[str, Any]:
    port = spec.profile.serve.port
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _meta(spec),
        "spec": {
            "selector": _labels(spec) | {"app.kubernetes.io/component": "server"},
            "ports": [{"name": PORT, "port": port, "targetPort": PORT, "protocol": "TCP"}],
        },
    }


def _monitor(spec: DeploySpec) -> dict[str, Any]:
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": _meta(spec),
        "spec": {
            "selector": {"matchLabels": _labels(spec)},
            "endpoints": [{"port": PORT, "path": "/metrics", "interval": "15s", "scrapeTimeout": "10s"}],
        },
    }


def _workload(spec: DeploySpec) -> Document:
    budget, how = start_budget(spec, elsewhere=True)
    failures = math.ceil(budget / PROBE_PERIOD_S)
    comments = [
        f"startupProbe: {how}: {budget} s / {PROBE_PERIOD_S} s = {failures} failures until the pod is given up.",
        f"livenessProbe: {LIVENESS_FAILURES} × {LIVENESS_PERIOD_S} s = {LIVENESS_FAILURES * LIVENESS_PERIOD_S} s of "
        "silence, so that a busy server is not killed.",
        f"terminationGracePeriodSeconds: {PRE_STOP_S} s until no more requests come, then supervise.drain_timeout_s + "
        f"supervise.stop_timeout_s + 15 s = {stop_s(spec.profile)} s.",
    ]
    if spec.nodes == 1:
        server = _pod(spec, Node(), failures)
        return comments, {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": _meta(spec),
            "spec": {
                "replicas": 1,
                # A second pod would wait for the GPUs that the first one holds.
                "strategy": {"type": "Recreate"},
                "progressDeadlineSeconds": budget + 600,
                "selector": {"matchLabels": _labels(spec)},
                "template": server,
            },
        }
    comments.append("Needs LeaderWorkerSet 0.6 or later (https://lws.sigs.k8s.io). One group is one server.")
    return comments, {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": _meta(spec),
        "spec": {
            "replicas": 1,
            "leaderWorkerTemplate": {
                "size": spec.nodes,
                # vLLM's ranks do not rejoin: one that was lost takes the whole group along.
                "restartPolicy": "RecreateGroupOnPodRestart",
                "leaderTemplate": _pod(spec, Node(address=LEADER_ADDRESS), failures),
                "workerTemplate": _pod(spec, Node(rank=1, address=LEADER_ADDRESS), failures),
            },
        },
    }


def _pod(spec: DeploySpec, node: Node, failures: int) -> dict[str, Any]:
    role = "worker" if node.rank else "server"
    container: dict[str, Any] = {
        "name": "vllm",
        "image": spec.image,
        **_command(spec, node),
        "env": _environment(spec, node),
        "resources": _resources(spec),
        "securityContext": _security(spec),
        "volumeMounts": [
            {"name": "cache", "mountPath": CACHE},
            {"name": "dshm", "mountPath": "/dev/shm"},  # noqa: S108 - the pod's own
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the pod's own
        ],
    }
    volumes: list[dict[str, Any]] = [
        {"name": "cache", "persistentVolumeClaim": {"claimName": f"{spec.name}-cache"}},
        # 64 MiB of shared memory, as a pod has them, are too few for NCCL and vLLM's queues.
        {"name": "dshm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{_shm_gib(spec)}Gi"}},
        {"name": "tmp", "emptyDir": {}},
    ]
    if spec.model_path:
        container["volumeMounts"].append({"name": "model", "mountPath": spec.model_path, "readOnly": True})
        volumes.append({"name": "model", "hostPath": {"path": spec.model_path, "type": "Directory"}})
    if role == "server":
        container |= _probes(spec, failures)
    else:
        # All pods of a group are told to end at once: ranks go last, or the requests that drain lose them.
        wait = PRE_STOP_S + math.ceil(spec.profile.supervise.drain_timeout_s)
        container["lifecycle"] = {"preStop": {"exec": {"command": ["sleep", str(wait)]}}}
    return {
        "metadata": {"labels": _labels(spec) | {"app.kubernetes.io/component": role}},
        "spec": {
            "terminationGracePeriodSeconds": PRE_STOP_S + stop_s(spec.profile),
            "automountServiceAccountToken": False,
            # Else a Service called vllm would set VLLM_PORT, which vLLM reads as its own setting.
            "enableServiceLinks": False,
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
            "volumes": volumes,
        },
    }


def _command(spec: DeploySpec, node: Node) -> dict[str, Any]:
    argv = list(command_of(spec, with_host(spec.profile, ANY), node).argv)
    arguments = [argument if argument == node.address else _literal(argument) for argument in argv[2:]]
    if not node.rank:
        return {"command": argv[:2], "args": arguments}
    # Workers differ by their number alone, which the pod learns only when it is there.
    if layout(spec.profile) is Layout.EXECUTOR:
        arguments[arguments.index("--node-rank") + 1] = f"$({WORKER_INDEX})"
        return {"command": argv[:2], "args": arguments}
    place = arguments.index("--data-parallel-start-rank")
    local = int(arguments[place + 1])
    del arguments[place : place + 2]
    script = f'exec vllm serve "$@" --data-parallel-start-rank "$(({WORKER_INDEX} * {local}))"'
    # `$((…))` is the shell's: kubelet takes `$$` for a dollar and leaves what follows alone.
    return {"command": ["/bin/sh", "-c", script.replace("$((", "$$(("), "vllm"], "args": arguments}


def _literal(text: str) -> str:
    """Kubernetes replaces `$(NAME)` in commands, arguments and variables; `$$(` stands for `$(`."""
    return text.replace("$(", "$$(")


def _environment(spec: DeploySpec, node: Node) -> list[dict[str, Any]]:
    plain = {"HF_HOME": f"{CACHE}/huggingface", "VLLM_CACHE_ROOT": f"{CACHE}/vllm", "HOME": CACHE}
    plain |= command_of(spec, spec.profile, node).env
    plain.pop("VLLM_HOST_IP", None)
    entries: list[dict[str, Any]] = [{"name": name, "value": _literal(value)} for name, value in plain.items()]
    if spec.nodes > 1:
        entries.append({"name": "VLLM_HOST_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}})
    # Without a key everyone in the cluster could use the model: the pod does not start without one.
    for name, optional in (("VLLM_API_KEY", False), ("HF_TOKEN", True)):
        reference = {"name": f"{spec.name}-keys", "key": name, "optional": optional}
        entries.append({"name": name, "valueFrom": {"secretKeyRef": reference}})
    return entries


def _resources(spec: DeploySpec) -> dict[str, Any]:
    need, _ = host_need(spec.profile)
    each = gpus_per_node(spec.profile)
    requests = {"cpu": str(CPUS_PER_GPU * each + CPUS_SPARE), "memory": f"{math.ceil(need / 2**30)}Gi"}
    gpu = GPU_RESOURCES.get(spec.profile.engine.kind)
    # No limit on memory: reading 0.9 TB of weights fills the page cache, and a limit would count it.
    return {"requests": requests, "limits": {gpu: str(each)}} if gpu else {"requests": requests}


def _security(spec: DeploySpec) -> dict[str, Any]:
    capabilities: dict[str, Any] = {"drop": ["ALL"]}
    if spec.nodes > 1:
        capabilities["add"] = ["IPC_LOCK"]  # InfiniBand pins memory
    return {"allowPrivilegeEscalation": False, "capabilities": capabilities}


def _shm_gib(spec: DeploySpec) -> int:
    """V4.1's tables are shared there between data parallel engines."""
    data = (spec.profile.serve.data_parallel_size or 1) > 1
    engram = data and host_need(spec.profile)[0] > ENGRAM_BYTES
    return SHM_GIB + (ENGRAM_BYTES // 2**30 if engram else 0)


def _probes(spec: DeploySpec, failures: int) -> dict[str, Any]:
    ask = {"httpGet": {"path": "/health", "port": PORT}, "timeoutSeconds": PROBE_TIMEOUT_S}
    return {
        "ports": [{"name": PORT, "containerPort": spec.profile.serve.port, "protocol": "TCP"}],
        "startupProbe": ask | {"periodSeconds": PROBE_PERIOD_S, "failureThreshold": failures},
        "readinessProbe": ask | {"periodSeconds": PROBE_PERIOD_S, "failureThreshold": 3},
        "livenessProbe": ask | {"periodSeconds": LIVENESS_PERIOD_S, "failureThreshold": LIVENESS_FAILURES},
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(PRE_STOP_S)]}}},
    }


def _comments(spec: DeploySpec) -> list[str]:
    hardware = spec.profile.hardware
    lines = [
        f"Profile {spec.profile_name}: {spec.profile.profile.title}. Written by dsv4-console export kubernetes.",
        "Keys come from a Secret, never from here. First, with VLLM_API_KEY=… and, where the model asks for one,",
        f"HF_TOKEN=… in keys.env: kubectl create secret generic {spec.name}-keys --from-env-file=keys.env",
        f"Each pod takes {gpus_per_node(spec.profile)} GPUs of one machine ({hardware.text}); choose the machines by a",
        "nodeSelector, e.g. nvidia.com/gpu.product. For InfiniBand add your network plugin's resource.",
    ]
    if spec.nodes > 1:
        lines.append("The cache is shared: its storage class must offer ReadWriteMany.")
    return lines
