"""What the supervisor learns from the log of a server that runs, beside what `/metrics` says."""

from __future__ import annotations

import shutil
from pathlib import Path

from console.core.kernels import LogFigures
from console.core.models import ServerState
from console.supervisor.logwatch import LogWatch
from tests.process.test_supervisor import Lab, lab

__all__ = ["lab"]

LOG = Path(__file__).parents[1] / "data/logs/h200-0.26.0/serving-v4-flash-tp2.log"


def test_the_cache_and_the_kernels_of_a_recorded_server(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    shutil.copyfile(LOG, path)
    watch = LogWatch(path)
    watch.catch_up()
    assert watch.figures == LogFigures(kv_tokens=885_355, step_tokens=2048, kernels_compiled=11)
    with path.open("a", encoding="utf-8") as log:
        log.write("(Worker_TP0 pid=2) TileLang begins to compile kernel `mhc_post_tilelang` with `out_idx=None`\n")
    watch.catch_up()
    assert (watch.figures.kernels_compiled, watch.figures.kernel_compiling) == (12, "mhc_post_tilelang")
    watch.mark_attempt()
    assert watch.figures == LogFigures(kernels_compiled=0)
    watch.close()


async def test_they_stand_beside_the_servers_own_figures(lab: Lab) -> None:
    fake = await lab.start()
    await fake.state(ServerState.READY)
    seen = await fake.until(lambda snapshot: snapshot.engine is not None, "figures of vLLM")
    assert seen.engine is not None
    assert seen.engine.kernels_compiled_total == 0
