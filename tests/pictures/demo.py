"""Pictures of a real H100 without one: the shipped recording of it, as `--demo` plays it."""

from __future__ import annotations

import asyncio

from tests.pictures.camera import NARROW, WIDE, Camera, Studio, until

STEPS_MAX = 20
"""Of 30 s each: the recording is shorter."""
SEEN_S = 30.0
CHARTED_S = 12.0
"""Further on, so that the curves show more than the first seconds of the load."""


async def take(camera: Camera) -> None:
    """The hint at two slots, what it rests on, the log, and full load at 64 slots."""
    from console.client import recordings
    from console.client.replay import ReplaySession
    from console.client.replay_backend import ReplayBackend
    from console.tui.app import ConsoleApp
    from tests.ui.screen_text import text

    session = ReplaySession(recordings.demo(), label="DEMO")
    app = ConsoleApp(ReplayBackend(session), attach_run=session.run.id, replay=True)
    async with app.run_test(size=WIDE) as pilot:
        studio = Studio(camera, pilot)
        await until("the recording", lambda: "DEMO" in text(app), SEEN_S)
        session.pause()

        async def seek(*wanted: str) -> None:
            """On by thirty seconds until all of these are shown."""
            for _ in range(STEPS_MAX):
                if all(each in text(app) for each in wanted):
                    return
                session.seek(30.0)
                await asyncio.sleep(1.0)
            raise SystemExit(f"the recording never shows {wanted}")

        await seek("max_num_seqs", "2 → 64")
        await studio.shoot("h100-hint", WIDE, NARROW)
        await pilot.press("h", "enter")
        await until("the explanation", lambda: "Seen" in text(app), SEEN_S)
        await studio.shoot("h100-explain", NARROW)
        await pilot.press("escape", "l")
        await studio.shoot("h100-log", WIDE, when=lambda: "Engine 000" in text(app), limit_s=SEEN_S)
        await pilot.press("1")
        await pilot.resize_terminal(*WIDE)
        await asyncio.sleep(1.0)
        await seek("64/64")
        session.seek(CHARTED_S)
        await asyncio.sleep(1.0)
        await studio.shoot("h100", WIDE, NARROW, when=lambda: "/64" in text(app), limit_s=SEEN_S)
