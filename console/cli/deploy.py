"""`dsv4-console export systemd|compose|kubernetes PROFILE`: what runs a profile elsewhere."""

from __future__ import annotations

import argparse
import getpass
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from console.cli import tasks
from console.cli.launch import overrides_from
from console.cli.output import Output
from console.client.api import LaunchPlan
from console.core.command import is_local_model
from console.core.deploy.compose import compose_file, compose_name
from console.core.deploy.kubernetes import manifests
from console.core.deploy.spec import DeploySpec, engine_version, image_of
from console.core.deploy.systemd import group_units
from console.core.errors import ExitCode, UsageError
from console.core.ledger import expectation, gpu_name, ledger_key, newest_match
from console.core.models import GpuReading
from console.core.unit import unit_name

__all__ = ["TARGETS", "export_profile"]

Files = dict[str, str]
"""File name to text."""


def export_profile(arguments: argparse.Namespace, output: Output) -> int:
    """Print one file, or write all of them into a directory."""
    from console.client.backend import LocalBackend

    name = arguments.export_profile
    if not name:
        raise UsageError(
            f"Which profile to export as {arguments.run_name} is missing", "", f"export {arguments.run_name} PROFILE"
        )
    if arguments.csv or arguments.parquet or arguments.since:
        raise UsageError("--csv, --parquet and --since are for samples", "", f"Leave them out: {arguments.run_name}.")
    backend = LocalBackend()
    plan = tasks.run(backend.plan(name, overrides_from(arguments.export_overrides)))
    spec = _spec(plan, arguments, tasks.run(backend.machine()).gpus)
    try:
        files = TARGETS[arguments.run_name](spec, plan, arguments)
    except ValueError as error:
        raise UsageError("This profile cannot be exported so", str(error), "Change the setting with --set.") from error
    if arguments.export_file is None:
        return _print(files, arguments, output)
    return _write(files, Path(arguments.export_file), output)


def _print(files: Files, arguments: argparse.Namespace, output: Output) -> int:
    if output.json:
        output.document({"files": files})
        return ExitCode.OK
    if len(files) > 1:
        raise UsageError(
            f"There are {len(files)} files, for several machines",
            ", ".join(files),
            f"Write them into a directory: -o DIR – or print them with --json: export {arguments.run_name} …",
        )
    output.piece(next(iter(files.values())))
    return ExitCode.OK


def _write(files: Files, target: Path, output: Output) -> int:
    """One file goes to the file that is named, or into a directory; several into a directory."""
    from console.io.export import write_file, write_text

    directory = len(files) > 1 or target.is_dir()
    written = []
    for name, text in files.items():
        path = (target / name if directory else target).absolute()
        _make_directory(path.parent)
        write_file(path, lambda temporary, text=text: write_text(temporary, (text,)))  # type: ignore[misc]
        written.append(str(path))
        output.data(str(path))
    output.document({"files": written})
    return ExitCode.OK


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError("Cannot make the directory", f"{path}: {error.strerror}", "Name another with -o.") from error


def _spec(plan: LaunchPlan, arguments: argparse.Namespace, gpus: tuple[GpuReading, ...] | None) -> DeploySpec:
    profile = plan.profile
    hosts = tuple(part.strip() for part in (arguments.hosts or "").split(",") if part.strip())
    nodes = profile.hardware.nodes
    if hosts and len(hosts) != nodes:
        raise UsageError(
            f"--hosts names {len(hosts)} machines",
            f"{plan.profile_name} spans {nodes}",
            f"Name {nodes}, the first machine first: --hosts 10.0.0.1,10.0.0.2" if nodes > 1 else "Leave it out.",
        )
    try:
        version = plan.engine_version.partition("+")[0] if _units(arguments) and plan.engine_version else ""
        version = version or engine_version(profile)
    except ValueError as error:
        raise UsageError("No image can be named", str(error), "Name one: --image IMAGE") from error
    return DeploySpec(
        profile_name=plan.profile_name,
        profile=profile,
        version=version,
        image=arguments.image or image_of(profile, version),
        model_path=plan.argv[2] if is_local_model(profile.model.id) else None,
        expected_ready_s=_expected(plan, gpus),
        hosts=hosts,
    )


def _units(arguments: argparse.Namespace) -> bool:
    return bool(arguments.run_name == SYSTEMD)


def _expected(plan: LaunchPlan, gpus: tuple[GpuReading, ...] | None) -> float | None:
    """How long starts of this profile took here, with the newest engine that it was started with."""
    from console.io import ledger

    key = ledger_key(plan.profile, plan.engine_version or "", gpu_name(plan.profile, gpus))
    found = expectation(newest_match(ledger.entries(), key, any_engine=True))
    return found.ready_s if found else None


def _systemd(spec: DeploySpec, plan: LaunchPlan, arguments: argparse.Namespace) -> Files:
    if spec.nodes == 1:
        from console.cli.service import system_unit

        return {unit_name(plan.profile_name): system_unit(plan, arguments.export_profile, arguments.export_overrides)}
    executable = arguments.vllm or (plan.argv[0] if plan.engine_name else "")
    if not Path(executable).is_absolute():
        raise UsageError(
            "Where vllm lies on the machines is not known",
            f"found {executable!r}" if executable else "no engine of this profile is installed here to take it from",
            "Name its absolute path, the same on all: --vllm /opt/vllm/bin/vllm",
        )
    user = os.environ.get("SUDO_USER") or getpass.getuser()
    units = group_units(spec, executable, user, str(Path.home()))
    return {f"node{unit.rank}/{unit.name}": unit.text for unit in units}


def _compose(spec: DeploySpec, plan: LaunchPlan, arguments: argparse.Namespace) -> Files:
    return {compose_name(spec, rank): compose_file(spec, rank) for rank in range(spec.nodes)}


def _kubernetes(spec: DeploySpec, plan: LaunchPlan, arguments: argparse.Namespace) -> Files:
    return {f"{spec.name}.yaml": manifests(spec, arguments.namespace)}


SYSTEMD: Final = "systemd"
TARGETS: Final[dict[str, Callable[[DeploySpec, LaunchPlan, argparse.Namespace], Files]]] = {
    SYSTEMD: _systemd,
    "compose": _compose,
    "kubernetes": _kubernetes,
}
