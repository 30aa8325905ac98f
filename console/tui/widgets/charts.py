"""Which charts the overview shows: pairs of them, one pair at a time, `m` goes on. A pair is a row of `PAIRS`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from console.core.happenings import marks
from console.core.models import EventRecord
from console.tui import fmt
from console.tui.model import RunModel
from console.tui.widgets.chart import ChartData

__all__ = ["KV_WARN_PERCENT", "PAIRS", "stale_text"]

KV_WARN_PERCENT = 90.0
"""From here on vLLM soon has to make requests wait or preempt them."""

Maker = Callable[[RunModel], ChartData]


def stale_text(model: RunModel, name: str) -> str:
    """How old the figures of this source are, if they cannot be trusted now."""
    source = model.stale(name)
    if source is None:
        return ""
    if source.age_s is None:
        # Of a watched endpoint it is known that there will be none.
        return source.error if model.refusal and source.error else "no answer yet"
    return f"{fmt.duration(source.age_s)} old"


def chart(
    model: RunModel, series: str, title: str, text: Callable[[float | None], str], source: str, **more: Any
) -> ChartData:
    """One series of the model as a chart with the marks of what happened."""
    track = model.series[series]
    latest, warn = track.latest, more.get("warn")

    def happened(count: int) -> Sequence[EventRecord | None]:
        return marks(tuple(model.events), model.now, model.zoom.span_s, count)

    return ChartData(
        title=title,
        figure=text(latest),
        hot=warn is not None and latest is not None and latest >= warn,
        values=lambda count: track.columns(model.zoom, model.now, count),
        zoom=model.zoom,
        stale=stale_text(model, source),
        marks=happened,
        chosen=model.chosen,
        now_s=model.now,
        **more,
    )


def _gpu(model: RunModel) -> ChartData:
    gpus = model.snapshot.gpus if model.snapshot else None
    if not gpus:
        return chart(model, "cpu", "Host CPU", fmt.percent, "host", note="no GPU")
    name = next((g.name for g in gpus if g.name), "GPU")
    note = f"mean of {len(gpus)} × {name}" if len(gpus) > 1 else name
    return chart(model, "gpu", "GPU util", fmt.percent, "gpu", note=note)


def _kv(model: RunModel) -> ChartData:
    engine = model.snapshot.engine if model.snapshot else None
    tokens = f"{fmt.count(engine.kv_cache_tokens)} tokens" if engine and engine.kv_cache_tokens else ""
    more: dict[str, Any] = {"role": "kv", "warn": KV_WARN_PERCENT, "limit": f"{KV_WARN_PERCENT:.0f}%", "note": tokens}
    return chart(model, "kv", "KV cache", fmt.percent, "metrics", **more)


def _target(target: float | None, text: Callable[[float | None], str], unit: str) -> dict[str, Any]:
    if target is None:
        return {"note": f"no target set  in {unit}"}
    return {"warn": target, "limit": f"target {text(target)}", "note": f"in {unit}"}


def _seconds(value: float | None) -> str:
    return fmt.latency(value)


def _millis(value: float | None) -> str:
    return fmt.latency(None if value is None else value / 1000)


def _ttft(model: RunModel) -> ChartData:
    return chart(
        model, "ttft", "TTFT p95", _seconds, "metrics", top=None, **_target(model.run.ttft_target_s, _seconds, "s")
    )


def _tpot(model: RunModel) -> ChartData:
    target = model.run.tpot_target_s
    limit = _target(None if target is None else target * 1000, _millis, "ms")
    return chart(model, "tpot", "TPOT p95", _millis, "metrics", top=None, **limit)


def _output(model: RunModel) -> ChartData:
    return chart(model, "output", "Output", fmt.rate, "metrics", top=None)


def _waiting(model: RunModel) -> ChartData:
    return chart(model, "waiting", "Waiting requests", fmt.whole, "metrics", top=None, role="kv")


PAIRS: tuple[tuple[Maker, Maker], ...] = ((_gpu, _kv), (_ttft, _tpot), (_output, _waiting))
"""GPU and KV cache, latencies beside the profile's targets, work done and work that waits."""
