"""What this console and the far end on another machine say to each other: one JSON object per line.

The far end opens with `Ready`. Each `Call` names a method of `Backend` or of `FarFiles`; its arguments and its result
are encoded as that method's signature says, so that a method added there is a call here. A parameter that is a
function stays here: what the far end would pass to it comes as `Told`, or as `Asked` where it waits for an answer.
"""

from __future__ import annotations

import typing
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec

from console import __version__
from console.client.api import Attempt, Backend, LaunchPlan
from console.core import errors
from console.core.errors import ConsoleError, RemoteError
from console.core.models import RunInfo
from console.core.snooze import Snooze

__all__ = [
    "FAR_VERSION",
    "LINE_BYTES_MAX",
    "SILENCE_S",
    "Answer",
    "Asked",
    "Call",
    "Cancel",
    "Failure",
    "FarFiles",
    "FromFar",
    "Here",
    "LogPiece",
    "Reach",
    "Ready",
    "Result",
    "Signature",
    "ToFar",
    "Told",
    "encode",
    "encode_value",
    "error_of",
    "failure_of",
    "from_far",
    "signature",
    "to_far",
    "value_of",
]

FAR_VERSION = 1
"""Of this protocol. Both sides must have the same."""
LINE_BYTES_MAX = 64 * 1024 * 1024
SILENCE_S = 60.0
"""A far end that hears nothing for so long takes the line for broken, and ends what it does for it."""


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    """Base of all messages."""


class Call(Message, frozen=True, kw_only=True, tag="call"):
    """Do this. Answered by one `Result` or `Failure` of the same id."""

    id: int
    name: str
    arguments: dict[str, msgspec.Raw] = {}
    listens: tuple[str, ...] = ()
    """Parameters that are functions here."""


class Cancel(Message, frozen=True, kw_only=True, tag="cancel"):
    """Give a call up."""

    id: int


class Answer(Message, frozen=True, kw_only=True, tag="answer"):
    """To what was `Asked`."""

    number: int
    value: msgspec.Raw


class Here(Message, frozen=True, kw_only=True, tag="here"):
    """Somebody is still there (see `SILENCE_S`)."""


ToFar = Call | Cancel | Answer | Here


class Ready(Message, frozen=True, kw_only=True, tag="ready"):
    """The far end's first line."""

    protocol: int = FAR_VERSION
    version: str = __version__
    """Of the program there."""


class Result(Message, frozen=True, kw_only=True, tag="result"):
    """A call is done."""

    id: int
    value: msgspec.Raw


class Failure(Message, frozen=True, kw_only=True, tag="failure"):
    """A call was not done."""

    id: int
    kind: str
    """Class of the error in `console.core.errors`; empty for a defect."""
    title: str
    message: str = ""
    fix: str = ""


class Told(Message, frozen=True, kw_only=True, tag="told"):
    """What the far end would pass to a function of the caller."""

    id: int
    name: str
    value: msgspec.Raw


class Asked(Message, frozen=True, kw_only=True, tag="asked"):
    """The same, and it waits for what that function gives."""

    id: int
    name: str
    number: int
    value: msgspec.Raw


FromFar = Ready | Result | Failure | Told | Asked


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """How to attach to a run there."""

    run: RunInfo
    socket: str
    """Path of the supervisor's socket, short enough for an address."""
    log: str
    """Path of the log."""
    snoozes: tuple[Snooze, ...] = ()
    api_key: str = ""
    """`VLLM_API_KEY` there, with which the server was started; kept in memory alone."""


class LogPiece(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of a run's log: whole lines, without the secrets that are known there."""

    first_byte: int
    """Where it begins; later than asked for where the log no longer has what was before."""
    end_byte: int
    """Where the next one begins."""
    lines_before: int = 0
    """Lines before `first_byte`, where that is later than asked for."""
    packed: bytes = b""
    """The lines, packed by zlib; empty if there are none yet."""


class FarFiles(Protocol):
    """What the far end does besides the methods of `Backend`, in place of those that give a session."""

    async def reach(self, run_id: str) -> Reach:
        """As `Backend.attach`."""
        ...

    async def start(self, plan: LaunchPlan) -> Reach:
        """As `Backend.launch`."""
        ...

    async def find(self, name: str) -> str:
        """Id of the run with this id or of this profile."""
        ...

    async def log(self, run_id: str, first_byte: int, wait_s: float) -> LogPiece:
        """The log from this byte on; waits so long for a line."""
        ...

    async def snooze(self, run_id: str, new: Snooze) -> tuple[Snooze, ...]:
        """As `Session.snooze`."""
        ...

    async def wake(self, run_id: str, hint: str) -> tuple[Snooze, ...]:
        """As `Session.wake`."""
        ...


class Signature(NamedTuple):
    """How to encode a call."""

    plain: dict[str, Any]
    """Types of the parameters that are values."""
    functions: dict[str, tuple[Any, Any]]
    """Of those that are functions: type of their parameter, and of the answer that is waited for, or `None`."""
    result: Any


@cache
def signature(name: str) -> Signature:
    """Of a call, by the method that it names.

    Raises:
        RemoteError: there is no such call.
    """
    from console.core.tune_report import Agree, Step, TuneReport

    owner = next((each for each in (FarFiles, Backend) if hasattr(each, name)), None)
    if owner is None or name.startswith("_") or name in ("attach", "launch"):
        raise RemoteError("The far end does not know this call", name, "Update dsv4-console on both machines.")
    names = {"Attempt": Attempt, "Agree": Agree, "Step": Step, "TuneReport": TuneReport}
    hints = typing.get_type_hints(getattr(owner, name), localns=names)
    result = hints.pop("return")
    functions = {key: found for key, kind in hints.items() if (found := _function(kind)) is not None}
    return Signature({key: kind for key, kind in hints.items() if key not in functions}, functions, result)


def _function(kind: Any) -> tuple[Any, Any] | None:
    """Types of parameter and answer of a function type, or of one or `None`."""
    for each in (kind, *typing.get_args(kind)):
        if typing.get_origin(each) is Callable:
            (parameter,), answer = typing.get_args(each)
            awaited = typing.get_args(answer)[0] if typing.get_origin(answer) is Awaitable else None
            return parameter, awaited
    return None


def _encode_other(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(f"{type(value).__name__} is no value that can be sent")


def _decode_other(kind: type, value: Any) -> Any:
    if issubclass(kind, Path):
        return Path(value)
    raise NotImplementedError(f"{kind.__name__} is no value that can be sent")


_encoder = msgspec.json.Encoder(enc_hook=_encode_other)
_to_far: msgspec.json.Decoder[ToFar] = msgspec.json.Decoder(ToFar)
_from_far: msgspec.json.Decoder[FromFar] = msgspec.json.Decoder(FromFar)


def encode(message: ToFar | FromFar) -> bytes:
    """One line with its newline."""
    return _encoder.encode(message) + b"\n"


def to_far(line: bytes) -> ToFar:
    """Read a line of this side. Raises msgspec.DecodeError."""
    return _to_far.decode(line)


def from_far(line: bytes) -> FromFar:
    """Read a line of the far end. Raises msgspec.DecodeError."""
    return _from_far.decode(line)


def encode_value(value: Any) -> msgspec.Raw:
    """One argument, result, or what a function is told."""
    return msgspec.Raw(_encoder.encode(value))


def value_of(raw: msgspec.Raw, kind: Any) -> Any:
    """The same, back again. Raises msgspec.DecodeError."""
    return msgspec.json.decode(raw, type=kind, dec_hook=_decode_other)


def failure_of(number: int, error: Exception) -> Failure:
    """An error as a message."""
    if isinstance(error, ConsoleError):
        kind = type(error).__name__
        return Failure(id=number, kind=kind, title=error.title, message=error.message, fix=error.fix)
    return Failure(id=number, kind="", title=f"{type(error).__name__}: {error}")


def error_of(failure: Failure, host: str) -> ConsoleError:
    """A message as the error that it was there."""
    kind = getattr(errors, failure.kind, None) if failure.kind else None
    if isinstance(kind, type) and issubclass(kind, ConsoleError):
        return kind(failure.title, failure.message, failure.fix)
    return RemoteError(f"dsv4-console failed on {host}", failure.title, "Report this defect.")
