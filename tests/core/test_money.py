"""The ledger: each second in one bucket, on the monotonic clock, over restarts and lost supervisors."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.core.hints import HintEngine
from console.core.idle import IdleLimits, IdleVerdict, idle_verdict, stop_reason, warn_after_s, warning_text
from console.core.models import (
    EngineReading,
    HintState,
    Money,
    NodePlace,
    Phase,
    RunInfo,
    Sample,
    ServerState,
    Spend,
)
from console.core.money import BUCKETS, GAP_S, NO_PRICE, Ledger, Look, Tally, added, advance, money_of, no_price
from console.core.money_words import amount_text, idle_text, money_lines, shares_text, summary_text
from console.core.profile import Profile

READY = ServerState.READY


def figures(running: int = 0, tokens: int = 0, finished: int = 0, waiting: int = 0) -> EngineReading:
    """What a scrape says."""
    return EngineReading(
        running=running, waiting=waiting, generation_tokens_total=tokens, requests_finished_total=finished
    )


IDLE = figures()


class Clock:
    """A ledger with a clock that the test moves."""

    def __init__(self, price: float | None = 36.0, **more: Any) -> None:
        self.now_s = 1_000.0
        limits = more.pop("limits", IdleLimits())
        self.ledger = Ledger(price, limits, now_s=self.now_s, **more)
        self.verdict = IdleVerdict.NOTHING

    def look(self, state: ServerState, engine: EngineReading | None = None, pid: int = 7, **more: Any) -> Money:
        self.verdict = self.ledger.look(Look(mono_s=self.now_s, state=state, pid=pid, engine=engine, **more))
        return self.ledger.money()

    def spend(
        self, seconds: int, state: ServerState, engine: EngineReading | None = None, pid: int = 7, **more: Any
    ) -> Money:
        """Look once a second while this goes on; the first look is now."""
        money = self.look(state, engine, pid, **more)
        for _ in range(seconds):
            self.now_s += 1.0
            money = self.look(state, engine, pid, **more)
        return money


def test_every_state_has_a_bucket() -> None:
    assert set(BUCKETS) == set(ServerState)
    assert {spend for spend in BUCKETS.values() if spend} | {Spend.DOWNLOADING, Spend.SERVING, Spend.UNWATCHED} == set(
        Spend
    )


@pytest.mark.parametrize(
    ("state", "more", "bucket"),
    [
        (ServerState.STARTING, {}, Spend.LOADING),
        (ServerState.LOADING, {"phase": Phase.WEIGHTS}, Spend.LOADING),
        (ServerState.LOADING, {"phase": Phase.DOWNLOAD}, Spend.DOWNLOADING),
        (READY, {"engine": figures(running=2)}, Spend.SERVING),
        (READY, {"engine": figures(waiting=1)}, Spend.SERVING),
        (READY, {"engine": IDLE}, Spend.IDLE),
        (ServerState.UNHEALTHY, {"engine": figures(running=3)}, Spend.HUNG),
        (ServerState.STOPPING, {"engine": figures(running=3)}, Spend.DOWN),
        (ServerState.CRASHED, {}, Spend.DOWN),
        (ServerState.FAILED, {}, Spend.DOWN),
        (ServerState.STOPPED, {}, None),
    ],
)
def test_each_state_costs_its_own(state: ServerState, more: dict[str, Any], bucket: Spend | None) -> None:
    money = Clock().spend(60, state, **more)
    assert money.seconds == ({bucket: 60.0} if bucket else {})
    assert money.usd == ({bucket: pytest.approx(0.6)} if bucket else {})
    assert money.total_usd == pytest.approx(0.6 if bucket else 0.0)


def test_a_whole_run_adds_up() -> None:
    clock = Clock(price=14.76)
    clock.spend(20, ServerState.STARTING)
    clock.spend(300, ServerState.LOADING, phase=Phase.DOWNLOAD)
    clock.spend(80, ServerState.LOADING, phase=Phase.WEIGHTS)
    clock.spend(600, READY, figures(running=4))
    money = clock.spend(200, READY, IDLE)
    assert money.seconds == {Spend.DOWNLOADING: 300, Spend.LOADING: 100, Spend.SERVING: 600, Spend.IDLE: 200}
    assert list(money.seconds) == [Spend.DOWNLOADING, Spend.LOADING, Spend.SERVING, Spend.IDLE]
    assert money.total_s == 1200
    assert money.total_usd == pytest.approx(14.76 / 3)
    assert sum((money.usd or {}).values()) == pytest.approx(14.76 / 3)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(tuple(ServerState)),
            st.one_of(st.none(), st.builds(figures, st.integers(0, 3), st.integers(0, 50), st.integers(0, 9))),
            st.floats(0.0, 100.0),
        ),
        max_size=30,
    )
)
def test_no_second_is_counted_twice_or_below_nothing(
    steps: list[tuple[ServerState, EngineReading | None, float]],
) -> None:
    clock = Clock()
    money = clock.look(ServerState.STARTING)
    for state, engine, passed_s in steps:
        clock.now_s += passed_s
        before, money = money, clock.look(state, engine)
        assert 0 <= money.total_s - before.total_s <= passed_s + 1e-6
        assert all(seconds >= before.seconds.get(spend, 0.0) for spend, seconds in money.seconds.items())
        assert money.idle_s is None or money.idle_s <= money.total_s + 1e-6


class TestServingAndIdle:
    def test_a_request_between_two_looks_is_serving(self) -> None:
        clock = Clock()
        clock.spend(10, READY, figures(tokens=100, finished=1))
        clock.now_s += 1.0
        money = clock.look(READY, figures(tokens=140, finished=1))
        assert money.seconds == {Spend.IDLE: 10.0, Spend.SERVING: 1.0}
        assert money.idle_s == 0.0
        money = clock.spend(5, READY, figures(tokens=140, finished=1))
        assert money.seconds[Spend.IDLE] == 15.0

    def test_a_request_that_made_no_token_is_one(self) -> None:
        clock = Clock()
        clock.spend(10, READY, IDLE)
        clock.now_s += 1.0
        assert clock.look(READY, figures(finished=1)).idle_s == 0.0

    def test_the_canary_is_no_request(self) -> None:
        clock = Clock()
        clock.spend(10, READY, IDLE)
        for made, running in ((0, 1), (1, 0), (1, 0)):
            clock.now_s += 1.0
            money = clock.look(READY, figures(running=running, tokens=made, finished=made), own_requests=1)
        assert money.seconds == {Spend.IDLE: 13.0}
        assert money.idle_s == 13.0
        clock.now_s += 1.0
        assert clock.look(READY, figures(running=1, waiting=1, tokens=1, finished=1), own_requests=1).idle_s == 0.0

    def test_figures_that_are_late_change_nothing_and_missing_ones_are_not_idle(self) -> None:
        clock = Clock()
        clock.spend(10, READY, figures(running=1))
        money = clock.spend(int(GAP_S), READY, None)
        assert money.seconds == {Spend.SERVING: 10 + GAP_S}
        money = clock.spend(30, READY, None)
        assert money.seconds[Spend.SERVING] == 10 + GAP_S + 1
        assert money.seconds[Spend.UNWATCHED] == 29
        assert money.idle_s == 0.0

    def test_a_server_without_figures_is_never_idle(self) -> None:
        clock = Clock(limits=IdleLimits(stop_s=10))
        clock.spend(5, ServerState.LOADING)
        money = clock.spend(100, READY, None)
        assert money.idle_s is None
        assert money.idle_stop_in_s is None
        assert Spend.IDLE not in money.seconds
        assert money.seconds[Spend.UNWATCHED] > 80
        assert clock.verdict is IdleVerdict.NOTHING

    def test_ready_counts_as_loading_until_the_first_figures(self) -> None:
        clock = Clock()
        clock.spend(5, ServerState.LOADING)
        clock.spend(2, READY, None)
        assert clock.spend(3, READY, IDLE).seconds == {Spend.LOADING: 7.0, Spend.IDLE: 3.0}


class TestTokens:
    def test_over_the_run_and_now(self) -> None:
        clock = Clock(price=36.0)  # a cent a second
        clock.spend(100, ServerState.LOADING)
        clock.look(READY, figures(running=1))
        money = None
        for second in range(1, 101):
            clock.now_s += 1.0
            money = clock.look(READY, figures(running=1, tokens=1000 * second))
        assert money is not None
        assert money.output_tokens == 100_000
        assert money.usd_per_million == pytest.approx(2.00 / 0.1)
        assert money.usd_per_million_now == pytest.approx(0.01 / 1000 * 1e6)

    def test_nothing_made_is_unknown_and_not_free(self) -> None:
        money = Clock().spend(100, READY, IDLE)
        assert (money.output_tokens, money.usd_per_million, money.usd_per_million_now) == (0, None, None)

    @pytest.mark.parametrize("later_tokens", [3, 800], ids=["fell", "another server, already further"])
    def test_tokens_survive_a_restart_of_the_server(self, later_tokens: int) -> None:
        clock = Clock()
        clock.spend(3, READY, figures(tokens=500, finished=5), pid=7)
        clock.spend(3, ServerState.CRASHED)
        money = clock.spend(3, READY, figures(tokens=later_tokens), pid=8)
        assert money.output_tokens == 500 + later_tokens

    def test_an_adopted_server_brings_no_tokens_of_an_unknown_time(self) -> None:
        clock = Clock(adopted=True)
        assert clock.spend(3, READY, figures(tokens=1_000_000)).output_tokens == 0
        assert clock.spend(3, READY, figures(tokens=1_000_200)).output_tokens == 200


class TestClocksAndSuccessors:
    def test_a_clock_that_goes_back_earns_nothing(self) -> None:
        clock = Clock()
        clock.spend(10, READY, IDLE)
        clock.now_s -= 500
        assert clock.look(READY, IDLE).total_s == 10
        clock.now_s += 1
        assert clock.look(READY, IDLE).total_s == 11

    def test_a_gap_that_nobody_watched(self) -> None:
        clock = Clock()
        clock.spend(10, READY, IDLE)
        clock.now_s += 3600
        money = clock.spend(5, READY, IDLE)
        assert money.seconds == {Spend.IDLE: 15.0, Spend.UNWATCHED: 3600.0}
        assert money.idle_s == 15.0, "what nobody saw does not count towards a deadline"

    def test_a_request_in_a_gap_ends_the_idleness(self) -> None:
        clock = Clock()
        clock.spend(10, READY, IDLE)
        clock.now_s += 3600
        assert clock.look(READY, figures(tokens=5, finished=1)).idle_s == 0.0

    @pytest.mark.parametrize(
        ("away_s", "seconds"),
        [(6.0, {Spend.SERVING: 16.0}), (60.0, {Spend.SERVING: 10.0, Spend.UNWATCHED: 60.0})],
        ids=["as it was known", "unwatched"],
    )
    def test_a_successor_goes_on(self, away_s: float, seconds: dict[Spend, float]) -> None:
        clock = Clock()
        clock.spend(10, READY, figures(running=1, tokens=700))
        left = msgspec.json.decode(msgspec.json.encode(clock.ledger.tally), type=Tally)
        assert left == clock.ledger.tally
        successor = Ledger(36.0, IdleLimits(), now_s=clock.now_s + away_s, saved=left)
        successor.look(Look(mono_s=clock.now_s + away_s, state=READY, pid=7, engine=figures(running=1, tokens=900)))
        assert successor.money().seconds == seconds
        assert successor.money().output_tokens == 900

    def test_after_a_reboot_nothing_is_made_up(self) -> None:
        left = Tally(mono_s=90_000.0, seconds={Spend.SERVING: 100.0}, spend=Spend.SERVING)
        successor = Ledger(36.0, IdleLimits(), now_s=50.0, saved=left)
        successor.look(Look(mono_s=51.0, state=ServerState.STARTING))
        assert successor.money().total_s == 101.0


def test_without_a_price_the_seconds_stand() -> None:
    money = Clock(price=None).spend(60, READY, figures(running=1, tokens=10))
    assert money.seconds == {Spend.SERVING: 60.0}
    assert (money.usd, money.total_usd, money.usd_per_million, money.idle_usd) == (None, None, None, None)
    assert money.missing == NO_PRICE
    assert "usd_per_hour" in summary_text(money)
    assert "$" not in summary_text(money)


class TestIdleDeadlines:
    LIMITS = IdleLimits(warn_s=300, stop_s=1800)

    def test_warns_then_stops_and_counts_down(self) -> None:
        clock = Clock(limits=self.LIMITS)
        money = clock.spend(299, READY, IDLE)
        assert (clock.verdict, money.idle_warned, money.idle_stop_in_s) == (IdleVerdict.NOTHING, False, 1501)
        money = clock.spend(1, READY, IDLE)
        assert (clock.verdict, money.idle_warned, money.idle_stop_in_s) == (IdleVerdict.WARN, True, 1500)
        assert money.idle_usd == pytest.approx(3.0)
        assert idle_text(money) == "idle 5m00s, stops in 25m00s"
        assert warning_text(money, "RUN") == (
            "idle for 5m00s, $3.00 spent on nothing. It is stopped in 25m00s unless a request comes. "
            "Postpone that with: dsv4-console keep RUN"
        )
        clock.spend(1499, READY, IDLE)
        assert clock.verdict is IdleVerdict.WARN
        clock.spend(1, READY, IDLE)
        assert clock.verdict is IdleVerdict.STOP

    def test_any_request_resets_it(self) -> None:
        clock = Clock(limits=self.LIMITS)
        clock.spend(1799, READY, IDLE)
        clock.look(READY, figures(running=1))
        assert clock.verdict is IdleVerdict.NOTHING
        assert clock.spend(299, READY, figures(tokens=3, finished=1)).idle_stop_in_s == 1501

    def test_postponed_it_counts_from_then_on(self) -> None:
        clock = Clock(limits=self.LIMITS)
        clock.spend(1700, READY, IDLE)
        clock.ledger.postpone()
        money = clock.spend(1, READY, IDLE)
        assert (money.idle_s, money.idle_counted_s, money.idle_stop_in_s) == (1701, 1, 1799)
        assert not money.idle_warned
        clock.spend(1799, READY, IDLE)
        assert clock.verdict is IdleVerdict.STOP

    def test_no_stop_without_figures_of_this_moment(self) -> None:
        clock = Clock(limits=IdleLimits(stop_s=10))
        clock.spend(9, READY, IDLE)
        clock.now_s += 1
        clock.look(READY, None)
        assert clock.verdict is IdleVerdict.WARN
        clock.look(READY, IDLE)
        assert clock.verdict is IdleVerdict.STOP

    def test_leaving_ready_ends_it(self) -> None:
        clock = Clock(limits=self.LIMITS)
        clock.spend(1799, READY, IDLE)
        assert clock.look(ServerState.UNHEALTHY, IDLE).idle_s is None
        assert clock.spend(1, READY, IDLE).idle_s == 1

    @pytest.mark.parametrize(
        ("limits", "after_s"),
        [
            (IdleLimits(), None),
            (IdleLimits(warn_s=5), 5),
            (IdleLimits(warn_s=5, stop_s=600), 5),
            (IdleLimits(stop_s=1800), 1740),
            (IdleLimits(stop_s=30), 15),
        ],
    )
    def test_a_stop_is_never_unannounced(self, limits: IdleLimits, after_s: float | None) -> None:
        assert warn_after_s(limits) == after_s

    def test_never_is_never(self) -> None:
        assert idle_verdict(IdleLimits(), 1e9) is IdleVerdict.NOTHING
        assert idle_verdict(self.LIMITS, None) is IdleVerdict.NOTHING

    def test_the_reason_names_the_price(self) -> None:
        assert stop_reason(self.LIMITS, 14.76) == "idle for 30m00s: stopped to save $14.76/h"
        assert stop_reason(self.LIMITS, None) == "idle for 30m00s: stopped as supervise.idle_stop_s asks"

    def test_without_a_price_the_warning_says_so(self) -> None:
        money = Clock(price=None, limits=IdleLimits(warn_s=5)).spend(9, READY, IDLE)
        assert warning_text(money, "R") == f"idle for 9s ({NO_PRICE}). Stop it with: dsv4-console stop R"
        assert idle_text(money) == "idle 9s"


class TestTheRule:
    """`idle-spend` goes by the ledger."""

    @staticmethod
    def firing(watch: dict[str, float], money: list[Money]) -> list[bool]:
        profile = msgspec.convert(
            {"profile": {"title": "t"}, "model": {"id": "m"}, "cost": {"usd_per_hour": 36.0}, "supervise": watch},
            Profile,
        )
        hints = HintEngine(profile, idle_hold_s=0.0)
        out = []
        for second, each in enumerate(money):
            sample = Sample(time_s=1e9 + second, state=READY, engine=IDLE)
            found = [h for h in hints.update(sample, each) if h.id == "idle-spend" and h.state is HintState.FIRING]
            out.append(bool(found))
            if found:
                text = " ".join(found[0].evidence)
                assert f"${each.idle_usd:.2f} for nothing" in text or not each.idle_warned
                assert "This has held" not in text
        return out

    def idle(self, clock: Clock, seconds: int) -> list[Money]:
        out = []
        for _ in range(seconds):
            out.append(clock.look(READY, IDLE))
            clock.now_s += 1.0
        return out

    def test_it_fires_with_the_warning_and_clears_with_a_request(self) -> None:
        clock = Clock(limits=IdleLimits(warn_s=30, stop_s=100))
        money = self.idle(clock, 60)
        money += [clock.look(READY, figures(tokens=9, finished=1))] * 1
        clock.now_s += 1.0
        money += [clock.look(READY, figures(tokens=9, finished=1)) for _ in range(10)]
        fires = self.firing({"idle_warn_s": 30.0, "idle_stop_s": 100.0}, money)
        assert fires == [each.idle_warned for each in money[:60]] + [True] * 5 + [False] * 6

    def test_postponing_ends_it(self) -> None:
        clock = Clock(limits=IdleLimits(warn_s=30))
        money = self.idle(clock, 40)
        clock.ledger.postpone()
        money += self.idle(clock, 20)
        fires = self.firing({"idle_warn_s": 30.0}, money)
        assert fires[39]
        assert not fires[-1]

    def test_without_a_warning_time_it_is_ten_minutes(self) -> None:
        fires = self.firing({}, self.idle(Clock(), 620))
        assert fires.index(True) == 600


def test_words() -> None:
    clock = Clock(price=14.76)
    clock.spend(390, ServerState.LOADING)
    clock.spend(2632, READY, figures(running=1))
    money = clock.spend(1298, READY, figures(tokens=3_000_000, finished=9))
    assert summary_text(money) == "1h12m, $17.71: serving 61%, idle 30%, loading 9%"
    assert money_lines(money)[0] == f"$14.76/h  since launch: {summary_text(money)}"
    assert money_lines(money)[1] == "$5.90 per million output tokens"
    assert shares_text(Money()) == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, "$0.00"), (24.1, "$24.10"), (0.1, "$0.10"), (0.0042, "$0.0042"), (1e-6, "<$0.0001")],
)
def test_little_money_is_not_none(value: float | None, text: str) -> None:
    assert amount_text(value) == text


def test_a_reading_without_a_price_or_limits() -> None:
    tally = advance(Tally(mono_s=0.0, spend=Spend.IDLE), Look(mono_s=9.0, state=READY, engine=IDLE))
    assert money_of(tally, None).idle_stop_in_s is None
    assert money_of(tally, 3600.0).total_usd == pytest.approx(9.0)


def test_attempts_of_a_group_are_summed() -> None:
    first = money_of(Tally(mono_s=0.0, seconds={Spend.LOADING: 100.0, Spend.SERVING: 260.0}, output_tokens=500), 36.0)
    second = money_of(Tally(mono_s=0.0, seconds={Spend.SERVING: 40.0}, output_tokens=500), 36.0, tokens_per_s=50.0)
    both = added(first, second)
    assert both is not None
    assert both.seconds == {Spend.LOADING: 100.0, Spend.SERVING: 300.0}
    assert both.total_s == 400.0
    assert both.total_usd == pytest.approx(4.0)
    assert both.usd is not None
    assert sum(amount for amount in both.usd.values() if amount is not None) == pytest.approx(4.0)
    assert both.output_tokens == 1000
    assert both.usd_per_million == pytest.approx(4000.0)
    assert both.usd_per_million_now == second.usd_per_million_now
    assert added(None, first) == added(first, None) == first
    assert added(None, None) is None


def test_seconds_without_a_price_are_summed_too() -> None:
    one = money_of(Tally(mono_s=0.0, seconds={Spend.IDLE: 10.0}), None)
    both = added(one, one)
    assert both is not None
    assert (both.total_s, both.total_usd, both.usd, both.missing) == (20.0, None, None, NO_PRICE)


@pytest.mark.parametrize(("rank", "says"), [(0, NO_PRICE), (1, "counted by the head, box-a")])
def test_only_the_head_of_a_group_asks_for_a_price(rank: int, says: str) -> None:
    place = NodePlace(group="g", attempt=1, rank=rank, hosts=("box-a", "box-b"), addresses=("", ""))
    assert says in no_price(RunInfo(id="r", profile_name="p", place=place))
