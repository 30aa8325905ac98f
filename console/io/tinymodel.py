"""Makes tiny models: a few tens of kilobytes that vLLM serves with `--load-format dummy`, on a machine without a GPU.

A directory holds a configuration, a byte-level BPE tokenizer and a chat template, and no weights: vLLM draws them at
random. Such a model answers with random tokens, so its vocabulary is what can be seen: common words and ASCII.
Written as plain JSON, with no tokenizer library. `python -m console.io.tinymodel DIR [SHAPE]` makes one by hand.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from console.core.errors import StateError, UsageError
from console.io import paths
from console.io.tinyshapes import SHAPES

__all__ = ["GENERATED", "SHAPES", "make_model", "resolve_model"]

GENERATED = "generated:"
"""Prefix of a profile's model id that stands for a model made here."""

VOCABULARY = 512
SPECIALS = ("<|begin|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>", "<|unknown|>")
BEGIN, END, UNKNOWN = 0, 1, 5

STOPS = (END, 2)
"""Marks that end an answer: its own, and the user's next turn. Drawn at random that is one token in 256."""

CHAT_TEMPLATE = (
    "{{ '<|begin|>' }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

WORDS = (
    "the of and to in is you that it he was for on are as with his they at be this have from or one had by word "
    "but not what all were we when your can said there use an each which she do how their if will up other "
    "about out many then them these so some her would make like him into time has look two more write go see "
    "number no way could people my than first water been call who oil its now find long down day did get come "
    "made may part over new sound take only little work know place year live me back give most very after thing "
    "our just name good sentence man think say great where help through much before line right too mean old any "
    "same tell boy follow came want show also around form three small set put end does another well large must "
    "big even such because turn here why ask went men read need land different home us move try kind hand "
    "picture again change off play spell air away animal house point page letter mother answer found study "
    "still learn should world high every near add food between own below country plant last school father keep "
    "tree never start city earth eye light thought head under story saw left few while along might close "
    "something seem next hard open example begin life always those both paper together got group often run "
    "important until children side feet car mile night walk white sea began grow took river four carry state "
    "once book hear stop without second later miss idea enough eat face watch far really almost let above girl "
    "sometimes mountain cut young talk soon list song being leave family body music color stand sun question "
    "fish area mark dog horse bird problem complete room knew since ever piece told usually friend easy heard "
    "order red door sure become top ship across today during short better best however low hour black product "
    "happen whole measure remember early wave reach listen wind rock space cover fast several hold himself "
    "toward five step morning pass vowel true hundred against pattern numeral table north slow money map farm "
    "pull draw voice power town fine certain fly fall lead cry dark machine note wait plan figure star box noun "
    "field rest correct able pound done beauty drive stood contain front teach week final gave green quick "
    "develop ocean warm free"
)
"""The 410 commonest words of school English, roughly: each is one token, with the space before it."""


def resolve_model(model_id: str) -> str:
    """What to give vLLM for a profile's model id: the directory for `generated:NAME`, made if needed; else the id.

    Raises:
        UsageError: there is no generated model of this name.
        StateError: the directory cannot be written.
    """
    if not model_id.startswith(GENERATED):
        return model_id
    shape = model_id.removeprefix(GENERATED)
    _config(shape)
    paths.make_private_dir(paths.generated_models_dir())
    directory = paths.generated_models_dir() / shape
    try:
        return str(make_model(directory, shape))
    except OSError as error:
        raise StateError(
            "Cannot write the generated model",
            f"{error.filename or directory}: {error.strerror}",
            "Make room there, or point XDG_DATA_HOME elsewhere.",
        ) from error


def make_model(directory: Path, shape: str = "tiny-llama") -> Path:
    """Make the model in `directory` and return it; a directory that holds exactly this model is left alone.

    The same shape gives the same bytes. The directory appears whole or not at all; one that stands there with other
    files of these names has them replaced.

    Raises:
        UsageError: there is no such shape.
        OSError: it cannot be written.
    """
    files = _files(shape)
    if all(_holds(directory / name, text) for name, text in files.items()):
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        for name, text in files.items():
            (partial / name).write_text(text, encoding="utf-8")
        if not directory.exists():
            partial.chmod(0o755)
            _rename_unless_there(partial, directory)
        for name in files:
            if (partial / name).exists():
                (partial / name).replace(directory / name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return directory


def _rename_unless_there(partial: Path, directory: Path) -> None:
    """Rename, or leave it where another process has made the directory in the meantime."""
    try:
        partial.rename(directory)
    except OSError:
        if not directory.is_dir():
            raise


def _holds(path: Path, text: str) -> bool:
    try:
        return path.stat().st_size == len(text.encode()) and path.read_text(encoding="utf-8") == text
    except (OSError, UnicodeDecodeError):
        return False


def _config(shape: str) -> dict[str, Any]:
    try:
        return SHAPES[shape] | {
            "vocab_size": VOCABULARY,
            "bos_token_id": BEGIN,
            "eos_token_id": END,
            "torch_dtype": "bfloat16",
        }
    except KeyError:
        raise UsageError(
            "No such generated model",
            f"{GENERATED}{shape}",
            "Known: " + ", ".join(GENERATED + name for name in SHAPES),
        ) from None


def _files(shape: str) -> dict[str, str]:
    documents: dict[str, dict[str, Any]] = {
        "config.json": _config(shape),
        "generation_config.json": {"bos_token_id": BEGIN, "eos_token_id": list(STOPS), "temperature": 1.0},
        "tokenizer.json": _tokenizer(),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": SPECIALS[BEGIN],
            "eos_token": SPECIALS[END],
            "pad_token": SPECIALS[END],
            "model_max_length": SHAPES[shape]["max_position_embeddings"],
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE,
        },
    }
    return {name: json.dumps(document, ensure_ascii=False, indent=1) + "\n" for name, document in documents.items()}


def _tokenizer() -> dict[str, Any]:
    """A byte-level BPE tokenizer without merges: a word that it knows is one token, any other is its characters.

    Bytes that are not visible ASCII are unknown to it, so that no answer holds half a character or a control code.
    """
    visible = (ord("\n"), *range(ord(" "), ord("~") + 1))
    space = _stand_in(ord(" "))
    vocabulary = (*SPECIALS, *map(_stand_in, visible), *(space + word for word in WORDS.split()))
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": number,
                "content": text,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for number, text in enumerate(SPECIALS)
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": SPECIALS[UNKNOWN],
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": True,
            "vocab": {text: number for number, text in enumerate(vocabulary)},
            "merges": [],
        },
    }


def _stand_in(byte: int) -> str:
    """The character that stands for an ASCII byte in byte-level BPE: itself, or from U+0100 on if it is not visible.

    Source: `bytes_to_unicode` in OpenAI's `gpt-2/src/encoder.py`; up to the space the hidden ones are the first 33.
    """
    return chr(byte) if byte > ord(" ") else chr(0x100 + byte)


def main(arguments: list[str]) -> int:
    """Make the model in the directory that the command line names and print where it is."""
    if len(arguments) not in (1, 2) or arguments[0].startswith("-"):
        sys.stderr.write("usage: python -m console.io.tinymodel DIR [" + "|".join(SHAPES) + "]\n")
        return os.EX_USAGE
    sys.stdout.write(f"{make_model(Path(arguments[0]), *arguments[1:])}\n")
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
