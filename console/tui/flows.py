"""Everything that takes several steps and a question: launch, attach, stop, restart, quit. One function each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from console.client.api import DownloadOffer, LaunchPlan, check_here, check_offer
from console.core.errors import ConsoleError
from console.core.models import Hint, ServerState
from console.core.preflight import Check, Preflight
from console.core.profile import EngineKind
from console.core.watching import is_watched
from console.tui import fmt
from console.tui.glyphs import safe
from console.tui.keymap import key_for
from console.tui.model import RunModel
from console.tui.screens.dialogs import KEEP, ChooseRun, Confirm, Dialog, Option, Question, change_dialog, trial_dialog
from console.tui.screens.download import DownloadScreen
from console.tui.screens.experiment import ExperimentScreen
from console.tui.screens.fleet import FleetScreen
from console.tui.screens.install import InstallScreen
from console.tui.screens.preflight import Held, LaunchQuestion, force_question
from console.tui.widgets.bench_pane import GROUP, load_sentences

if TYPE_CHECKING:
    from console.core.bench import BenchPlan
    from console.tui.app import ConsoleApp
    from console.tui.widgets.bench_pane import BenchPane

__all__ = [
    "apply",
    "attach",
    "bench",
    "download",
    "fix",
    "fleet",
    "keep",
    "launch",
    "profiles",
    "quit_app",
    "restart",
    "stop",
]

CANCEL = Option("cancel", "c", "cancel")
LATER = "; vLLM downloads the weights at its start"


def _consequence(model: RunModel) -> str:
    """What a stop would cost, in a sentence."""
    status = model.snapshot.status if model.snapshot else None
    if model.state in (ServerState.STARTING, ServerState.LOADING):
        begin = (status.started_s if status else None) or model.run.created_s
        return f"It is not ready yet: loading for {fmt.duration(model.now - begin)} is lost."
    after = ": time to finish is given, then they are cut off." if model.busy else "."
    return f"{_requests(model)}{after}"


def _requests(model: RunModel) -> str:
    busy = model.busy
    if busy is None:
        return "It is not known whether requests are running"
    if busy == 0:
        return "No request is running"
    return f"{busy} request{'s are' if busy > 1 else ' is'} running or waiting"


async def launch(app: ConsoleApp, name: str) -> None:
    """Plan, check, ask, install an engine if there is none, check what only an engine can tell, and launch."""
    try:
        plan = await app.backend.plan(name)
        check_here(plan.profile)
        check_offer(plan)
        report = await app.backend.preflight(plan)
        answer = await _agreed(app, plan, report, await app.backend.download_offer(plan))
        if answer == "no":
            return
        if plan.engine_name is None:
            new = await _install(app, plan)
            if new is None:
                return
            plan, said = new, report.notable
            report = await app.backend.preflight(plan)
            if set(report.notable) - set(said) and await _agreed(app, plan, report) == "no":
                return
        if answer == "download" and not await _download(app, plan):
            return
        session = await app.backend.launch(plan)
    except ConsoleError as error:
        app.show_problem(error)
        return
    await app.open_session(session)


def _address(app: ConsoleApp, plan: LaunchPlan) -> str:
    there = f"{app.host}, " if app.host else ""
    return f"{there}{plan.profile.serve.host}:{plan.profile.serve.port}"


def _named(app: ConsoleApp, model: RunModel) -> str:
    """A server, with its machine if that is not this one, or all its machines."""
    if model.hosts:
        return f"{model.run.profile_name} on {', '.join(map(safe, model.hosts))}"
    return f"{model.run.profile_name} on {app.host}" if app.host else model.run.profile_name


async def _agreed(app: ConsoleApp, plan: LaunchPlan, report: Preflight, offer: DownloadOffer | None = None) -> str:
    """Ask about a launch; one that is blocked is asked about twice, with what it leads to.

    Returns `yes`, `no`, or `download` for yes, with the weights first.
    """
    if report.blocked:
        name = plan.profile_name
        if await app.push_screen_wait(Held(name, report)) != "force":
            return "no"
        return await app.push_screen_wait(force_question(name, report))
    return await _asked(app, plan, report.notable, offer)


async def _asked(app: ConsoleApp, plan: LaunchPlan, checks: tuple[Check, ...], offer: DownloadOffer | None) -> str:
    weights = (f"{offer.text}.",) if offer else ()
    if plan.engine_name is None:
        kind = "CPU engine" if plan.profile.engine.kind is EngineKind.CPU else "CUDA engine"
        took = "about a minute" if plan.profile.engine.kind is EngineKind.CPU else "several minutes, some gigabytes"
        question = f"Install the {kind} first ({took}), then launch {plan.profile_name} on {_address(app, plan)}?"
        sentences = [*plan.warnings, *weights, f"The same as: {plan.install_offer}"]
        download = "install, download the weights, then launch" if offer else ""
        return await app.push_screen_wait(
            LaunchQuestion(question, checks, sentences, f"install and launch{LATER if offer else ''}", download)
        )
    version = f" with vLLM {plan.engine_version}" if plan.engine_version else ""
    sentences = [*plan.warnings, *weights]
    cost = plan.profile.cost.usd_per_hour
    if cost:
        sentences.append(f"The machine costs about ${cost:,.2f} an hour.")
    sentences.append(f"The server goes on when this terminal closes; {key_for('dashboard.stop')} stops it.")
    question = f"Launch {plan.profile_name} on {_address(app, plan)}{version}?"
    download = "download the weights, then launch" if offer else ""
    return await app.push_screen_wait(
        LaunchQuestion(question, checks, sentences, f"launch{LATER if offer else ''}", download)
    )


async def download(app: ConsoleApp, name: str) -> None:
    """Download the weights of a profile, or say that they are here."""
    try:
        plan = await app.backend.plan(name)
        check_offer(plan)
        offer = await app.backend.download_offer(plan)
        if offer is None:
            app.notify(f"{plan.profile.model.id}: nothing is missing here", title="Nothing to download", markup=False)
            return
        sentences = [f"{offer.text}.", "What is finished stays if you cancel, and the next download goes on."]
        if plan.engine_name is None:
            sentences.append(f"It needs an engine, installed first: {plan.install_offer}")
        question = Question(f"Download the weights of {name}?", sentences, (Option("yes", "y", "download"), CANCEL))
        if await app.push_screen_wait(question) != "yes":
            return
        if plan.engine_name is None:
            new = await _install(app, plan)
            if new is None:
                return
            plan = new
        if await _download(app, plan):
            app.notify(plan.profile.model.id, title="The weights are here", markup=False)
    except ConsoleError as error:
        app.show_problem(error)


async def _download(app: ConsoleApp, plan: LaunchPlan) -> bool:
    """Whether all weights are here now; a download that was cancelled says what stays."""
    result = await app.push_screen_wait(DownloadScreen(app.backend, plan))
    if isinstance(result, ConsoleError):
        raise result
    if not result:
        app.notify("Whole files stay; the next download goes on from there.", title="Cancelled", markup=False)
    return bool(result)


async def _install(app: ConsoleApp, plan: LaunchPlan) -> LaunchPlan | None:
    result = await app.push_screen_wait(InstallScreen(app.backend, plan))
    if isinstance(result, ConsoleError):
        raise result
    return result


async def attach(app: ConsoleApp, run_id: str | None) -> None:
    """Attach to this run, or to what runs: the only one directly, of several one that is chosen."""
    try:
        if run_id is None:
            runs = await app.backend.runs()
            if not runs:
                return
            run_id = runs[0].id
            if len(runs) > 1 and any(map(is_watched, runs)):
                await fleet(app)
                return
            if len(runs) > 1:
                run_id = await app.push_screen_wait(ChooseRun(runs, app.clock()))
                if run_id is None:
                    return
        session = await app.backend.attach(run_id)
    except ConsoleError as error:
        app.show_problem(error)
        return
    await app.open_session(session)


async def fleet(app: ConsoleApp) -> None:
    """Leave the run on the screen, whose server goes on, and show all servers."""
    await app.close_session()
    if not any(isinstance(screen, FleetScreen) for screen in app.screen_stack):
        await app.push_screen(FleetScreen())
        app.mind_size()


async def profiles(app: ConsoleApp) -> None:
    """Leave the run on the screen, whose server goes on, and the fleet."""
    await app.close_session()
    if isinstance(app.screen, FleetScreen):
        await app.pop_screen()


async def stop(app: ConsoleApp, model: RunModel) -> None:
    """Ask and stop; a planned restart is given up without asking, as nothing runs."""
    if model.planned or await _stop_agreed(app, model):
        await _accepted(app, model.session.stop())


async def _stop_agreed(app: ConsoleApp, model: RunModel) -> bool:
    name = model.run.profile_name
    kept = "let it load" if model.state in (ServerState.STARTING, ServerState.LOADING) else "keep it running"
    question = Confirm(f"Stop {_named(app, model)}?", [_consequence(model)], f"stop {name}", kept)
    return await app.push_screen_wait(question) == "yes"


async def restart(app: ConsoleApp, model: RunModel) -> None:
    """Ask and restart; what waits for a restart anyway is started at once."""
    if model.planned:
        await _accepted(app, model.session.restart())
        return
    name = model.run.profile_name
    if model.ended:
        await launch(app, name)
        return
    again = "It loads again from the start."
    if model.live:
        question: Dialog = Confirm(
            f"Restart {_named(app, model)}?", [_consequence(model), again], f"restart {name}", "leave it as it is"
        )
    else:
        question = Question(
            f"Start {_named(app, model)} again?",
            [again],
            (Option("yes", "y", f"start {name}"), Option("no", "n", "not now")),
        )
    if await app.push_screen_wait(question) == "yes":
        await _accepted(app, model.session.restart())


async def keep(app: ConsoleApp, model: RunModel) -> None:
    """Postpone the idle deadline; nothing is lost by it, so it is not asked about."""
    if await _accepted(app, model.session.postpone()):
        app.notify("Idle time counts from now on.", title="Postponed", markup=False)


async def fix(app: ConsoleApp, model: RunModel) -> None:
    """Show the change that the failure calls for, ask, and launch with it; on demand it is kept in the profile."""
    name, change = model.run.profile_name, model.fix
    try:
        plan = await app.backend.replan(model.run.id, change)
        answer = await app.push_screen_wait(change_dialog(name, change, plan.warnings))
        if answer == KEEP:
            path = await app.backend.save_changes(name, change)
            app.notify(str(path), title="Written to your profile", markup=False)
        elif answer != "once":
            return
        if plan.engine_name is None:
            new = await _install(app, plan)
            if new is None:
                return
            plan = new
        session = await app.backend.launch(plan)
    except ConsoleError as error:
        app.show_problem(error)
        return
    await app.open_session(session)


async def bench(app: ConsoleApp, pane: BenchPane, plan: BenchPlan) -> None:
    """Say what load it is, ask, and measure."""
    if app.model is None:
        return
    name = _named(app, app.model)
    options = (Option("yes", "y", "measure"), Option("no", "n", "not now"))
    if await app.push_screen_wait(Question(f"Measure {name}?", load_sentences(name, plan), options)) == "yes":
        pane.begin(app.backend, plan)


async def apply(app: ConsoleApp, model: RunModel, hint: Hint) -> None:
    """Show the change of a hint, ask, then restart with it, measure it, and keep it or take it back."""
    name = _named(app, model)
    if await app.push_screen_wait(trial_dialog(name, hint.change, _consequence(model))) != "yes":
        return
    found = await app.push_screen_wait(ExperimentScreen(app.backend, model.run.id, hint.change))
    if isinstance(found, ConsoleError):
        app.show_problem(found)
    elif found is None:
        app.notify("What served before comes back.", title="Given up", markup=False)
    elif found.kept:
        app.notify(found.saved or "It serves; the profile was not written.", title="Kept", markup=False)
    else:
        app.notify("What served before serves again.", title="Taken back", markup=False)


async def _accepted(app: ConsoleApp, request: object) -> bool:
    try:
        await request  # type: ignore[misc]
    except ConsoleError as error:
        app.show_problem(error)
        return False
    return True


async def quit_app(app: ConsoleApp) -> None:
    """Leave; with a live server ask what becomes of it."""
    model = app.model
    if model is None or not model.live or model.player is not None or model.refusal:
        app.exit(0)
        return
    name = model.run.profile_name
    if model.state is ServerState.STOPPING:
        sentences = [f"{name} is stopping and will finish that on its own."]
        options: tuple[Option, ...] = (Option("leave", "l", "leave"), CANCEL)
    else:
        sentences = [
            f"{_named(app, model)} is {model.state} at {model.run.url}.",
            f"{_requests(model)}.",
            f"Start dsv4-console{f' --host {app.host}' if app.host else ''} again to come back to it.",
        ]
        if any(worker.group == GROUP and worker.is_running for worker in app.workers):
            sentences.append("The benchmark ends; rows that are done are kept.")
        stopping = () if app.readonly else (Option("stop", "s", "stop it, then leave"),)
        options = (Option("leave", "l", "leave it running"), *stopping, CANCEL)
    answer = await app.push_screen_wait(Question("Leave the console?", sentences, options))
    if answer == "leave":
        app.exit(0)
    elif answer == "stop" and await _stop_agreed(app, model):
        app.leave_when_over = await _accepted(app, model.session.stop())
