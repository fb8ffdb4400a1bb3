"""Several pictures at once from a model on this machine, with the very answers that each gets alone."""

import logging

import pytest
import torch
from PIL import Image

from coemogen_train.captions import Wording, load_local_captioner, write_caption, write_captions

from .tiny_vlm import ENDLESS, SENTENCE, make_llava, waver

SAID = SENTENCE.replace(" .", ".")
EMOTIONS = ["awe", "fear and a great deal of other feelings", "awe and fear"]


def picture(number):
    return Image.new("RGB", (60 + 20 * number, 90 - 10 * number), (70 * number, 60, 200))


def never():
    return False


@pytest.fixture(scope="module")
def soft(tmp_path_factory):
    """Its answers hang on every bit that it reads: no word is much likelier than another."""
    captioner = load_local_captioner(make_llava(tmp_path_factory.mktemp("models") / "soft"))
    waver(captioner.network)
    return captioner


@pytest.mark.parametrize("seen", [True, False], ids=["with pictures", "text alone"])
def test_a_batch_of_requests_of_different_lengths_gets_the_answers_of_each_alone(soft, seen):
    prompts = ["ASSISTANT: A girl", "A brown dog leaps through golden leaves", "laughs"]
    pictures = [picture(number) if seen else None for number in range(3)]
    together = soft.answers(pictures, prompts, Wording(12), never)
    alone = [
        soft.answer(shown, prompt, Wording(12), never, lambda _count: None)
        for shown, prompt in zip(pictures, prompts, strict=True)
    ]
    assert together == alone
    assert len({answer.text for answer in alone}) == 3
    assert not soft._one_by_one


def test_a_batch_is_captioned_and_only_what_is_faulty_is_asked_again(tmp_path):
    talker = load_local_captioner(make_llava(tmp_path / "talker"))
    captions = write_captions(talker, [picture(n) for n in range(3)], EMOTIONS)
    assert [(c.text, c.faults, c.attempts, c.model) for c in captions] == [(SAID, (), 1, "talker")] * 3
    assert captions == [write_caption(talker, picture(n), EMOTIONS[n]) for n in range(3)]

    endless = load_local_captioner(make_llava(tmp_path / "endless", ENDLESS, ends=False))
    captions = write_captions(
        endless, [picture(n) for n in range(3)], EMOTIONS, wording=Wording(30), attempts=2
    )
    assert all("repetition" in c.faults and c.attempts == 2 for c in captions)


def test_answers_that_end_early_end_there_and_others_go_on(tmp_path):
    captioner = load_local_captioner(make_llava(tmp_path / "soft"))
    with torch.no_grad():
        captioner.network.get_output_embeddings().weight.mul_(0.02)
    wording = Wording(16, 1.0, 3)
    answers = captioner.answers([picture(0)] * 8, ["hm"] * 8, wording, never)
    cut = [answer.cut_off for answer in answers]
    assert True in cut and False in cut  # some ended by themselves, some did not
    assert not any("<pad>" in answer.text or "</s>" in answer.text for answer in answers)
    assert answers == captioner.answers([picture(0)] * 8, ["hm"] * 8, wording, never)


def test_a_model_that_takes_one_picture_at_a_time_gets_one_at_a_time(tmp_path, monkeypatch, caplog):
    talker = load_local_captioner(make_llava(tmp_path / "talker"))
    generate = talker.network.generate

    def narrow(**inputs):
        if len(inputs["input_ids"]) > 1:
            raise ValueError("this model takes a batch of one")
        return generate(**inputs)

    monkeypatch.setattr(talker.network, "generate", narrow)
    with caplog.at_level(logging.WARNING):
        captions = write_captions(talker, [picture(n) for n in range(3)], EMOTIONS)
    assert [caption.text for caption in captions] == [SAID] * 3
    assert "takes one picture at a time" in caplog.text
