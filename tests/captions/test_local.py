"""A model on this machine: real transformers classes, tiny, told in advance what to say."""

import builtins
import json
import logging
import sys
import time

import pytest
import torch
from PIL import Image

from coemogen_train.captions.caption import CaptionStopped, Wording, write_caption
from coemogen_train.captions.local import check_local_captioner, load_local_captioner
from coemogen_train.captions.model_folder import (
    check_model_folder,
    folder_fingerprint,
    is_model_folder,
    sees_pictures,
)
from coemogen_train.errors import CaptionError

from .tiny_vlm import ENDLESS, SENTENCE, make_llava

PICTURE = Image.new("RGB", (90, 60), (30, 60, 200))
SAID = SENTENCE.replace(" .", ".")


def never():
    return False


def ignore(count):
    pass


@pytest.fixture(scope="module")
def talker(tmp_path_factory):
    return load_local_captioner(make_llava(tmp_path_factory.mktemp("models") / "tiny llava"))


@pytest.fixture(scope="module")
def endless(tmp_path_factory):
    return load_local_captioner(
        make_llava(tmp_path_factory.mktemp("models") / "endless", ENDLESS, ends=False)
    )


@pytest.fixture
def folder(tmp_path):
    return make_llava(tmp_path / "tiny")


def test_a_model_can_be_looked_at_without_its_weights(folder):
    (folder / "model.safetensors").write_bytes(b"")
    check_local_captioner(folder)


def test_a_model_folder_captions(talker):
    counts = []
    caption = write_caption(talker, PICTURE, "amusement", on_token=counts.append)
    assert (caption.text, caption.faults, caption.attempts, caption.model) == (SAID, (), 1, "tiny llava")
    assert counts == list(range(1, len(SENTENCE.split()) + 2))  # the words, and the end


def test_a_model_without_a_chat_template_captions_too(tmp_path):
    captioner = load_local_captioner(make_llava(tmp_path / "plain", template=False))
    assert write_caption(captioner, PICTURE, "awe").text == SAID


@pytest.mark.parametrize(
    "picture",
    [Image.new("L", (4000, 10)), Image.new("RGBA", (1, 1)), PICTURE],
    ids=["sliver", "dot", "ordinary"],
)
def test_pictures_of_any_size_and_mode_are_seen(talker, picture):
    assert write_caption(talker, picture, "awe").text == SAID


def test_an_endless_answer_stops_at_its_limit_and_is_told(endless):
    answer = endless.answer(PICTURE, "hm", Wording(30), never, ignore)
    assert answer.cut_off and len(answer.text.split()) == 30
    caption = write_caption(endless, PICTURE, "awe", wording=Wording(30), attempts=2)
    assert "repetition" in caption.faults and caption.attempts == 2


def test_cancel_is_heard_at_the_next_token(endless):
    counts = []
    with pytest.raises(CaptionStopped):
        endless.answer(PICTURE, "hm", Wording(4000), lambda: len(counts) >= 7, counts.append)
    assert len(counts) == 7


def test_cancel_before_the_first_token_is_heard(endless):
    with pytest.raises(CaptionStopped):
        endless.answer(PICTURE, "hm", Wording(4000), lambda: True, ignore)


def test_what_is_told_of_progress_may_interrupt_by_itself(endless):
    class Interrupted(Exception):
        pass

    def interrupt(count):
        if count == 5:
            raise Interrupted

    with pytest.raises(Interrupted):
        endless.answer(PICTURE, "hm", Wording(4000), never, interrupt)


def test_the_likeliest_words_are_the_same_every_time_and_seeds_are_heard(tmp_path):
    captioner = load_local_captioner(make_llava(tmp_path / "soft"))
    with torch.no_grad():
        captioner.network.get_output_embeddings().weight.mul_(0.02)  # every word nearly as likely as another

    def say(temperature, seed):
        return captioner.answer(PICTURE, "hm", Wording(12, temperature, seed), never, ignore).text

    assert say(0.0, 1) == say(0.0, 2)
    assert say(1.0, 1) == say(1.0, 1) != say(1.0, 2)


def test_random_numbers_of_others_stay_as_they_were(talker):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    talker.answer(PICTURE, "hm", Wording(5, 0.7, 9), never, ignore)
    assert torch.equal(torch.rand(3), expected)


def test_weights_come_in_the_dtype_that_was_asked_for(folder):
    captioner = load_local_captioner(folder, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in captioner.network.parameters()} == {torch.bfloat16}
    assert not captioner.network.training
    assert write_caption(captioner, PICTURE, "awe").text == SAID


def test_a_missing_transformers_is_one_sentence(folder, monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **options):
        if name.split(".")[0] == "transformers":
            raise ImportError("No module named 'transformers'")
        return real(name, *arguments, **options)

    monkeypatch.delitem(sys.modules, "transformers", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        CaptionError, match=r"needs the Python package transformers.*install it \(4\.48 or newer\)"
    ):
        load_local_captioner(folder)


def change_config(folder, **changes):
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps(config), encoding="utf-8")


def test_code_beside_a_model_never_runs(folder, tmp_path):
    code = f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n"
    for name in ("configuration_odd.py", "modeling_odd.py"):
        (folder / name).write_text(code, encoding="utf-8")
    change_config(
        folder,
        model_type="odd",
        auto_map={
            "AutoConfig": "configuration_odd.OddConfig",
            "AutoModelForImageTextToText": "modeling_odd.Odd",
            "AutoProcessor": "modeling_odd.OddProcessor",
        },
    )
    for look in (check_local_captioner, load_local_captioner):
        with pytest.raises(CaptionError, match=r"\('odd'\) wants to run code of its own") as told:
            look(folder)
        assert "\n" not in str(told.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"attn_implementation": "someone/kernel"},
        {"_attn_implementation": "someone/kernel:attention"},
        {"text_config": {"_attn_implementation_internal": "someone/kernel"}},
        {"attn_implementation": {"text_config": "sdpa", "vision_config": "someone/kernel"}},
        {"experts_implementation": "someone/experts"},
        {"vision_config": {"_experts_implementation_internal": "someone/experts"}},
        {"attn_implementation": "flash_attention_2"},  # fetched too, where only the package kernels is there
        {"attn_implementation": "paged|someone/kernel"},
        {"attn_implementation": True},
    ],
)
def test_attention_from_elsewhere_is_never_fetched(folder, changes):
    change_config(folder, **changes)
    with pytest.raises(CaptionError, match="asks for code from elsewhere"):
        load_local_captioner(folder)


def test_attention_that_pytorch_has_is_no_reason(folder):
    change_config(
        folder,
        attn_implementation={"text_config": "eager", "vision_config": "sdpa"},
        _attn_implementation=None,
        _attn_implementation_autoset=True,  # as transformers 4.48 and later wrote into many
    )
    assert check_model_folder(folder)


def test_a_configuration_of_any_depth_is_looked_through(folder):
    nested = '{"a":' * 3000 + '{"attn_implementation": "someone/kernel"}' + "}" * 3000
    path = folder / "config.json"
    path.write_text(nested, encoding="utf-8")
    with pytest.raises(CaptionError, match=r"asks for code from elsewhere|cannot be read"):
        check_model_folder(folder)


def test_a_model_that_transformers_does_not_know_is_one_sentence(folder):
    change_config(folder, model_type="of-tomorrow")
    for look in (check_local_captioner, load_local_captioner):
        with pytest.raises(CaptionError, match=r"\('of-tomorrow'; .*update transformers") as told:
            look(folder)
        assert "\n" not in str(told.value)


def test_pickled_weights_are_refused(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CaptionError, match=r"has no \.safetensors weights"):
        load_local_captioner(folder)


def test_a_pickle_is_not_opened_even_beside_other_weights(folder):
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n.")
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    with pytest.raises(CaptionError, match="cannot open the model in"):
        load_local_captioner(folder)


def test_weights_that_lack_something_are_refused_instead_of_filled_with_noise(folder, caplog):
    from safetensors.torch import load_file, save_file

    caplog.set_level(logging.CRITICAL)
    path = folder / "model.safetensors"
    tensors = load_file(path)
    del tensors[next(name for name in tensors if name.endswith("q_proj.weight"))]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(CaptionError, match=r"lack '.*q_proj\.weight' and 0 more"):
        load_local_captioner(folder)


def test_broken_folders_are_one_sentence_each(tmp_path, folder):
    with pytest.raises(CaptionError, match=r"holds no captioning model \(it has no config\.json\)"):
        load_local_captioner(tmp_path / "nothing")
    (folder / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(CaptionError, match="adapter on another model"):
        load_local_captioner(folder)
    (folder / "adapter_config.json").unlink()
    (folder / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(CaptionError, match="check that the folder is whole"):
        load_local_captioner(folder)
    for text in ("{", "[]", "[" * 100_000, "\x00"):
        (folder / "config.json").write_text(text, encoding="utf-8")
        with pytest.raises(CaptionError, match=r"config\.json .*again"):
            load_local_captioner(folder)


def test_a_model_that_reads_text_alone_is_told(tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    from .tiny_vlm import make_tokenizer

    folder = tmp_path / "text"
    config = LlamaConfig(
        vocab_size=32, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    LlamaForCausalLM(config).save_pretrained(str(folder))
    make_tokenizer("a b").save_pretrained(str(folder))
    assert is_model_folder(folder) and not sees_pictures(folder)
    with pytest.raises(CaptionError, match=r"cannot open the model|reads text alone"):
        load_local_captioner(folder)


def test_a_models_folder_is_known_and_its_fingerprint_follows_its_files(folder):
    assert is_model_folder(folder) and sees_pictures(folder)
    assert not is_model_folder(folder.parent) and not sees_pictures(folder.parent)
    before = folder_fingerprint(folder)
    assert folder_fingerprint(folder) == before
    time.sleep(0.01)
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    assert folder_fingerprint(folder) != before
