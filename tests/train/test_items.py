"""Items that are made when asked for are those that would have been made at once."""

import hashlib
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from coemogen_train.data.samples import TrainingSet
from coemogen_train.errors import TaxonomyError
from coemogen_train.files import canonical_json
from coemogen_train.train import pictures
from coemogen_train.train.config import make_config
from coemogen_train.train.items import (
    TrainingItem,
    TrainingItems,
    column_codes,
    emotion_counts,
    labels_of,
    of_emotions,
)
from coemogen_train.train.pictures import to_fit_on
from coemogen_train.train.prompts import content_words
from coemogen_train.train.start import begin


@pytest.fixture()
def opened(training_set) -> TrainingSet:
    return TrainingSet.open(training_set)


def test_items_are_made_of_their_samples(opened):
    taxonomy, samples = opened.taxonomy, opened.samples("train")
    expected = [
        TrainingItem(
            id=sample.id,
            emotion=taxonomy.names.index(sample.emotion),
            caption=sample.caption,
            content=content_words(sample.caption, sample.objects, sample.scene, taxonomy.names),
        )
        for sample in samples
    ]
    for of in (samples, list(samples)):
        items = TrainingItems(of, taxonomy)
        assert list(items) == items[:] == expected and items[3:5] == expected[3:5]
        assert items.labels.tolist() == [item.emotion for item in expected]


def test_columns_are_counted_as_samples_would_be(opened):
    samples = opened.samples()
    assert emotion_counts(samples) == emotion_counts(list(samples)) == Counter(s.emotion for s in samples)
    words, codes = column_codes(samples, "split")
    assert [words[code] for code in codes] == [sample.split for sample in samples]
    two = of_emotions(samples, ("joy", "storm"))
    assert [s.id for s in two] == [s.id for s in samples if s.emotion != "calm"]
    assert not len(of_emotions(samples, ())) and not emotion_counts(samples[:0])
    # The words of a column stay those of the whole set, and count for nothing.
    assert emotion_counts(two).keys() == {"joy", "storm"}


def test_an_emotion_that_is_not_there_is_refused_only_where_it_is_used(opened):
    from coemogen_train.emotions import Taxonomy

    less = Taxonomy("less", opened.taxonomy.emotions[1:])
    two = of_emotions(opened.samples(), less.names)
    np.testing.assert_array_equal(labels_of(two, less), [less.names.index(s.emotion) for s in two])
    with pytest.raises(TaxonomyError):
        labels_of(opened.samples(), less)


def test_the_hash_of_what_is_trained_on_is_that_of_one_list(settings):
    """Runs that were begun when it was hashed at once can go on."""
    start = begin(make_config(settings))
    told = [
        [sample.id, sample.sha256, sample.emotion, sample.caption, sample.scene, list(sample.objects)]
        for sample in start.samples
    ]
    assert start.fingerprint == hashlib.sha256(canonical_json(told).encode("utf-8")).hexdigest()
    told.append("an adapter's")
    expected = hashlib.sha256(canonical_json(told).encode("utf-8")).hexdigest()
    assert replace(start, source_sha256="an adapter's").fingerprint == expected


def test_clusters_are_fitted_on_so_many_of_an_emotion_whatever_they_are_called(opened, monkeypatch):
    samples = opened.samples("train")
    assert to_fit_on(samples) is samples
    monkeypatch.setattr(pictures, "_FITTED", 3)
    some = to_fit_on(samples)
    for emotion in opened.taxonomy.names:
        of_it = sorted(sample.sha256 for sample in samples if sample.emotion == emotion)
        assert sorted(sample.sha256 for sample in some if sample.emotion == emotion) == of_it[:3]
    assert [sample.id for sample in some] == sorted(sample.id for sample in some)
