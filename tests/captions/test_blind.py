"""The blind second pass: a model that sees the sentence alone says an emotion's name, or it is unclear."""

import pytest
from PIL import Image

from coemogen_train.captions import ServerCaptioner, blind_emotion, blind_emotions, load_local_captioner
from coemogen_train.captions.blind import blind_prompt, parse_emotion
from coemogen_train.captions.caption import PLAIN

from .openai_server import says, serving
from .tiny_vlm import make_llava

NAMES = ("amusement", "awe", "fear", "something else")


@pytest.mark.parametrize(
    ("raw", "emotion"),
    [
        ("fear", "fear"),
        (" Fear.\n", "fear"),
        ("**Awe**", "awe"),
        ('"something else"', "something else"),
        ("<think>it may be awe</think>\n\nfear", "fear"),
        ("Answer: amusement", "amusement"),
        ("None.", ""),
        ("fear or awe", None),
        ("It would evoke fear.", None),
        ("fearful", None),
        ("joy", None),
        ("", None),
        ("<think>without end", None),
        ("\x00" * 50_000, None),
        ("Emotion: awe", "awe"),
        ("**Emotion:** awe", "awe"),
        ("The emotion is awe.", "awe"),
        ("[awe]", "awe"),
        ("- awe", "awe"),
        ("1. awe", "awe"),
        ("Awe \N{GRINNING FACE}", "awe"),
        ('{"emotion": "awe"}', "awe"),
        ('```json\n{"emotion": "Something else"}\n```', "something else"),
        ("not awe", None),
        ("The emotion is not awe.", None),
        ("This is not the emotion: awe", None),
        ("!awe", None),
        ("\N{CROSS MARK} awe", None),
        ("awe \N{CROSS MARK}", None),
        ("- awe\n- fear", None),
        ("[awe, fear]", None),
        ("[awe](fear)", None),
        ("Here is one, not fear: awe", None),
        ('{"emotion": "awe", "or": "fear"}', None),
        ('{"emotion": "fear", "emotion": "awe"}', None),
        ('{"answer": "awe", "emotion": "fear"}', None),
        ('{"not": "awe"}', None),
        ('{"emotion": ["awe"]}', None),
        ("{" * 9_000 + "}", None),
    ],
)
def test_an_answer_is_one_of_the_words_or_it_is_none(raw, emotion):
    assert parse_emotion(raw, NAMES) == emotion


def test_the_request_holds_the_sentence_and_every_emotion_and_no_picture():
    with serving(says("fear")) as script:
        captioner = ServerCaptioner(script.url, "judge", environment={})
        assert blind_emotion(captioner, "A shadow\nfalls on the stairs.", NAMES) == "fear"
    (request,) = [request for request in script.requests if request.method == "POST"]
    (message,) = request.body["messages"]
    assert message["content"] == blind_prompt("A shadow falls on the stairs.", NAMES)
    assert "A shadow falls on the stairs." in message["content"]
    assert all(name in message["content"] for name in NAMES)


def test_what_is_no_name_is_asked_again_and_then_unclear():
    with serving(says("I would say fear"), says("awe")) as script:
        captioner = ServerCaptioner(script.url, "judge", environment={})
        assert blind_emotion(captioner, "A wave.", NAMES) == "awe"
        assert blind_emotion(captioner, "A wave.", NAMES, attempts=1) == "awe"
    with serving(says("hm")) as script:
        captioner = ServerCaptioner(script.url, "judge", environment={})
        assert blind_emotion(captioner, "A wave.", NAMES, attempts=2) == ""
    assert sum(request.method == "POST" for request in script.requests) == 2


def test_a_local_model_judges_batches_as_it_judges_each(tmp_path):
    judge = load_local_captioner(make_llava(tmp_path / "judge", "fear"))
    sentences = ["A shadow falls.", "A long wave breaks over the wall of the harbour.", "A dog."]
    assert blind_emotions(judge, sentences, NAMES) == ["fear"] * 3
    assert [blind_emotion(judge, sentence, NAMES) for sentence in sentences] == ["fear"] * 3
    assert judge.answer(Image.new("RGB", (9, 9)), "hm", PLAIN, lambda: False, lambda _n: None).text == "fear"
