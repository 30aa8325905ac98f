"""What an operator may say of an endpoint, and what is told of it."""

from __future__ import annotations

import pytest

from console.core.errors import UsageError
from console.core.hints.table import RULES
from console.core.hints.unprofiled import JUDGED, WatchedHints, open_reason
from console.core.models import EngineReading, HintState, Sample, ServerState, SourceStatus
from console.core.watching import WATCH, Trouble, named_targets, target_of, trouble_of, trouble_words


@pytest.mark.parametrize(
    ("given", "url", "name"),
    [
        ("http://10.0.0.7:8000", "http://10.0.0.7:8000", "10.0.0.7:8000"),
        ("http://10.0.0.7:8000/", "http://10.0.0.7:8000", "10.0.0.7:8000"),
        ("http://10.0.0.7:8000/v1", "http://10.0.0.7:8000", "10.0.0.7:8000"),
        (" https://vllm.example.org/east/v1/ ", "https://vllm.example.org/east", "vllm.example.org/east"),
        ("http://[fd00::7]:8000", "http://[fd00::7]:8000", "[fd00::7]:8000"),
    ],
)
def test_addresses(given: str, url: str, name: str) -> None:
    target = target_of(given)
    assert (target.url, target.name, target.id) == (url, name, f"watch:{name}")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("10.0.0.7:8000", "begins with none of http://, https://"),
        ("ftp://host", "begins with none of"),
        ("http://", "names no host"),
        ("http://host:99999", "Port out of range"),
        ("http://ho st", "names no host"),
        ("http://host/?a=1", "? or #"),
    ],
)
def test_what_is_no_address(given: str, says: str) -> None:
    with pytest.raises(UsageError) as found:
        target_of(given)
    assert says in str(found.value)
    assert "For example" in found.value.fix


def test_no_secret_on_a_command_line() -> None:
    with pytest.raises(UsageError) as found:
        target_of("http://me:sesame@host:8000")
    assert "sesame" not in str(found.value)
    assert "--api-key-env" in found.value.fix
    with pytest.raises(UsageError) as found:
        target_of("http://host:8000", key_env="sk-abc-123")
    assert "sk-abc-123" not in str(found.value)


def test_each_address_once_and_no_name_twice() -> None:
    one = target_of("http://a:8000", key_env="A_KEY")
    targets = named_targets([one, target_of("http://a:8000/v1"), target_of("http://b", name="a:8000")])
    assert [(target.name, target.url, target.key_env) for target in targets] == [
        ("a:8000", "http://a:8000", "A_KEY"),
        ("a:8000-2", "http://b", None),
    ]


def test_trouble_is_read_from_the_sources_and_says_what_to_do() -> None:
    assert trouble_of((SourceStatus(name="metrics", ok=False, error="no answer"),)) is None
    for trouble in Trouble:
        assert trouble_of((SourceStatus(name=WATCH, ok=False, error=str(trouble)),)) is trouble
    plain, keyed = target_of("http://a", name="a"), target_of("http://a", name="a", key_env="A_KEY")
    assert "--api-key-env NAME, or key_env in its [watch.NAME]" in trouble_words(Trouble.KEY, plain, "HTTP 401")
    assert "the one in A_KEY is not taken" in trouble_words(Trouble.KEY, keyed, "HTTP 401")


def test_every_rule_is_judged_or_says_what_it_would_need() -> None:
    assert set(JUDGED) <= set(RULES)
    assert [rule for rule in RULES if rule in JUDGED] == list(JUDGED), "in the order of the table"
    for rule in RULES:
        assert bool(open_reason(rule)) is (rule not in JUDGED)


def full(second: int) -> Sample:
    engine = EngineReading(
        running=4, waiting=9, kv_cache_usage=0.99, preemptions_total=second, requests_finished_total=second
    )
    return Sample(time_s=1000.0 + second, state=ServerState.READY, engine=engine)


def test_a_full_cache_is_told_without_a_proposal() -> None:
    hints = WatchedHints("tiny", max_model_len=1024)
    said = ()
    for second in range(90):
        said = hints.update(full(second))
    firing = {hint.id: hint for hint in said if hint.state is HintState.FIRING}
    assert "kv-cache-full" in firing
    assert all(not hint.change for hint in firing.values())
    missing = {hint.id: hint.missing for hint in said if hint.state is HintState.UNJUDGED}
    assert "no profile" in missing["raise-max-num-seqs"] or "NVML" in missing["raise-max-num-seqs"]
    assert "NVML" in missing["gpu-fault"]
    assert len(said) >= len(RULES) - len(JUDGED)
    assert "[watch.NAME]" in missing["idle-spend"]
    priced = WatchedHints("tiny", usd_per_hour=14.76).update(full(1))
    assert "idle-spend" not in {hint.id for hint in priced}


def test_a_server_without_figures_has_no_list_of_what_is_missing() -> None:
    assert WatchedHints("tiny").update(Sample(time_s=1.0, state=ServerState.UNHEALTHY)) == ()
