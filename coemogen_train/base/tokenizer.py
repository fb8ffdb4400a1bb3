"""CLIP's tokenizer, made with no download from the vocabulary that open_clip carries in its package.

Where that vocabulary comes from, and under which licence, stands in NOTICE.md beside this file.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import UserError

_VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
_NUM_MERGES = (
    49152 - 256 - 2
)  # CLIP's vocabulary of 49,152 (+ 256 word ends), less the bytes and the two marks
_BOS, _EOS = "<|startoftext|>", "<|endoftext|>"


def clip_tokenizer(max_length: int = 77) -> Any:
    """A transformers CLIPTokenizer with OpenAI CLIP's 49,408 tokens, as Stable Diffusion 1.5 uses it.

    Args:
        max_length: tokens in a prompt, BOS and EOS included.

    Raises:
        UserError: open_clip is not installed.
    """
    vocabulary, merges = _vocabulary()
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "bos_token": _BOS,
        "eos_token": _EOS,
        "pad_token": _EOS,
        "unk_token": _EOS,
        "model_max_length": max_length,
    }
    # Through files, because they are the one way in that transformers 4 and 5 share.
    with tempfile.TemporaryDirectory() as folder:
        files = {
            "vocab.json": json.dumps(vocabulary),
            "merges.txt": "\n".join(["#version: 0.2", *merges, ""]),
            "tokenizer_config.json": json.dumps(settings),
        }
        for name, text in files.items():
            (Path(folder) / name).write_text(text, encoding="utf-8", newline="\n")
        return read_tokenizer(Path(folder))


def read_tokenizer(folder: Path) -> Any:
    """The tokenizer in a local folder, of the class that its own settings name, else CLIP's.

    Raises:
        UserError: no tokenizer can be read there.
    """
    from transformers import AutoTokenizer, CLIPTokenizerFast  # type: ignore[attr-defined]  # 5 makes it an alias

    settings = folder / "tokenizer_config.json"
    try:
        named = settings.is_file() and "tokenizer_class" in json.loads(settings.read_text(encoding="utf-8"))
        reader = AutoTokenizer if named else CLIPTokenizerFast
        return reader.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder}: no tokenizer can be read here: complete the model's folder.") from error


@lru_cache(maxsize=1)
def _vocabulary() -> tuple[dict[str, int], list[str]]:
    """Token -> id, and the merges "left right" in order of rank."""
    # find_spec, not import: open_clip's own import takes seconds, and only its data file is wanted.
    spec = importlib.util.find_spec("open_clip")
    if spec is None or spec.origin is None:
        raise UserError(
            "the text of a single-file checkpoint needs CLIP's vocabulary, which comes with open_clip: "
            "pip install open_clip_torch, or give the base as a diffusers folder."
        )
    packed = Path(spec.origin).parent / _VOCABULARY
    lines = gzip.decompress(packed.read_bytes()).decode("utf-8").split("\n")
    merges = lines[1 : _NUM_MERGES + 1]
    characters = list(_byte_characters())
    tokens = [*characters, *(f"{character}</w>" for character in characters)]
    tokens += ["".join(merge.split()) for merge in merges]
    tokens += [_BOS, _EOS]
    return {token: index for index, token in enumerate(tokens)}, merges


def _byte_characters() -> list[str]:
    """One visible character per byte, in the order of CLIP's first 256 ids.

    Bytes that print in Latin-1 stand for themselves; the others follow, as characters from 256 on.
    (Byte-level BPE: no byte is a space or a control character, so that merges can be written as lines.)
    """
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = 256 - len(visible)
    return [chr(code) for code in [*visible, *range(256, 256 + hidden)]]
