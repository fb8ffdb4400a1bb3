"""Values that hypothesis draws, by number: the same for a seed, whichever of them are asked for."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

_BLOCK = 200

# Letters that break terminals, grammars, paths, tokenizers and templates, among all others.
_ODD = st.sampled_from(
    list(
        "\0\t\n\r\x1b\x7f\u200b\u200d\u202e\u2028\ufeff\ufffd\U0001f600\U000e0041\u0301{}[]<>|\\/\"'`*_#+;:=,."
    )
)
texts = st.text(st.one_of(st.characters(), _ODD), max_size=300)
"""Text of any letters, lone surrogates among them."""

_PIECES = (
    "{emotion}",
    "{emotion}",
    "{0}",
    "{}",
    "%s",
    "${HOME}",
    "<think>",
    "</think>",
    "<|im_end|>",
    "<b onclick=alert(1)>",
    "&lt;",
    "&#x202e;",
    '{"caption": "',
    '"}',
    "```json\n",
    "**",
    "Sure! Here is a caption: ",
    "Caption:",
    "1. ",
    "\n- ",
    "(37 words)",
    "The image shows ",
    "A dog runs over golden leaves.",
    "...",
    "a" * 2000,
    "\N{COMBINING ACUTE ACCENT}" * 300,
    " \n" * 500,
    "!?" * 500,
    "[" * 800,
    "(" * 500,
    "*a" * 300,
    "awe",
    "fear",
    "sad and happy",
)
passages = st.lists(st.one_of(st.sampled_from(_PIECES), texts), max_size=12).map("".join)
"""What a model may answer and a person may write: prose, markup, templates, floods."""


class Drawn:
    """The values of a strategy by their number."""

    def __init__(self, strategy: st.SearchStrategy[Any], salt: int) -> None:
        self._strategy, self._salt = strategy, salt
        self._block = lru_cache(maxsize=2)(self._draw)

    def __getitem__(self, number: int) -> Any:
        block = self._block(number // _BLOCK)
        return block[number % len(block)]

    def _draw(self, block: int) -> list[Any]:
        values: list[Any] = []

        @seed(f"{self._salt} {block}")
        @settings(
            max_examples=_BLOCK,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(self._strategy)
        def take(value: Any) -> None:
            values.append(value)

        take()
        return values
