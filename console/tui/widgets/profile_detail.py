"""All about one profile: suitability, memory, what a launch would do, how to choose, where it is from."""

from __future__ import annotations

from console.client.api import LaunchPlan, MachineInfo, ProfileEntry
from console.core.catalogue.advice import advice
from console.core.catalogue.parsers import parser_note
from console.core.cost import HOURS_PER_MONTH, list_price
from console.core.errors import ConsoleError
from console.tui import fmt
from console.tui.fmt import home_short
from console.tui.keymap import key_for
from console.tui.paint import BLANK, Line, Span, labelled, line, rule, spread, wrapped
from console.tui.widgets.fit_bar import fit_lines
from console.tui.widgets.panel import Panel
from console.tui.widgets.profile_list import (
    BROKEN,
    NOT_HERE,
    RANK_GLYPHS,
    Catalogue,
    cost_text,
)

__all__ = ["Detail", "detail_lines", "engine_text"]


def engine_text(plan: LaunchPlan | ConsoleError | None) -> tuple[str, str]:
    """Which engine a launch would use, or how to get one."""
    if plan is None:
        return ("…", "muted")
    if isinstance(plan, ConsoleError):
        return (" ".join(part for part in (plan.title, plan.fix) if part), "bad")
    if plan.engine_name is None and not plan.install_offer:
        return (f"no {plan.profile.engine.kind.value} build of vLLM here; start the console in its image", "warn")
    if plan.engine_name is None:
        return (f"not installed; {key_for('picker.launch')} offers: {plan.install_offer}", "warn")
    return (f"vLLM {plan.engine_version or '?'} ({plan.engine_name})", "text")


def detail_lines(
    entry: ProfileEntry, plan: LaunchPlan | ConsoleError | None, width: int, machine: MachineInfo | None = None
) -> list[Line]:
    """All about one profile, what decides first."""
    about, model, cost = entry.profile.profile, entry.profile.model, entry.profile.cost
    glyph, role = RANK_GLYPHS.get(entry.suitability.rank, RANK_GLYPHS[2])
    own = entry.origin.startswith("user")
    origin: Span = (f"* {entry.origin}", "accent") if own else (entry.origin, "muted")
    out: list[Line] = [spread(line((about.title, "strong")), line(origin), width)]
    out += wrapped(entry.suitability.text, width, role if role != "muted" else "text", line((f"{glyph} ", role)))
    if about.use:
        out += wrapped(about.use, width, "text")
    here = entry.suitability.rank < NOT_HERE
    memory = "Memory of the host" if entry.profile.hardware.text == "CPU" else "Memory per GPU"
    out += [BLANK, rule(memory, width), *fit_lines(entry.fit, width, entry.profile.hardware.text, here)]
    out += [BLANK, rule("Launch", width)]
    engine, engine_role = engine_text(plan)
    serve = plan.profile.serve if isinstance(plan, LaunchPlan) else entry.profile.serve
    address = f"http://{serve.host}:{serve.port}"
    dollars = fmt.money(cost.usd_per_hour) + "/h" if cost.usd_per_hour is not None else ""
    if cost.usd_per_hour is not None:
        dollars += f" · {fmt.money(cost.usd_per_hour * HOURS_PER_MONTH)}/month"
    if cost.spot_usd_per_hour is not None:
        dollars += f" · spot {fmt.money(cost.spot_usd_per_hour)}/h"
    listed = None if dollars else list_price(entry.profile.hardware)
    if listed is not None:
        dollars, cost = cost_text(entry), listed
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
            form, again = key_for("picker.edit"), key_for("picker.reload")
            ways = f"{form} opens it as a form. Or correct the file, then press {again}."
            return [*out, BLANK, *wrapped(ways, width, "muted")]
        entry = catalogue.entries.get(self.selected)
        if entry is None:
            return []
        return detail_lines(entry, catalogue.plans.get(self.selected), width, catalogue.machine)
