"""Which vLLM versions' own argument parsers have read the shipped profiles' commands.

A test runs each of these parsers over each command that the profile's version range admits. A version that is not
here was not checked, and a profile says so where it is shown.
"""

from __future__ import annotations

from console.core import versions
from console.core.profile import EngineKind, Profile

__all__ = ["PARSED_BY", "parser_note"]

PARSED_BY: tuple[str, ...] = ("0.25.0", "0.28.0", "0.30.0", "0.32.0", "0.33.0")
"""The lower ends of the shipped profiles' ranges, the versions at which flags came or went, and the newest."""


def parser_note(profile: Profile, *, shipped: bool) -> str:
    """Which parsers have read this profile's command, in a sentence.

    Args:
        shipped: it is the shipped file, unchanged; nobody has checked anything else.
    """
    if not shipped:
        return "not checked against vLLM's own parser: it is yours, or changed"
    inside = [version for version in PARSED_BY if versions.satisfies(version, profile.engine.vllm)]
    if not inside:
        return f"not checked: vLLM {profile.engine.vllm} has no version whose parser could be tried"
    text = f"read by the parsers of vLLM {', '.join(inside)}; other versions of {profile.engine.vllm} not checked"
    if profile.engine.kind is EngineKind.ROCM:
        text += "; nor is AMD's nightly image, whose version moves"
    return text
