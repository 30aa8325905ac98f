"""Money as words and as metrics: what every front end and the Prometheus endpoint say of a ledger.

Separate from the ledger, which counts: here a positive amount is never written as nothing.
"""

from __future__ import annotations

from console.core.models import Money
from console.core.units import UNKNOWN, elapsed_text, usd_text

__all__ = ["amount_text", "idle_text", "money_lines", "shares_text", "summary_text"]

CENT = 0.01


def amount_text(value: float | None) -> str:
    """Dollars: `$24.10`, `$0.42`; below ten cents with four digits, below a hundredth of a cent `<$0.0001`."""
    if value is None or value == 0 or abs(value) >= CENT * 10:
        return UNKNOWN if value is None else usd_text(value)
    return f"${value:.4f}" if value >= CENT / 100 else "<$0.0001"


def shares_text(money: Money) -> str:
    """Where the time went, most first: `serving 61%, idle 30%, loading 9%`; empty before any time has passed."""
    if not money.total_s:
        return ""
    rows = sorted(money.seconds.items(), key=lambda row: -row[1])
    return ", ".join(f"{spend} {seconds / money.total_s:.0%}" for spend, seconds in rows if seconds > 0)


def summary_text(money: Money) -> str:
    """A whole run: `1h12m, $24.10: serving 61%, idle 30%, loading 9%`."""
    spent = f", {amount_text(money.total_usd)}" if money.total_usd is not None else ""
    shares = f": {shares_text(money)}" if money.total_s else ""
    missing = f" ({money.missing})" if money.missing else ""
    return f"{elapsed_text(money.total_s)}{spent}{shares}{missing}"


def per_million_text(money: Money) -> str:
    """Dollars per million output tokens, over the run and now; empty while neither is known."""
    if money.usd_per_million is None:
        return ""
    now = "" if money.usd_per_million_now is None else f" ({amount_text(money.usd_per_million_now)} in the last minute)"
    return f"{amount_text(money.usd_per_million)} per million output tokens{now}"


def idle_text(money: Money) -> str:
    """The countdown of an idle server, once it was warned of: `idle 5m00s, stops in 25m00s`; else empty."""
    if not money.idle_warned or money.idle_s is None:
        return ""
    stop = "" if money.idle_stop_in_s is None else f", stops in {elapsed_text(money.idle_stop_in_s)}"
    return f"idle {elapsed_text(money.idle_s)}{stop}"


def money_lines(money: Money) -> list[str]:
    """All of it for people, in lines."""
    price = "" if money.usd_per_hour is None else f"{usd_text(money.usd_per_hour)}/h  "
    lines = [f"{price}since launch: {summary_text(money)}"]
    return [*lines, *filter(None, (per_million_text(money), idle_text(money)))]
