"""What a refused launch is told: title, message and fix, the same for every front end."""

from __future__ import annotations

from collections.abc import Sequence

from console.core.preflight.report import Check, Override

__all__ = ["blocked_words"]

_LIFTED: dict[Override, str] = {
    Override.FORCE: "To launch all the same: --force",
    Override.PUBLIC: "",  # its remedy names the option; it is not offered twice
    Override.NONE: "",
}


def blocked_words(held: Sequence[Check]) -> tuple[str, str, str]:
    """Title, message and fix for the checks that hold a launch back, of which there is at least one."""
    first = held[0]
    title = f"Not launched: {first.text}" if len(held) == 1 else f"Not launched: {len(held)} checks block it"
    message = first.consequence if len(held) == 1 else "\n".join(f"{each.title}: {each.consequence}" for each in held)
    # One check that no --force lifts makes the offer empty.
    same = {each.override for each in held}
    lifted = _LIFTED[first.override] if len(same) == 1 else ""
    remedy = first.remedy if len(held) == 1 else "See the remedies above."
    return title, message, " ".join(filter(None, (remedy, lifted)))
