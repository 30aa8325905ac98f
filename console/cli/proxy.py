"""`dsv4-console export proxy nginx|vllm-router [RUN|URL …]`: a load balancer's configuration over servers that run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from console.cli import tasks
from console.cli.output import Output
from console.cli.watched import targets_from
from console.client.watch_session import Watcher
from console.core.errors import ExitCode, NotRunningError, UsageError
from console.core.proxy import PROXIES, Balanced, ProxyError, ProxySpec
from console.core.watching import WatchTarget
from console.io import export as writers
from console.io import runs

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
    """Those that are named, else all that run here and all that `config.toml` watches."""
    words: Sequence[str] = arguments.proxy_servers
    urls = [word for word in words if "://" in word]
    targets = targets_from(urls, arguments.proxy_api_key_env, configured=() if words else None)
    found = [_run(word) for word in words if "://" not in word] if words else _live()
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


def _run(name: str) -> Balanced:
    _, info = runs.find_run(name)
    if not runs.is_live(info):
        raise NotRunningError("This run is over", f"{info.id}: {info.state}", "See what runs: dsv4-console fleet")
    return Balanced(name=info.id, url=info.url, model=info.model)


def _live() -> list[Balanced]:
    live = [info for _, info in runs.list_runs() if runs.is_live(info)]
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
