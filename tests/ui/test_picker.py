"""The picker with many profiles: orders, search, what runs here, what is one's own, and a command that is copied."""

from __future__ import annotations

from msgspec.structs import replace

from console.client.api import ProfileEntry
from console.core.errors import StateError
from console.tui.paint import plain
from console.tui.widgets.profile_list import Catalogue, cost_text, profile_row
from tests.fakes.backend import ENTRIES, PROBLEMS, FakeBackend
from tests.ui.screen_text import running, text, wait_for, wait_text


def catalogue(*entries: ProfileEntry, **changes: object) -> Catalogue:
    shown = entries or ENTRIES
    return Catalogue(entries={entry.name: entry for entry in shown}, loaded=True, **changes)  # type: ignore[arg-type]


def test_every_order_keeps_all_profiles() -> None:
    wanted = {
        "suits": ["flash-4xh200", "flash-2xh200", "flash-8xh100", "v3-int4-8xa100", "cpu-smoke"],
        "name": ["cpu-smoke", "flash-2xh200", "flash-4xh200", "flash-8xh100", "v3-int4-8xa100"],
        "hardware": ["v3-int4-8xa100", "flash-8xh100", "flash-2xh200", "flash-4xh200", "cpu-smoke"],
        "cost": ["flash-2xh200", "v3-int4-8xa100", "flash-4xh200", "flash-8xh100", "cpu-smoke"],
        "evidence": ["cpu-smoke", "flash-4xh200", "flash-8xh100", "flash-2xh200", "v3-int4-8xa100"],
    }
    for order, names in wanted.items():
        assert catalogue(order=order).listed() == names, order
    assert sorted(catalogue(order="model").listed()) == sorted(wanted["name"])


def test_what_was_measured_here_is_the_best_evidence() -> None:
    measured = replace(ENTRIES[3], fit=replace(ENTRIES[3].fit, measured="by hand"))
    assert catalogue(*ENTRIES[:3], measured, order="evidence").listed()[0] == "v3-int4-8xa100"


def test_search_takes_words_in_any_order_from_any_column() -> None:
    for words, names in (
        ("fp4 H200", ["flash-4xh200", "flash-2xh200"]),
        ("4xh200", ["flash-4xh200"]),
        ("8 × a100", ["v3-int4-8xa100"]),
        ("deepseek-v3", ["v3-int4-8xa100"]),
        ("generated:tiny", ["cpu-smoke"]),
        ("derived", ["flash-2xh200"]),
        ("flash nothing", []),
    ):
        assert catalogue(words=words).listed() == names, words


def test_only_what_can_run_here() -> None:
    assert catalogue(here_only=True).listed() == ["flash-4xh200", "flash-2xh200", "cpu-smoke"]


def test_a_price_says_whether_it_is_ones_own() -> None:
    assert cost_text(ENTRIES[0]) == "$14.76/h"
    assert cost_text(ENTRIES[2]) == "≈$25.60/h"
    assert cost_text(ENTRIES[4]) == ""


def test_ones_own_profiles_and_broken_files_have_a_star() -> None:
    own = replace(ENTRIES[0], origin="user")
    shown = catalogue(own, ENTRIES[1], problems={"my-flash": PROBLEMS[0]})
    rows = [plain(profile_row(shown, key, 76, chosen=False)) for key in shown.listed()]
    assert "flash-4xh200* " in rows[0]
    assert "flash-2xh200  " in rows[1]
    assert "my-flash* " in rows[2]
    assert "2 mistakes" in rows[2]


async def test_orders_go_round_and_the_selection_stays() -> None:
    async with running(FakeBackend()) as pilot:
        await wait_text(pilot, "5 profiles · 3 can run here", "best suited first")
        await pilot.press("down", "down")
        for words in ("by name", "by hardware", "by model", "cheapest first", "best evidence first", "best suited"):
            await pilot.press("s")
            await wait_text(pilot, words, "▸ ✖ flash-8xh100")


async def test_search_says_how_many_match() -> None:
    async with running(FakeBackend(problems=PROBLEMS)) as pilot:
        await wait_text(pilot, "6 profiles")
        await pilot.press("slash", *"fp4", "space", *"h100", "enter")
        await wait_text(pilot, "1 of 6 profiles match “fp4 h100”")
        assert pilot.app.focused.id == "profiles"
        await pilot.press("slash", "escape")
        await wait_text(pilot, "6 profiles")


async def test_what_cannot_run_here_can_be_hidden() -> None:
    async with running(FakeBackend(entries=ENTRIES[2:4])) as pilot:
        await wait_text(pilot, "flash-8xh100")
        await pilot.press("o")
        await wait_text(pilot, "No profile can run on this machine; o shows all.", "only what runs here")
        await pilot.press("o")
        await wait_text(pilot, "flash-8xh100")


async def test_the_command_goes_to_the_clipboard_and_into_a_file() -> None:
    backend = FakeBackend()
    async with running(backend) as pilot:
        await wait_text(pilot, "flash-4xh200")
        await pilot.press("y")
        await wait_for(pilot, lambda: backend.commands, "in a file")
        name, line = backend.commands[0]
        assert name == "flash-4xh200"
        assert pilot.app.clipboard == line
        assert line.startswith("VLLM_NO_USAGE_STATS=1 vllm serve")
        path = "commands/flash-4xh200.sh"
        await wait_for(pilot, lambda: any(path in note.message for note in pilot.app._notifications), "told")


async def test_a_command_that_cannot_be_kept_is_told() -> None:
    backend = FakeBackend()

    async def full(_name: str, _line: str) -> None:
        raise StateError("Cannot write the command", "no space left on device", "Check the disk.")

    backend.keep_command = full  # type: ignore[assignment,method-assign]
    async with running(backend) as pilot:
        await wait_text(pilot, "flash-4xh200")
        await pilot.press("y")
        await wait_text(pilot, "Cannot write the command", "no space left")
        assert "vllm serve" in pilot.app.clipboard


async def test_three_hundred_profiles_stay_quick_to_narrow() -> None:
    many = tuple(replace(ENTRIES[i % 5], name=f"{ENTRIES[i % 5].name}-{i:03}") for i in range(300))
    async with running(FakeBackend(entries=many)) as pilot:
        await wait_text(pilot, "300 profiles")
        await pilot.press("G")
        await wait_text(pilot, "▸ ● cpu-smoke-299")
        await pilot.press("g")
        await wait_text(pilot, "▸ ● flash-4xh200-000")
        await pilot.press("slash", *"299")
        await wait_text(pilot, "1 of 300 profiles", "cpu-smoke-299")
        assert "flash" not in text(pilot.app).splitlines()[4]
