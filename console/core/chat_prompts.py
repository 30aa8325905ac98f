"""The prompt library that comes with the program: what one asks a fresh server first."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["SHIPPED", "Prompt"]


class Prompt(NamedTuple):
    """A text to begin from."""

    title: str
    text: str
    own: bool = False
    """From the operator's file."""


SHIPPED: Final[tuple[Prompt, ...]] = (
    Prompt(
        "Test: does it answer",
        "In one short paragraph: what are you, and what is the capital of France?",
    ),
    Prompt(
        # Asked there in each thinking mode: https://recipes.vllm.ai/deepseek-ai/DeepSeek-V4-Flash
        "Test: vLLM's guide to V4 (323)",
        "What is 17*19? Return only the final integer.",
    ),
    Prompt(
        "Test: reasoning",
        "A bat and a ball cost $1.10 together. The bat costs $1.00 more than the ball. What does the ball cost? "
        "Show each step, then check your answer.",
    ),
    Prompt(
        "Test: code",
        "Write a Python function that merges overlapping intervals, with type hints and a docstring, and three "
        "assertions that test its edge cases. Reply with one code block.",
    ),
    Prompt(
        "Test: long answer",
        "Write a detailed tutorial on how a key-value cache speeds up the decoding of a transformer. Use headings, "
        "lists, a table and code. Do not stop before 3,000 words.",
    ),
    Prompt(
        "Test: follows a format",
        'Reply with nothing but a JSON object that has the keys "colours" (a list of three) and "count" (a number).',
    ),
    Prompt(
        "Test: other scripts",
        "Translate “The server is ready.” into German, Chinese, Arabic and Hindi, as a table.",
    ),
    Prompt("Explain the attached file", "Explain what the attached file does, section by section, and name its risks."),
    Prompt("Review the attached code", "Review the attached code: errors first, then clarity. Quote the lines."),
    Prompt("Summarize", "Summarize the following in at most five points:\n\n"),
)
