"""Texts under fire: answers, caption files, prompts and mixtures of any letters."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from coemogen_train.adapter.condition import plain_prompt, prompt_ids
from coemogen_train.base.tokenizer import clip_tokenizer
from coemogen_train.captions.cleaning import CleanedAnswer, clean_answer
from coemogen_train.captions.prompt import caption_prompt, emotions_of
from coemogen_train.captions.sentences import MAX_LENGTH
from coemogen_train.data.sources.record import Record
from coemogen_train.data.sources.walk import captioned
from coemogen_train.emotions import MIKELS, format_mixture, parse_mixture
from coemogen_train.errors import UserError
from coemogen_train.train.prompts import content_words, neutral_prompt

from .cases import Case
from .drawn import Drawn, passages, texts


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


_TERMS = (*MIKELS.names, "AWE", "all", "joy", " ", "")
_WEIGHTS = ("", "0.7", "1", "0", "-1", "1e400", "nan", "inf", "0x1", ".5", "1_0", "٣", "9" * 400, "1e-400")
_mixtures = st.one_of(
    texts,
    st.lists(
        st.tuples(
            st.sampled_from(_TERMS), st.sampled_from(_WEIGHTS), st.sampled_from(["+", ";", "\n", "", " + "])
        ).map(lambda term: f"{term[0]} {term[1]}{term[2]}"),
        max_size=8,
    ).map("".join),
    st.lists(
        st.lists(
            st.tuples(st.sampled_from(MIKELS.names), st.floats(0, 10)),
            min_size=1,
            unique_by=lambda term: term[0],
        ).map(lambda terms: " + ".join(f"{name} {weight}" for name, weight in terms)),
        min_size=1,
    ).map("; ".join),
    st.sampled_from(["awe;" * 5000, "all;" * 600, "awe + " * 20_000, "x" * 100_001, "awe 0.1+" * 12_000]),
)
_forms: st.SearchStrategy[tuple[str, Any]] = st.one_of(
    st.tuples(st.just("answer"), passages),
    st.tuples(st.just("answer"), passages.map(lambda text: text * 20)),
    st.tuples(st.just("caption file"), st.one_of(st.binary(max_size=300), passages.map(_bytes))),
    st.tuples(st.just("prompt"), passages),
    st.tuples(st.just("neutral prompt"), passages),
    st.tuples(st.just("mixture"), _mixtures),
    st.tuples(st.just("emotion of a picture"), passages),
)


class TextTarget:
    """What reads text of people and models: each gives what it promises, or a UserError."""

    def __init__(self, seed: int, work: Path) -> None:
        work.mkdir(parents=True, exist_ok=True)
        self._drawn, self._file, self._tokenizer = Drawn(_forms, seed), work / "1.txt", clip_tokenizer()
        self._ways: dict[str, tuple[Callable[[Any], Any], Callable[[Any], str]]] = {
            "answer": (lambda text: (text, clean_answer(text, "awe", len(text) % 2 == 0)), _judge_answer),
            "caption file": (self._caption_file, _judge_caption_file),
            "prompt": (self._prompt, self._judge_ids),
            "neutral prompt": (self._neutral_prompt, self._judge_ids),
            "mixture": (lambda text: parse_mixture(text, MIKELS), _judge_mixture),
            "emotion of a picture": (lambda text: (caption_prompt(text), emotions_of(text)), _judge_emotions),
        }
        self._prompt("a street, {emotion}")
        clean_answer("A dog runs over golden leaves.")

    def case(self, number: int) -> Case:
        form, value = self._drawn[number]
        run, judge = self._ways[form]
        content = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
        return Case(form, lambda: run(value), UserError, content, judge, seconds=2.0, mib=64)

    def _caption_file(self, content: bytes) -> Record:
        self._file.write_bytes(content)
        return captioned(Record("1.jpg", self._file), self._file)

    def _prompt(self, text: str) -> Any:
        plain_prompt(text)
        return prompt_ids(self._tokenizer, text, 4)

    def _neutral_prompt(self, text: str) -> Any:
        """A caption with braces in it must not bring in a second place for the pseudo-words."""
        words = content_words(text, (), None, MIKELS.names)
        labels = content_words(None, text.split(";"), text[:100], MIKELS.names)
        self._prompt(neutral_prompt(labels, 0.9))
        return prompt_ids(self._tokenizer, neutral_prompt(words, random.Random(len(text)).random()), 4)

    def _judge_ids(self, made: Any) -> str:
        ids = made.input_ids.tolist()
        wrong = (
            len(ids) != 77
            or ids[0] != self._tokenizer.bos_token_id
            or self._tokenizer.eos_token_id not in ids
        )
        return f"these are no ids of a prompt: {ids}" if wrong else ""


def _judge_answer(given: tuple[str, CleanedAnswer]) -> str:
    text = given[1].text
    if len(text) > 4 * MAX_LENGTH or not text.isprintable():
        return f"this is no line of text: {text[:300]!r}"
    if not given[1].faults and (len(text) > MAX_LENGTH or not text.strip()):
        return f"this is said to be a caption: {text[:300]!r}"
    return ""


def _judge_caption_file(record: Record) -> str:
    caption = record.caption
    if caption is None:
        return "" if record.notes else "no caption, and nothing is said of it"
    caption.encode("utf-8")
    return (
        "" if "\n" not in caption and "\0" not in caption and caption.strip() else f"odd: {caption[:300]!r}"
    )


def _judge_mixture(rows: Any) -> str:
    for row in rows:
        if parse_mixture(format_mixture(row, MIKELS), MIKELS) != (row,):
            return f"written and read again it is another mixture: {row}"
    return ""


def _judge_emotions(given: tuple[str, tuple[str, ...]]) -> str:
    shown = given[0].isprintable() and all(name.isprintable() and name for name in given[1])
    return "" if shown else f"what is asked does not print: {given!r:.300}"
