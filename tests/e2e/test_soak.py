"""A minute of the soak on the real engine: nothing of the console grows while it watches a server under load."""

from __future__ import annotations

import pytest

from tests.e2e.world import World
from tests.soak.run import soak

SECONDS = 60.0


@pytest.mark.real
@pytest.mark.alone
@pytest.mark.timeout(600)
def test_a_minute_under_load_is_flat(world: World) -> None:
    result = soak(world, SECONDS, print)
    print("\n".join(result.lines()))
    assert list(result.moments) == ["start", "middle", "end"]
    assert result.grown == []
    assert result.requests > 0
    assert result.failed == []
