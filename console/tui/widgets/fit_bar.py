"""Memory of one GPU under a profile, as a bar of weights, KV cache, reserve and what stays free."""

from __future__ import annotations

from console.client.api import FitSummary
from console.tui import fmt
from console.tui.glyphs import UNKNOWN
from console.tui.paint import Line, Span, line, wrapped

__all__ = ["BAR_WIDTH", "VERDICT_ROLES", "bar_line", "fit_lines", "verdict"]

BAR_WIDTH = 72
"""A longer bar tells no more."""

VERDICT_ROLES: dict[str, tuple[str, str]] = {
    "fits": ("●", "ok"),
    "tight": ("▲", "warn"),
    "does not fit": ("✖", "bad"),
    "unknown": ("○", "muted"),
}
PARTS: tuple[tuple[str, str, str, str], ...] = (
    ("weights", "weights_gib_per_gpu", "█", "fill"),
    ("KV", "kv_gib_per_gpu", "▓", "kv"),
    ("reserve", "reserve_gib_per_gpu", "▒", "muted"),
)
"""Name, field, glyph, role: told apart without colour too."""


def verdict(fit: FitSummary) -> Span:
    """The verdict in words, with its role."""
    return (fit.verdict, VERDICT_ROLES.get(fit.verdict, ("○", "muted"))[1])


def _gib(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.0f}" if value >= 9.95 else f"{value:.1f}"


def bar_line(fit: FitSummary, width: int) -> Line:
    """The bar alone, in `width` cells; empty where the memory is not known."""
    parts = [(getattr(fit, field), glyph, role) for _, field, glyph, role in PARTS]
    total, used = fit.total_gib_per_gpu, sum(value for value, _, _ in parts if value is not None)
    if not total:
        return ()
    scale = width / max(total, used)
    spans: list[Span] = []
    cells = 0
    for value, glyph, role in parts:
        size = min(round((value or 0) * scale), width - cells)
        if value:
            size = max(size, 1) if cells < width else 0
        spans.append((glyph * size, role))
        cells += size
    return line(*spans, ("░" * (width - cells), "faint"))


def fit_lines(fit: FitSummary, width: int, hardware: str, here: bool, machine: str = "") -> list[Line]:
    """Bar, legend with numbers, and the basis of each figure.

    Args:
        hardware: what the verdict is about: `4 × H200`.
        here: the machine has it; if not, the verdict is not about that machine and says so.
        machine: its name, where it is not this one.
    """
    glyph, role = VERDICT_ROLES.get(fit.verdict, ("○", "muted")) if here else ("○", "muted")
    total = fit.total_gib_per_gpu
    host = hardware == "CPU"
    place = f"on {machine}" if machine else "here"
    judged = f"{fit.verdict} on {hardware}" if here else f"on {hardware}, not {place}: {fit.verdict}"
    judged = fit.verdict if host else judged
    head: list[Span] = [(f"{glyph} {judged}", role)]
    if fit.kv_tokens is not None:
        head.append((f"   KV cache holds {fmt.count(fit.kv_tokens)} tokens", "text"))
    if fit.kv_bytes_per_token is not None:
        head.append((f" at {fmt.count(fit.kv_bytes_per_token)}B each", "muted"))
    out = [line(*head)]
    if fit.max_concurrency is not None and fit.context:
        each = f" in each of {fit.engines} engines" if fit.engines > 1 else ""
        longest = f"   longest context {fit.max_context:,}" if fit.max_context else ""
        at_once = f"{fit.max_concurrency:,.1f}" if fit.max_concurrency < 100 else f"{fit.max_concurrency:,.0f}"
        out.append(line((f"  {at_once} requests of {fit.context:,} tokens at once{each}{longest}", "muted")))
    if fit.measured:
        out += wrapped(fit.measured, width, "ok", (("✓ ", "ok"),))
    known = [(n, getattr(fit, f), g, r) for n, f, g, r in PARTS]
    used = sum(v for _, v, _, _ in known if v is not None)
    if total:
        out.append(bar_line(fit, min(width, BAR_WIDTH)))
    if total or used:
        legend: list[Span] = []
        for name, value, part_glyph, part_role in known:
            legend += [(part_glyph, part_role), (f" {name} ", "muted"), (f"{_gib(value)}  ", "text")]
        if total:
            left = total - used
            words = ("░", " free ") if left >= 0 else ("✖", " missing ")
            legend += [(words[0], "muted" if left >= 0 else "bad"), (words[1], "muted"), (_gib(abs(left)), "text")]
            legend.append((f"  of {_gib(total)} GiB{'' if host else ' per GPU'}", "muted"))
        out.append(line(*legend))
    for basis in fit.basis:
        out += wrapped(basis, width, "muted", (("· ", "faint"),))
    return out
