"""The start as a checklist with the time of each phase, and the stop as what is still in flight."""

from __future__ import annotations

from collections.abc import Sequence

from console.core.ledger import time_left_s
from console.core.models import PHASES, Phase, PhaseTime, ServerState, ServerStatus
from console.tui import fmt
from console.tui.model import RunModel
from console.tui.paint import BLANK, Line, Span, labelled, line, rule, wrapped
from console.tui.widgets.gpu_table import meter
from console.tui.widgets.panel import Panel

__all__ = ["PHASE_WORDS", "Phases", "phase_lines", "stop_lines"]

PHASE_WORDS: dict[Phase, str] = {
    Phase.CONFIG: "read the configuration",
    Phase.DOWNLOAD: "download the model",
    Phase.WEIGHTS: "load the weights",
    Phase.COMPILE: "compile the model",
    Phase.MEMORY: "size the KV cache",
    Phase.GRAPHS: "capture CUDA graphs",
    Phase.SERVER: "start the API server",
}


def _deadline(status: ServerStatus, now: float) -> str:
    if status.deadline_s is None:
        return ""
    return f"gives up in {fmt.duration(status.deadline_s - now)}"


def phase_lines(status: ServerStatus, now: float, width: int, expected: Sequence[PhaseTime] = ()) -> list[Line]:
    """One line per phase: done with its time, running with its progress, or still to come.

    Args:
        expected: what each took in earlier starts here: it gives the time left, and progress where the log tells none.
    """
    usual = {p.phase: p.seconds for p in expected}
    left = time_left_s(expected, status, now)
    done = {p.phase: p.seconds for p in status.phases}
    started = status.started_s
    spent = sum(done.values())
    total = fmt.duration(now - started) if started is not None else ""
    note: list[Span] = [(f"{total}  " if total else "", "text")]
    if left is not None:
        note.append((f"about {fmt.duration(left)} left  ", "accent"))
    note.append((_deadline(status, now), "muted"))
    out = [rule("Starting", width, line(*note))]
    current = PHASES.index(status.phase) if status.phase is not None else -1
    bar = max(min(width - (66 if usual else 54), 30), 4)
    for i, phase in enumerate(PHASES):
        words = f"{PHASE_WORDS[phase]:<23}"
        if phase is status.phase:
            elapsed = now - started - spent if started is not None else None
            spans: list[Span] = [("◐ ", "accent"), (words, "strong"), (f"{fmt.duration(elapsed):>7}  ", "text")]
            share, about = status.progress, ""
            if share is None and elapsed is not None and usual.get(phase):
                # At most 99 %: it is over when the log says so.
                share, about = min(elapsed / usual[phase], 0.99), "~"
            if share is not None:
                spans += [*meter(share, bar), (f" {about + fmt.percent(share * 100):>4}  ", "text")]
            if elapsed is not None and phase in usual:
                spans.append((f"~{fmt.duration(max(usual[phase] - elapsed, 0.0))} left  ", "muted"))
            spans.append((status.phase_detail, "muted"))
            out.append(line(*spans))
        elif phase in done:
            out.append(line(("✓ ", "ok"), (words, "text"), (f"{fmt.duration(done[phase]):>7}", "muted")))
        elif i < current:
            out.append(line(("· ", "faint"), (words, "muted"), (f"{'not needed':>10}", "muted")))
        elif phase in usual:
            about = "~" + fmt.duration(usual[phase])
            out.append(line(("· ", "faint"), (words, "muted"), (f"{about:>7}", "faint")))
        else:
            out.append(line(("· ", "faint"), (words, "muted")))
    if left is not None and started is not None:
        elapsed = now - started
        share = elapsed / (elapsed + left) if elapsed + left > 0 else 0.0
        words = f"{'ready':<23}"
        percent = f" {'~' + fmt.percent(share * 100):>4}"
        out.append(line(("▸ ", "accent"), (words, "strong"), (" " * 9, "text"), *meter(share, bar), (percent, "text")))
    return out


def stop_lines(model: RunModel, status: ServerStatus, now: float, width: int) -> list[Line]:
    """What a stop is waiting for."""
    busy = status.in_flight
    if busy:
        words = f"{busy} request{'s' * (busy != 1)} in flight; no new ones are taken"
    elif busy == 0:
        words = "no request in flight; the server is shutting down"
    else:
        words = status.reason or "waiting for the server to end"
    note = line((_deadline(status, now).replace("gives up", "forced"), "muted"))
    return [
        rule("Stopping", width, note),
        line(("◐ ", "warn"), (words, "strong")),
        *wrapped("The memory of the GPUs is free once the state is STOPPED.", width, "muted", (("  ", "text"),)),
    ]


class Phases(Panel):
    """Stands in for the charts while there is nothing to chart."""

    model: RunModel | None = None

    def show(self, model: RunModel) -> None:
        """Show this run's start or stop."""
        self.model = model
        self.repaint()

    def paint(self, width: int, height: int) -> list[Line]:
        model = self.model
        if model is None:
            return []
        if model.snapshot is None:
            return [rule("Waiting for the supervisor", width), BLANK]
        status, now = model.snapshot.status, model.now
        if status.state is ServerState.STOPPING:
            return stop_lines(model, status, now, width)
        out = phase_lines(status, now, width, model.run.expected)
        if self.app.size.height >= 34:
            run = model.run
            rows = (("Model", run.model, "text"), ("Address", run.url, "text"), ("Run", run.id, "muted"))
            out += [BLANK, *labelled((*rows, ("Command", " ".join(run.argv), "muted")), width)]
        return out
