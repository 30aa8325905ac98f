"""What a machine costs, and from when on it is cheaper than an API, by arithmetic that shows its workings.

    per month             = per hour × 730
    per million tokens    = per hour / (tokens per second × 3600) × 10⁶
    break-even per month  = per month / API price per million × 10⁶      output tokens
    break-even rate       = break-even per month / (730 × 3600)          output tokens per second, day and night

A break-even rate above what the machine can do means that the API stays cheaper. Without a price in the profile or in
the user's configuration a published one stands in, which is said to be another's: nothing that runs is priced by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from console.core.models import Sample
from console.core.profile import CostSection, HardwareSection, Profile

__all__ = [
    "HOURS_PER_MONTH",
    "LIST_PRICES",
    "CostReport",
    "Throughput",
    "best_minute",
    "cost_report",
    "list_price",
    "price_for",
    "with_price",
]

HOURS_PER_MONTH = 730.0
"""A year's 8,760 hours / 12."""
WINDOW_S = 60.0
"""A rate that did not hold for so long is no throughput."""


class Throughput(msgspec.Struct, frozen=True, kw_only=True):
    """Output tokens per second of a whole server, and where the figure is from."""

    tokens_per_s: float
    basis: str
    """`given`, or `measured here` with run and date."""


class CostReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a profile's machine costs. `None` is unknown; `missing` says what would be needed."""

    usd_per_hour: float | None = None
    usd_per_month: float | None = None
    spot_usd_per_hour: float | None = None
    spot_usd_per_month: float | None = None
    spot_saving: float | None = None
    """Share of the on-demand price: 0.6 is 60 % less."""
    source: str = ""
    throughput: Throughput | None = None
    usd_per_million_tokens: float | None = None
    """Of output, with the machine busy at that throughput."""
    api_usd_per_million_tokens: float | None = None
    break_even_tokens_per_month: float | None = None
    break_even_tokens_per_s: float | None = None
    break_even_share: float | None = None
    """Of the throughput; above 1 the API stays cheaper."""
    missing: tuple[str, ...] = ()


def cost_report(
    cost: CostSection, throughput: Throughput | None = None, api_usd_per_million_tokens: float | None = None
) -> CostReport:
    """Do the arithmetic of this module's docstring with what is known.

    Args:
        cost: price and its source.
        throughput: measured or given.
        api_usd_per_million_tokens: of output, that an API asks.
    """
    hourly, spot = cost.usd_per_hour, cost.spot_usd_per_hour
    monthly = None if hourly is None else hourly * HOURS_PER_MONTH
    tokens_per_s = throughput.tokens_per_s if throughput else None
    per_million = None if hourly is None or not tokens_per_s else hourly / (tokens_per_s * 3600) * 1e6
    per_month = per_s = share = None
    if monthly is not None and api_usd_per_million_tokens:
        per_month = monthly / api_usd_per_million_tokens * 1e6
        per_s = per_month / (HOURS_PER_MONTH * 3600)
        share = per_s / tokens_per_s if tokens_per_s else None
    missing = (
        ("a price: usd_per_hour in the profile's [cost] or in config.toml, or --usd-per-hour", hourly is None),
        ("a throughput: a run that held one for a minute, or --throughput", tokens_per_s is None),
        ("an API's price to compare with: --api-price", api_usd_per_million_tokens is None),
    )
    return CostReport(
        usd_per_hour=hourly,
        usd_per_month=monthly,
        spot_usd_per_hour=spot,
        spot_usd_per_month=None if spot is None else spot * HOURS_PER_MONTH,
        spot_saving=None if spot is None or not hourly else 1 - spot / hourly,
        source=" ".join(part for part in (cost.source, cost.date) if part),
        throughput=throughput,
        usd_per_million_tokens=per_million,
        api_usd_per_million_tokens=api_usd_per_million_tokens,
        break_even_tokens_per_month=per_month,
        break_even_tokens_per_s=per_s,
        break_even_share=share,
        missing=tuple(text for text, lacks in missing if lacks),
    )


def price_for(hardware: HardwareSection, prices: Mapping[str, CostSection]) -> CostSection | None:
    """The user's price of a machine: that of the whole (`8xH100`), else of one GPU (`H100`) times their number.

    Case, spaces and `×` for `x` make no difference. Of several machines: that of all (`2x8xH100`), else of one times
    their number.
    """
    known = {_key(name): price for name, price in prices.items()}
    rows = (
        (f"{hardware.nodes}x{hardware.count}x{hardware.gpu}", 1),
        (f"{hardware.count}x{hardware.gpu}", hardware.nodes),
        (hardware.gpu, hardware.count * hardware.nodes),
    )
    for name, number in rows:
        price = known.get(_key(name))
        if price is not None and number:
            return price if number == 1 and name != hardware.gpu else _several(price, number)
    return None


def _several(price: CostSection, number: int) -> CostSection:
    return msgspec.structs.replace(
        price,
        usd_per_hour=_times(price.usd_per_hour, number),
        spot_usd_per_hour=_times(price.spot_usd_per_hour, number),
        source=f"{number} × {price.source or 'config.toml'}",
    )


LIST_PRICE_SOURCE: Final = "https://www.hyperstack.cloud/gpu-pricing"
LIST_PRICE_DATE: Final = "2026-08-26"
LIST_PRICES: Final[Mapping[str, CostSection]] = {
    gpu: CostSection(usd_per_hour=on_demand, spot_usd_per_hour=spot, date=LIST_PRICE_DATE)
    for gpu, on_demand, spot in (
        ("A100", 1.60, None),
        ("H100", 3.20, None),
        ("H200", 3.99, None),
        ("B200", 6.00, None),
        ("B300", 7.40, None),
        ("RTX PRO 6000", 1.85, 1.48),
    )
}
"""What one provider asked for one GPU (SXM) and hour, by its public list. Lists of the same weeks had 1.39 to 2.79 for
an A100, 2.69 to 10.98 for an H100, 3.59 to 4.59 for an H200 and 5.98 to 7.15 for a B200 (RunPod, Lambda, Nebius, Google
Cloud, read 2026-09-25), so it gives a size and no more, and never stands on a running server."""


def list_price(hardware: HardwareSection) -> CostSection | None:
    """A published price to reckon with until the user names theirs; `None` where there is none for this GPU."""
    found = price_for(hardware, LIST_PRICES)
    if found is None:
        return None
    said = f"list price of one provider, not yours: {hardware.text} at {LIST_PRICE_SOURCE}"
    return msgspec.structs.replace(found, source=said)


def with_price(profile: Profile, prices: Mapping[str, CostSection]) -> Profile:
    """The profile with the user's price where it has none of its own."""
    price = price_for(profile.hardware, prices) if profile.cost.usd_per_hour is None else None
    return profile if price is None else msgspec.structs.replace(profile, cost=price)


def best_minute(samples: Iterable[Sample]) -> float | None:
    """Output tokens per second of the best minute that was sampled throughout; `None` if there was none."""
    rates = [
        (sample.time_s - sample.span_s, sample.time_s, rate, sample.count)
        for sample in samples
        if sample.engine is not None and (rate := sample.engine.generation_tokens_per_s) is not None
    ]
    best: float | None = None
    first, total, count = 0, 0.0, 0
    for _, end_s, rate, ticks in rates:
        total += rate * ticks
        count += ticks
        while end_s - rates[first][1] > WINDOW_S:
            total -= rates[first][2] * rates[first][3]
            count -= rates[first][3]
            first += 1
        # At 1 Hz a whole minute has 60 ticks; a window with gaps says little.
        if end_s - rates[first][0] >= WINDOW_S - 2 and count >= WINDOW_S * 0.8:
            best = max(best or 0.0, total / count)
    return best or None


def _key(name: str) -> str:
    return name.casefold().replace("×", "x").replace(" ", "")


def _times(price: float | None, count: int) -> float | None:
    return None if price is None else price * count
