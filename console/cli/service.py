"""`dsv4-console service install|uninstall|show`: a profile as a systemd unit that runs the headless console."""

from __future__ import annotations

import argparse
import getpass
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from console.cli import tasks
from console.cli.launch import overrides_from
from console.cli.output import Output
from console.client.api import LaunchPlan, check_here
from console.core.errors import ExitCode, NotRunningError, StateError, UsageError
from console.core.profile import RestartPolicy
from console.core.unit import UnitSpec, environment_text, unit_name, unit_text
from console.io import paths
from console.io.runs import write_atomic

__all__ = ["install", "show", "system_unit", "uninstall"]

SYSTEM_UNITS = Path("/etc/systemd/system")
SYSTEM_ENVIRONMENTS = Path("/etc/dsv4-console")
STATUS_INTERVAL_S = 300
"""Between two lines with figures in the journal."""
KEPT_VARIABLES = (
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
    "HF_HOME",
    "HF_HUB_CACHE",
    "CUDA_VISIBLE_DEVICES",
)
"""What decides where things are; all else comes from the environment file."""
SYSTEMCTL_TIMEOUT_S = 10.0


def install(arguments: argparse.Namespace, output: Output) -> int:
    """Write the unit, and an environment file for keys if there is none; say what to do next."""
    from console.client.backend import LocalBackend

    plan = tasks.run(LocalBackend().plan(arguments.service_profile, overrides_from(arguments.service_overrides)))
    unit, environment = _places(arguments)
    check_here(plan.profile)
    try:
        text = _text(plan, arguments.service_profile, arguments.service_overrides, environment, system=arguments.system)
    except ValueError as error:
        raise UsageError("This cannot stand in a systemd unit", str(error), "Use printable characters.") from error
    if plan.engine_name is None:
        output.say(f"note: no engine for it is installed yet; run: {plan.install_offer}")
    if plan.profile.supervise.restart is RestartPolicy.NEVER:
        output.say(
            "note: after a crash the server stays down, as the profile says; "
            "to change that: --set supervise.restart=on-failure"
        )
    if "/.cache/uv/" in sys.executable:
        output.say("note: this console runs from uv's cache, which may be cleaned; install it first: uv tool install")
    if arguments.service_dry_run:
        output.data(text.rstrip("\n"))
        output.document({"unit": str(unit), "text": text, "written": False})
        return ExitCode.OK
    _agree(unit, text, arguments, output)
    _write(unit, text, environment, arguments.service_profile)
    for command in _next_commands(unit.name, system=arguments.system):
        output.data(command)
    output.say(f"wrote {unit}\nkeys belong into {environment} (mode 0600)\nnext, the commands above")
    output.document(
        {
            "unit": str(unit),
            "environment_file": str(environment),
            "text": text,
            "written": True,
            "next": _next_commands(unit.name, system=arguments.system),
        }
    )
    return ExitCode.OK


def system_unit(plan: LaunchPlan, profile: str, overrides: list[str]) -> str:
    """The unit of a profile as a service of the machine, to be put there by other means.

    Raises:
        ValueError: a value cannot stand in a unit.
    """
    return _text(plan, profile, overrides, SYSTEM_ENVIRONMENTS / _environment_name(profile), system=True)


def _text(plan: LaunchPlan, profile: str, overrides: list[str], environment: Path, *, system: bool) -> str:
    return unit_text(
        UnitSpec(
            profile=plan.profile_name,
            argv=_command(profile, overrides),
            directory=str(Path.home()),
            supervise=plan.profile.supervise,
            environment={name: os.environ[name] for name in KEPT_VARIABLES if os.environ.get(name)},
            environment_file=str(environment),
            user=_user() if system else None,
        )
    )


def uninstall(arguments: argparse.Namespace, output: Output) -> int:
    """Delete the unit of a service that does not run. The environment file stays: it has your keys."""
    unit, environment = _places(arguments)
    control = _systemctl(system=arguments.system)
    if not unit.exists():
        raise NotRunningError("There is no such service", str(unit), "See: dsv4-console service show")
    if _active(unit.name, system=arguments.system):
        raise UsageError("The service is running", unit.name, f"First: {control} disable --now {unit.name}")
    if not arguments.sure:
        nobody = UsageError("Nobody can be asked here", f"whether to delete {unit}", "Add --yes.")
        if not output.ask(f"Delete {unit}?", default=False, otherwise=nobody):
            output.say("kept")
            return ExitCode.OK
    try:
        unit.unlink()
    except OSError as error:
        raise StateError("Cannot delete the unit", f"{unit}: {error.strerror}", "Use sudo for --system.") from error
    output.data(f"{control} daemon-reload")
    output.say(f"deleted {unit}\nkept {environment}" if environment.exists() else f"deleted {unit}")
    output.document({"deleted": str(unit)})
    return ExitCode.OK


def show(arguments: argparse.Namespace, output: Output) -> int:
    """Print the unit of a profile, or name all units that are installed."""
    if arguments.service_profile is None:
        folders = (_user_units(), SYSTEM_UNITS)
        found = [path for folder in folders for path in sorted(folder.glob("dsv4-console-*.service"))]
        for path in found:
            output.data(str(path))
        if not found:
            output.say("no service is installed; see: dsv4-console service install --profile NAME --dry-run")
        output.document({"units": [str(path) for path in found]})
        return ExitCode.OK
    unit, _ = _places(arguments)
    try:
        text = unit.read_text(encoding="utf-8")
    except OSError as error:
        fix = f"dsv4-console service install --profile {shlex.quote(arguments.service_profile)}"
        raise NotRunningError("There is no such service", f"{unit}: {error.strerror}", fix) from error
    output.data(text.rstrip("\n"))
    output.document({"unit": str(unit), "text": text})
    return ExitCode.OK


def _command(profile: str, overrides: list[str]) -> tuple[str, ...]:
    # A path is made absolute, since the service starts elsewhere.
    given = Path(profile)
    profile = str(given.absolute()) if given.suffix == ".toml" and given.exists() else profile
    sets = [part for pair in overrides for part in ("--set", pair)]
    return (
        sys.executable, "-P", "-m", "console", "--profile", profile, *sets,
        "--status-interval", str(STATUS_INTERVAL_S),
    )  # fmt: skip


def _user() -> str:
    """Whom a system service runs as: whoever called sudo, since engines and profiles are theirs."""
    return os.environ.get("SUDO_USER") or getpass.getuser()


def _user_units() -> Path:
    return paths.config_dir().parent / "systemd" / "user"


def _places(arguments: argparse.Namespace) -> tuple[Path, Path]:
    """Unit and environment file."""
    name, environment = unit_name(Path(arguments.service_profile).stem), _environment_name(arguments.service_profile)
    if arguments.system:
        return SYSTEM_UNITS / name, SYSTEM_ENVIRONMENTS / environment
    return _user_units() / name, paths.config_dir() / environment


def _environment_name(profile: str) -> str:
    return unit_name(Path(profile).stem).replace(".service", ".env")


def _agree(unit: Path, text: str, arguments: argparse.Namespace, output: Output) -> None:
    """Raises UsageError where another unit stands there and nobody agrees to replace it."""
    if arguments.sure or not unit.exists() or unit.read_text(encoding="utf-8", errors="replace") == text:
        return
    refused = UsageError("The service is there already", str(unit), "Add --yes to replace it.")
    if not output.ask(f"{unit} is there already and differs. Replace it?", default=False, otherwise=refused):
        raise refused


def _write(unit: Path, text: str, environment: Path, profile: str) -> None:
    try:
        unit.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(unit, text.encode())
        unit.chmod(0o644)
        environment.parent.mkdir(parents=True, exist_ok=True)
        if environment.exists():
            environment.chmod(0o600)
        else:
            write_atomic(environment, environment_text(profile).encode())
    except OSError as error:
        raise StateError(
            "Cannot write the service",
            f"{error.filename or unit}: {error.strerror}",
            "Use sudo for --system, or --user.",
        ) from error


def _systemctl(*, system: bool) -> str:
    return "sudo systemctl" if system else "systemctl --user"


def _next_commands(name: str, *, system: bool) -> list[str]:
    control = _systemctl(system=system)
    journal = "journalctl" if system else "journalctl --user"
    linger = [] if system else [f"loginctl enable-linger {getpass.getuser()}"]  # or it ends with the last log-in
    return [f"{control} daemon-reload", f"{control} enable --now {name}", *linger, f"{journal} -u {name} -f"]


def _active(name: str, *, system: bool) -> bool:
    """Whether systemd says that it runs. Where there is none, it does not."""
    if shutil.which("systemctl") is None:
        return False
    command = ["systemctl", *([] if system else ["--user"]), "is-active", "--quiet", name]
    try:
        return subprocess.run(command, capture_output=True, timeout=SYSTEMCTL_TIMEOUT_S, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
