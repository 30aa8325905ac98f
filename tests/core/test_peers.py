"""When another machine counts as lost."""

from __future__ import annotations

from console.core.peers import GONE_S, SILENT_S, PeerWatch, Reach, Seen, look

OPEN = Seen(reach=Reach.OPEN, serves=True)
REFUSED = Seen(reach=Reach.REFUSED, serves=True)
SILENT = Seen(reach=Reach.SILENT, serves=True)


def told(*looks: tuple[float, Seen]) -> list[str]:
    watch, found = PeerWatch(), []
    for at_s, seen in looks:
        watch, why = look(watch, seen, at_s)
        found.append(why)
    return found


def test_a_port_that_was_open_and_refuses() -> None:
    assert told((0.0, OPEN), (1.0, REFUSED), (1.0 + GONE_S, REFUSED)) == [
        "",
        "",
        "its server is gone: the port refuses connections",
    ]


def test_a_port_that_was_never_open_says_nothing() -> None:
    assert not any(told(*((float(at), REFUSED) for at in range(100))))
    assert not any(told(*((float(at), SILENT) for at in range(100)))), "a firewall that answers nobody"


def test_silence_counts_only_as_long_as_it_lasts() -> None:
    assert not any(told((0.0, OPEN), (1.0, SILENT), (SILENT_S, OPEN), (SILENT_S + 1, SILENT), (SILENT_S + 9, SILENT)))
    assert told((0.0, OPEN), (1.0, SILENT), (1.0 + SILENT_S, SILENT))[-1] == "it has not answered for 15 s"


def test_a_machine_without_a_server_of_ours_answers_by_refusing() -> None:
    there, gone = Seen(reach=Reach.REFUSED), Seen(reach=Reach.SILENT)
    assert not any(told(*((float(at), there) for at in range(100))))
    assert told((0.0, there), (1.0, gone), (1.0 + SILENT_S, gone))[-1]


def test_a_connection_that_is_missed() -> None:
    met, unmet = (Seen(reach=Reach.REFUSED, connected=held) for held in (True, False))
    assert not any(told(*((float(at), unmet) for at in range(100)))), "it has not come yet"
    assert "holds no connection" in told((0.0, met), (1.0, unmet), (1.0 + GONE_S, unmet))[-1]
