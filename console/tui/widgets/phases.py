"""The start as a checklist with the time of each phase, and the stop as what is still in flight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from console.core.models import PHASES, Phase, PhaseTime, ServerState, ServerStatus
from console.core.startview import StartProgress, memory_filled, start_progress
from console.tui import fmt
from console.tui.keymap import key_for
from console.tui.model import RunModel
from console.tui.paint import BLANK, Line, Span, cut, labelled, line, line_width, rule, wrapped
from console.tui.widgets.gpu_table import meter
from console.tui.widgets.node_lines import node_phase_lines, node_words_lines
from console.tui.widgets.panel import Panel

__all__ = ["PHASE_WORDS", "Phases", "phase_lines", "stop_lines"]

WORDS_WIDTH = 23
ONE_LINE_WIDTH = 98
"""From here on the line of the whole start has the columns of those of its phases."""
BAR_MIN, BAR_MAX = 8, 30
LATE_S = 15.0
"""Later than usual by less is no news."""
FIRST_START = "the first start like this here: no time to compare with"
NO_COUNTERS: Mapping[Phase, str] = {}


def cancels() -> str:
    """Which key gives up a start."""
    return f"  {key_for('dashboard.stop')} cancels"


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


def overall_lines(progress: StartProgress, width: int) -> list[Line]:
    """The start as one bar: how much is done, how long it has taken, how long it usually takes, what is left."""
    words = f"{'ready':<{WORDS_WIDTH if width >= ONE_LINE_WIDTH else 5}}"
    elapsed = f"{fmt.duration(progress.elapsed_s):>7}  "
    if progress.share is None or progress.usual_s is None:
        if progress.usual_s is None:
            return [line(("▸ ", "accent"), (words, "strong"), (elapsed, "text"), (FIRST_START, "muted"))]
        return [line(("▸ ", "accent"), (words, "strong"), (elapsed, "text"))]
    usual = f"usually {fmt.duration(progress.usual_s)}"
    is_late = progress.late_s >= LATE_S
    late = f", {fmt.duration(progress.late_s)} late" if is_late else ""
    left = f"about {fmt.duration(progress.left_s)} left"
    if progress.left_s is not None and progress.left_s < 1:
        # The last phase takes longer than usual: nothing is left to count down.
        left = "longer than usual" if is_late else "any moment now"
    tail: Line = (
        (f" {'~' + fmt.percent(progress.share * 100):>4}  ", "text"),
        (left, "accent"),
    )
    note: Line = ((f"  {usual}", "muted"), (late, "warn"))
    head: Line = (("▸ ", "accent"), (words, "strong"), (elapsed, "text"))
    room = width - line_width(head) - line_width(tail)
    if room - line_width(note) >= BAR_MIN:
        tail, room = (*tail, *note), room - line_width(note)
    return [(*head, *meter(progress.share, max(min(room, BAR_MAX), BAR_MIN)), *tail)]


def phase_lines(
    status: ServerStatus,
    now: float,
    width: int,
    expected: Sequence[PhaseTime] = (),
    counters: Mapping[Phase, str] = NO_COUNTERS,
    filled: tuple[float, float] | None = None,
    ready_s: float | None = None,
    live: bool = True,
) -> list[Line]:
    """The start as one bar, then one line per phase: done with its time, running with its progress, or still to come.

    Args:
        status: the server.
        now: wall-clock time (Unix).
        width: cells.
        expected: what each took in earlier starts here: it gives the time left, and progress where the log tells none.
        counters: what the log has counted in each phase.
        filled: GiB of GPU memory in use and in all.
        ready_s: seconds to ready in earlier starts.
        live: there is a server that could be stopped; a recording has none.
    """
    usual = {p.phase: p.seconds for p in expected}
    done = {p.phase: p.seconds for p in status.phases}
    started = status.started_s
    spent = sum(done.values())
    out = [rule("Starting", width, line((_deadline(status, now), "muted"), (cancels() if live else "", "muted")))]
    progress = start_progress(expected, status, now, ready_s)
    if progress is not None:
        out += overall_lines(progress, width)
    current = PHASES.index(status.phase) if status.phase is not None else -1
    for i, phase in enumerate(PHASES):
        words = f"{PHASE_WORDS[phase]:<{WORDS_WIDTH}}"
        counted = counters.get(phase, "")
        if phase is status.phase:
            elapsed = now - started - spent if started is not None else None
            spans: list[Span] = [("◐ ", "accent"), (words, "strong"), (f"{fmt.duration(elapsed):>7}  ", "text")]
            share, about = status.progress, ""
            if share is None and elapsed is not None and usual.get(phase):
                # At most 99 %: it is over when the log says so.
                share, about = min(elapsed / usual[phase], 0.99), "~"
            rest: list[str] = []
            if elapsed is not None and phase in usual:
                rest.append(f"~{fmt.duration(max(usual[phase] - elapsed, 0.0))} left")
            rest += [part for part in (status.phase_detail, _filled(phase, filled)) if part]
            # What the log has counted holds the detail of a moment ago again.
            rest += [part for part in counted.split(" · ") if part and part not in rest]
            text = "  ".join(rest)
            percent = f" {about + fmt.percent(share * 100):>4}" if share is not None else ""
            room = width - line_width(tuple(spans)) - len(percent)
            fits = len(text) + (BAR_MIN + 2 if percent else 0) <= room
            if share is not None:
                bar = max(min(room - (len(text) + 2 if fits else 0), BAR_MAX), BAR_MIN)
                spans += [*meter(share, bar), (percent, "text")]
            if fits:
                out.append(line(*spans, ("  " if percent else "", "text"), (text, "muted")))
            else:
                out += [line(*spans), *wrapped(text, width, "muted", (("  ", "text"),))]
        elif phase in done:
            time = (f"{fmt.duration(done[phase]):>7}", "muted")
            out.append(cut(line(("✓ ", "ok"), (words, "text"), time, (f"  {counted}", "muted")), width))
        elif i < current:
            out.append(line(("· ", "faint"), (words, "muted"), (f"{'not needed':>10}", "muted")))
        elif phase in usual:
            about = "~" + fmt.duration(usual[phase])
            out.append(line(("· ", "faint"), (words, "muted"), (f"{about:>7}", "muted")))
        else:
            out.append(line(("· ", "faint"), (words, "muted")))
    return out


def _filled(phase: Phase, filled: tuple[float, float] | None) -> str:
    """While weights load, what has arrived on the GPUs is the only figure that moves between two shards."""
    if phase is not Phase.WEIGHTS or filled is None:
        return ""
    return f"{filled[0]:.0f}/{filled[1]:.0f} GiB on the GPUs"


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
    memory = "The memory of the GPUs" if model.snapshot and model.snapshot.gpus else "Its memory"
    return [
        rule("Stopping", width, note),
        line(("◐ ", "warn"), (words, "strong")),
        *wrapped(f"{memory} is free once the state is STOPPED.", width, "muted", (("  ", "text"),)),
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
        nodes = model.snapshot.nodes
        if status.state is ServerState.STOPPING:
            return stop_lines(model, status, now, width) + (node_words_lines(nodes, width) if nodes else [])
        if nodes:
            return self._of_group(model, status, width)
        model.count_start()
        filled = memory_filled(model.snapshot.gpus)
        run = model.run
        out = phase_lines(
            status,
            now,
            width,
            run.expected,
            model.counters.texts(),
            filled,
            ready_s=run.expected_ready_s,
            live=model.player is None,
        )
        if self.app.size.height >= 34:
            rows = (("Model", run.model, "text"), ("Address", run.url, "text"), ("Run", run.id, "muted"))
            out += [BLANK, *labelled((*rows, ("Command", " ".join(run.argv), "muted")), width)]
        return out

    def _of_group(self, model: RunModel, status: ServerStatus, width: int) -> list[Line]:
        """The head's progress as that of the whole start, then each machine's."""
        nodes, run, now = model.snapshot.nodes if model.snapshot else (), model.run, model.now
        note = line((_deadline(status, now), "muted"), (cancels(), "muted"))
        out = [rule(f"Starting on {len(nodes)} machines", width, note)]
        progress = start_progress(run.expected, status, now, run.expected_ready_s)
        if progress is not None:
            out += overall_lines(progress, width)
        out += node_phase_lines(nodes, now, width, PHASE_WORDS)
        if self.app.size.height >= 34:
            machines = ", ".join(node.host for node in nodes)
            rows = (("Model", run.model, "text"), ("Address", run.url, "text"), ("Machines", machines, "text"))
            out += [BLANK, *labelled((*rows, ("Group", run.id, "muted")), width)]
        return out
