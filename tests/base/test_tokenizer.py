"""The tokenizer made from open_clip's vocabulary is CLIP's."""

from __future__ import annotations

import importlib.util
import itertools
import random
from typing import Any

import pytest

from coemogen_train.base.tokenizer import clip_tokenizer
from coemogen_train.errors import UserError

HAND_WRITTEN = [
    "",
    "a",
    "a photo of a dog",
    "An abandoned PLAYGROUND, at dusk; fog (grey) -- and 3 crows!",
    "it's the child's, they're we've I'll I'd don't",
    "1234567890 3.14 2,000 50% $5 #1 @home a_b a/b",
    "  leading,   double   and trailing spaces  ",
    "line\nbreak\tand tab",
    "café naïve Übermut smörgåsbord żółć",
    "снег идёт, дети играют",
    "夕暮れの海 悲しい",
    "happy 😀 family 👨‍👩‍👧 🇩🇪",
    "quotes 'single' \"double\" `back` … —",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "<b>bold</b> [brackets] {braces} ~ ^ | \\",
    "word " * 100,
]


@pytest.fixture(scope="module")
def ours() -> Any:
    return clip_tokenizer()


@pytest.fixture(scope="module")
def reference() -> Any:
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()


def _until_end(ids: list[int]) -> list[int]:
    return ids[: ids.index(49407) + 1]


@pytest.mark.parametrize("prompt", HAND_WRITTEN)
def test_ids_are_open_clips(ours: Any, reference: Any, prompt: str) -> None:
    ids = ours(prompt, padding="max_length", max_length=77, truncation=True).input_ids
    assert len(ids) == 77
    assert _until_end(ids) == _until_end(reference([prompt])[0].tolist())


def test_ids_are_open_clips_for_a_thousand_sentences(ours: Any, reference: Any) -> None:
    subjects = [
        "a lonely child",
        "two dogs",
        "the old man's hands",
        "fireworks",
        "a wilted rose",
        "her grandmother",
    ]
    actions = ["runs through", "is waiting by", "looks at", "burns above", "lies broken in", "quietly leaves"]
    places = ["the flooded street", "an empty theatre", "a sunlit meadow", "a hospital corridor", "the sea"]
    styles = [
        "in soft light",
        "photographed at 4:30",
        "oil painting, 1890s",
        "low-key, high contrast",
        "8k",
        "blurred",
    ]
    sentences = [", ".join(parts) for parts in itertools.product(subjects, actions, places, styles)]
    characters = [chr(code) for code in [*range(32, 127), *range(0xA1, 0x17F), 0x2014, 0x20AC, 0x1F600]]
    draw = random.Random(0)
    sentences += ["".join(draw.choices(characters, k=draw.randint(1, 40))) for _ in range(400)]
    # Text that HTML unescaping or repair of broken encodings would change is open_clip's own affair.
    sentences = [text for text in sentences if reference.clean_fn(text) == " ".join(text.lower().split())]
    assert len(sentences) > 1000
    for text in sentences:
        assert ours(text).input_ids[1:-1] == reference.encode(text), text


def test_padding_is_the_end_mark(ours: Any) -> None:
    ids = ours("dog", padding="max_length", max_length=77, truncation=True).input_ids
    assert ids[:3] == [49406, 1929, 49407] and set(ids[3:]) == {49407}
    assert (ours.bos_token_id, ours.eos_token_id, ours.pad_token_id) == (49406, 49407, 49407)
    assert ours.model_max_length == 77 and len(ours) == 49408


def test_without_open_clip_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from coemogen_train.base import tokenizer

    tokenizer._vocabulary.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install open_clip_torch"):
        clip_tokenizer()
