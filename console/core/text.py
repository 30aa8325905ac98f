"""Makes text from the log, the model or the environment safe to show: no escape sequences, no secrets.

Separate because every text that this program did not write itself must pass through one tested place before it
reaches a terminal. The grammar of escape sequences is that of ECMA-48, with xterm's additions (OSC ended by BEL).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, overload

__all__ = [
    "HIDDEN",
    "LINE_CHARS_MAX",
    "SECRET_CHARS_MIN",
    "Redactor",
    "StreamCleaner",
    "clean",
    "is_secret_name",
    "redact",
    "redact_argv",
    "truncate_line",
]

LINE_CHARS_MAX: Final = 4096
"""Characters kept of one line."""
SEQUENCE_CHARS_MAX: Final = 4096
"""Longest body of an escape sequence that is swallowed; what follows is shown as text."""
HIDDEN: Final = "•••"
SECRET_CHARS_MIN: Final = 4
"""A shorter known secret is not looked for in text: it would hide half of every line."""

_TAB = "    "
_BODY = rf"[^\x07\x1b\x9c\r\n]{{0,{SEQUENCE_CHARS_MAX}}}"
_PARAMETERS = r"[\x30-\x3f]{0,256}[\x20-\x2f]{0,16}"
_STRING = rf"(?:\x1b[\]PX^_]|[\x90\x98\x9d\x9e\x9f]){_BODY}"
_SEQUENCE = re.compile(
    rf"{_STRING}(?:\x07|\x1b\\|\x9c)?"
    rf"|(?:\x1b\[|\x9b){_PARAMETERS}[\x40-\x7e]?"
    r"|\x1b[\x20-\x2f]{0,16}[\x30-\x7e]?"
    r"|[\x80-\x84\x86-\x9f]"
)
"""In this order: control strings (OSC, DCS, SOS, PM, APC), CSI, other escapes, other 8-bit controls."""
_UNFINISHED = re.compile(rf"(?:{_STRING}\x1b?|(?:\x1b\[|\x9b){_PARAMETERS}|\x1b[\x20-\x2f]{{0,16}}|\r)\Z")
_LINE_END = re.compile(r"\r\n|[\r\n\x0b\x0c\x85\u2028\u2029]")


class _Visible(dict[int, str | None]):
    """For `str.translate`: what is shown for a character that `str.isprintable` rejects."""

    def __missing__(self, code: int) -> str | None:
        if code < 0x20:
            return chr(0x2400 + code)
        category = unicodedata.category(chr(code))
        if category == "Cf":
            return None
        if category in ("Cc", "Cs"):
            return "\ufffd"
        return chr(code)


_VISIBLE = _Visible({0x0A: "\n", 0x7F: "␡"})
_VISIBLE_TABS = _Visible({0x09: "\t", 0x0A: "\n", 0x7F: "␡"})


def clean(text: str, *, keep_newlines: bool = False, keep_tabs: bool = False) -> str:
    """Text that a terminal shows as text, whatever it held.

    Escape sequences are removed, finished or not; tabs become four spaces; other control characters become
    visible signs; bidi controls, zero-width and other format characters are removed; lone surrogates become `�`.
    Line ends become one space, or with `keep_newlines` a newline. Cleaning twice changes nothing. `keep_tabs` is for
    text that is kept and copied; whoever paints it expands them.
    """
    if text.isprintable():
        return text
    text = _SEQUENCE.sub("", text)
    text = _LINE_END.sub("\n" if keep_newlines else " ", text if keep_tabs else text.replace("\t", _TAB))
    return text if text.isprintable() else text.translate(_VISIBLE_TABS if keep_tabs else _VISIBLE)


class StreamCleaner:
    """Cleans text that comes in pieces, where a piece may end inside an escape sequence.

    All pieces together give what `clean` gives for the whole text. An unfinished sequence is held back, which
    `SEQUENCE_CHARS_MAX` bounds.
    """

    def __init__(self, *, keep_newlines: bool = True, keep_tabs: bool = False) -> None:
        self._keep_newlines = keep_newlines
        self._keep_tabs = keep_tabs
        self._held = ""

    def feed(self, piece: str) -> str:
        """What can be shown now."""
        text = self._held + piece
        self._held = ""
        if text.isprintable():
            return text
        end = self._settled(text)
        self._held = text[end:]
        return clean(text[:end], keep_newlines=self._keep_newlines, keep_tabs=self._keep_tabs)

    def flush(self) -> str:
        """What was held back. Call it once, at the end."""
        held, self._held = self._held, ""
        return clean(held, keep_newlines=self._keep_newlines, keep_tabs=self._keep_tabs)

    @staticmethod
    def _settled(text: str) -> int:
        """Where the sequence begins that the end of `text` cuts off, or its length."""
        if text.endswith("\r"):
            return len(text) - 1
        for found in _SEQUENCE.finditer(text):
            if found.end() == len(text) and _UNFINISHED.match(text, found.start()):
                return found.start()
        return len(text)


def truncate_line(text: str, chars_max: int = LINE_CHARS_MAX, *, already_cut: int = 0) -> str:
    """The line, or its first `chars_max` characters and how much was cut.

    Args:
        text: one line.
        chars_max: characters kept.
        already_cut: characters or bytes that were dropped before; they are counted in.
    """
    cut = max(0, len(text) - chars_max) + already_cut
    return f"{text[:chars_max]} … [{cut:,} cut]" if cut else text


_SECRET_NAME = re.compile(
    r"(?:(?<![A-Z])(?:API|ACCESS|PRIVATE|SECRET)?KEYS?|TOKEN|SECRETS?|PASSWORDS?|PASSWD|PASSPHRASE|CREDENTIALS?)(?![A-Z])",
    re.IGNORECASE,
)
"""A whole word, or its end (`HFTOKEN`); not `MONKEY`, `TOKENS` or `TOKENIZERS`."""
_QUOTED = r"""(?:"[^"]*"|'[^']*')"""
_SECRET_TEXT: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\b(?:hf_[A-Za-z0-9]{12,}|sk-[A-Za-z0-9_-]{16,}|gh[oprsu]_[A-Za-z0-9]{16,})"), HIDDEN),
    (re.compile(rf"(--(?:api|hf)[-_](?:key|token)(?:=|\s+))(?:{_QUOTED}|[^\s'\"]+)", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"(\bBearer\s+)[^\s'\"]+", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s/:@]*:)[^\s/@]+(?=@)", re.IGNORECASE), rf"\1{HIDDEN}"),
    (
        re.compile(
            rf"(\b[A-Za-z_][A-Za-z0-9_]*?(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD)=)(?:{_QUOTED}|[^\s'\"]+)",
            re.IGNORECASE,
        ),
        rf"\1{HIDDEN}",
    ),
    (
        re.compile(
            r"""((?:"|')(?:api_key|hf_token|token|password|secret)(?:"|')\s*:\s*)(?:"[^"]*"|'[^']*'|\[[^\]]*\])""",
            re.IGNORECASE,
        ),
        rf"\1'{HIDDEN}'",
    ),
)


_TELLTALES: Final = (
    "hf_", "sk-", "gho_", "ghp_", "ghr_", "ghs_", "ghu_", "key", "bearer", "://", "secret", "passw",
    "-token", "_token", "token=", "token'", 'token"',
)  # fmt: skip
"""What at least one of `_SECRET_TEXT` needs, in small letters."""


def is_secret_name(name: str) -> bool:
    """Whether an environment variable or flag of this name holds a secret, as far as its name tells."""
    return _SECRET_NAME.search(name) is not None


@overload
def redact(value: str, secrets: Iterable[str] = ()) -> str: ...
@overload
def redact(value: Mapping[str, str], secrets: Iterable[str] = ()) -> dict[str, str]: ...
def redact(value: str | Mapping[str, str], secrets: Iterable[str] = ()) -> str | dict[str, str]:
    """The text, or the environment, with secrets as `•••`.

    Args:
        value: text, or environment variables.
        secrets: values known to be secret, wherever they stand.
    """
    known = sorted({secret for secret in secrets if len(secret) >= SECRET_CHARS_MIN}, key=len, reverse=True)
    if isinstance(value, str):
        return _redact_text(value, known)
    return {
        name: HIDDEN if text and is_secret_name(name) else _redact_text(text, known) for name, text in value.items()
    }


def _redact_text(text: str, known: Sequence[str]) -> str:
    for secret in known:
        text = text.replace(secret, HIDDEN)
    for pattern, shown in _SECRET_TEXT:
        text = pattern.sub(shown, text)
    return text


class Redactor:
    """`redact` for many lines: most of them have nothing to hide, which one look tells.

    Args:
        secrets: values known to be secret.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._known = sorted({secret for secret in secrets if len(secret) >= SECRET_CHARS_MIN}, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """The text with `•••` for secrets."""
        folded = text.casefold()
        for part in _TELLTALES:
            if part in folded:
                return _redact_text(text, self._known)
        for secret in self._known:
            if secret in text:
                return _redact_text(text, self._known)
        return text


def redact_argv(argv: Iterable[str], secrets: Iterable[str] = ()) -> tuple[str, ...]:
    """A command's arguments with the values of secret flags as `•••` (`--api-key` takes several values)."""
    shown: list[str] = []
    known = tuple(secrets)
    hiding = False
    for argument in argv:
        if argument.startswith("-"):
            name, equals, _ = argument.partition("=")
            secret = is_secret_name(name)
            hiding = secret and not equals
            shown.append(f"{name}={HIDDEN}" if secret and equals else redact(argument, known))
        else:
            shown.append(HIDDEN if hiding else redact(argument, known))
    return tuple(shown)
