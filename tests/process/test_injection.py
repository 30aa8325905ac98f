"""Whatever a log, a model or a profile holds, a terminal gets printable characters from the command line."""

from __future__ import annotations

import io
import json
import unicodedata
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from console.cli import main
from console.cli.chat import _Shown
from console.cli.output import Output, Steps
from console.cli.trouble import explain
from console.core.errors import StateError
from console.core.models import (
    ChatDelta,
    Diagnosis,
    EngineReading,
    EventRecord,
    GpuReading,
    Hint,
    Phase,
    ProfileChange,
    RunInfo,
    ServerState,
    ServerStatus,
    Snapshot,
    SourceStatus,
)
from console.headless import Narrator
from console.io import runs

NASTY = st.text(
    alphabet=st.one_of(
        st.sampled_from(
            "\x1b[]PX^_\\?;0123456789mJHh\x07\x9b\x9d\x90\x9c\x85\r\n\t\x00\x08\x7f\u202e\u2028\u200b\ud800"
        ),
        st.characters(),
    ),
    max_size=60,
)
FUZZ = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Streams:
    """stdout and stderr as a terminal would get them."""

    def __init__(self) -> None:
        self.out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
        self.err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)

    def __enter__(self) -> Streams:
        self._patches = mock.patch("sys.stdout", self.out), mock.patch("sys.stderr", self.err)
        for patch in self._patches:
            patch.start()
        return self

    def __exit__(self, *_: object) -> None:
        for patch in self._patches:
            patch.stop()

    @property
    def text(self) -> str:
        return "".join(stream.buffer.getvalue().decode("utf-8") for stream in (self.out, self.err))  # type: ignore[attr-defined]


def obeyed(text: str) -> list[str]:
    """Characters that a terminal does not just show."""
    return [c for c in text if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and c != "\n"]


def printed(make: Any) -> str:
    with Streams() as streams:
        make()
    assert obeyed(streams.text) == []
    return streams.text


@FUZZ
@given(NASTY)
def test_words_and_data(text: str) -> None:
    def make() -> None:
        output = Output(json=False)
        output.say(text)
        output.data(text)
        Steps(output)(text, 0.5)
        explain(StateError(text, text, text), json=False)

    printed(make)


@FUZZ
@given(NASTY.filter(lambda text: text.isprintable() or not any("\ud800" <= c <= "\udfff" for c in text)))
def test_json_keeps_its_meaning(text: str) -> None:
    def make() -> None:
        output = Output(json=True)
        output.line({"text": text, text: 1})

    assert json.loads(printed(make)) == {"text": text, text: 1}
    assert json.loads(printed(lambda: Output(json=True).document({"text": text}))) == {"text": text}


@FUZZ
@given(st.lists(st.tuples(NASTY, NASTY), max_size=8))
def test_answers_of_a_model_that_come_in_pieces(pieces: list[tuple[str, str]]) -> None:
    def make() -> None:
        shown = _Shown(Output(json=False))
        for text, reasoning in pieces:
            shown.add(ChatDelta(text=text, reasoning=reasoning))
        shown.end()

    printed(make)


@FUZZ
@given(NASTY, NASTY)
def test_narration(text: str, more: str) -> None:
    def make() -> None:
        output = Output(json=False)
        run = RunInfo(id=text, profile_name=more, model=text, url=more, engine_name=text, engine_version=more)
        narrator = Narrator(run, text, say=output.say, emit=None, interval_s=0.0)
        narrator.begin()
        narrator.event(EventRecord(time_s=1.0, kind="note", text=text))
        diagnosis = Diagnosis(
            title=text,
            why=more,
            remedy=text,
            line=3,
            text=more,
            change=(ProfileChange(key="serve.dtype", before=None, after=text),),
        )
        for state in ServerState:
            status = ServerStatus(
                state=state, phase=Phase.WEIGHTS, phase_detail=text, reason=more, in_flight=3, diagnosis=diagnosis
            )
            narrator.snapshot(
                Snapshot(
                    seq=1,
                    time_s=1.0,
                    status=status,
                    engine=EngineReading(),
                    gpus=(GpuReading(index=0, name=text),),
                    sources=(SourceStatus(name="metrics", error=text),),
                    hints=(Hint(id=text, title=more, evidence=(text,), gain=more, risk=text, change=diagnosis.change),),
                )
            )
        narrator.failure(diagnosis)

    printed(make)


@FUZZ
@given(st.binary(max_size=400))
def test_logs_of_any_bytes(data: bytes) -> None:
    run = runs.create_run("p")
    run.write_info(RunInfo(id=run.id, profile_name="p", state="failed"))
    run.log_path.write_bytes(data)
    for options in ([], ["--json"]):
        printed(lambda options=options: main(["logs", run.id, *options]))
    printed(lambda: main(["status", run.id]))


@FUZZ
@given(NASTY)
def test_profiles_with_any_text(text: str) -> None:
    from console.io import paths

    folder = paths.user_profiles_dir()
    folder.mkdir(parents=True, exist_ok=True)
    value = json.dumps(text.encode("utf-8", "replace").decode()).replace("\\ud", "x").replace("\x7f", "\\u007f")
    (folder / "odd.toml").write_text(
        f"[profile]\ntitle = {value}\ndescription = {value}\nuse = {value}\n"
        f"[model]\nid = 'a/b'\nserved_name = {value}\n[env]\nA = {value}\n",
        encoding="utf-8",
    )
    for command in (["profiles", "list"], ["profiles", "show", "odd"], ["profiles", "check", "odd"]):
        for options in ([], ["--json"]):
            printed(lambda command=command, options=options: main([*command, *options]))
    printed(lambda: main(["--profile", "odd", "--dry-run"]))
    printed(lambda: main(["service", "install", "--profile", "odd", "--dry-run"]))


@FUZZ
@given(NASTY)
def test_what_was_typed_comes_back_clean(text: str) -> None:
    for command in (["status", text], ["--profile", text], [text], ["logs", "--lines", text], ["--set", text]):
        if text:
            printed(lambda command=command: ended(command))


def ended(command: list[str]) -> None:
    """Run a command line. Help and version, which a text may ask for, end the program, and well."""
    try:
        main(command)
    except SystemExit as end:
        if end.code:
            raise


def test_a_run_with_odd_texts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    odd = "\x1b]0;title\x07\x9b2J\u202e\nforged"
    run = runs.create_run("p")
    run.write_info(
        RunInfo(id=run.id, profile_name=odd, model=odd, url=odd, state="failed", reason=odd,
                diagnosis=Diagnosis(title=odd, remedy=odd), argv=(odd,))
    )  # fmt: skip
    for command in (["status"], ["status", "--json"], ["runs", "list"], ["report", "-o", str(tmp_path / "r.tgz")]):
        printed(lambda command=command: main(command))
