"""Keys, questions and flows: everything can be reached without a mouse, and nothing that destroys goes unasked."""

from __future__ import annotations

import asyncio
import re

import pytest
from msgspec.structs import replace

from console.client.api import Lost
from console.core.errors import HardwareError, NotRunningError, UsageError
from console.core.hints import explain_rules
from console.core.models import Hint, HintState, Phase, ProfileChange, ServerState, ServerStatus
from console.tui.actions import ACTIONS, SCOPES, bindings_for
from console.tui.app import ConsoleApp
from console.tui.model import RANGES
from console.tui.screens import dialogs
from console.tui.screens.dashboard import DashboardScreen
from console.tui.screens.picker import PickerScreen
from tests.fakes.backend import (
    CPU_RUN,
    IDLE,
    MONEY,
    NOW_S,
    READY,
    RUN,
    FakeBackend,
    FakeSession,
    attached,
    loading,
    snapshot,
)
from tests.ui.screen_text import running, text, wait_for, wait_text
from tests.ui.states import OOM, STATES

SAFE_KEY = re.compile(r"[a-zA-Z0-9]|enter|escape|tab|up|down|left|right|home|end|pageup|pagedown|slash|colon"
                      r"|question_mark|(left|right)_square_bracket")  # fmt: skip


def test_actions_table() -> None:
    assert len({a.id for a in ACTIONS}) == len(ACTIONS)
    for scope in SCOPES:
        keys = [key for a in ACTIONS if a.scope == scope for key in a.keys.split(",")]
        assert keys, scope
        assert len(keys) == len(set(keys)), f"two actions on one key in {scope}"
    for action in ACTIONS:
        assert action.scope in SCOPES
        assert action.help
        assert action.keys
        if action.scope != "prompt":
            assert any(SAFE_KEY.fullmatch(key) for key in action.keys.split(",")), f"{action.id} has no key for SSH"
        assert any(key != "escape" for key in action.keys.split(",")), "escape is never the only way"
    assert len(bindings_for("dashboard")) == sum(a.scope == "dashboard" for a in ACTIONS)


async def test_launch_asks_and_enter_means_yes() -> None:
    backend = FakeBackend()
    async with running(backend) as pilot:
        await wait_text(pilot, "Engine    vLLM 0.33.0")
        await pilot.press("enter")
        await wait_text(pilot, "Launch flash-4xh200 on 127.0.0.1:8000 with vLLM 0.33.0?")
        assert not backend.launched
        await pilot.press("enter")
        await wait_text(pilot, "STARTING")
        assert [plan.profile_name for plan in backend.launched] == ["flash-4xh200"]


@pytest.mark.parametrize("key", ["n", "escape"])
async def test_launch_can_be_refused(key: str) -> None:
    backend = FakeBackend()
    async with running(backend) as pilot:
        await wait_text(pilot, "flash-4xh200")
        await pilot.press("enter")
        await wait_text(pilot, "Launch flash-4xh200")
        await pilot.press(key)
        await wait_for(pilot, lambda: isinstance(pilot.app.screen, PickerScreen), "back")
        assert not backend.launched


async def test_initial_profile_is_selected() -> None:
    async with running(FakeBackend(), initial_profile="cpu-smoke") as pilot:
        await wait_text(pilot, "▸ ● cpu-smoke", "A tiny generated model")


async def test_install_then_launch() -> None:
    backend = FakeBackend(engine=None)
    backend.install_hold = asyncio.Event()
    async with running(backend, initial_profile="cpu-smoke") as pilot:
        await wait_text(pilot, "not installed", "engine install --cpu")
        await pilot.press("enter")
        await wait_text(pilot, "Install the CPU engine first (about a minute)")
        await pilot.press("enter")
        await wait_text(pilot, "downloading torch 182 MiB", "40%")
        backend.install_hold.set()
        await wait_text(pilot, "STARTING")
        assert backend.launched[0].engine_name == "cpu-0.32.0"


async def test_install_can_be_cancelled() -> None:
    backend = FakeBackend(engine=None)
    backend.install_hold = asyncio.Event()
    async with running(backend) as pilot:
        await wait_text(pilot, "not installed")
        await pilot.press("enter")
        await wait_text(pilot, "Install the CUDA engine first")
        await pilot.press("y")
        await wait_text(pilot, "downloading torch")
        await pilot.press("x")
        await wait_for(pilot, lambda: backend.install_cancelled and isinstance(pilot.app.screen, PickerScreen), "back")
        assert not backend.launched


async def test_launch_problem_is_told_with_its_remedy() -> None:
    backend = FakeBackend()
    backend.launch_error = HardwareError("Port 8000 is taken", "by [pid 77]", "Choose another serve.port.")
    async with running(backend) as pilot:
        await wait_text(pilot, "flash-4xh200")
        await pilot.press("enter")
        await wait_text(pilot, "Launch flash")
        await pilot.press("y")
        await wait_text(pilot, "✖ Port 8000 is taken", "by [pid 77]", "Choose another serve.port.")
        await pilot.press("enter")
        await wait_for(pilot, lambda: isinstance(pilot.app.screen, PickerScreen), "back")


async def test_what_is_typed_before_the_list_is_there_filters_nothing() -> None:
    async with running(FakeBackend()) as pilot:
        await pilot.press("y")
        await wait_text(pilot, "flash-4xh200", "cpu-smoke")
        assert pilot.app.focused.id == "profiles"


async def test_filter() -> None:
    async with running(FakeBackend()) as pilot:
        await wait_text(pilot, "flash-4xh200")
        await pilot.press("slash", *"a100")
        await wait_for(pilot, lambda: "v3-int4" in text(pilot.app) and "cpu-smoke" not in text(pilot.app), "filtered")
        await pilot.press("escape")
        await wait_text(pilot, "cpu-smoke")
        await pilot.press("slash", *"zzz")
        await wait_text(pilot, "No profile matches “zzz”.")


async def test_one_run_attaches_directly_and_shows_the_log_from_its_start() -> None:
    async with running(STATES["busy"](), (160, 50)) as pilot:
        await wait_text(pilot, "READY", "non-default args")


async def test_several_runs_are_chosen_from() -> None:
    sessions = {RUN.id: FakeSession(RUN), CPU_RUN.id: FakeSession(CPU_RUN)}
    for session in sessions.values():
        session.push(snapshot())
    async with running(FakeBackend(runs=(RUN, CPU_RUN), sessions=sessions)) as pilot:
        await wait_text(pilot, "Attach to which server?", "cpu-smoke", "flash-4xh200")
        await pilot.press("down", "enter")
        await wait_text(pilot, "READY  cpu-smoke")


async def test_attach_run_by_name() -> None:
    sessions = {RUN.id: FakeSession(RUN), CPU_RUN.id: FakeSession(CPU_RUN)}
    sessions[CPU_RUN.id].push(snapshot())
    async with running(FakeBackend(runs=(RUN, CPU_RUN), sessions=sessions), attach_run=CPU_RUN.id) as pilot:
        await wait_text(pilot, "READY  cpu-smoke")


async def test_panes_by_digit_and_letter() -> None:
    steps = (("2", "following"), ("1", "GPU util"), ("l", "following"), ("c", "enter sends it"), ("tab", "⏎ write"))
    async with running(STATES["busy"]()) as pilot:
        await wait_text(pilot, "GPU util")
        for key, wanted in (*steps, ("o", "GPU util"), ("3", "enter sends it")):
            await pilot.press(key)
            await wait_text(pilot, wanted)


@pytest.mark.parametrize("status", [READY, loading(Phase.CONFIG), replace(READY, state=ServerState.CRASHED)])
async def test_the_chat_opens_in_every_state_and_takes_what_is_typed(status: ServerStatus) -> None:
    backend, session = attached(snapshot(status=status))
    async with running(backend) as pilot:
        await wait_text(pilot, status.state.upper())
        await pilot.press("3", *"qsr y")
        await wait_text(pilot, "qsr y", "^q quit")
        assert isinstance(pilot.app.screen, DashboardScreen)
        assert not session.stops


async def test_keys_come_with_what_they_act_on() -> None:
    backend, session = attached(snapshot(hints=()))
    async with running(backend) as pilot:
        await wait_text(pilot, "READY", "s stop")
        assert "h hints" not in text(pilot.app)
        session.push(snapshot(seq=2))
        await wait_text(pilot, "h hints")


async def test_keys_that_matter_are_never_pushed_out() -> None:
    async with running(STATES["busy"]()) as pilot:
        await wait_text(pilot, "READY")
        for width in (80, 60):
            await pilot.resize_terminal(width, 24)
            for pane in "21":
                await pilot.press(pane)
                await wait_text(pilot, "s stop  q quit  ? help")


async def test_help_names_every_key_of_the_pane() -> None:
    async with running(STATES["busy"](), (100, 60)) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("question_mark")
        await wait_text(pilot, *(a.help for a in ACTIONS if a.scope == "dashboard"))
        await pilot.press("q")
        await wait_for(pilot, lambda: isinstance(pilot.app.screen, DashboardScreen), "closed")


async def test_palette_finds_a_hint() -> None:
    async with running(STATES["busy"]()) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("colon", *"raise")
        await wait_text(pilot, "Hint: Raise max_num_seqs")
        await pilot.press("enter")
        await wait_text(pilot, "--set serve.max_num_seqs=64")


async def test_hints_select_and_explain() -> None:
    async with running(STATES["hints-many"]()) as pilot:
        await wait_text(pilot, "3 hints")
        await pilot.press("h", "down")
        await wait_text(pilot, "GPU 3 slows itself down", "2 of 4")
        await pilot.press("enter")
        await wait_text(pilot, "83 °C for 40 s.")


async def test_a_hint_tells_its_rule_its_times_and_its_documentation() -> None:
    rule = next(rule for rule in explain_rules() if rule.id == "kv-fp8")
    hint = Hint(id=rule.id, title=rule.title, evidence=("Seen.",), doc=rule.doc)
    unjudged = replace(hint, state=HintState.UNJUDGED, missing="KV cache usage: no answer from /metrics")
    for shown in (hint, unjudged):
        backend, _ = attached(snapshot(hints=(shown,)))
        async with running(backend) as pilot:
            await wait_text(pilot, rule.title)
            await pilot.press("h", "enter")
            await wait_text(pilot, "looks back 30 s, fires after 30 s, stops after 1 min", rule.doc)


@pytest.mark.parametrize(("keys", "code", "stops"), [(["enter"], 0, 0), (["l"], 0, 0)])
async def test_quit_leaves_the_server_running_by_default(keys: list[str], code: int, stops: int) -> None:
    backend, session = attached(snapshot())
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("q")
        await wait_text(pilot, "Leave the console?", "leave it running", "73 requests")
        await pilot.press(*keys)
        await wait_for(pilot, lambda: pilot.app._exit, "left")
        assert pilot.app.return_value == code
        assert len(session.stops) == stops


async def test_quit_can_stop_first() -> None:
    backend, session = attached(snapshot())
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("q")
        await wait_text(pilot, "stop it, then leave")
        await pilot.press("s")
        await wait_text(pilot, "Stop flash-4xh200?")
        assert not session.stops
        await pilot.press("y")
        await wait_for(pilot, lambda: session.stops, "asked")
        session.push(snapshot(seq=2, status=replace(READY, state=ServerState.STOPPING, in_flight=3)))
        await wait_text(pilot, "3 requests in flight")
        assert not pilot.app._exit
        session.push(snapshot(seq=3, status=replace(READY, state=ServerState.STOPPED)))
        await wait_for(pilot, lambda: pilot.app._exit, "left once stopped")


async def test_quit_can_be_cancelled_and_needs_no_question_without_a_server() -> None:
    async with running(STATES["busy"]()) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("q")
        await wait_text(pilot, "Leave the console?")
        await pilot.press("c")
        await wait_for(pilot, lambda: isinstance(pilot.app.screen, DashboardScreen), "stayed")
    async with running(STATES["stopped"]()) as pilot:
        await wait_text(pilot, "STOPPED")
        await pilot.press("q")
        await wait_for(pilot, lambda: pilot.app._exit, "left")


async def test_ctrl_c_asks_too() -> None:
    async with running(STATES["busy"]()) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("ctrl+c")
        await wait_text(pilot, "Leave the console?")


async def test_stop_names_the_requests() -> None:
    backend, session = attached(snapshot())
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("s")
        await wait_text(pilot, "Stop flash-4xh200?", "73 requests are running")
        await pilot.press("escape")
        await wait_for(pilot, lambda: isinstance(pilot.app.screen, DashboardScreen), "back")
        assert not session.stops
        await pilot.press("s")
        await wait_text(pilot, "Stop flash-4xh200?")
        await pilot.press("enter")
        await wait_for(pilot, lambda: isinstance(pilot.app.screen, DashboardScreen), "kept running")
        assert not session.stops
        await pilot.press("s")
        await wait_text(pilot, "Stop flash-4xh200?")
        await pilot.press("down", "enter")
        await wait_for(pilot, lambda: session.stops == [None], "asked")


@pytest.mark.parametrize("status", [READY, loading(Phase.WEIGHTS)], ids=lambda s: s.state)
async def test_words_typed_into_the_wrong_pane_destroy_nothing(
    status: ServerStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialogs, "CONFIRM_REST_S", 3600.0)
    backend, session = attached(snapshot(status=status))
    async with running(backend) as pilot:
        await wait_text(pilot, status.state.upper())
        for words in ("try\n", "sys", "very\n", "say it, sorry\n"):
            await pilot.press(*("enter" if c == "\n" else c for c in words))
        await wait_for(pilot, lambda: isinstance(pilot.app.screen, DashboardScreen), "no question is left")
        assert not session.stops
        assert not session.restarts


async def test_stopping_a_start_names_what_is_lost() -> None:
    backend, session = attached(snapshot(status=loading(Phase.WEIGHTS, 53.0), engine=None))
    async with running(backend) as pilot:
        await wait_text(pilot, "LOADING")
        await pilot.press("s")
        await wait_text(pilot, "loading for 53s is lost", "let it load   enter")
        await pilot.press("y")
        await wait_for(pilot, lambda: session.stops == [None], "asked")


async def test_stop_when_idle_says_so_and_a_refusal_is_told() -> None:
    backend, session = attached(snapshot(engine=IDLE))
    session.refuse = NotRunningError("Nobody answers", "the supervisor is gone")
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("s")
        await wait_text(pilot, "No request is running.")
        await pilot.press("y")
        await wait_text(pilot, "✖ Nobody answers", "the supervisor is gone")


async def test_an_idle_server_can_be_kept_and_only_then() -> None:
    backend, session = attached(snapshot(engine=IDLE))
    idle = replace(MONEY, idle_s=300.0, idle_counted_s=300.0, idle_warned=True, idle_stop_in_s=1500.0)
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("K")
        session.push(snapshot(engine=IDLE, seq=2, money=idle))
        await wait_text(pilot, "idle 5m00s, stops in 25m00s", "K keep")
        assert session.postponed == 0
        await pilot.press("K")
        await wait_for(pilot, lambda: session.postponed == 1, "asked")
        await wait_for(pilot, lambda: any(n.title == "Postponed" for n in pilot.app._notifications), "told")
        session.push(snapshot(engine=IDLE, seq=3, money=MONEY))
        await wait_for(pilot, lambda: "K keep" not in text(pilot.app), "nothing to keep")


async def test_a_postponement_that_is_refused_is_told() -> None:
    backend, session = attached(STATES["idle-warned"]().sessions[RUN.id].queue.get_nowait())
    session.refuse = NotRunningError("Nobody answers", "the supervisor is gone")
    async with running(backend) as pilot:
        await wait_text(pilot, "K keep")
        await pilot.press("K")
        await wait_text(pilot, "✖ Nobody answers")


async def test_restart_asks() -> None:
    backend, session = attached(snapshot())
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("r")
        await wait_text(pilot, "Restart flash-4xh200?", "73 requests are running or waiting")
        await pilot.press("y")
        await wait_for(pilot, lambda: session.restarts == 1, "asked")


async def test_profiles_detaches_and_the_server_goes_on() -> None:
    backend, session = attached(snapshot())
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("p")
        await wait_text(pilot, "● 1 running", "flash-4xh200")
        assert session.closed
        assert not session.stops
        session.push(snapshot())
        await pilot.press("a")
        await wait_text(pilot, "READY")


async def test_lost_then_attached_again() -> None:
    backend, _ = attached(snapshot(), Lost(reason="reset"))
    async with running(backend) as pilot:
        await wait_text(pilot, "▲ LOST", "Lost the supervisor: reset")
        backend.sessions[RUN.id] = FakeSession()
        backend.sessions[RUN.id].push(snapshot())
        await pilot.press("a")
        await wait_text(pilot, "● READY")


async def test_a_supervisor_that_ends_with_its_run_is_not_lost_and_the_profile_can_be_launched_again() -> None:
    over = snapshot(status=replace(READY, state=ServerState.STOPPED), engine=None)
    backend, session = attached(over, Lost(reason="closed"))
    async with running(backend) as pilot:
        await wait_for(pilot, lambda: pilot.app.model and pilot.app.model.ended, "ended")
        await wait_text(pilot, "■ STOPPED", "r start again")
        assert "LOST" not in text(pilot.app)
        await pilot.press("r")
        await wait_text(pilot, "Launch flash-4xh200")
        await pilot.press("enter")
        await wait_text(pilot, "STARTING")
        assert len(backend.launched) == 1
        assert not session.restarts


async def test_failure_jumps_to_its_line() -> None:
    async with running(STATES["failed"]()) as pilot:
        await wait_text(pilot, "e shows it")
        await pilot.press("e")
        await wait_for(pilot, lambda: pilot.app.screen.query_one("#log-view").marked == 3, "marked")
        await wait_text(pilot, "Loading weights took 22.10 seconds")


@pytest.mark.parametrize(("key", "kept"), [("enter", False), ("y", False), ("w", True)])
async def test_a_failure_is_mended_with_its_change(key: str, kept: bool) -> None:
    backend = STATES["failed"]()
    async with running(backend) as pilot:
        await wait_text(pilot, "serve.max_model_len 131072 → 32768; f starts with it", "f fix")
        await pilot.press("f")
        await wait_text(pilot, "Start flash-4xh200 again", "- serve.max_model_len = 131072")
        await wait_text(pilot, "+ serve.max_model_len = 32768")
        assert not backend.launched
        await pilot.press(key)
        await wait_text(pilot, "STARTING")
        (plan,) = backend.launched
        assert plan.profile.serve.max_model_len == 32_768
        assert [name for name, _ in backend.saved] == (["flash-4xh200"] if kept else [])


@pytest.mark.parametrize("key", ["n", "escape"])
async def test_a_change_that_is_declined_changes_nothing(key: str) -> None:
    backend = STATES["failed"]()
    async with running(backend) as pilot:
        await wait_text(pilot, "f fix")
        await pilot.press("f")
        await wait_text(pilot, "Start flash-4xh200 again")
        await pilot.press(key)
        await wait_for(pilot, lambda: isinstance(pilot.app.screen, DashboardScreen), "closed")
        assert not backend.launched
        assert not backend.saved


async def test_a_change_that_does_not_fit_is_told() -> None:
    wrong = replace(OOM, change=(ProfileChange(key="serve.max_model_len", after=-1),))
    status = replace(READY, state=ServerState.FAILED, over=True, diagnosis=wrong)
    backend, _ = attached(snapshot(status=status, engine=None))
    async with running(backend) as pilot:
        await wait_text(pilot, "f fix")
        await pilot.press("f")
        await wait_text(pilot, "The settings cannot be used", "serve.max_model_len")
        assert not backend.launched


async def test_without_a_change_or_an_end_there_is_nothing_to_mend() -> None:
    busy = replace(READY, state=ServerState.CRASHED, over=False, diagnosis=OOM)
    for status in (busy, replace(busy, over=True, diagnosis=replace(OOM, change=()))):
        backend, _ = attached(snapshot(status=status, engine=None, hints=()))
        async with running(backend) as pilot:
            await wait_text(pilot, "CRASHED")
            assert "f fix" not in text(pilot.app)
            await pilot.press("f")
            await pilot.pause()
            assert isinstance(pilot.app.screen, DashboardScreen)


async def test_state_changes_change_the_screen() -> None:
    backend, session = attached(snapshot(status=loading(Phase.WEIGHTS), engine=None))
    async with running(backend) as pilot:
        await wait_text(pilot, "LOADING weights", "load the weights")
        session.push(snapshot(seq=2))
        await wait_text(pilot, "● READY", "GPU util")
        session.push(snapshot(seq=3, status=replace(READY, state=ServerState.CRASHED, exit_code=-9)))
        await wait_text(pilot, "✖ CRASHED", "Crashed after it was ready")


async def test_a_broken_worker_costs_neither_screen_nor_server() -> None:
    class Broken(FakeBackend):
        async def machine(self):
            raise RuntimeError("[/bold] broken")

    async with running(Broken()) as pilot:
        await wait_text(pilot, "flash-4xh200")
        await wait_for(pilot, lambda: any("[/bold] broken" in n.message for n in pilot.app._notifications), "told")


async def test_bursts_of_snapshots_repaint_once() -> None:
    backend, session = attached(snapshot())
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        painted = 0
        dashboard = pilot.app.screen
        original = dashboard.refresh_run

        def counted() -> None:
            nonlocal painted
            painted += 1
            original()

        dashboard.refresh_run = counted
        session.push(*(snapshot(seq=i, time_s=NOW_S + i) for i in range(2, 202)))
        await wait_for(pilot, lambda: dashboard.model.snapshot.seq == 201, "taken in")
        await pilot.pause()
        assert painted < 20
        assert len(dashboard.model.series["kv"].points(RANGES[0])) == 201


def test_the_app_is_typed_for_what_screens_use() -> None:
    assert ConsoleApp(FakeBackend()).model is None


async def test_a_supervisor_that_cannot_be_talked_to_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    backend, _ = attached(snapshot())
    told = UsageError("The supervisor is of another version", "this console is the older one")

    async def refuse(_run_id: str) -> None:
        raise told

    monkeypatch.setattr(backend, "attach", refuse)
    async with running(backend) as pilot:
        await wait_text(pilot, "The supervisor is of another version", "this console is the older one")


async def test_a_key_that_comes_while_a_run_is_let_go_of_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    backend, session = attached(snapshot())
    let_go = asyncio.Event()

    async def close() -> None:
        await let_go.wait()

    monkeypatch.setattr(session, "close", close)
    async with running(backend) as pilot:
        await wait_text(pilot, "READY")
        await pilot.press("p")
        await wait_for(pilot, lambda: isinstance(pilot.app.screen, PickerScreen), "the profiles")
        await pilot.press("q")
        assert not pilot.app._exit
        let_go.set()
        await wait_for(pilot, lambda: pilot.app._exit, "left")
