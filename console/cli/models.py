"""`dsv4-console models`: the models compared, their published speed, and the hardware that cannot serve them."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterable, Sequence

import msgspec

from console.cli.output import Output
from console.core.catalogue.models import MODELS, NOT_SERVED, Model, Size
from console.core.catalogue.speeds import SPEEDS, Kind, Measurement, Speed, measured_beside
from console.core.errors import ExitCode
from console.core.profile import Evidence
from console.io import profiles
from console.io.measured import measurements

__all__ = ["models"]

WIDTH = 80
"""Of the text, as the smallest terminal that is served."""
COLUMNS = (20, 19, 15, 8)


def models(_arguments: argparse.Namespace, output: Output) -> int:
    """Print the comparison."""
    stored = profiles.discover().profiles
    by_model = {
        model.name: [entry.name for entry in stored if entry.profile.model.architecture in model.architectures]
        for model in MODELS
    }
    measured = measurements()
    for line in (*_comparison(by_model), "", *_speeds(measured), "", *_not_served()):
        output.data(line)
    output.document(
        {
            "models": [{**msgspec.to_builtins(model), "profiles": by_model[model.name]} for model in MODELS],
            "speeds": [
                {**msgspec.to_builtins(speed), "measured": msgspec.to_builtins(measured_beside(speed, measured))}
                for speed in SPEEDS
            ],
            "measured": msgspec.to_builtins(measured),
            "not_served": msgspec.to_builtins(NOT_SERVED),
        }
    )
    return ExitCode.OK


def _comparison(by_model: dict[str, list[str]]) -> Iterable[str]:
    yield _cells(("model", "parameters", "active", "context"), "licence")
    for model in MODELS:
        context = f"{model.context // 1024:,}K" if model.context < 2**20 else f"{model.context / 2**20:g}M"
        yield _cells(
            (model.name, model.total, model.active, context), model.licence.partition(",")[0].partition(" from")[0]
        )
    for model in MODELS:
        yield ""
        yield from _about(model, by_model[model.name])


def _about(model: Model, names: Sequence[str]) -> Iterable[str]:
    yield model.name
    yield from _labelled("best for", model.best_for)
    yield from _labelled("on disk", "; ".join(_size(size) for size in model.disk))
    yield from _labelled("licence", model.licence)
    yield from _labelled("profiles", "  ".join(names) or "none")
    yield from _labelled("source", model.source)


def _size(size: Size) -> str:
    derived = " (derived)" if size.evidence is Evidence.DERIVED else ""
    return f"{size.gb:g} GB {size.build}{derived}"


def _speeds(measured: Sequence[Measurement]) -> Iterable[str]:
    yield "Speed, as others published it (engines, checkpoints and loads differ)"
    for speed in SPEEDS:
        if speed.kind is Kind.PUBLISHED:
            yield from _speed(speed, measured)
    yield ""
    yield "Projections, computed before the release and never measured"
    for speed in SPEEDS:
        if speed.kind is Kind.PROJECTION:
            yield from _speed(speed, measured)
    yield ""
    yield "Measured here (best minute of a run)"
    for row in measured:
        yield f"  {row.hardware:<10} {row.profile}  {row.tokens_per_s:,.0f} tok/s  {row.engine}  {row.date}"
    if not measured:
        yield "  nothing yet: a run that is busy for a minute is measured"


def _speed(speed: Speed, measured: Sequence[Measurement]) -> Iterable[str]:
    figures = [] if speed.tokens_per_s is None else [f"{speed.tokens_per_s:,.0f} tok/s"]
    figures += [] if speed.ttft_ms is None else [f"first token {speed.ttft_ms / 1000:.1f} s"]
    figures += [speed.note] if speed.note else []
    yield from _wrapped(f"{speed.model}, {speed.engine}, {speed.load}", " " * 13, f"  {speed.hardware:<10} ")
    texts = ["; ".join(figures)]
    if speed.kind is Kind.PROJECTION:
        texts[0] += " (projection)"
    if (row := measured_beside(speed, measured)) is not None:
        texts.append(f"measured here: {row.tokens_per_s:,.0f} tok/s with {row.profile}, {row.engine}, {row.date}")
    texts.append(speed.source)
    for text in texts:
        yield from _wrapped(text, " " * 13)


def _not_served() -> Iterable[str]:
    yield "Not served"
    for row in NOT_SERVED:
        yield f"  {row.model} on {row.hardware}"
        yield from _wrapped(row.reason + (f"; instead: {row.instead}" if row.instead else ""), " " * 4)
        yield from _wrapped(row.source, " " * 4)


def _cells(cells: Sequence[str], last: str) -> str:
    return "".join(f"{cell:<{width}}" for cell, width in zip(cells, COLUMNS, strict=True)) + last


def _labelled(label: str, text: str) -> list[str]:
    return _wrapped(text, " " * 11, f"  {label:<9}")


def _wrapped(text: str, indent: str, first: str | None = None) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=indent if first is None else first,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )
