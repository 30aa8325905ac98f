"""Colours for one line of code, without a state between lines: cheap, and an answer that streams never changes colour
above its end. Strings over several lines are the price.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["code_spans", "file_ending"]

_KEYWORDS = """
and as async await bool boolean break case catch char class const continue def default defer del do double elif
else enum except export extends false False final finally float fn for from func function global go if impl
import in int interface is lambda let long loop match mod mut new nil None not null or package pass private
protected pub public raise return self Self static str string struct super switch this throw true True try type
typeof use val var void where while with yield then fi done esac echo local exit
"""
KEYWORDS: Final = frozenset(_KEYWORDS.split())
_SQL_KEYWORDS = """
select from where insert into values update set delete create table join left right inner outer on group by
order limit and or not null as having union distinct primary key index
"""
SQL_KEYWORDS: Final = frozenset(_SQL_KEYWORDS.split())
HASH: Final = "#"
COMMENTS: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(
        ("python", "py", "bash", "sh", "shell", "zsh", "yaml", "yml", "toml", "ruby", "rb", "r", "perl", "dockerfile",
         "make", "makefile", "conf", "ini", "console"), ("#",),
    ),
    **dict.fromkeys(
        ("c", "cpp", "c++", "cuda", "java", "javascript", "js", "typescript", "ts", "tsx", "jsx", "go", "rust", "rs",
         "swift", "kotlin", "scala", "csharp", "cs", "php"), ("//",),
    ),
    **dict.fromkeys(("sql", "lua", "haskell", "hs"), ("--",)),
}  # fmt: skip
"""By the language that the fence names; others have no comments."""
PLAIN: Final = frozenset({"", "text", "txt", "plain", "markdown", "md", "diff", "output", "log"})
ENDINGS: Final[dict[str, str]] = {
    "python": "py", "py": "py", "bash": "sh", "sh": "sh", "shell": "sh", "javascript": "js", "js": "js", "ts": "ts",
    "typescript": "ts", "rust": "rs", "go": "go", "c": "c", "cpp": "cpp", "c++": "cpp", "cuda": "cu", "java": "java",
    "json": "json", "yaml": "yaml", "yml": "yaml", "toml": "toml", "sql": "sql", "html": "html", "css": "css",
    "markdown": "md", "md": "md", "diff": "diff",
}  # fmt: skip
LINE_CHARS_MAX: Final = 2_000
"""A longer line is data."""

_TOKEN = re.compile(
    r"""(?P<string>"(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?|`[^`]*`)|(?P<number>\b\d[\w.]*)|(?P<word>[A-Za-z_]\w*)"""
    r"""|(?P<comment>\#|//|--)"""
)


def file_ending(language: str) -> str:
    """How a file of this language ends."""
    return ENDINGS.get(language.lower(), "txt")


def code_spans(text: str, language: str) -> tuple[tuple[str, str], ...]:
    """The line as spans of text and role."""
    language = language.lower()
    if language in PLAIN or len(text) > LINE_CHARS_MAX:
        return ((text, _diff_role(text) if language == "diff" else "code"),)
    comments = COMMENTS.get(language, ())
    out: list[tuple[str, str]] = []
    at = 0
    for token in _TOKEN.finditer(text):
        kind, found = token.lastgroup, token[0]
        if kind == "comment":
            if found not in comments or (found == HASH and token.start() and not text[token.start() - 1].isspace()):
                continue
            _add(out, text[at : token.start()], "code")
            _add(out, text[token.start() :], "muted")
            return tuple(out)
        role = {"string": "ok", "number": "kv"}.get(kind or "", "")
        if kind == "word":
            known = found in KEYWORDS or (language == "sql" and found.lower() in SQL_KEYWORDS)
            role = "accent" if known else ""
        if role:
            _add(out, text[at : token.start()], "code")
            _add(out, found, role)
            at = token.end()
    _add(out, text[at:], "code")
    return tuple(out)


def _add(out: list[tuple[str, str]], text: str, role: str) -> None:
    if text:
        out.append((text, role))


def _diff_role(text: str) -> str:
    return {"+": "ok", "-": "bad", "@": "accent"}.get(text[:1], "code")
