"""Rules about what comes back to clients: refusals, errors, answers cut short, prompts that share nothing."""

from __future__ import annotations

from console.core.hints import addresses
from console.core.hints.phrases import queue_words, utilization_words
from console.core.hints.rule import Finding, Rule
from console.core.hints.setting import Setting
from console.core.hints.window import Point, Window
from console.core.hints.words import duration, percent, plural, tokens
from console.core.models import Level

__all__ = ["ADMISSION_REJECTIONS", "ANSWERS_CUT", "CLIENT_ERRORS", "PREFIX_CACHE_USELESS", "SERVER_ERRORS"]

SERVER_ERRORS_MIN = 3.0
SERVER_ERRORS_SHARE = 0.01
CLIENT_ERRORS_MIN = 10.0
CLIENT_ERRORS_SHARE = 0.05
CUT_SHARE = 0.3
CUT_COUNT_MIN = 20
HIT_RATE_MIN = 0.01
PROMPT_MIN_TOKENS = 256.0


def rejections(point: Point) -> float | None:
    """Requests that vLLM refused because its queue was full."""
    return point.engine.admission_rejections_total if point.engine else None


def finished(point: Point) -> float | None:
    """Requests that came to their end."""
    return point.engine.requests_finished_total if point.engine else None


def errors(point: Point, group: str) -> float | None:
    """Answers with a status of one group (`4` or `5`) since the server started."""
    if point.engine is None or point.engine.http_errors_by_status is None:
        return None
    return sum(count for status, count in point.engine.http_errors_by_status.items() if status.startswith(group))


def judge_rejections(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """Requests are turned away; with room inside if the limit is below what may run."""
    refused = window.growth(rejections)
    if not refused:
        return None
    limit, cap = setting.flag("max-num-queued-reqs")[1], window.cap
    evidence = (f"{plural(refused, 'request')} refused in {duration(window.span_s)} (HTTP 503).", queue_words(window))
    if isinstance(limit, int) and cap is not None and limit < cap:
        after = 2 * cap
        return Finding(
            evidence=(*evidence, f"max_num_queued_reqs = {limit} counts those that run too, and {cap} may run."),
            basis=(f"Twice what may run: {limit} → {after}.",),
            change=setting.change_extra("max-num-queued-reqs", after),
            gain="As many run as max_num_seqs allows, and as many again may wait.",
            risk="Those that wait have a longer TTFT.",
        )
    return Finding(
        evidence=(*evidence, utilization_words(window, setting)),
        gain="The queue's limit does what it is for. Clients should try again after a while; more engines would serve "
        "them, and so does what other hints gain.",
        risk="",
    )


def judge_server_errors(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """The server answers with errors of its own."""
    grown = window.growth(lambda point: errors(point, "5"))
    if grown is None:
        return None
    own = grown - (window.growth(rejections) or 0.0)
    good = window.growth(finished) or 0.0
    if own < SERVER_ERRORS_MIN or own < SERVER_ERRORS_SHARE * (own + good):
        return None
    return Finding(
        evidence=(
            f"{plural(own, 'answer')} of /v1 with a 5xx status in {duration(window.span_s)}, "
            f"{plural(good, 'request')} finished.",
        ),
        gain="No change of the profile: the log has the reason (dsv4-console logs), and if the server dies of it, "
        "diagnose names the cause.",
        risk="Clients lose these requests.",
    )


def judge_client_errors(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """Clients ask for what is not served."""
    grown = window.growth(lambda point: errors(point, "4"))
    good = window.growth(finished) or 0.0
    if grown is None or grown < CLIENT_ERRORS_MIN or grown < CLIENT_ERRORS_SHARE * (grown + good):
        return None
    return Finding(
        evidence=(
            f"{plural(grown, 'answer')} of /v1 with a 4xx status in {duration(window.span_s)}, "
            f"{plural(good, 'request')} finished.",
        ),
        gain="No change of the profile in most cases: a wrong model name (404), a missing key (401), a request longer "
        "than max_model_len (400). The log says which.",
        risk="",
    )


def judge_cut(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """Many answers end at their limit of tokens."""
    share = window.mean(lambda point: point.engine.length_capped_share if point.engine else None)
    engine = window.engine
    lengths = engine.generation_lengths if engine else None
    if share is None or share < CUT_SHARE or lengths is None or lengths.count < CUT_COUNT_MIN:
        return None
    limit, longest = setting.limits.max_model_len, engine.longest_context_tokens if engine else None
    figures = (
        ""
        if lengths.p50 is None or lengths.p99 is None
        else (f" Answers: median {tokens(lengths.p50)}, p99 {tokens(lengths.p99)} tokens.")
    )
    near = limit is not None and longest is not None and longest >= 0.95 * limit
    reached = f" The longest context came to max_model_len ({tokens(limit)})." if near and limit else ""
    return Finding(
        evidence=(f"{percent(share)} of the answers ended at their limit of tokens.{figures}{reached}",),
        gain="Whole answers, if clients ask for more max_tokens (thinking models need thousands)"
        + ("; a larger max_model_len, if the KV cache has room." if near else "; max_model_len is not what cuts them."),
        risk="Longer answers take more KV cache and time. A benchmark cuts each answer on purpose.",
    )


def judge_useless(window: Window, setting: Setting, held_s: float) -> Finding | None:
    """Prompts are long and share nothing."""
    hits = window.mean(lambda point: point.engine.prefix_cache_hit_rate if point.engine else None)
    length = window.mean(lambda point: point.engine.mean_prompt_tokens if point.engine else None)
    rate = window.mean(lambda point: point.engine.prompt_tokens_per_s if point.engine else None)
    if hits is None or length is None or hits >= HIT_RATE_MIN or length < PROMPT_MIN_TOKENS or not rate:
        return None
    return Finding(
        evidence=(
            f"Prefix cache hits {percent(hits)}, with prompts of {tokens(length)} tokens in the mean and "
            f"{tokens(rate)} tok/s of them.",
        ),
        gain="None on the server, and it costs next to nothing to leave it on. If prompts have a part in common, put "
        "it first, byte for byte: a date or an id at the beginning spoils what follows.",
        risk="",
    )


ADMISSION_REJECTIONS = Rule(
    id="admission-rejections",
    title="Requests are turned away",
    level=Level.WARN,
    topic="admission",
    needs=("queue", "rejections"),
    window_s=30.0,
    hold_s=5.0,
    clear_s=30.0,
    judge=judge_rejections,
    applies=lambda setting: any(
        setting.flag(flag)[1] is not None for flag in ("max-num-queued-reqs", "max-num-queued-tokens")
    ),
    looks_at="vLLM refused requests in the last 30 s (max_num_queued_reqs or max_num_queued_tokens, 0.30 and later).",
    proposes="serve.extra.max_num_queued_reqs at twice what may run, where it is below that; else nothing.",
    gain="No refusal with room inside.",
    risk="A longer queue; a restart.",
    doc=addresses.SERVE_ARGUMENTS,
)

SERVER_ERRORS = Rule(
    id="server-errors",
    title="The server answers with errors",
    level=Level.BAD,
    topic="server-errors",
    needs=("http-errors",),
    window_s=60.0,
    hold_s=3.0,
    clear_s=60.0,
    judge=judge_server_errors,
    looks_at=(
        "Three or more answers of /v1 with a 5xx status in 60 s and at least 1% of all; refusals for a full queue do "
        "not count."
    ),
    proposes="Nothing in the profile: the log.",
    gain="Answers in place of errors.",
    risk="",
    doc=addresses.METRICS,
)

CLIENT_ERRORS = Rule(
    id="client-errors",
    title="Clients ask for what is not served",
    level=Level.INFO,
    topic="client-errors",
    needs=("http-errors",),
    window_s=60.0,
    hold_s=10.0,
    clear_s=60.0,
    judge=judge_client_errors,
    looks_at="Ten or more answers of /v1 with a 4xx status in 60 s, at least 5% of all.",
    proposes="Nothing in the profile: the clients.",
    gain="Requests that are served.",
    risk="",
    doc=addresses.METRICS,
)

ANSWERS_CUT = Rule(
    id="answers-cut",
    title="Answers are cut at their limit",
    level=Level.INFO,
    topic="answers-cut",
    needs=("length-capped",),
    window_s=60.0,
    hold_s=60.0,
    clear_s=60.0,
    judge=judge_cut,
    looks_at="30% or more of at least 20 answers of the last seconds ended with `length`.",
    proposes="Nothing in the profile: max_tokens of the clients, or a larger max_model_len.",
    gain="Whole answers.",
    risk="More KV cache per request.",
    doc=addresses.METRICS,
)

PREFIX_CACHE_USELESS = Rule(
    id="prefix-cache-useless",
    title="Prompts share no beginning",
    level=Level.INFO,
    topic="prefix-cache",
    needs=("prefix-hits",),
    window_s=60.0,
    hold_s=60.0,
    clear_s=60.0,
    judge=judge_useless,
    applies=lambda setting: setting.serve.enable_prefix_caching is not False,
    looks_at="Prefix caching on, prompts of 256 tokens and more, and under 1% of their tokens found in the cache.",
    proposes="Nothing in the profile: the order of what is in the prompts.",
    gain="Prefill for the shared part, if there is one.",
    risk="",
    doc=addresses.PREFIX_CACHE,
)
