"""T(c) from the cache is T(c) as it is computed, and nothing is computed where it is cached."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from coemogen_train.adapter.condition import encode_text, prompt_ids
from coemogen_train.data import CacheOptions, TrainingSet, build_cache
from coemogen_train.data.caption_features import CaptionEncoder, caption_text
from coemogen_train.errors import DataError
from coemogen_train.train.history import read_history
from coemogen_train.train.objective import CoEmoGenObjective
from tests.train.test_loop import quiet_train


@pytest.fixture()
def own_set(training_set, tmp_path) -> TrainingSet:
    shutil.copytree(training_set, tmp_path / "set", ignore=shutil.ignore_patterns("cache"))
    return TrainingSet.open(tmp_path / "set")


def curve(run: Path) -> np.ndarray:
    return np.array([(record.ldm, record.semantic) for record in read_history(run / "history.jsonl")])


@pytest.mark.parametrize("form", ["sequence", "pooled"])
def test_the_loss_curve_is_that_of_a_run_without(settings, tmp_path, form, monkeypatch):
    changes = {"semantic_loss": form, "content_prompts": 0.5}
    quiet_train(settings, out=str(tmp_path / "without"), **changes)
    computed = []
    real = CoEmoGenObjective._caption
    monkeypatch.setattr(CoEmoGenObjective, "_caption", lambda *given: computed.append(1) or real(*given))
    quiet_train(settings, out=str(tmp_path / "exact"), cache_captions="float32", **changes)
    quiet_train(settings, out=str(tmp_path / "half"), cache_captions=True, **changes)
    assert not computed
    np.testing.assert_allclose(curve(tmp_path / "exact"), curve(tmp_path / "without"), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(curve(tmp_path / "half"), curve(tmp_path / "without"), rtol=1e-2)


def test_features_are_those_of_the_text_encoder_alone_on_the_caption(own_set, base):
    rows = [
        {"id": sample.id, "sha256": sample.sha256, "caption": text, "origin": "given"}
        for sample, text in zip(
            own_set.samples(), ["a tree", "a tree", "a {emotion} sea", "", *["b"] * 99], strict=False
        )
    ]
    own_set.write_captions(rows)
    options = CacheOptions(caption_dtype="float32", caption_batch_size=3)
    cache = build_cache(own_set, captions=CaptionEncoder(base), options=options)
    texts = {caption_text(sample.caption) for sample in own_set.samples("train").captioned()}
    assert len(cache.stores.captions) == len(texts) and "a   sea" in texts
    for text in texts:
        ids = prompt_ids(base.tokenizer, text, 0, base.max_length).input_ids[None]
        with torch.no_grad():
            states = encode_text(base.text_encoder, ids, base.tokenizer.eos_token_id)
        torch.testing.assert_close(cache.caption_states(text, "hidden"), states.hidden[0], rtol=0, atol=2e-6)
        torch.testing.assert_close(cache.caption_states(text, "pooled"), states.pooled[0], rtol=0, atol=2e-6)
    with pytest.raises(DataError, match="no features of the caption 'another'"):
        cache.caption_states("another", "hidden")


def test_another_text_encoder_clip_skip_or_type_is_another_store(own_set, base, base_folder):
    from coemogen_train.base.load import load_base

    stores = set()
    skipping = load_base(str(base_folder), clip_skip=2)
    other = load_base(str(base_folder))
    with torch.no_grad():
        next(other.text_encoder.parameters())[0, 0] += 1
    for encoder, dtype in ((base, "float16"), (base, "float32"), (skipping, "float16"), (other, "float16")):
        options = CacheOptions(caption_dtype=dtype)
        made = build_cache(own_set, captions=CaptionEncoder(encoder), options=options)
        stores.add(made.stores.captions.store.folder)
    assert len(stores) == 4 == len(list(own_set.cache_folder.iterdir()))


def test_captions_are_cached_whatever_the_filter_says_and_the_held_out_are_not(own_set, base):
    texts = {sample.caption for sample in own_set.samples("train")}
    held_out = own_set.samples("val")[0].caption
    cache = build_cache(own_set, captions=CaptionEncoder(base))
    assert len(cache.stores.captions) == len(texts)
    assert held_out not in texts
    with pytest.raises(DataError):
        cache.caption_states(held_out, "hidden")


def test_validation_computes_the_captions_that_are_not_cached(settings):
    result = quiet_train(settings, cache_captions=True, validate_every=3)
    assert result.validation is not None


def test_without_the_semantic_loss_no_caption_is_cached(settings, own_set):
    quiet_train(settings, set=str(own_set.root), cache_captions=True, semantic_weight=0, steps=1)
    assert not list(own_set.cache_folder.glob("captions*"))
