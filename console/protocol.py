"""What a front end and a supervisor say to each other: one JSON object per line over a Unix socket.

A client opens with `Hello`; the supervisor answers `Welcome` or, for another protocol version, an error that says
which side to update. Requests carry an `id` and get one `Reply` each. After `Subscribe` the supervisor pushes
`History` once, then `Pushed` snapshots and events until the line closes.
"""

from __future__ import annotations

from typing import Any

import msgspec

from console.core.models import EventRecord, ProfileChange, RunInfo, Sample, Snapshot

__all__ = [
    "FULL",
    "LINE_BYTES_MAX",
    "PROTOCOL_VERSION",
    "ClientMessage",
    "GroupNews",
    "Happened",
    "Hello",
    "History",
    "Hold",
    "Keep",
    "Postpone",
    "Pushed",
    "Reply",
    "Restart",
    "Revert",
    "RunInfo",
    "ServerMessage",
    "Stop",
    "Subscribe",
    "Try",
    "Welcome",
    "decode_client",
    "decode_server",
    "encode",
]

PROTOCOL_VERSION = 1
LINE_BYTES_MAX = 16 * 1024 * 1024
"""A longer line closes the connection: 2,000 samples with 16 GPUs stay below it."""


FULL = "full"
"""In `Reply.data` where a greeting is refused because too many front ends are attached."""


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    """Base of all messages; the field `type` tells them apart."""


class Hello(Message, frozen=True, kw_only=True, tag="hello"):
    """First line of a client."""

    version: int = PROTOCOL_VERSION
    client: str = ""


class Subscribe(Message, frozen=True, kw_only=True, tag="subscribe"):
    """Ask for history and for everything from now on."""

    id: int
    history_s: float = 300.0
    """A day at most; 0 asks for events alone."""


class Stop(Message, frozen=True, kw_only=True, tag="stop"):
    """Stop the server and, once nothing is left of it, the supervisor."""

    id: int
    drain_timeout_s: float | None = None
    """`None` for the profile's."""


class Restart(Message, frozen=True, kw_only=True, tag="restart"):
    """Stop the server and start it again with the same profile."""

    id: int
    drain_timeout_s: float | None = None


class Postpone(Message, frozen=True, kw_only=True, tag="postpone"):
    """Count idle time from now on, as if a request had come. Refused where the profile sets no idle deadline."""

    id: int


class GroupNews(Message, frozen=True, kw_only=True, tag="group-news"):
    """The head of this machine's group answers `/health`: a machine without an HTTP server learns it so."""

    id: int
    ending: bool = False
    """Or the group stops: the head's end, soon, is no failure."""


class Try(Message, frozen=True, kw_only=True, tag="try"):
    """Restart the server with other settings, for as long as this client holds on to them.

    A client that has a trial may send another one for the next settings. See `console.core.trial` for its ends.
    """

    id: int
    change: tuple[ProfileChange, ...]
    """How they differ from the settings before the trial."""
    spec: dict[str, Any]
    """What to start, as `launch.json` has it."""
    lease_s: float
    drain_timeout_s: float | None = None


class Hold(Message, frozen=True, kw_only=True, tag="hold"):
    """This client is still there; renews the lease of its trial."""

    id: int


class Keep(Message, frozen=True, kw_only=True, tag="keep"):
    """The settings that are tried stay."""

    id: int


class Revert(Message, frozen=True, kw_only=True, tag="revert"):
    """Go back to the settings before the trial."""

    id: int
    why: str = ""


ClientMessage = Hello | Subscribe | Stop | Restart | Postpone | GroupNews | Try | Hold | Keep | Revert


class Welcome(Message, frozen=True, kw_only=True, tag="welcome"):
    """Answer to `Hello`."""

    version: int = PROTOCOL_VERSION
    run: RunInfo


class Reply(Message, frozen=True, kw_only=True, tag="reply"):
    """Answer to one request. `error` is empty when it was accepted."""

    id: int
    error: str = ""
    data: dict[str, Any] = {}


class History(Message, frozen=True, kw_only=True, tag="history"):
    """Samples and events of the past, oldest first.

    Samples are coarser with age and carry of a GPU what a chart shows (see `console.core.sampling`).
    """

    samples: tuple[Sample, ...] = ()
    events: tuple[EventRecord, ...] = ()


class Pushed(Message, frozen=True, kw_only=True, tag="snapshot"):
    """One tick."""

    snapshot: Snapshot


class Happened(Message, frozen=True, kw_only=True, tag="event"):
    """Something that happened, once."""

    event: EventRecord


ServerMessage = Welcome | Reply | History | Pushed | Happened

_encoder = msgspec.json.Encoder()
_client_decoder: msgspec.json.Decoder[ClientMessage] = msgspec.json.Decoder(ClientMessage)
_server_decoder: msgspec.json.Decoder[ServerMessage] = msgspec.json.Decoder(ServerMessage)


def encode(message: ClientMessage | ServerMessage) -> bytes:
    """One line with its newline."""
    return _encoder.encode(message) + b"\n"


def decode_client(line: bytes) -> ClientMessage:
    """Read a client's line.

    Raises:
        msgspec.DecodeError: it is no message of this protocol (`msgspec.ValidationError` is one of its kind).
    """
    return _client_decoder.decode(line)


def decode_server(line: bytes) -> ServerMessage:
    """Read a supervisor's line.

    Raises:
        msgspec.DecodeError: it is no message of this protocol.
    """
    return _server_decoder.decode(line)
