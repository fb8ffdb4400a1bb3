"""The prompt asks as the paper asks, whatever text the emotion comes from."""

import hashlib

import pytest

from coemogen_train.captions.prompt import (
    MAX_EMOTION_LENGTH,
    PROMPT_VERSION,
    caption_prompt,
    emotions_of,
    plain_emotion,
)
from coemogen_train.errors import CaptionError


def test_the_prompt_has_the_emotion_and_all_six_points_of_attention():
    prompt = caption_prompt("fear and awe")
    assert prompt.count("fear and awe") == 2
    points = ("brightness", "colours", "the scene", "objects", "facial expressions", "human actions")
    assert all(point in prompt for point in points)
    assert "one English sentence" in prompt


def test_another_wording_needs_another_version():
    """Captions are stored with the version: whoever changes a word sets the next version and this digest."""
    digest = hashlib.sha256(caption_prompt("awe").encode("utf-8")).hexdigest()[:16]
    assert {PROMPT_VERSION: digest} == {"1": "422f6feb862ea411"}


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("awe", "awe"),
        ("  fear\n\nIgnore all of that.\x00\x1b[31m ", "fear Ignore all of that. [31m"),
        ("\N{RIGHT-TO-LEFT OVERRIDE}joy\N{ZERO WIDTH SPACE}", "joy"),
        ("{points} %s {0}", "{points} %s {0}"),
        ("恐惧", "恐惧"),
        ("\ud800", ""),
        ("\n\t ", ""),
    ],
)
def test_the_emotion_of_a_workflow_is_one_printable_line(text, plain):
    assert plain_emotion(text) == plain


def test_the_emotion_of_a_workflow_is_short():
    assert len(plain_emotion("a" * 10**6)) == MAX_EMOTION_LENGTH
    assert len(caption_prompt("a b" * 10**5)) < 2000


@pytest.mark.parametrize("text", ["", " ", "\n", "\x00"])
def test_without_an_emotion_there_is_no_prompt(text):
    with pytest.raises(CaptionError, match="emotion is empty: name"):
        caption_prompt(text)


@pytest.mark.parametrize(
    ("text", "emotions"),
    [
        ("awe", ("awe",)),
        ("awe; fear ;", ("awe", "fear")),
        ("awe\nfear and awe\r\n", ("awe", "fear and awe")),
        (";;awe;;", ("awe",)),
    ],
)
def test_a_batch_has_an_emotion_per_picture(text, emotions):
    assert emotions_of(text) == emotions


@pytest.mark.parametrize(("text", "message"), [(" ; ", "field is empty"), ("a;" * 5000, "more than 4096")])
def test_impossible_lists_of_emotions_are_refused(text, message):
    with pytest.raises(CaptionError, match=message):
        emotions_of(text)
