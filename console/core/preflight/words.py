"""What a refused launch is told: title, message and fix of its error."""

from __future__ import annotations

from collections.abc import Sequence

from console.core.preflight.report import Check, Override

__all__ = ["blocked_words"]


def blocked_words(held: Sequence[Check]) -> tuple[str, str, str]:
    """Title, message and fix for the checks that hold a launch back, of which there is at least one."""
    title = "Not launched: " + ", ".join(each.title for each in held)
    offer = "To launch all the same: --force" if all(each.override is Override.FORCE for each in held) else ""
    if len(held) == 1:
        (only,) = held
        message = "\n".join(filter(None, (only.text, *only.figures, only.consequence)))
        return title, message, " ".join(filter(None, (_sentence(only.remedy), offer)))
    lines = []
    for each in held:
        lines += [f"{each.title}: {each.text}", *(f"    {figure}" for figure in each.figures)]
        lines += [f"    {each.consequence}"] if each.consequence else []
        lines += [f"    → {each.remedy}"] if each.remedy else []
    return title, "\n".join(lines), offer or "See the remedies above."


def _sentence(text: str) -> str:
    return f"{text}." if text and text[-1] not in ".!?)" and " " in text else text
