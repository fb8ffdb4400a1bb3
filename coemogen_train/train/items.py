"""What a run knows of its pictures: read from the set's table when asked for, not held as objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..data.caption_features import caption_text
from ..data.samples import Sample, SampleRows
from ..emotions import Taxonomy
from .prompts import content_words

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class TrainingItem:
    """What a batch needs to know of one picture; `content` is what stands in its neutral prompts."""

    id: str
    emotion: int
    caption: str = ""
    content: tuple[str, ...] = ()


class TrainingItems(Sequence[TrainingItem]):
    """The items of samples, in their order, each made when it is asked for.

    labels: [n], the number of each one's emotion.
    """

    def __init__(self, samples: Sequence[Sample], taxonomy: Taxonomy):
        """Raises: TaxonomyError for an emotion that the taxonomy does not have."""
        self._samples, self._taxonomy = samples, taxonomy
        self.labels = labels_of(samples, taxonomy)

    def __len__(self) -> int:
        return len(self._samples)

    @overload
    def __getitem__(self, index: int) -> TrainingItem: ...
    @overload
    def __getitem__(self, index: slice) -> list[TrainingItem]: ...
    def __getitem__(self, index: int | slice) -> TrainingItem | list[TrainingItem]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        sample = self._samples[index]
        return TrainingItem(
            id=sample.id,
            emotion=int(self.labels[index]),
            caption=caption_text(sample.caption),
            content=content_words(sample.caption, sample.objects, sample.scene, self._names),
        )

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return self._taxonomy.names


def labels_of(samples: Sequence[Sample], taxonomy: Taxonomy) -> Labels:
    """The number of each sample's emotion: [n]. Raises: TaxonomyError for one that is not there."""
    if not isinstance(samples, SampleRows):
        return np.array([taxonomy.index(sample.emotion) for sample in samples], dtype=np.int64)
    names, codes = column_codes(samples, "emotion")
    used = set(np.unique(codes).tolist())
    known = [taxonomy.index(name) if number in used else -1 for number, name in enumerate(names)]
    return np.array(known, dtype=np.int64)[codes]


def column_codes(samples: SampleRows, name: str) -> tuple[list[str], Labels]:
    """A column of few words, such as "emotion" or "split": (the words, which of them each sample has [n])."""
    column = samples.columns(name)[name].combine_chunks()
    if isinstance(column, pa.ChunkedArray):  # older pyarrow's, where there is nothing
        return [], np.empty(0, dtype=np.int64)
    return column.dictionary.to_pylist(), column.indices.to_numpy().astype(np.int64)


def emotion_counts(samples: Sequence[Sample]) -> Counter[str]:
    """How many samples have each emotion."""
    if not isinstance(samples, SampleRows):
        return Counter(sample.emotion for sample in samples)
    names, codes = column_codes(samples, "emotion")
    counts = np.bincount(codes, minlength=len(names)).tolist()
    return Counter({name: count for name, count in zip(names, counts, strict=True) if count})


def of_emotions(samples: SampleRows, names: Sequence[str]) -> SampleRows:
    """Those samples that show one of some emotions."""
    known, codes = column_codes(samples, "emotion")
    wanted = np.array([name in names for name in known], dtype=bool)
    return samples if not len(samples) or wanted[codes].all() else samples.masked(wanted[codes])
