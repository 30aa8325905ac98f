"""Everything that takes several steps and a question: launch, attach, stop, restart, quit. One function each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from console.client.api import LaunchPlan, check_offer
from console.core.errors import ConsoleError
from console.core.models import ServerState
from console.core.profile import EngineKind
from console.tui import fmt
from console.tui.model import RunModel
from console.tui.screens.dialogs import ChooseRun, Confirm, Dialog, Option, Question
from console.tui.screens.install import InstallScreen

if TYPE_CHECKING:
    from console.tui.app import ConsoleApp

__all__ = ["attach", "launch", "quit_app", "restart", "stop"]

CANCEL = Option("cancel", "c", "cancel")


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
    """Plan, install an engine if there is none, ask, and launch."""
    try:
        plan = await app.backend.plan(name)
        if plan.engine_name is None:
            new = await _install(app, plan)
            if new is None:
                return
            plan = new
        elif not await _agreed(app, plan):
            return
        session = await app.backend.launch(plan)
    except ConsoleError as error:
        app.show_problem(error)
        return
    await app.open_session(session)


def _address(plan: LaunchPlan) -> str:
    return f"{plan.profile.serve.host}:{plan.profile.serve.port}"


async def _agreed(app: ConsoleApp, plan: LaunchPlan) -> bool:
    version = f" with vLLM {plan.engine_version}" if plan.engine_version else ""
    sentences = list(plan.warnings)
    cost = plan.profile.cost.usd_per_hour
    if cost:
        sentences.append(f"The machine costs about ${cost:,.2f} an hour.")
    sentences.append("The server goes on when this terminal closes; s stops it.")
    question = f"Launch {plan.profile_name} on {_address(plan)}{version}?"
    answer = await app.push_screen_wait(
        Question(question, sentences, (Option("yes", "y", "launch"), Option("no", "n", "not now")))
    )
    return answer == "yes"


async def _install(app: ConsoleApp, plan: LaunchPlan) -> LaunchPlan | None:
    check_offer(plan)
    kind = "CPU engine" if plan.profile.engine.kind is EngineKind.CPU else "CUDA engine"
    took = "about a minute" if plan.profile.engine.kind is EngineKind.CPU else "several minutes, some gigabytes"
    question = f"Install the {kind} first ({took}), then launch {plan.profile_name} on {_address(plan)}?"
    sentences = [*plan.warnings, f"The same as: {plan.install_offer}"]
    answer = await app.push_screen_wait(
        Question(question, sentences, (Option("yes", "y", "install and launch"), Option("no", "n", "not now")))
    )
    if answer != "yes":
        return None
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
            if len(runs) > 1:
                run_id = await app.push_screen_wait(ChooseRun(runs, app.clock()))
                if run_id is None:
                    return
        session = await app.backend.attach(run_id)
    except ConsoleError as error:
        app.show_problem(error)
        return
    await app.open_session(session)


async def stop(app: ConsoleApp, model: RunModel) -> None:
    """Ask and stop."""
    if await _stop_agreed(app, model):
        await _accepted(app, model.session.stop())


async def _stop_agreed(app: ConsoleApp, model: RunModel) -> bool:
    name = model.run.profile_name
    kept = "let it load" if model.state in (ServerState.STARTING, ServerState.LOADING) else "keep it running"
    question = Confirm(f"Stop {name}?", [_consequence(model)], f"stop {name}", kept)
    return await app.push_screen_wait(question) == "yes"


async def restart(app: ConsoleApp, model: RunModel) -> None:
    """Ask and restart."""
    name = model.run.profile_name
    if model.ended:
        await launch(app, name)
        return
    again = "It loads again from the start."
    if model.live:
        question: Dialog = Confirm(
            f"Restart {name}?", [_consequence(model), again], f"restart {name}", "leave it as it is"
        )
    else:
        question = Question(
            f"Start {name} again?", [again], (Option("yes", "y", f"start {name}"), Option("no", "n", "not now"))
        )
    if await app.push_screen_wait(question) == "yes":
        await _accepted(app, model.session.restart())


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
    if model is None or not model.live:
        app.exit(0)
        return
    name = model.run.profile_name
    if model.state is ServerState.STOPPING:
        sentences = [f"{name} is stopping and will finish that on its own."]
        options: tuple[Option, ...] = (Option("leave", "l", "leave"), CANCEL)
    else:
        sentences = [
            f"{name} is {model.state} at {model.run.url}.",
            f"{_requests(model)}.",
            "Start dsv4-console again to come back to it.",
        ]
        options = (Option("leave", "l", "leave it running"), Option("stop", "s", "stop it, then leave"), CANCEL)
    answer = await app.push_screen_wait(Question("Leave the console?", sentences, options))
    if answer == "leave":
        app.exit(0)
    elif answer == "stop" and await _stop_agreed(app, model):
        app.leave_when_over = await _accepted(app, model.session.stop())
