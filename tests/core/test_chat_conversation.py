"""Records and the conversation that they leave, what the model is sent of it, search and export."""

from __future__ import annotations

import msgspec

from console.core.chat import ChatSettings
from console.core.chat_conversation import (
    BROKEN,
    Begun,
    Chosen,
    Conversation,
    Cut,
    Ended,
    File,
    Grown,
    Record,
    Said,
    Turn,
    found_in,
    markdown_of,
    messages_of,
    note_of,
    replayed,
    used_tokens,
)


def said(role: str, text: str = "", **more) -> Said:
    return Said(turn=Turn(role=role, content=text, **more))


ASKED: list[Record] = [Begun(run_id="r", model="m", time_s=10.0), said("user", "one", time_s=11.0)]


def test_an_answer_grows_and_ends() -> None:
    records = [*ASKED, said("assistant"), Grown(reasoning="hm "), Grown(text="a"), Grown(text="b", reasoning="so"),
               Ended(turn=Turn(role="assistant", completion_tokens=2, finish_reason="stop"))]  # fmt: skip
    found = replayed(records, "x")
    assert (found.id, found.run_id, found.model, found.begun_s, found.changed_s) == ("x", "r", "m", 10.0, 11.0)
    answer = found.turns[1]
    assert (answer.content, answer.reasoning, answer.completion_tokens, answer.error) == ("ab", "hm so", 2, "")
    assert found.title == "one"


def test_an_answer_without_an_end_is_kept_and_says_so() -> None:
    for after in ([], [said("user", "two")]):
        found = replayed([*ASKED, said("assistant"), Grown(text="half"), *after])
        assert (found.turns[1].content, found.turns[1].error) == ("half", BROKEN)


def test_a_cut_and_settings() -> None:
    records = [*ASKED, said("assistant"), Grown(text="bad"), Ended(turn=Turn(role="assistant")), Cut(turns=1),
               Chosen(settings=ChatSettings(max_tokens=5)), said("assistant"), Grown(text="good"),
               Ended(turn=Turn(role="assistant"))]  # fmt: skip
    found = replayed(records)
    assert [turn.content for turn in found.turns] == ["one", "good"]
    assert found.settings == ChatSettings(max_tokens=5)


def test_records_in_any_order_break_nothing() -> None:
    assert replayed([Grown(text="x"), Ended(turn=Turn(role="assistant")), Cut(turns=-3)]).turns == []


def test_records_go_through_json() -> None:
    records = [*ASKED, Cut(turns=0), Chosen(settings=ChatSettings(thinking="on")), Grown(text="x")]
    for record in records:
        assert msgspec.json.decode(msgspec.json.encode(record), type=Record) == record


def test_what_brought_no_answer_is_not_asked_again_with_the_next() -> None:
    turns = [
        Turn(role="user", content="too long"),
        Turn(role="assistant", error="maximum context length"),
        Turn(role="user", content="short", files=(File(name="f", text="x"),)),
        Turn(role="assistant", content="half an", error="connection lost"),
        Turn(role="user", content="go on"),
    ]
    asked = messages_of(turns, "be brief")
    assert [(m.role, m.content) for m in asked] == [
        ("system", "be brief"),
        ("user", "short\n\nf:\n```\nx\n```"),
        ("assistant", "half an"),
        ("user", "go on"),
    ]


def test_context_and_note() -> None:
    answer = Turn(role="assistant", content="x", prompt_tokens=9, completion_tokens=5, ttft_s=0.12, elapsed_s=0.3,
                  finish_reason="stop")  # fmt: skip
    assert used_tokens([Turn(role="user"), answer, Turn(role="user"), Turn(role="assistant", error="x")]) == 14
    assert used_tokens([Turn(role="user")]) is None
    assert note_of(answer) == "TTFT 120 ms · 5 tokens · 22 tok/s · prompt 9 · finished"
    assert note_of(Turn(role="assistant")) == ""


def test_search() -> None:
    talk = Conversation(model="deepseek", turns=[Turn(role="user", content="Where is\nthe KV cache in it?")])
    assert found_in(talk, "kv CACHE") == "Where is the KV cache in it?"
    assert found_in(talk, "DeepSeek") == ""
    assert found_in(talk, "") == ""
    assert found_in(talk, "xyz") is None


def test_export() -> None:
    talk = Conversation(
        model="m",
        settings=ChatSettings(system="be brief"),
        turns=[
            Turn(role="user", content="hi", files=(File(name="a.py", text="x = 1\n"),)),
            Turn(role="assistant", content="# yes", reasoning="```\nx\n```", completion_tokens=3, error="lost"),
        ],
    )
    text = markdown_of(talk, "2026-11-29 12:00")
    assert text.startswith("# hi\n\nModel m, begun 2026-11-29 12:00.\n\n## System prompt\n\nbe brief\n\n## You\n\nhi")
    assert "a.py:\n```\nx = 1\n```" in text
    assert "<details><summary>Reasoning</summary>\n\n````text\n```\nx\n```\n````\n\n</details>" in text
    assert text.endswith("## Model\n\n" + text.partition("## Model\n\n")[2])
    assert "**Error:** lost" in text
    assert text.endswith("*3 tokens*\n")
