"""`dsv4-console` and `dsv4-console --profile NAME`: the terminal UI, a headless launch, or a dry run."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shlex
import sys
from typing import TYPE_CHECKING, Any, cast

from console.cli import tasks
from console.cli.output import Output, Steps, is_terminal
from console.client.api import Backend, LaunchPlan, check_here, check_offer
from console.core.errors import BlockedError, ConsoleError, EngineError, ExitCode, UsageError
from console.core.nodes import ADDRESS_UNKNOWN, Node
from console.core.text import redact
from console.web import BROWSER_DRIVER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from console.client.backend import LocalBackend
    from console.core.preferences import Preferences
    from console.core.preflight import Check
    from console.core.profile import Profile
    from console.core.watching import WatchTarget
    from console.io.notify import Notifier

__all__ = ["check_views", "install_missing", "overrides_from", "run"]

NEED_A_PROFILE = (
    "hosts",
    "dry_run",
    "node_rank",
    "detach",
    "set",
    "force",
    "yes",
    "drain_timeout",
    "ready_timeout",
    "json",
)
ONLY_FOR_THE_UI = ("attach", "watch", "api_key_env", "ascii", "no_mouse", "theme", "readonly", "replay", "demo")
ONE_VIEW = ("attach", "replay", "demo")
"""What the UI opens on: one of them at most."""


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Open the UI, or launch what `--profile` names."""
    given = {
        **vars(arguments),
        "set": arguments.overrides,
        "force": arguments.force_launch,
        "hosts": arguments.group_hosts,
    }
    if arguments.profile is None:
        for name in NEED_A_PROFILE:
            if given[name] not in (None, False, []):
                option = _option(name)
                raise UsageError(f"{option} needs --profile", "", f"dsv4-console --profile NAME {option} …")
        check_views(given)
        if len(arguments.machines) > 1:
            return _open_fleet(arguments)
        if arguments.host is not None:
            return _open_there(arguments)
        return _play(arguments, output) if arguments.replay or arguments.demo else _open_ui(arguments)
    for name in ONLY_FOR_THE_UI:
        if given[name]:
            raise UsageError(
                f"{_option(name)} is for the terminal UI", "and --profile launches without it", "Leave one of them out."
            )
    overrides = overrides_from(arguments.overrides)
    for name in ("drain_timeout", "ready_timeout"):
        if given[name] is not None:
            overrides[f"supervise.{name}_s"] = given[name]
    if arguments.group_hosts is not None:
        from console.cli import groups

        return groups.launch(arguments, overrides, output)
    return _headless(arguments, overrides, output)


def check_views(given: Mapping[str, Any]) -> None:
    """Whether the UI is to open on one thing.

    Raises:
        UsageError: on several.
    """
    views = [_option(name) for name in ONE_VIEW if given[name]]
    if len(views) > 1:
        raise UsageError(f"{' and '.join(views)} exclude one another", "", "Leave all but one out.")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def overrides_from(pairs: list[str]) -> dict[str, Any]:
    """`--set KEY=VALUE` as a table; of the same key the last one counts.

    Raises:
        UsageError: one has no `=`.
    """
    overrides: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError("--set takes KEY=VALUE", f"found {pair!r}", "For example: --set serve.max_num_seqs=64")
        overrides[key.strip()] = value.strip()
    return overrides


def _need_a_terminal(instead: str) -> None:
    in_browser = os.environ.get("TEXTUAL_DRIVER") == BROWSER_DRIVER
    if not in_browser and not is_terminal(sys.stdin, sys.stdout):
        raise UsageError("The terminal UI needs a terminal", "stdin or stdout is not a TTY", instead)


def _play(arguments: argparse.Namespace, output: Output) -> int:
    """Replay a recording. Nothing is written, and nothing of this machine is asked."""
    from console.client import recordings
    from console.client.replay import ReplaySession
    from console.client.replay_backend import ReplayBackend

    found = recordings.demo() if arguments.demo else (recordings.find(arguments.replay),)
    session = ReplaySession(found, label="DEMO" if arguments.demo else "REPLAY")
    _need_a_terminal("Open it in a terminal; `dsv4-console logs RUN` prints a run's log anywhere.")
    from console.tui.run import run_tui

    code = run_tui(
        ReplayBackend(session),
        attach_run=session.run.id,
        ascii_glyphs=arguments.ascii,
        mouse=not arguments.no_mouse,
        replay=True,
        preferences=_preferences(arguments),
    )
    for sentence in session.missing:
        output.say(f"note: {sentence}")
    return code


def _open_ui(arguments: argparse.Namespace) -> int:
    _need_a_terminal("Use --profile NAME for a launch without UI, or `dsv4-console status`.")
    attach = None
    if arguments.attach is not None:
        attach = _named(arguments.attach)
    from console.client.deferred import DeferredBackend
    from console.group.backend import with_groups
    from console.tui.run import run_tui

    preferences = _preferences(arguments)
    targets, preferences = _watched(arguments, preferences)
    backend = with_groups(DeferredBackend(arguments.engine, allow_public=arguments.allow_public_without_key))
    return run_tui(
        _with_watched(backend, targets),
        attach_run=attach,
        ascii_glyphs=arguments.ascii,
        mouse=not arguments.no_mouse,
        preferences=preferences,
    )


def _with_watched(backend: Backend, targets: Sequence[WatchTarget]) -> Backend:
    """This backend, with the endpoints that are watched from here."""
    if not targets:
        return backend
    from console.client.fleet import with_members
    from console.client.watch_session import Watcher

    return with_members(backend, (Watcher(targets),))


def _open_fleet(arguments: argparse.Namespace) -> int:
    """The UI on the servers of this machine and of those that are named, all in one list."""
    if arguments.attach is not None:
        raise UsageError("--attach is about one machine", "--host names several", "Choose in the list: ⏎ on a row.")
    _refuse_playing(arguments)
    _need_a_terminal("Use `dsv4-console fleet --host A --host B`.")
    from console.cli.remote import lines_to
    from console.client.deferred import DeferredBackend
    from console.client.fleet import with_members
    from console.client.remote.host import RemoteHost
    from console.group.backend import with_groups
    from console.tui.run import run_tui

    targets, preferences = _watched(arguments, _preferences(arguments))
    local = with_groups(DeferredBackend(arguments.engine, allow_public=arguments.allow_public_without_key))
    lines = lines_to(arguments)
    hosts = tuple(RemoteHost(*each) for each in lines)

    async def leave() -> None:
        await asyncio.gather(*(host.close() for host in hosts))

    try:
        return run_tui(
            _with_watched(with_members(local, hosts), targets),
            ascii_glyphs=arguments.ascii,
            mouse=not arguments.no_mouse,
            preferences=preferences,
            hosts=tuple(host.host for host in hosts),
            at_end=leave,
        )
    finally:
        for each in lines:
            each.line.ssh.close()


def _refuse_playing(arguments: argparse.Namespace) -> None:
    """Raises UsageError where a recording is to be played on another machine."""
    for name in ("replay", "demo"):
        if getattr(arguments, name):
            raise UsageError(f"{_option(name)} plays what is here", "and --host is about there", "Leave --host out.")


def _named(name: str) -> str:
    """Id of the run or the group that is meant.

    Raises:
        NotRunningError: there is none.
    """
    from console.io import groups, runs

    for _, record in groups.list_groups():
        if name == record.spec.id or (name == record.spec.profile_name and not record.group.over):
            return record.spec.id
    return runs.find_run(name)[1].id


def _open_there(arguments: argparse.Namespace) -> int:
    """The UI here, on the servers of another machine."""
    _refuse_playing(arguments)
    _need_a_terminal("Use --host with --profile NAME or a command, like `dsv4-console --host BOX status`.")
    from console.cli.remote import line_to
    from console.cli.watched import targets_from
    from console.client.remote.backend import RemoteBackend
    from console.tui.run import run_tui

    preferences = _preferences(arguments)
    targets = targets_from(arguments.watch, arguments.api_key_env, configured=())
    line = line_to(arguments)
    try:
        return run_tui(
            _with_watched(cast("Backend", RemoteBackend(line)), targets),
            attach_run=arguments.attach,
            ascii_glyphs=arguments.ascii,
            mouse=not arguments.no_mouse,
            preferences=preferences,
            host=line.host,
            at_end=line.close,
        )
    finally:
        line.ssh.close()


def _watched(arguments: argparse.Namespace, preferences: Preferences) -> tuple[tuple[WatchTarget, ...], Preferences]:
    """What is to be watched; a mistake in `config.toml` costs those that it names, and is told."""
    from dataclasses import replace

    from console.cli.watched import targets_from
    from console.io.config import read_watched

    configured: tuple[WatchTarget, ...] = ()
    try:
        configured = read_watched()
    except UsageError as error:
        if error.message not in preferences.mistakes:
            preferences = replace(preferences, mistakes=(*preferences.mistakes, error.message))
    return targets_from(arguments.watch, arguments.api_key_env, configured), preferences


def _preferences(arguments: argparse.Namespace) -> Preferences:
    """Of `config.toml`, with what the command line says before it."""
    from dataclasses import replace

    from console.io.config import read_preferences

    found = read_preferences()
    return replace(found, theme=arguments.theme or found.theme, readonly=arguments.readonly or found.readonly)


def _headless(arguments: argparse.Namespace, overrides: dict[str, Any], output: Output) -> int:
    from console.client.backend import LocalBackend
    from console.io.notify import Notifier

    notifier = Notifier.from_environment()
    backend = LocalBackend(arguments.engine, allow_public=arguments.allow_public_without_key)
    plan = tasks.run(backend.plan(arguments.profile, overrides, Node(rank=arguments.node_rank or 0)))
    for warning in plan.warnings:
        output.say(f"note: {warning}")
    if arguments.node_rank is not None:
        _check_rank(plan.profile, arguments)
    if arguments.dry_run:
        return _dry_run(plan, output)
    check_here(plan.profile)
    check_offer(plan)
    for sentence in tasks.run(backend.recover()):
        output.say(f"note: {sentence}")
    said = _check(backend, plan, arguments, output)
    if plan.engine_name is None:
        plan = install_missing(backend, plan, output, yes=arguments.yes)
        _check(backend, plan, arguments, output, said)  # what only an engine can tell
    from console.cli.download import offered, run_download

    if offered(backend, plan, output, yes=arguments.yes):
        run_download(backend, plan, output)
    return tasks.run(_launch(backend, plan, arguments, output, notifier))


def _check_rank(profile: Profile, arguments: argparse.Namespace) -> None:
    """Raises UsageError where `--node-rank` names no machine of the profile, or something is to be started."""
    nodes = profile.hardware.nodes
    if not arguments.dry_run:
        raise UsageError("--node-rank is for --dry-run", "a launch starts the whole server", "Add --dry-run.")
    if arguments.node_rank >= nodes:
        raise UsageError(
            f"There is no machine {arguments.node_rank}",
            f"{arguments.profile} has {nodes}: 0 to {nodes - 1}" if nodes > 1 else f"{arguments.profile} is for one",
            "See hardware.nodes in the profile.",
        )


def _check(
    backend: Backend,
    plan: LaunchPlan,
    arguments: argparse.Namespace,
    output: Output,
    said: Sequence[Check] = (),
) -> tuple[Check, ...]:
    """Preflight: say what is not as it should be, and return it.

    Raises:
        BlockedError: a check blocks the launch and no option lifts it.
    """
    from console.cli.doctor import check_lines
    from console.core.preflight.words import blocked_words

    report = tasks.run(backend.preflight(plan))
    held = report.held_by(force=arguments.force_launch)
    overridden = [check for check in report.blocked if check not in held]
    news = [check for check in report.notable if check not in said]
    for check in news:
        if check in held:
            continue  # the error tells it
        for line in check_lines(check):
            output.say(line)
        if check in overridden:
            output.say(f"    --force overrides this: {check.consequence}")
    if news:
        ids = {"blocked": [check.id for check in held], "overridden": [check.id for check in overridden]}
        output.line({"type": "preflight", "checks": news, **ids})
    if held:
        raise BlockedError(*blocked_words(held))
    return report.notable


async def _launch(
    backend: LocalBackend, plan: LaunchPlan, arguments: argparse.Namespace, output: Output, notifier: Notifier | None
) -> ExitCode:
    from console.headless import Narrator, ServiceNotices, follow

    notices = ServiceNotices(notifier) if notifier is not None else None
    session = await backend.launch(plan)
    run = session.run
    narrator = Narrator(
        run,
        str(session.run_dir.log_path),
        say=output.say,
        emit=output.line if output.json else None,
        interval_s=arguments.status_interval,
        again=_again(arguments),
    )
    try:
        code = await follow(
            session,
            narrator,
            attach=lambda: backend.attach(run.id),
            until_ready=arguments.detach,
            drain_timeout_s=arguments.drain_timeout,
            notices=notices,
        )
        if notices is not None:
            await notices.close(session.run_dir, run)
        return code
    except asyncio.CancelledError:
        # A signal between the launch and the narration, which handles signals itself: nothing may stay behind.
        with contextlib.suppress(ConsoleError):
            again = await backend.attach(run.id)
            await again.stop(0.0)
            await again.close()
        raise


def _again(arguments: argparse.Namespace) -> str:
    """This launch as one would type it, for a proposal to add to."""
    words = ["dsv4-console", "--profile", arguments.profile]
    for pair in arguments.overrides:
        words += ["--set", pair]
    if arguments.engine is not None:
        words += ["--engine", arguments.engine]
    return redact(shlex.join(words))


def _dry_run(plan: LaunchPlan, output: Output) -> int:
    output.data(plan.command_line)
    if ADDRESS_UNKNOWN in plan.argv:
        output.say(f"note: {ADDRESS_UNKNOWN} is not known yet; to name it: --set network.address=10.0.0.1")
    output.document(
        {
            "profile": plan.profile_name,
            "argv": plan.argv,
            "env": plan.env,
            "command_line": plan.command_line,
            "engine": plan.engine_name,
            "engine_version": plan.engine_version,
            "install_offer": plan.install_offer,
            "warnings": plan.warnings,
        }
    )
    if plan.engine_name is None:
        advice = f"run: {plan.install_offer}" if plan.install_offer else "this program installs none of its kind"
        output.say(f"no engine for it is installed; {advice}")
    return ExitCode.OK


def install_missing(backend: Backend, plan: LaunchPlan, output: Output, *, yes: bool) -> LaunchPlan:
    """Install the missing engine where the operator agrees.

    Raises:
        EngineError: they do not, or nobody can be asked.
    """
    title, offer = "No engine for this profile is installed", plan.install_offer
    if not yes:
        nobody = EngineError(title, "and nobody can be asked here", f"Run: {offer}, or add --yes")
        if not output.ask(f"{title}. Run `{offer}` now?", default=True, otherwise=nobody):
            raise EngineError(title, "", f"Run: {offer}")
    output.say(f"installing: {offer}")
    steps = Steps(output)
    return tasks.run(backend.install_engine(plan, lambda done: steps(done.step, done.fraction)))
