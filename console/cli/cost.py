"""`dsv4-console cost`: what a profile's machine costs per hour and month, and from when on it beats an API."""

from __future__ import annotations

import argparse

import msgspec

from console.cli.output import Output
from console.core.cost import CostReport, Throughput, cost_report, list_price, with_price
from console.core.errors import ExitCode
from console.core.profile import CostSection, Profile
from console.io import profiles
from console.io.config import read_configuration
from console.io.measured import measurements

__all__ = ["cost"]


def cost(arguments: argparse.Namespace, output: Output) -> int:
    """Prices, cost per token and break-even of one profile."""
    stored = profiles.load(arguments.name)
    profile = with_price(stored.profile, read_configuration().price)
    price = _price(profile, arguments)
    report = cost_report(price, _throughput(stored.name, arguments.throughput), arguments.api_price)
    hardware = profile.hardware
    machine = hardware.text
    output.data(f"{stored.name} – {machine}")
    for line in lines(report):
        output.data(f"  {line}")
    output.document({"profile": stored.name, "hardware": machine, **msgspec.to_builtins(report)})
    return ExitCode.OK


def lines(report: CostReport) -> list[str]:
    """The report for people."""
    found = []
    if report.usd_per_hour is not None and report.usd_per_month is not None:
        found.append(f"on demand    {_hour_and_month(report.usd_per_hour, report.usd_per_month)} (730 h)")
    if report.spot_usd_per_hour is not None and report.spot_usd_per_month is not None:
        saving = "" if report.spot_saving is None else f", {report.spot_saving:.0%} less"
        found.append(f"spot         {_hour_and_month(report.spot_usd_per_hour, report.spot_usd_per_month)}{saving}")
    if report.source:
        found.append(f"source       {report.source}")
    if report.throughput:
        found.append(f"throughput   {report.throughput.tokens_per_s:,.0f} output tok/s ({report.throughput.basis})")
    if report.usd_per_million_tokens is not None:
        found.append(f"per token    ${report.usd_per_million_tokens:,.3f} per million output tokens, busy all the time")
    if report.break_even_tokens_per_month is not None and report.break_even_tokens_per_s is not None:
        found.append(
            f"break-even   {report.break_even_tokens_per_month / 1e6:,.0f} million output tokens per month at "
            f"${report.api_usd_per_million_tokens:g} per million:"
        )
        verdict = f"             {report.break_even_tokens_per_s:,.0f} tok/s day and night"
        if report.break_even_share is not None:
            share = report.break_even_share
            verdict += f", {share:.0%} of the throughput" + (": the API stays cheaper" if share > 1 else "")
        found.append(verdict)
    return found + [f"missing      {text}" for text in report.missing]


def _hour_and_month(hourly: float, monthly: float) -> str:
    return f"${hourly:,.2f} per hour, ${monthly:,.0f} per month"


def _price(profile: Profile, arguments: argparse.Namespace) -> CostSection:
    """The profile's or the user's price, unless the command line gives one; without any, a published one."""
    if arguments.usd_per_hour is None and arguments.spot_usd_per_hour is None:
        return profile.cost if profile.cost.usd_per_hour is not None else list_price(profile.hardware) or profile.cost
    return CostSection(
        usd_per_hour=profile.cost.usd_per_hour if arguments.usd_per_hour is None else arguments.usd_per_hour,
        spot_usd_per_hour=arguments.spot_usd_per_hour,
        source="given on the command line",
    )


def _throughput(name: str, given: float | None) -> Throughput | None:
    """What was given, else the best minute of this profile's newest runs."""
    if given is not None:
        return Throughput(tokens_per_s=given, basis="given")
    best = max(measurements(name), key=lambda row: row.tokens_per_s, default=None)
    if best is None:
        return None
    return Throughput(tokens_per_s=best.tokens_per_s, basis=f"measured here: best minute of {best.run}, {best.date}")
