"""Exports: every shipped profile against the schemas of those who read them, and what a schema cannot say.

Kubernetes 1.37 (strict) by kubernetes-validate, the Compose Specification as check-jsonschema ships it. No package that
a test could use ships the schemas of LeaderWorkerSet and ServiceMonitor. Of those, the fields written here are held to
`LWS` and `MONITOR` below, by hand after https://lws.sigs.k8s.io/docs/reference/leaderworkerset.v1/ and
https://prometheus-operator.dev/docs/api-reference/api/; pods in a LeaderWorkerSet are held to Kubernetes' own schema.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from console.core.command import is_local_model
from console.core.deploy.compose import compose_file, compose_name
from console.core.deploy.kubernetes import manifests
from console.core.deploy.spec import DeploySpec, engine_version, image_of, start_budget, stop_s
from console.core.deploy.systemd import group_units
from console.core.overrides import apply_overrides
from console.core.profile import EngineKind, Profile
from console.core.profile_read import read_profile

ROOT = Path(__file__).parents[2]
PROFILES = {
    path.stem: read_profile(path.read_text(encoding="utf-8"), path.name)
    for path in sorted((ROOT / "profiles").glob("*.toml"))
}
SEVERAL = [name for name, profile in PROFILES.items() if profile.hardware.nodes > 1]
KUBERNETES = "1.37.0"
COMPOSE = json.loads(
    resources.files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json").read_text(encoding="utf-8")
)
LWS: dict[str, Any] = {
    "type": "object",
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "additionalProperties": False,
    "properties": {
        "apiVersion": {"const": "leaderworkerset.x-k8s.io/v1"},
        "kind": {"const": "LeaderWorkerSet"},
        "metadata": {"type": "object", "required": ["name"]},
        "spec": {
            "type": "object",
            "required": ["leaderWorkerTemplate"],
            "additionalProperties": False,
            "properties": {
                "replicas": {"type": "integer", "minimum": 0},
                "startupPolicy": {"enum": ["LeaderCreated", "LeaderReady"]},
                "rolloutStrategy": {"type": "object"},
                "networkConfig": {"type": "object"},
                "leaderWorkerTemplate": {
                    "type": "object",
                    "required": ["workerTemplate"],
                    "additionalProperties": False,
                    "properties": {
                        "size": {"type": "integer", "minimum": 1},
                        "restartPolicy": {"enum": ["RecreateGroupOnPodRestart", "None", "Default"]},
                        "leaderTemplate": {"type": "object"},
                        "workerTemplate": {"type": "object"},
                    },
                },
            },
        },
    },
}
MONITOR: dict[str, Any] = {
    "type": "object",
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "additionalProperties": False,
    "properties": {
        "apiVersion": {"const": "monitoring.coreos.com/v1"},
        "kind": {"const": "ServiceMonitor"},
        "metadata": {"type": "object", "required": ["name", "labels"]},
        "spec": {
            "type": "object",
            "required": ["endpoints", "selector"],
            "additionalProperties": False,
            "properties": {
                "selector": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {"matchLabels": {"type": "object", "additionalProperties": {"type": "string"}}},
                },
                "endpoints": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {
                            "port": {"type": "string"},
                            "path": {"type": "string"},
                            "interval": {"type": "string", "pattern": "^[0-9]+s$"},
                            "scrapeTimeout": {"type": "string", "pattern": "^[0-9]+s$"},
                        },
                    },
                },
            },
        },
    },
}
BY_HAND = {"LeaderWorkerSet": LWS, "ServiceMonitor": MONITOR}
SECRET = re.compile(r"sk-|hf_[A-Za-z]")


def spec(name: str, **fields: Any) -> DeploySpec:
    profile: Profile = fields.pop("profile", PROFILES[name])
    version = engine_version(profile)
    values = {
        "profile_name": name,
        "profile": profile,
        "version": version,
        "image": image_of(profile, version),
        "model_path": "/models/tiny-llama" if is_local_model(profile.model.id) else None,
    }
    return DeploySpec(**(values | fields))


def objects(which: DeploySpec, namespace: str | None = None) -> dict[str, Any]:
    return {each["kind"]: each for each in yaml.safe_load_all(manifests(which, namespace))}


def pods(found: dict[str, Any]) -> list[dict[str, Any]]:
    if "Deployment" in found:
        return [found["Deployment"]["spec"]["template"]]
    group = found["LeaderWorkerSet"]["spec"]["leaderWorkerTemplate"]
    return [group["leaderTemplate"], group["workerTemplate"]]


def container(pod: dict[str, Any]) -> dict[str, Any]:
    (only,) = pod["spec"]["containers"]
    return dict(only)


def service_of(name: str, rank: int = 0, **fields: Any) -> dict[str, Any]:
    return dict(yaml.safe_load(compose_file(spec(name, **fields), rank))["services"]["vllm"])


def compose_schema() -> Any:
    return jsonschema.validators.validator_for(COMPOSE)(COMPOSE)


def kubernetes(document: dict[str, Any]) -> None:
    kubernetes_validate.validate(document, KUBERNETES, strict=True)


@pytest.mark.parametrize("name", PROFILES)
def test_compose_files_are_of_the_specification(name: str) -> None:
    which = spec(name)
    for rank in range(which.nodes):
        data = yaml.safe_load(compose_file(which, rank))
        compose_schema().validate(data)
        assert data["name"] == which.name


def test_the_specification_would_notice() -> None:
    data = yaml.safe_load(compose_file(spec("8xh200-native-v4-pro")))
    data["services"]["vllm"]["healtcheck"] = {}
    with pytest.raises(jsonschema.ValidationError):
        compose_schema().validate(data)


@pytest.mark.parametrize("name", PROFILES)
def test_manifests_are_of_kubernetes(name: str) -> None:
    found = objects(spec(name), "serving")
    for kind, document in found.items():
        assert document["metadata"]["namespace"] == "serving"
        if kind in BY_HAND:
            jsonschema.Draft7Validator(BY_HAND[kind]).validate(document)
        else:
            kubernetes(document)
    for pod in pods(found):
        labels = {"app": "x"}
        template = pod | {"metadata": {"labels": labels}}
        kubernetes(
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": "x"},
                "spec": {"selector": {"matchLabels": labels}, "template": template},
            }
        )


def test_kubernetes_would_notice() -> None:
    document = objects(spec("8xh200-native-v4-pro"))["Deployment"]
    container(document["spec"]["template"])["startupProbe"]["failureTreshold"] = 3
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes(document)


@pytest.mark.parametrize("name", PROFILES)
def test_services_find_their_pods(name: str) -> None:
    found = objects(spec(name))
    first = pods(found)[0]
    assert found["Service"]["spec"]["selector"].items() <= first["metadata"]["labels"].items()
    assert all(
        not found["Service"]["spec"]["selector"].items() <= pod["metadata"]["labels"].items() for pod in pods(found)[1:]
    )
    assert (
        found["ServiceMonitor"]["spec"]["selector"]["matchLabels"].items()
        <= found["Service"]["metadata"]["labels"].items()
    )
    port = found["Service"]["spec"]["ports"][0]
    assert (
        port["targetPort"]
        == container(first)["ports"][0]["name"]
        == found["ServiceMonitor"]["spec"]["endpoints"][0]["port"]
    )
    claim = next(each for each in first["spec"]["volumes"] if each["name"] == "cache")
    assert claim["persistentVolumeClaim"]["claimName"] == found["PersistentVolumeClaim"]["metadata"]["name"]
    assert all(len(document["metadata"]["name"]) <= 63 for document in found.values())


@pytest.mark.parametrize("name", PROFILES)
def test_a_long_start_is_waited_for_and_a_stop_may_drain(name: str) -> None:
    which = spec(name)
    watch = which.profile.supervise
    for pod in pods(objects(which)):
        grace = pod["spec"]["terminationGracePeriodSeconds"]
        waits = int(container(pod)["lifecycle"]["preStop"]["exec"]["command"][1])
        assert grace >= 10 + watch.drain_timeout_s + watch.stop_timeout_s
        assert grace > waits
    server = container(pods(objects(which))[0])
    start = server["startupProbe"]
    assert start["periodSeconds"] * start["failureThreshold"] >= start_budget(which, elsewhere=True)[0]
    assert start["periodSeconds"] * start["failureThreshold"] >= watch.ready_timeout_s
    live = server["livenessProbe"]
    assert live["periodSeconds"] * live["failureThreshold"] >= 300
    assert {server[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")} == {"/health"}


def test_the_arithmetic_of_a_start_is_told() -> None:
    budget, how = start_budget(spec("8xh200-native-v4-pro"))
    assert budget == 3600 + 3572
    assert how == "supervise.ready_timeout_s = 3600 s + first download of 893 GB at 250 MB/s = 3572 s"
    assert f"{how}: 7172 s / 10 s = 718 failures" in manifests(spec("8xh200-native-v4-pro"))
    here = spec("8xh200-native-v4-pro", expected_ready_s=400.0)
    assert start_budget(here)[0] == 800 + 3572
    assert start_budget(here, elsewhere=True)[0] == 7172
    assert service_of("8xh200-native-v4-pro", expected_ready_s=400.0)["healthcheck"]["start_period"] == "4372s"


@pytest.mark.parametrize("name", PROFILES)
def test_no_secret_and_the_profile_s_own_command(name: str) -> None:
    which = spec(name)
    texts = [manifests(which), *(compose_file(which, rank) for rank in range(which.nodes))]
    assert not any(SECRET.search(text) for text in texts)
    for pod in pods(objects(which)):
        by_name = {each["name"]: each for each in container(pod)["env"]}
        assert by_name["VLLM_API_KEY"]["valueFrom"]["secretKeyRef"]["optional"] is False
        assert len(by_name) == len(container(pod)["env"])
    service = service_of(name)
    assert service["env_file"][0]["required"]
    assert "VLLM_API_KEY" not in service["environment"]
    assert (service["entrypoint"], service["command"][0]) == (
        ["vllm", "serve"],
        which.model_path or which.profile.model.id,
    )


@pytest.mark.parametrize("name", PROFILES)
def test_devices_and_image_are_those_of_the_build(name: str) -> None:
    which = spec(name)
    each = which.profile.hardware.count
    limits = container(pods(objects(which))[0])["resources"].get("limits")
    service = service_of(name)
    match which.profile.engine.kind:
        case EngineKind.CUDA:
            assert limits == {"nvidia.com/gpu": str(each)}
            (device,) = service["deploy"]["resources"]["reservations"]["devices"]
            assert (device["driver"], device["count"]) == ("nvidia", each)
            assert which.image == "vllm/vllm-openai:v0.33.0"
        case EngineKind.ROCM:
            assert limits == {"amd.com/gpu": str(each)}
            assert "/dev/kfd:/dev/kfd" in service["devices"]
        case EngineKind.CPU:
            assert limits is None
            assert "deploy" not in service
    assert service["ipc"] == "host"


def test_the_image_is_of_the_profile_s_range() -> None:
    older = apply_overrides(PROFILES["8xh200-native-v4-pro"], {"engine.vllm": ">=0.25,<0.30"})
    assert image_of(older, engine_version(older)) == "vllm/vllm-openai:v0.28.0"
    with pytest.raises(ValueError, match="no version"):
        engine_version(apply_overrides(older, {"engine.vllm": "<0.1"}))


def test_ports_are_published_where_the_profile_listens() -> None:
    assert service_of("8xh200-native-v4-pro")["ports"] == ["127.0.0.1:8000:8000"]
    assert "0.0.0.0" in service_of("8xh200-native-v4-pro")["command"]
    v6 = apply_overrides(PROFILES["8xh200-native-v4-pro"], {"serve.host": "::1", "serve.port": 9000})
    assert service_of("8xh200-native-v4-pro", profile=v6)["ports"] == ["[::1]:9000:9000"]


def test_dollars_mean_themselves() -> None:
    odd = apply_overrides(
        PROFILES["8xh200-native-v4-pro"], {"env.ODD": "$HOME $(X) ${Y}", "serve.extra.chat_template": "a$(B)c$D"}
    )
    service = service_of("8xh200-native-v4-pro", profile=odd)
    assert service["environment"]["ODD"] == "$$HOME $$(X) $${Y}"
    assert "a$$(B)c$$D" in service["command"]
    server = container(pods(objects(spec("8xh200-native-v4-pro", profile=odd)))[0])
    assert {"name": "ODD", "value": "$HOME $$(X) ${Y}"} in server["env"]
    assert "a$$(B)c$D" in server["args"]


def test_a_local_model_is_mounted_and_not_downloaded() -> None:
    service = service_of("cpu-smoke")
    assert {
        "type": "bind",
        "source": "/models/tiny-llama",
        "target": "/models/tiny-llama",
        "read_only": True,
    } in service["volumes"]
    pod = pods(objects(spec("cpu-smoke")))[0]
    assert {"name": "model", "hostPath": {"path": "/models/tiny-llama", "type": "Directory"}} in pod["spec"]["volumes"]
    assert start_budget(spec("cpu-smoke")) == (600, "supervise.ready_timeout_s = 600 s")


@pytest.mark.parametrize("name", SEVERAL)
def test_the_leader_serves_and_workers_know_it_and_their_number(name: str) -> None:
    which = spec(name)
    document = objects(which)["LeaderWorkerSet"]["spec"]["leaderWorkerTemplate"]
    assert document["size"] == which.nodes
    leader, worker = (container(pod) for pod in pods(objects(which)))
    assert leader["args"].count("$(LWS_LEADER_ADDRESS)") == worker["args"].count("$(LWS_LEADER_ADDRESS)") == 1
    assert ("--headless" in leader["args"], "--headless" in worker["args"]) == (False, True)
    assert "startupProbe" not in worker
    for each in (leader, worker):
        (own,) = [entry for entry in each["env"] if entry["name"] == "VLLM_HOST_IP"]
        assert own["valueFrom"]["fieldRef"]["fieldPath"] == "status.podIP"
    if "--nnodes" in leader["args"]:
        assert worker["args"][worker["args"].index("--node-rank") + 1] == "$(LWS_WORKER_INDEX)"


def test_a_worker_works_out_its_start_rank(tmp_path: Path) -> None:
    """Its shell line is run, with the kubelet's replacement of `$$` done first."""
    worker = container(pods(objects(spec("2x8xh200-native-v4-pro-dep")))[1])
    vllm = tmp_path / "vllm"
    vllm.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    vllm.chmod(0o755)
    words = [word.replace("$$", "$") for word in (*worker["command"], *worker["args"])]
    done = subprocess.run(
        words,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "LWS_WORKER_INDEX": "3"},
        capture_output=True,
        text=True,
        check=True,
    )
    told = done.stdout.splitlines()
    assert told[0] == "serve"
    assert told[-2:] == ["--data-parallel-start-rank", "24"]
    assert json.loads(told[told.index("--speculative-config") + 1])["method"] == "dspark"
    assert told[1:-2] == worker["args"]


@pytest.mark.parametrize("name", SEVERAL)
def test_each_machine_has_its_own_compose_file(name: str) -> None:
    which = spec(name, hosts=("10.0.0.1", "10.0.0.2"))
    first, second = (yaml.safe_load(compose_file(which, rank))["services"]["vllm"] for rank in (0, 1))
    assert [compose_name(which, rank) for rank in (0, 1)] == ["compose.node0.yaml", "compose.node1.yaml"]
    assert {each["network_mode"] for each in (first, second)} == {"host"}
    assert (first["environment"]["VLLM_HOST_IP"], second["environment"]["VLLM_HOST_IP"]) == ("10.0.0.1", "10.0.0.2")
    assert "10.0.0.1" in second["command"]
    assert "--headless" in second["command"]
    assert ("healthcheck" in first, "healthcheck" in second) == (True, False)


def units(name: str, **fields: Any) -> dict[str, str]:
    return {unit.name: unit.text for unit in group_units(spec(name, **fields), "/bin/true", "nobody", "/")}


def test_units_of_a_group() -> None:
    found = units("2x8xh100-native-v4-pro", hosts=("10.0.0.1", "10.0.0.2"))
    first, second, watch = found.values()
    assert [name.removeprefix("dsv4-2x8xh100-native-v4-pro-") for name in found] == [
        "node0.service",
        "node1.service",
        "node1-watch.service",
    ]
    assert "--node-rank 0" in first
    assert "--node-rank 1 --master-addr 10.0.0.1" in second
    assert "Environment=VLLM_HOST_IP=10.0.0.2" in second
    assert f"TimeoutStartSec={start_budget(spec('2x8xh100-native-v4-pro'))[0]}" in first
    assert all(f"TimeoutStopSec={stop_s(PROFILES['2x8xh100-native-v4-pro'])}" in text for text in (first, second))
    assert "Restart=no" in first
    assert "/dev/tcp/10.0.0.1/29501" in watch
    assert "systemctl --no-block stop dsv4-2x8xh100-native-v4-pro-node1.service" in watch


def test_a_group_restarts_together_where_the_profile_says_so() -> None:
    again = apply_overrides(PROFILES["2x8xh100-native-v4-pro"], {"supervise.restart": "on-failure"})
    found = units("2x8xh100-native-v4-pro", profile=again, hosts=("10.0.0.1", "10.0.0.2"))
    assert sum("Restart=always" in text for text in found.values()) == 2
    assert "systemctl --no-block restart" in list(found.values())[2]


def test_engines_behind_loopback_cannot_be_watched_and_the_unit_says_so() -> None:
    name = "2x8xh200-native-v4-pro-dep"
    assert len(units(name)) == 2
    assert any("restart this unit whenever" in text for text in units(name).values())
    public = apply_overrides(PROFILES[name], {"serve.host": "0.0.0.0"})
    assert len(units(name, profile=public)) == 3


@pytest.mark.parametrize("name", PROFILES)
def test_names_are_taken_everywhere(name: str) -> None:
    assert re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", spec(name).name)
    assert len(spec(name).name) <= 48
    assert spec(name, profile_name="Ä/..%n").name == "dsv4-n"


def test_the_cache_holds_the_weights() -> None:
    for name, profile in PROFILES.items():
        size = objects(spec(name))["PersistentVolumeClaim"]["spec"]["resources"]["requests"]["storage"]
        assert int(size.removesuffix("Gi")) * 2**30 > (profile.model.weights_gb or 0) * 1e9
        assert math.isfinite(int(size.removesuffix("Gi")))
