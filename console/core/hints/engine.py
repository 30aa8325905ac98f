"""The hint engine: takes one sample per tick, judges every rule of the table, and says what holds now."""

from __future__ import annotations

from console.core.hints.hysteresis import Tracker
from console.core.hints.needs import NEEDS
from console.core.hints.rule import Rule, RuleDoc
from console.core.hints.rules_host import IDLE_SPEND
from console.core.hints.setting import Limits, Setting
from console.core.hints.table import NODE_RULES, RULES
from console.core.hints.window import GAP_S, History, Point, Window
from console.core.hints.words import duration
from console.core.models import Hint, HintState, Level, Money, Sample, ServerState
from console.core.profile import Profile

__all__ = ["MISSING_HOLD_S", "HintEngine", "explain_rules"]

MISSING_HOLD_S = 10.0
"""For so long a reading must be absent before a rule says that it cannot judge."""
LEVEL_ORDER = {Level.BAD: 0, Level.WARN: 1, Level.INFO: 2, Level.OK: 3}


class HintEngine:
    """Hints of one run.

    Args:
        profile: as launched, overrides applied.
        max_num_seqs: in force per engine; `None` for the profile's or vLLM's default.
        max_model_len: in force, in tokens; `None` where nobody knows.
        usd_per_hour: price of the machine; `None` for the profile's.
        engine_version: of vLLM; `None` where nobody knows.
        idle_hold_s: seconds of idleness after which `idle-spend` fires; `None` for the table's.
        rules: another table, for tests.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        max_num_seqs: int | None = None,
        max_model_len: int | None = None,
        usd_per_hour: float | None = None,
        engine_version: str | None = None,
        idle_hold_s: float | None = None,
        rules: tuple[Rule, ...] = RULES,
    ) -> None:
        limits = Limits(
            max_num_seqs=max_num_seqs,
            max_model_len=max_model_len,
            usd_per_hour=usd_per_hour,
            engine_version=engine_version,
        )
        self._setting = Setting(profile, limits)
        holds = {} if idle_hold_s is None else {IDLE_SPEND.id: idle_hold_s}
        self._rules = tuple(rule for rule in rules if rule.applies(self._setting))
        wanted = {need for rule in self._rules for need in rule.needs}
        self._needs = {key: need for key, need in NEEDS.items() if key in wanted}
        self._holds = {rule.id: holds.get(rule.id, rule.hold_s) for rule in self._rules}
        self._order = {rule.id: place for place, rule in enumerate(self._rules)}
        self._history = History()
        self._hints: tuple[Hint, ...] = ()
        self._start_afresh()

    def update(self, sample: Sample, money: Money | None = None) -> tuple[Hint, ...]:
        """Take in one sample and return the hints that hold, worst first, then the rules that cannot be judged.

        With the ledger's `money`, `idle-spend` goes by its idle time, and holds it no longer (`idle_hold_s` is 0).

        A server that is not up has no hints. While it is unhealthy nothing is judged, since a hung engine looks like
        one with room, and hints run out after their `clear_s`. A gap of more than `GAP_S` seconds, or a clock set
        back that far, starts afresh; a sample a little older than the last one is ignored.
        """
        self._setting.money = money
        if sample.state is ServerState.UNHEALTHY:
            return self._wait(sample.time_s)
        if sample.state is not ServerState.READY:
            if len(self._history):
                self._start_afresh()
            return ()
        last_s = self._history.last_s
        if last_s is not None:
            if abs(sample.time_s - last_s) > GAP_S:
                self._start_afresh()
            elif sample.time_s <= last_s:
                return self._hints
        self._history.append(Point(sample, self._setting))
        self._hints = self._judge()
        return self._hints

    def _start_afresh(self) -> None:
        self._history.clear()
        self._trackers = {rule.id: Tracker(self._holds[rule.id], rule.clear_s) for rule in self._rules}
        self._hints = ()
        self._missing_since: dict[str, float] = {}

    def _wait(self, now: float) -> tuple[Hint, ...]:
        """Judge nothing: hints that fired stay until their time to clear is over."""
        for tracker in self._trackers.values():
            tracker.update(now, None)
        self._hints = tuple(self._compatible(self._firing()))
        return self._hints

    def _firing(self) -> list[Hint]:
        """Hints that fire. One that another kept back does not come up when its own condition is gone already."""
        shown = {hint.id for hint in self._hints if hint.state is HintState.FIRING}
        return [
            fired(rule, tracker)
            for rule in self._rules
            if (tracker := self._trackers[rule.id]).holds or (tracker.firing and rule.id in shown)
        ]

    def _judge(self) -> tuple[Hint, ...]:
        windows: dict[float, Window] = {}
        missing = self._missing(self._history.window(0.0).last)
        unjudged: list[Hint] = []
        for rule in self._rules:
            window = windows.get(rule.window_s)
            if window is None:
                window = windows[rule.window_s] = self._history.window(rule.window_s)
            tracker, now = self._trackers[rule.id], window.last.time_s
            absent = [missing[need] for need in rule.needs if need in missing]
            tracker.update(now, None if absent else rule.judge(window, self._setting, tracker.held_s(now)))
            if absent and not tracker.firing:
                unjudged.append(
                    Hint(
                        id=rule.id,
                        title=rule.title,
                        level=Level.INFO,
                        state=HintState.UNJUDGED,
                        missing="; ".join(absent),
                        doc=rule.doc,
                    )
                )
        return (*self._compatible(self._firing()), *unjudged)

    def _missing(self, point: Point) -> dict[str, str]:
        """Needs that were absent for long enough, with the words for it."""
        found: dict[str, str] = {}
        for key, need in self._needs.items():
            if need.present(point, self._setting):
                self._missing_since.pop(key, None)
            elif point.time_s - self._missing_since.setdefault(key, point.time_s) >= MISSING_HOLD_S:
                found[key] = f"{need.title}: {need.why(point, self._setting)}"
        return found

    def _compatible(self, firing: list[Hint]) -> list[Hint]:
        """Leave out what an earlier rule of the table speaks against, and put the worst first."""
        rules = {hint.id: self._rules[self._order[hint.id]] for hint in firing}
        topics = {topic for rule in rules.values() for topic in rule.silences}
        keys: set[str] = set()
        kept: list[Hint] = []
        for hint in firing:
            topic = rules[hint.id].topic
            changed = {change.key for change in hint.change}
            if topic in topics or changed & keys:
                continue
            topics.add(topic)
            keys |= changed
            kept.append(hint)
        return sorted(kept, key=lambda hint: LEVEL_ORDER[hint.level])


def fired(rule: Rule, tracker: Tracker) -> Hint:
    """The hint of a rule that fires."""
    finding = tracker.shown
    if finding is None:
        raise ValueError(f"{rule.id} fires without a finding")
    held = (f"This has held for {duration(tracker.shown_held_s)}.",) if tracker.hold_s else ()
    return Hint(
        id=rule.id,
        title=rule.title,
        level=rule.level,
        evidence=(*finding.evidence, *finding.basis, *held),
        change=finding.change,
        gain=finding.gain,
        risk=finding.risk,
        held_s=tracker.shown_held_s,
        doc=rule.doc,
    )


def explain_rules() -> tuple[RuleDoc, ...]:
    """The tables as documentation, in order of precedence."""
    return tuple(
        RuleDoc(
            id=rule.id,
            title=rule.title,
            level=rule.level,
            topic=rule.topic,
            needs=tuple(NEEDS[need].title for need in rule.needs),
            window_s=rule.window_s,
            hold_s=rule.hold_s,
            clear_s=rule.clear_s,
            looks_at=rule.looks_at,
            proposes=rule.proposes,
            gain=rule.gain,
            risk=rule.risk,
            doc=rule.doc,
        )
        for rule in (*RULES, *NODE_RULES)
    )
