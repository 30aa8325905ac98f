"""vLLM versions and ranges of them, as Python requirements write them (PEP 440).

Separate because profiles, engines and messages must agree on what `>=0.25,<0.34` means: local parts (`+cpu`) count
only where the range names one, and pre-releases and nightlies count as what they are, since whoever installed one
meant it.
"""

from __future__ import annotations

from collections.abc import Iterable

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

__all__ = ["build", "newest_first", "normal", "range_error", "satisfies", "sort_key", "suggest"]


def range_error(text: str) -> str | None:
    """Why `text` is no version range, or `None` if it is one. An empty range allows every version."""
    try:
        SpecifierSet(text)
    except InvalidSpecifier:
        return f"{text!r} is no version range; write it like `>=0.25,<0.34`"
    return None


def satisfies(version: str, allowed: str) -> bool:
    """Whether `version` lies in the range `allowed`. What cannot be read as a version lies in no range but the empty.

    Raises:
        ValueError: `allowed` is no range.
    """
    specifiers = SpecifierSet(allowed)
    if not allowed.strip():
        return True
    parsed = _parse(version)
    return parsed is not None and specifiers.contains(parsed, prereleases=True)


def sort_key(version: str) -> tuple[bool, Version]:
    """For sorting from oldest to newest; what cannot be read as a version comes before all that can."""
    parsed = _parse(version)
    return (parsed is not None, parsed or Version("0"))


def newest_first(versions: Iterable[str]) -> list[str]:
    """Versions from newest to oldest; what cannot be read as one comes last."""
    return sorted(versions, key=sort_key, reverse=True)


def normal(text: str) -> str | None:
    """The usual spelling of one version (`v0.33` becomes `0.33`), or `None` if it is none."""
    parsed = _parse(text)
    return None if parsed is None else str(parsed)


def build(version: str) -> str:
    """Which build this is: `cpu`, `rocm` or `cuda`, by the local part that vLLM's builds carry (`+cpu`, `+rocm700`)."""
    parsed = _parse(version)
    local = (parsed.local or "") if parsed else version
    return next((name for name in ("cpu", "rocm") if name in local), "cuda")


def suggest(allowed: str, default: str) -> str | None:
    """A version to install for the range `allowed`: `default` if it fits, else the newest one that the range names.

    `None` if the range names none that it allows itself (`<0.30`).

    Raises:
        ValueError: `allowed` is no range.
    """
    if satisfies(default, allowed):
        return default
    named = (specifier.version.removesuffix(".*") for specifier in SpecifierSet(allowed))
    fitting = newest_first(_three_parts(text) for text in named if _parse(text))
    return next((text for text in fitting if satisfies(text, allowed)), None)


def _parse(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


def _three_parts(text: str) -> str:
    """vLLM names its releases with three numbers: `0.30` is released as `0.30.0`."""
    missing = 3 - len(Version(text).release)
    return text + ".0" * missing if missing > 0 and text == Version(text).base_version else text
