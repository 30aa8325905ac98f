"""Asks several questions at a time, each in a thread of its own, and goes on without those that hang.

A stuck driver or a dead network disk holds its thread for good: the threads are daemons, left behind when the program
ends, and an executor's threads would be waited for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from console.core.errors import ConsoleError
from console.core.preflight import NoAnswer

__all__ = ["ANSWER_TIMEOUT_S", "ask_all"]

ANSWER_TIMEOUT_S = 1.5
"""So that all of them together stay below two seconds."""


def ask_all(
    questions: Mapping[str, Callable[[], object]], timeout_s: float = ANSWER_TIMEOUT_S
) -> dict[str, object | NoAnswer]:
    """What each question answered within `timeout_s` seconds; otherwise why not."""
    answers: dict[str, object] = {}

    def ask(name: str, question: Callable[[], object]) -> None:
        try:
            answers[name] = question()
        except ConsoleError as error:
            answers[name] = NoAnswer(reason=" ".join(f"{error.title}: {error.message}".split()).removesuffix(":"))
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            answers[name] = NoAnswer(reason=f"{where}{error.strerror or error}")

    threads = {
        name: threading.Thread(target=ask, args=(name, question), name=f"preflight-{name}", daemon=True)
        for name, question in questions.items()
    }
    deadline = time.monotonic() + timeout_s
    for thread in threads.values():
        thread.start()
    for thread in threads.values():
        thread.join(max(0.0, deadline - time.monotonic()))
    silent = NoAnswer(reason=f"did not answer within {timeout_s:g} s")
    return {name: answers.get(name, silent) for name in questions}
