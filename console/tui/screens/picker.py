"""The home screen: which profile, how well it suits this machine, and what a launch of it would do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container, VerticalScroll
from textual.events import Key
from textual.screen import Screen
from textual.widgets import Input

from console.client.api import LaunchPlan, MachineInfo, ProfileEntry, ProfileProblem
from console.core.catalogue.advice import advice
from console.core.catalogue.parsers import parser_note
from console.core.cost import HOURS_PER_MONTH
from console.core.errors import ConsoleError
from console.core.profile import Evidence
from console.protocol import RunInfo
from console.tui import fmt
from console.tui.actions import bindings_for
from console.tui.paint import BLANK, Line, Span, clip, labelled, line, rule, spread, wrapped
from console.tui.widgets.failure import home_short
from console.tui.widgets.fit_bar import fit_lines, verdict
from console.tui.widgets.key_bar import KeyBar
from console.tui.widgets.panel import Panel
from console.tui.widgets.select_list import Highlighted, SelectList

if TYPE_CHECKING:
    from console.tui.app import ConsoleApp

__all__ = ["PickerScreen", "detail_lines", "hardware_text", "machine_text"]

NAME_WIDTH_MIN = 24
NAME_END = 8
"""Cells kept of the end of a name that is too long: `lash-dep`."""
PRECISION_WIDTH_MIN = 17
"""Room that the precision of the weights needs in the list: `FP4 experts + FP8`."""
PLAN_DELAY_S = 0.15
"""A plan is asked for once the selection rests."""
RANK_GLYPHS: dict[int, tuple[str, str]] = {0: ("●", "ok"), 1: ("▲", "warn"), 2: ("○", "muted"), 3: ("✖", "bad")}
NOT_HERE = 3
"""From this rank on the machine does not have what the profile needs."""
BROKEN = "!"
REPLACES = "replaces"
"""In the origin of a user's profile that stands in for a shipped one."""


@dataclass(slots=True)
class Catalogue:
    """What the picker shows."""

    machine: MachineInfo | None = None
    entries: dict[str, ProfileEntry] = field(default_factory=dict)
    problems: dict[str, ProfileProblem] = field(default_factory=dict)
    runs: tuple[RunInfo, ...] = ()
    plans: dict[str, LaunchPlan | ConsoleError] = field(default_factory=dict)
    loaded: bool = False


def hardware_text(entry: ProfileEntry) -> str:
    """`4 × H200`, or `CPU`."""
    hardware = entry.profile.hardware
    if hardware.count == 0 or hardware.gpu.lower() == "none":
        return "CPU"
    return f"{hardware.count} × {hardware.gpu}"


def machine_text(machine: MachineInfo | None) -> str:
    """What this machine has, in one line."""
    if machine is None:
        return "looking at this machine"
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


def fit_text(entry: ProfileEntry) -> Span:
    """Whether a launch here can work, in a few words: this machine's hardware first, then its memory."""
    hardware = hardware_text(entry)
    if entry.suitability.rank >= NOT_HERE:
        return (f"needs {hardware}", "muted")
    if entry.suitability.change:
        return ("with a change", "warn")
    words, role = verdict(entry.fit)
    if hardware == "CPU":
        return ({"fits": "fits this machine", "does not fit": "needs more memory"}.get(words, "memory unknown"), role)
    words = {"fits": "fits", "tight": "tight on", "does not fit": "too big:"}.get(words, "unknown:")
    return (f"{words} {hardware}", role)


def short_name(name: str, width: int) -> str:
    """A profile's name in at most `width` cells, its start and its end: both tell profiles apart."""
    return name if len(name) <= width else f"{name[: width - NAME_END - 1]}…{name[-NAME_END:]}"


def engine_text(plan: LaunchPlan | ConsoleError | None) -> tuple[str, str]:
    """Which engine a launch would use, or how to get one."""
    if plan is None:
        return ("…", "muted")
    if isinstance(plan, ConsoleError):
        return (" ".join(part for part in (plan.title, plan.fix) if part), "bad")
    if plan.engine_name is None and not plan.install_offer:
        return (f"no {plan.profile.engine.kind.value} build of vLLM here; start the console in its image", "warn")
    if plan.engine_name is None:
        return (f"not installed; enter offers: {plan.install_offer}", "warn")
    return (f"vLLM {plan.engine_version or '?'} ({plan.engine_name})", "text")


def evidence_text(entry: ProfileEntry) -> str:
    """How far to trust it: what was measured on this very machine counts more than what the profile claims."""
    return str(Evidence.MEASURED if entry.fit.measured else entry.profile.profile.evidence)


def detail_lines(
    entry: ProfileEntry, plan: LaunchPlan | ConsoleError | None, width: int, machine: MachineInfo | None = None
) -> list[Line]:
    """All about one profile, what decides first."""
    about, model, cost = entry.profile.profile, entry.profile.model, entry.profile.cost
    glyph, role = RANK_GLYPHS.get(entry.suitability.rank, RANK_GLYPHS[2])
    replaces = REPLACES in entry.origin
    origin: Span = (f"* {entry.origin}", "accent") if replaces else (entry.origin, "muted")
    out: list[Line] = [spread(line((about.title, "strong")), line(origin), width)]
    out += wrapped(entry.suitability.text, width, role if role != "muted" else "text", line((f"{glyph} ", role)))
    if about.use:
        out += wrapped(about.use, width, "text")
    here = entry.suitability.rank < NOT_HERE
    memory = "Memory of the host" if hardware_text(entry) == "CPU" else "Memory per GPU"
    out += [BLANK, rule(memory, width), *fit_lines(entry.fit, width, hardware_text(entry), here)]
    out += [BLANK, rule("Launch", width)]
    engine, engine_role = engine_text(plan)
    serve = plan.profile.serve if isinstance(plan, LaunchPlan) else entry.profile.serve
    address = f"http://{serve.host}:{serve.port}"
    dollars = fmt.money(cost.usd_per_hour) + "/h" if cost.usd_per_hour is not None else ""
    if cost.usd_per_hour is not None:
        dollars += f" · {fmt.money(cost.usd_per_hour * HOURS_PER_MONTH)}/month"
    if cost.spot_usd_per_hour is not None:
        dollars += f" · spot {fmt.money(cost.spot_usd_per_hour)}/h"
    source = " ".join(part for part in (cost.source, cost.date) if part)
    rows: list[tuple[str, str, str]] = [
        ("Model", " · ".join(part for part in (model.id, model.precision) if part), "text"),
        ("Engine", engine, engine_role),
        ("Address", address, "text"),
        ("Cost", f"{dollars}{f'  ({source})' if source else ''}" if dollars else "", "text"),
    ]
    if isinstance(plan, LaunchPlan):
        rows += [("Warning", warning, "warn") for warning in plan.warnings]
        rows.append(("Command", plan.command_line, "code"))
    elif isinstance(plan, ConsoleError):
        rows.append(("Problem", plan.message, "bad"))
    out += labelled(rows, width, 10)
    out += [BLANK, rule("Choosing", width)]
    out += labelled([(row.topic, row.text, "text") for row in advice(entry.profile)], width, 10)
    out += [BLANK, rule("About", width)]
    rows = [
        ("Evidence", about.evidence.value, "text"),
        ("Sources", "\n".join(about.sources), "muted"),
        ("Prefer", about.prefer or "", "accent"),
        ("Flags", parser_note(entry.profile, shipped=entry.origin == "shipped"), "muted"),
        ("File", home_short(entry.path), "muted"),
        ("Machine", machine.gpu_error if machine and not here else "", "muted"),
    ]
    if about.description:
        out += wrapped(" ".join(about.description.split()), width)
    return out + labelled(rows, width, 10)


class Detail(Panel):
    """The selected profile."""

    def __init__(self, catalogue: Catalogue) -> None:
        super().__init__(id="detail")
        self._catalogue = catalogue
        self.selected = ""

    def paint(self, width: int, height: int) -> list[Line]:
        catalogue = self._catalogue
        if (
            problem := catalogue.problems.get(self.selected.removeprefix(BROKEN))
            if self.selected.startswith(BROKEN)
            else None
        ):
            out = [
                line(("✖ ", "bad"), (f"{problem.name} cannot be read", "strong")),
                line((home_short(problem.path), "muted")),
                BLANK,
            ]
            for text in problem.errors:
                out += wrapped(text, width, "text", (("· ", "bad"),))
            return [*out, BLANK, *wrapped("Correct the file, then press R.", width, "muted")]
        entry = catalogue.entries.get(self.selected)
        if entry is None:
            return []
        return detail_lines(entry, catalogue.plans.get(self.selected), width, catalogue.machine)


class Title(Panel):
    """Program, machine and running servers."""

    def __init__(self, catalogue: Catalogue) -> None:
        super().__init__(id="title")
        self._catalogue = catalogue

    def paint(self, width: int, height: int) -> list[Line]:
        runs = self._catalogue.runs
        left = line(("dsv4-console", "strong"), (f"  {machine_text(self._catalogue.machine)}", "muted"))
        count = len(runs)
        note: list[Span] = [(f"● {count} running", "ok"), ("  a attach", "muted")] if count else []
        return [spread(left, line(*note), width), BLANK]


class FilterInput(Input):
    """Escape and enter go back to the list."""

    async def _on_key(self, event: Key) -> None:
        if event.key in ("escape", "enter", "tab", "down"):
            event.stop()
            event.prevent_default()
            if event.key == "escape":
                self.value = ""
            self.screen.query_one("#profiles").focus()


class PickerScreen(Screen[None]):
    """Profiles at the left or above, the selected one beside or below."""

    BINDINGS: ClassVar[list[BindingType]] = bindings_for("picker")
    AUTO_FOCUS = "#profiles"
    help_scopes = ("picker", "list", "app")

    def __init__(self, initial: str | None = None) -> None:
        super().__init__()
        self.catalogue = Catalogue()
        self._initial = initial

    def compose(self) -> ComposeResult:
        yield Title(self.catalogue)
        with Container(id="picker"):
            with Container(id="picker-list"):
                yield FilterInput(placeholder="filter by name or hardware", id="filter", compact=True)
                yield SelectList(self._row, "Reading the profiles …", id="profiles")
            with VerticalScroll(id="picker-detail", can_focus=False):
                yield Detail(self.catalogue)
        yield KeyBar()

    def on_mount(self) -> None:
        """Read the profiles."""
        self.call_after_refresh(self.action_reload)

    def on_screen_resume(self) -> None:
        """Another server may be running by now."""
        if self.catalogue.loaded:
            self.app.run_worker(self._read_runs(), group="runs", exclusive=True, exit_on_error=False)

    @property
    def console(self) -> ConsoleApp:
        """The app, typed."""
        return cast("ConsoleApp", self.app)

    @property
    def rows(self) -> SelectList:
        """The profiles."""
        return self.query_one("#profiles", SelectList)

    async def _read(self) -> None:
        backend = self.console.backend
        try:
            entries, problems = await backend.profiles()
        except ConsoleError as error:
            self.console.show_problem(error)
            entries, problems = (), ()
        catalogue = self.catalogue
        catalogue.entries = {entry.name: entry for entry in entries}
        catalogue.problems = {problem.name: problem for problem in problems}
        catalogue.plans.clear()
        catalogue.loaded = True
        self._list()
        catalogue.machine = await backend.machine()
        await self._read_runs()

    async def _read_runs(self) -> None:
        for sentence in await self.console.backend.recover():
            self.console.notify(sentence, severity="warning", markup=False)
        self.catalogue.runs = await self.console.backend.runs()
        self.query_one("#title", Title).repaint()
        self.refresh_bindings()

    def _list(self) -> None:
        wanted = self.query_one("#filter", Input).value.strip().casefold()
        catalogue = self.catalogue
        keys = [
            n
            for n, e in catalogue.entries.items()
            if wanted in f"{n} {hardware_text(e)} {e.profile.profile.title}".casefold()
        ]
        keys += [f"{BROKEN}{n}" for n in catalogue.problems if wanted in n.casefold()]
        view = self.rows
        view.empty_text = f"No profile matches “{wanted}”." if wanted else "There are no profiles."
        view.show(keys, self._initial)
        if catalogue.loaded:
            self._initial = None

    def _row(self, key: str, width: int, chosen: bool) -> Line:
        mark: Span = ("▸ " if chosen else "  ", "accent")
        longest = max((len(name) for name in self.catalogue.entries), default=0) + 2
        # The name tells variants of one shape apart, so the precision goes first where room is short.
        name_width = min(max(width - 35, 18), max(longest, NAME_WIDTH_MIN))
        precise = width - name_width - 36 >= PRECISION_WIDTH_MIN
        if key.startswith(BROKEN):
            problem = self.catalogue.problems[key.removeprefix(BROKEN)]
            count = len(problem.errors)
            words = f"{count} mistake{'s' * (count != 1)}"
            return line(
                mark, ("✖ ", "bad"), (f"{clip(problem.name, name_width):<{name_width}}", "text"), (f" {words}", "bad")
            )
        entry = self.catalogue.entries[key]
        glyph = RANK_GLYPHS.get(entry.suitability.rank, RANK_GLYPHS[2])
        fit, role = fit_text(entry)
        name = short_name(entry.name, name_width - 1) + ("*" if REPLACES in entry.origin else "")
        return line(
            mark,
            (f"{glyph[0]} ", glyph[1]),
            (f"{name:<{name_width}}", "text"),
            (f" {clip(fit, 18):<18}", role),
            (f" {evidence_text(entry):<11}", "muted"),
            (f" {clip(entry.profile.model.precision, max(width - name_width - 36, 0))}" if precise else "", "muted"),
        )

    def on_highlighted(self, event: Highlighted) -> None:
        """Show the selected profile, and soon what its launch would do."""
        detail = self.query_one("#detail", Detail)
        key = self.rows.selected_key or ""
        if detail.selected != key:
            detail.selected = key
            self.query_one("#picker-detail").scroll_home(animate=False)
        detail.repaint()
        if key in self.catalogue.entries and key not in self.catalogue.plans:
            self.app.run_worker(self._plan(key), group="plan", exclusive=True, exit_on_error=False)

    async def _plan(self, name: str) -> None:
        from asyncio import sleep

        await sleep(PLAN_DELAY_S)
        try:
            self.catalogue.plans[name] = await self.console.backend.plan(name)
        except ConsoleError as error:
            self.catalogue.plans[name] = error
        self.query_one("#detail", Detail).repaint()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while typing."""
        self._list()
        event.input.display = bool(event.value) or event.input.has_focus

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """No attaching when nothing runs."""
        return bool(self.catalogue.runs) if action == "attach" else True

    def action_filter(self) -> None:
        """Open the filter."""
        field = self.query_one("#filter", Input)
        field.display = True
        field.focus()

    def action_reload(self) -> None:
        """Read the profiles again."""
        self.app.run_worker(self._read(), group="read", exclusive=True, exit_on_error=False)

    def action_detail(self, step: int) -> None:
        """Scroll the details."""
        view = self.query_one("#picker-detail", VerticalScroll)
        view.scroll_relative(y=step * max(view.size.height - 1, 1), animate=False)

    def action_launch(self) -> None:
        """Ask, then launch."""
        key = self.rows.selected_key
        if key in self.catalogue.entries:
            self.console.start_launch(str(key))
        elif key is not None and key.startswith(BROKEN):
            self.notify("This profile has mistakes; they are listed beside it.", severity="warning", markup=False)

    def action_download(self) -> None:
        """Ask, then download the weights."""
        key = self.rows.selected_key
        if key in self.catalogue.entries:
            self.console.start_download(str(key))

    def action_attach(self) -> None:
        """Attach to what runs."""
        self.console.start_attach()
