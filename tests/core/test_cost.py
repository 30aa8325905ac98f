"""Prices and break-even."""

from __future__ import annotations

import pytest

from console.core.cost import Throughput, best_minute, cost_report, list_price, price_for, with_price
from console.core.models import EngineReading, Sample, ServerState
from console.core.profile import CostSection, HardwareSection, ModelSection, Profile, ProfileSection

PRICE = CostSection(usd_per_hour=20.0, spot_usd_per_hour=8.0, source="contract", date="2026-11-01")


def test_the_arithmetic() -> None:
    report = cost_report(PRICE, Throughput(tokens_per_s=2000, basis="given"), 4.0)
    assert report.usd_per_month == 14_600
    assert report.spot_usd_per_month == 5_840
    assert report.spot_saving == pytest.approx(0.6)
    # 2000 tok/s are 7.2 million an hour.
    assert report.usd_per_million_tokens == pytest.approx(20 / 7.2)
    assert report.break_even_tokens_per_month == pytest.approx(3_650e6)
    assert report.break_even_tokens_per_s == pytest.approx(3_650e6 / (730 * 3600))
    assert report.break_even_share == pytest.approx((20 / 7.2) / 4.0), "the dearer the token, the more of it is needed"
    assert report.source == "contract 2026-11-01"
    assert report.missing == ()


def test_the_api_stays_cheaper_where_the_share_is_above_one() -> None:
    report = cost_report(PRICE, Throughput(tokens_per_s=100, basis="given"), 0.5)
    assert report.break_even_share is not None
    assert report.break_even_share > 1


def test_what_is_unknown_stays_unknown() -> None:
    report = cost_report(CostSection())
    assert (report.usd_per_month, report.usd_per_million_tokens, report.break_even_tokens_per_s) == (None, None, None)
    assert len(report.missing) == 3
    assert cost_report(PRICE, None, 4.0).break_even_tokens_per_s is not None
    assert cost_report(PRICE, None, 4.0).break_even_share is None
    assert cost_report(CostSection(usd_per_hour=0.0)).usd_per_month == 0


@pytest.mark.parametrize("name", ["8xH100", "8xh100", "8 × H100", "8×H100"])
def test_the_whole_machines_price(name: str) -> None:
    assert price_for(HardwareSection(gpu="H100", count=8), {name: PRICE, "H100": CostSection(usd_per_hour=1)}) == PRICE


def test_one_gpus_price_is_multiplied() -> None:
    price = price_for(HardwareSection(gpu="RTX PRO 6000", count=4), {"rtxpro6000": PRICE})
    assert price is not None
    assert (price.usd_per_hour, price.spot_usd_per_hour, price.date) == (80.0, 32.0, "2026-11-01")
    assert price.source == "4 × contract"
    assert price_for(HardwareSection(), {"none": PRICE, "8xH100": PRICE}) is None


def test_the_profiles_own_price_wins() -> None:
    own = CostSection(usd_per_hour=1.0)
    profile = Profile(
        profile=ProfileSection(title="a"),
        model=ModelSection(id="a/b"),
        hardware=HardwareSection(gpu="H100", count=8),
        cost=own,
    )
    assert with_price(profile, {"8xH100": PRICE}).cost == own
    bare = Profile(profile=profile.profile, model=profile.model, hardware=profile.hardware)
    assert with_price(bare, {"8xH100": PRICE}).cost == PRICE
    assert with_price(bare, {}) is bare


def samples(rates: list[float | None], step_s: float = 1.0) -> list[Sample]:
    return [
        Sample(
            time_s=1000 + index * step_s,
            state=ServerState.READY,
            engine=None if rate is None else EngineReading(generation_tokens_per_s=rate),
        )
        for index, rate in enumerate(rates)
    ]


def test_the_best_minute() -> None:
    assert best_minute(samples([100.0] * 61)) == 100
    assert best_minute(samples([10.0] * 100 + [50.0] * 61 + [10.0] * 100)) == pytest.approx(50)
    assert best_minute(samples([100.0] * 30)) is None, "it did not hold"
    assert best_minute(samples([100.0] * 10, step_s=30)) is None, "too few samples to say"
    assert best_minute(samples([0.0] * 100)) is None
    assert best_minute(samples([None] * 100)) is None
    assert best_minute([]) is None


def test_a_list_price_is_of_the_whole_machine_and_says_that_it_is_anothers() -> None:
    price = list_price(HardwareSection(gpu="H100", count=8))
    assert price is not None
    assert price.usd_per_hour == pytest.approx(8 * 3.20)
    assert "not yours: 8 × H100" in price.source
    assert price.date
    assert list_price(HardwareSection(gpu="GB300", count=4)) is None
    assert list_price(HardwareSection()) is None


def test_the_best_minute_of_merged_samples_is_that_of_their_seconds() -> None:
    def merged(time_s: float, rate: float, ticks: int = 10) -> Sample:
        engine = EngineReading(generation_tokens_per_s=rate)
        return Sample(time_s=time_s, state=ServerState.READY, engine=engine, count=ticks, span_s=ticks - 1.0)

    rates = [100.0] * 6 + [700.0] * 7 + [100.0] * 6
    assert best_minute(merged(10.0 * at, rate) for at, rate in enumerate(rates)) == pytest.approx(700.0)
    assert best_minute([merged(60.0, 5.0, 60)]) == 5.0
    assert best_minute([merged(30.0, 5.0, 30)]) is None
