"""`config.toml`, good and bad."""

from __future__ import annotations

from pathlib import Path

import pytest

from console.core.errors import ConsoleError, StateError, UsageError
from console.io import paths
from console.io.config import CONFIG_BYTES_MAX, Configuration, read_configuration


@pytest.fixture
def file() -> Path:
    paths.config_dir().mkdir(parents=True)
    return paths.config_dir() / "config.toml"


def test_none_leaves_all_open() -> None:
    assert read_configuration() == Configuration(engine=None)


@pytest.mark.parametrize("start", ["", "\ufeff", "# a comment\r\n"])
def test_what_it_says(file: Path, start: str) -> None:
    file.write_text(f'{start}engine = "vllm-0.33.0"\n', encoding="utf-8", newline="")
    assert read_configuration().engine == "vllm-0.33.0"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (b'engin = "x"', ["engin: no such key", "nearest known key: engine"]),
        (b"engine = 3", ["engine: found 3", "Expected `str | null`, got `int`"]),
        (b"engine = [\n=", ["line 2"]),
        (b"engine = '\xff'", ["utf-8"]),
        (b"a = 1\nb = 2\n", ["a: no such key", "b: no such key"]),
        (b"#" * (CONFIG_BYTES_MAX + 1), ["longer than 256 KiB"]),
    ],
)
def test_mistakes_name_file_key_and_what_is_allowed(file: Path, text: bytes, parts: list[str]) -> None:
    file.write_bytes(text)
    with pytest.raises(UsageError) as caught:
        read_configuration()
    for part in [str(file), *parts]:
        assert part in caught.value.message
    assert "Known keys: engine" in caught.value.fix


def test_one_that_cannot_be_read(file: Path) -> None:
    file.mkdir()
    with pytest.raises(StateError, match="Cannot read") as caught:
        read_configuration()
    assert isinstance(caught.value, ConsoleError)
    assert str(file) in caught.value.message


def test_prices(file: Path) -> None:
    file.write_text(
        '[price.8xH100]\nusd_per_hour = 20.0\nspot_usd_per_hour = 9\nsource = "contract"\ndate = "2026-11-01"\n'
        '[price."RTX PRO 6000"]\nusd_per_hour = 1.5\n'
    )
    prices = read_configuration().price
    assert prices["8xH100"].spot_usd_per_hour == 9
    assert prices["RTX PRO 6000"].usd_per_hour == 1.5


def test_a_price_below_nothing_is_a_mistake(file: Path) -> None:
    file.write_text("[price.H100]\nusd_per_hour = -1\n")
    with pytest.raises(UsageError, match="price"):
        read_configuration()
