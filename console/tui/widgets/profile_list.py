"""The list of profiles: what it holds, its title with search and order, and how each row is painted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from console.client.api import LaunchPlan, MachineInfo, ProfileEntry, ProfileProblem
from console.core.errors import ConsoleError
from console.core.profile import Evidence
from console.core.profile_orders import ORDERS, found_by, price_shown, sort_key
from console.protocol import RunInfo
from console.tui import fmt
from console.tui.paint import Line, Span, clip, line, spread
from console.tui.widgets.fit_bar import verdict
from console.tui.widgets.header import HOST_CHARS_MAX, READONLY_MARK, host_mark
from console.tui.widgets.panel import Panel

if TYPE_CHECKING:
    from console.tui.app import ConsoleApp

__all__ = [
    "BROKEN",
    "NOT_HERE",
    "RANK_GLYPHS",
    "Catalogue",
    "Title",
    "cost_text",
    "evidence_text",
    "fit_text",
    "machine_text",
    "profile_row",
    "short_name",
]

NAME_WIDTH_MIN = 24
NAME_END = 8
"""Cells kept of the end of a name that is too long: `lash-dep`."""
FIT_WIDTH, EVIDENCE_WIDTH, COST_WIDTH = 19, 12, 11
PRECISION_WIDTH_MIN = 17
"""Room that the precision of the weights needs in the list: `FP4 experts + FP8`."""
RANK_GLYPHS: dict[int, tuple[str, str]] = {0: ("●", "ok"), 1: ("▲", "warn"), 2: ("○", "muted"), 3: ("✖", "bad")}
NOT_HERE = 3
"""From this rank on the machine does not have what the profile needs."""
BROKEN = "!"
"""Before the key of a row whose file has mistakes."""


@dataclass(slots=True)
class Catalogue:
    """What the picker shows."""

    host: str = ""
    """The machine that they are of, if not this one."""
    machine: MachineInfo | None = None
    entries: dict[str, ProfileEntry] = field(default_factory=dict)
    problems: dict[str, ProfileProblem] = field(default_factory=dict)
    runs: tuple[RunInfo, ...] = ()
    plans: dict[str, LaunchPlan | ConsoleError] = field(default_factory=dict)
    loaded: bool = False
    words: str = ""
    """What the list is narrowed to."""
    order: str = next(iter(ORDERS))
    here_only: bool = False
    """Only what this machine can serve."""

    def listed(self) -> list[str]:
        """The rows to show, in order; files with mistakes last."""
        shown = [
            entry
            for entry in self.entries.values()
            if found_by(self.words, entry.name, entry.profile) and (runs_here(entry) or not self.here_only)
        ]
        # The backend gives them best suited first.
        if self.order != next(iter(ORDERS)):
            shown.sort(key=self._sort_key)
        words = self.words.casefold().split()
        broken = [name for name in self.problems if all(word in name.casefold() for word in words)]
        return [*(entry.name for entry in shown), *(f"{BROKEN}{name}" for name in broken)]

    def _sort_key(self, entry: ProfileEntry) -> tuple[object, ...]:
        measured = bool(entry.fit.measured)
        return sort_key(self.order, entry.name, entry.profile, entry.suitability, entry.fit.verdict, measured=measured)

    def origins(self) -> dict[str, str]:
        """Every name that is taken, with whose it is; a file with mistakes is the user's."""
        return {name: entry.origin for name, entry in self.entries.items()} | dict.fromkeys(self.problems, "user")


def runs_here(entry: ProfileEntry) -> bool:
    """Whether a launch on this machine can work, as far as hardware and arithmetic tell."""
    return entry.suitability.rank < NOT_HERE and entry.fit.verdict != "does not fit"


def cost_text(entry: ProfileEntry) -> str:
    """Dollars per hour of the machine: `$14.76/h`, `≈$15.96/h` by a public list, empty where none is known."""
    price, listed = price_shown(entry.profile)
    return "" if price is None else f"{'≈' if listed else ''}{fmt.money(price)}/h"


def machine_text(machine: MachineInfo | None, host: str = "") -> str:
    """What the machine has, in one line; `host` names it where it is not this one."""
    if machine is None:
        return f"looking at {clip(host, HOST_CHARS_MAX) or 'this machine'}"
    parts: list[str] = []
    if machine.gpus:
        names = sorted({g.name for g in machine.gpus if g.name}) or ["GPU"]
        parts.append(f"{len(machine.gpus)} × {' / '.join(names)}")
    else:
        parts.append("no GPU" + (f": {_short(machine.gpu_error)}" if machine.gpu_error else ""))
    if machine.cpu_count:
        parts.append(f"{machine.cpu_count} CPUs")
    if machine.memory_total_bytes:
        parts.append(f"{fmt.gib(machine.memory_total_bytes)} GiB RAM")
    if machine.driver_version:
        parts.append(f"driver {machine.driver_version}")
    return " · ".join(parts)


def _short(reason: str) -> str:
    """What comes before the explanation, to stand inside a line."""
    words = reason.split(": ", maxsplit=1)[0].rstrip(".")
    return words[:1].lower() + words[1:] if words[1:2].islower() else words


def fit_text(entry: ProfileEntry, host: str = "") -> Span:
    """Whether a launch there can work, in a few words: the machine's hardware first, then its memory."""
    hardware = entry.profile.hardware.text
    if entry.suitability.rank >= NOT_HERE:
        return (f"needs {hardware}", "muted")
    if entry.suitability.change:
        return ("with a change", "warn")
    words, role = verdict(entry.fit)
    if hardware == "CPU":
        return (
            {"fits": f"fits {host or 'this machine'}", "does not fit": "needs more memory"}.get(
                words, "memory unknown"
            ),
            role,
        )
    words = {"fits": "fits", "tight": "tight on", "does not fit": "too big:"}.get(words, "unknown:")
    return (f"{words} {hardware}", role)


def short_name(name: str, width: int) -> str:
    """A profile's name in at most `width` cells, its start and its end: both tell profiles apart."""
    return name if len(name) <= width else f"{name[: width - NAME_END - 1]}…{name[-NAME_END:]}"


def evidence_text(entry: ProfileEntry) -> str:
    """How far to trust it: what was measured on this very machine counts more than what the profile claims."""
    return str(Evidence.MEASURED if entry.fit.measured else entry.profile.profile.evidence)


def profile_row(catalogue: Catalogue, key: str, width: int, chosen: bool) -> Line:
    """One row: name, fit, evidence, price, precision, as far as there is room; what is the user's has a star."""
    mark: Span = ("▸ " if chosen else "  ", "accent")
    longest = max((len(name) for name in catalogue.entries), default=0) + 2
    name_width = min(max(width - FIT_WIDTH - EVIDENCE_WIDTH - 4, 18), max(longest, NAME_WIDTH_MIN))
    room = width - name_width - FIT_WIDTH - EVIDENCE_WIDTH - 5
    if key.startswith(BROKEN):
        problem = catalogue.problems[key.removeprefix(BROKEN)]
        count = len(problem.errors)
        words = f" {count} mistake{'s' * (count != 1)}"
        name = short_name(problem.name, name_width - 1) + "*"
        return line(mark, ("✖ ", "bad"), (f"{name:<{name_width}}", "text"), (words, "bad"))
    entry = catalogue.entries[key]
    glyph = RANK_GLYPHS.get(entry.suitability.rank, RANK_GLYPHS[2])
    fit, role = fit_text(entry, catalogue.host)
    name = short_name(entry.name, name_width - 1) + ("*" if entry.origin.startswith("user") else "")
    spans: list[Span] = [
        mark,
        (f"{glyph[0]} ", glyph[1]),
        (f"{name:<{name_width}}", "text"),
        (f" {clip(fit, FIT_WIDTH - 1):<{FIT_WIDTH - 1}}", role),
        (f" {evidence_text(entry):<{EVIDENCE_WIDTH - 1}}", "muted"),
    ]
    if room >= COST_WIDTH - 1:
        spans.append((f" {clip(cost_text(entry), COST_WIDTH - 1):>{COST_WIDTH - 1}}", "muted"))
        room -= COST_WIDTH
    if room >= PRECISION_WIDTH_MIN:
        spans.append((f"  {clip(entry.profile.model.precision, room - 1)}", "muted"))
    return line(*spans)


class Title(Panel):
    """Program, machine and running servers; below, how many profiles are shown and in which order."""

    def __init__(self, catalogue: Catalogue) -> None:
        super().__init__(id="title")
        self._catalogue = catalogue

    def _key(self, action_id: str) -> str:
        return cast("ConsoleApp", self.app).keymap.shown_for(action_id)

    def paint(self, width: int, height: int) -> list[Line]:
        catalogue = self._catalogue
        mark = host_mark(catalogue.host)
        mark += READONLY_MARK if getattr(self.app, "readonly", False) else ()
        left = line(
            *mark, ("dsv4-console", "strong"), (f"  {machine_text(catalogue.machine, catalogue.host)}", "muted")
        )
        count = len(catalogue.runs)
        note: list[Span] = (
            [(f"● {count} running", "ok"), (f"  {self._key('picker.attach')} attach", "muted")] if count else []
        )
        return [spread(left, line(*note), width), *([self._shown(width)] if catalogue.loaded else [])]

    def _shown(self, width: int) -> Line:
        catalogue = self._catalogue
        whole = len(catalogue.entries) + len(catalogue.problems)
        shown = len(catalogue.listed())
        here = sum(runs_here(entry) for entry in catalogue.entries.values())
        spans: list[Span] = [(f"{whole} profiles" if shown == whole else f"{shown} of {whole} profiles", "text")]
        if catalogue.words:
            spans.append((f" match “{clip(catalogue.words, 24)}”", "accent"))
        where = f"on {clip(catalogue.host, HOST_CHARS_MAX)}" if catalogue.host else "here"
        if catalogue.here_only:
            spans.append((f" · only what runs {where}", "accent"))
        elif here:
            spans.append((f" · {here} can run {where}", "muted"))
        order = line((f"{ORDERS[catalogue.order]}", "muted"), (f"  {self._key('picker.order')} order", "muted"))
        return spread(line(*spans), order, width)
