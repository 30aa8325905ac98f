"""`dsv4-console export proxy nginx|vllm-router [RUN|URL …]`: a load balancer's configuration over servers that run."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from console.cli import tasks
from console.cli.output import Output
from console.cli.remote import target_of
from console.cli.watched import targets_from
from console.client.remote.backend import RemoteBackend
from console.client.remote.line import Line
from console.client.watch_session import Watcher
from console.core.errors import ExitCode, NotRunningError, UsageError
from console.core.hosts import served_from
from console.core.models import RunInfo
from console.core.proxy import PROXIES, Balanced, ProxyError, ProxySpec
from console.core.watching import WatchTarget
from console.io import export as writers
from console.io import runs
from console.io.ssh import address_of

__all__ = ["PROXY", "export_proxy"]

PROXY: Final = "proxy"


def export_proxy(arguments: argparse.Namespace, output: Output) -> int:
    """Print or write the file. Exit code 5 if nothing runs and nothing is named."""
    kind = arguments.export_profile
    if kind not in PROXIES:
        found = f"found {kind!r}" if kind else "it is missing"
        raise UsageError(
            "Which proxy is meant?", f"{found}; allowed: {', '.join(PROXIES)}", "dsv4-console export proxy nginx"
        )
    spec = ProxySpec(servers=_servers(arguments), listen=arguments.proxy_listen, routing=arguments.proxy_routing)
    try:
        text = PROXIES[kind](spec)
    except ProxyError as error:
        raise UsageError(
            f"These servers cannot stand behind {kind}", str(error), "Name others, or change them."
        ) from error
    if arguments.export_file is not None:
        target = Path(arguments.export_file).absolute()
        writers.write_file(target, lambda path: writers.write_text(path, (text,)))
        output.data(str(target))
        output.document({"file": str(target), "servers": spec.servers})
        return ExitCode.OK
    output.piece(text)
    output.document({"text": text, "servers": spec.servers})
    return ExitCode.OK


def _servers(arguments: argparse.Namespace) -> tuple[Balanced, ...]:
    """Those that are named, else all that run here or on a machine that is named, and all that `config.toml` watches.

    A machine that cannot be reached is an error: a proxy without its servers would look like a proxy over all.
    """
    words: Sequence[str] = arguments.proxy_servers
    names, urls = [word for word in words if "://" not in word], [word for word in words if "://" in word]
    targets = targets_from(urls, arguments.proxy_api_key_env, configured=() if words else None)
    there = tasks.run(_elsewhere(arguments)) if arguments.machines else []
    if names:
        found = [server for name in names for server in _named(name, there)]
    else:
        found = [] if words else [*_live(), *(_balanced_there(*each) for each in there)]
    found += tasks.run(_asked(targets))
    if not found:
        raise NotRunningError(
            "There is no server to balance over", "nothing runs here and none is named", "Name them: RUN, or URL."
        )
    by_url = {server.url: server for server in found}
    return tuple(
        server if server.model else Balanced(name=server.name, url=server.url, model=arguments.proxy_model or "")
        for server in by_url.values()
    )


class _There(NamedTuple):
    """A run of another machine."""

    host: str
    address: str
    """Of the machine, as SSH knows it."""
    run: RunInfo


async def _elsewhere(arguments: argparse.Namespace) -> list[_There]:
    """What serves on the machines that are named."""
    found = []
    for host in arguments.machines:
        target = target_of(arguments, host)
        line = Line(target)
        await asyncio.to_thread(line.open)
        try:
            address = await asyncio.to_thread(address_of, target)
            found += [_There(host, address, run) for run in await RemoteBackend(line).runs() if run.url]
        finally:
            await line.close()
    return found


def _balanced_there(host: str, address: str, run: RunInfo) -> Balanced:
    """A server of another machine, by an address that is not that machine's own.

    Raises:
        UsageError: it has none.
    """
    url = served_from(run, address)
    if not url:
        raise UsageError(
            f"Only {host} itself reaches {run.profile_name}",
            f"it listens at {run.url} there",
            f"Start it there with --set serve.host={address} (with VLLM_API_KEY set, as others reach it then), or let "
            f"the proxy run there too: dsv4-console --host {host} export proxy nginx",
        )
    return Balanced(name=f"{host}/{run.id}", url=url, model=run.model)


def _named(name: str, there: Sequence[_There]) -> list[Balanced]:
    """The run of this machine that is meant, and those of others with this id or of this profile."""
    found = [
        _balanced_there(*each)
        for each in there
        if name in (each.run.id, each.run.profile_name, f"{each.host}/{each.run.id}")
    ]
    try:
        return [_run(name), *found]
    except NotRunningError:
        if not found:
            raise
        return found


def _run(name: str) -> Balanced:
    _, info = runs.find_run(name)
    if not runs.is_live(info):
        raise NotRunningError("This run is over", f"{info.id}: {info.state}", "See what runs: dsv4-console fleet")
    return Balanced(name=info.id, url=info.url, model=info.model)


def _live() -> list[Balanced]:
    live = [info for _, info in runs.list_runs() if runs.is_live(info) and info.url]
    return [Balanced(name=info.id, url=info.url, model=info.model) for info in live]


async def _asked(targets: Sequence[WatchTarget]) -> list[Balanced]:
    """Endpoints with the models that they say they serve; one that does not answer has none."""
    watcher = Watcher(targets)
    found = []
    try:
        for target in targets:
            session = await watcher.attach(target.id)
            found.append(Balanced(name=target.name, url=target.url, model=session.run.model))
            await session.close()
    finally:
        await watcher.close()
    return found
