"""The grammar of `dsv4-console export`. Imports nothing heavy."""

from __future__ import annotations

import argparse
from typing import Any

from console.core.routing import ROUTINGS

__all__ = ["add"]

LISTEN = "127.0.0.1:8080"


def add(commands: argparse._SubParsersAction[Any], common: argparse.ArgumentParser) -> None:
    """The command `export`."""
    verb = commands.add_parser(
        "export",
        parents=[common],
        help="the samples of a run as CSV, JSON lines or Parquet; a Grafana dashboard; a profile for systemd, "
        "Docker Compose or Kubernetes; a load balancer over servers that run",
    )
    verb.add_argument(
        "run_name",
        metavar="WHAT",
        help="a run: its name, its profile or `last`; `grafana` for the dashboard; "
        "or `systemd`, `compose`, `kubernetes`, each with a PROFILE; or `proxy` with nginx or vllm-router",
    )
    verb.add_argument(
        "export_profile", metavar="PROFILE", nargs="?", help="with systemd, compose, kubernetes; with proxy: which"
    )
    verb.add_argument(
        "proxy_servers", metavar="RUN_OR_URL", nargs="*", help="with proxy: the servers; default: all that run here"
    )
    verb.add_argument("--csv", action="store_true", help="the default")
    verb.add_argument("--parquet", action="store_true", help="needs the extra dsv4-console[parquet]")
    verb.add_argument(
        "-o", "--output", metavar="FILE", dest="export_file", help="default: stdout; a directory for several files"
    )
    verb.add_argument("--since", metavar="WHEN", help="30s, 90m, 6h, 2d before the last sample, or 2026-11-23T14:00")
    group = verb.add_argument_group("with systemd, compose, kubernetes")
    group.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="export_overrides")
    group.add_argument("--hosts", metavar="A,B", help="addresses of a profile's machines, the first machine first")
    group.add_argument("--image", metavar="IMAGE", help="default: vLLM's own, of the newest version that was checked")
    group.add_argument("--namespace", metavar="NAME", help="of Kubernetes")
    group.add_argument("--vllm", metavar="PATH", help="of the vllm command on the machines (systemd, several machines)")
    group = verb.add_argument_group("with proxy")
    group.add_argument(
        "--listen", metavar="ADDRESS:PORT", dest="proxy_listen", default=LISTEN, help=f"of the proxy ({LISTEN})"
    )
    group.add_argument(
        "--routing", choices=ROUTINGS, dest="proxy_routing", default=ROUTINGS[0], help=f"of vllm-router ({ROUTINGS[0]})"
    )
    group.add_argument("--model", metavar="NAME", dest="proxy_model", help="of servers that do not say theirs")
    group.add_argument(
        "--api-key-env", metavar="NAME", dest="proxy_api_key_env", help="environment variable with the URLs' API key"
    )
    verb.set_defaults(function="export.export")
