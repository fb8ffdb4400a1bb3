"""Which pictures of its set a run uses, and whether they are fit for it and where the set says."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np

from ..data.digests import DigestSet, digests_of
from ..data.report import printable
from ..data.samples import Sample, SampleRows, TrainingSet
from ..emotions import Taxonomy
from ..errors import DataError
from .config import TrainConfig
from .disk import CacheStock
from .items import column_codes, emotion_counts, of_emotions

# Asking a network drive for one file takes its time; many at once take hardly more.
_ASKERS, _ASKED_TOGETHER = 32, 256
_EXAMPLES = 3
_FITTED = 25_000  # of an emotion


def training_samples(training_set: TrainingSet, taxonomy: Taxonomy, captions_needed: bool) -> SampleRows:
    """Give the kept samples of the training split that show one of `taxonomy`'s emotions, sorted by id.

    Raises:
        DataError: an emotion that the set does not know, no picture at all, none of some emotion, or some
            without the caption that the semantic loss needs.
    """
    root = training_set.root
    kept = training_set.samples("train", kept_only=True)
    check_labels(training_set)
    samples = of_emotions(kept, taxonomy.names)
    if not len(samples):
        raise DataError(f"{root}: the set has no picture to train on; look at what `prepare` told.")
    used = emotion_counts(samples)
    if empty := [name for name in taxonomy.names if name not in used]:
        others = ", ".join(f'"{name}"' for name in taxonomy.names if name in used)
        raise DataError(
            f"{root}: no picture to train on is kept for {', '.join(empty)}: add some with `prepare`, or "
            f"train the others alone: --set 'emotions=[{others}]'."
        )
    silent = samples.masked(samples.columns("caption")["caption"].is_null().to_numpy())
    if captions_needed and len(silent):
        raise DataError(
            f"{root}: {len(silent)} of {len(samples)} training pictures have no caption (such as "
            f"{printable(silent[0].id)}); write them with `caption`, or train without: --set "
            "semantic_weight=0."
        )
    return samples


def validation_samples(training_set: TrainingSet, taxonomy: Taxonomy, config: TrainConfig) -> list[Sample]:
    """Give the pictures of the validation loss: at most `config.validation_pictures` of each emotion.

    Which ones follows from the contents of the pictures, so another order, another name or another emotion
    in the set changes nothing. Those without a caption are passed over when the semantic loss needs one.

    Returns:
        Sorted by id; [] when `validate_every` is 0 or nothing is held out.
    """
    if not config.validate_every:
        return []
    samples = of_emotions(training_set.samples(config.validation_split, kept_only=True), taxonomy.names)
    if config.semantic_weight:
        samples = samples.captioned()
    return list(_some_of_each(samples, config.validation_pictures))


def to_fit_on(samples: SampleRows) -> SampleRows:
    """Give the pictures that the Gaussian clusters are fitted on: all, or 25,000 of an emotion with more.

    That is 32 pictures for each number of an embedding 768 wide. In double precision, 8 emotions' are 1.2 GB;
    all pictures of a set of millions would be more than most machines' memory, several times over. Which ones
    follows from their contents, as with `validation_samples`.
    """
    return _some_of_each(samples, _FITTED)


def _some_of_each(samples: SampleRows, most: int) -> SampleRows:
    """At most so many of each emotion, those whose content hashes come first; in the order of `samples`."""
    names, codes = column_codes(samples, "emotion")
    if np.bincount(codes, minlength=1).max() <= most:
        return samples
    digests, chosen = digests_of(samples), np.zeros(len(samples), dtype=bool)
    for code in range(len(names)):
        own = np.flatnonzero(codes == code)
        chosen[own[np.argsort(digests[own], kind="stable")][:most]] = True
    return samples.masked(chosen)


def check_labels(training_set: TrainingSet) -> None:
    """Refuse a set with labels that its own taxonomy does not have.

    Raises:
        DataError: with the labels and a picture.
    """
    known, samples = training_set.taxonomy.names, training_set.samples()
    unknown = emotion_counts(samples).keys() - set(known)
    if unknown:
        strange = of_emotions(samples, [*unknown])
        labels = ", ".join(sorted(map(printable, unknown))[:_EXAMPLES])
        raise DataError(
            f"{training_set.root}: {len(strange)} pictures (such as {printable(strange[0].id)}) are labelled "
            f"{labels}, which the set's taxonomy does not have: make the set anew with `prepare`."
        )


def check_variety(training_set: TrainingSet, samples: SampleRows) -> None:
    """Refuse a set in which no emotion has two pictures: its clusters could not be fitted at the end.

    Raises:
        DataError: otherwise.
    """
    if len(samples) == len(emotion_counts(samples)):
        raise DataError(
            f"{training_set.root}: every emotion has one picture only, so nothing shows how they vary: add "
            "some to one of them at least."
        )


def check_pictures(training_set: TrainingSet, held_out: Sequence[Sample], stock: CacheStock) -> None:
    """Refuse a set whose pictures are not where it says, unless the cache holds all that is needed of them.

    The cache looks at every picture of the set, for its CLIP features, and for latents at the training split,
    whatever the filter says, and at what is held out.

    Raises:
        DataError: how many are missing, and the first of them.
    """
    samples = training_set.samples()
    digests, (splits, codes) = digests_of(samples), column_codes(samples, "split")
    encoded = np.array([split == "train" for split in splits], dtype=bool)[codes]
    encoded |= DigestSet(digests_of(held_out)).places(digests) >= 0
    needed = (stock.embeds.places(digests) < 0) | (encoded & (stock.latents.places(digests) < 0))
    missing = sorted({*missing_files(str(sample.image) for sample in samples.masked(needed))})
    if missing:
        names = ", ".join(printable(name, None) for name in missing[:_EXAMPLES])
        more = ", ..." if len(missing) > _EXAMPLES else ""
        raise DataError(
            f"{training_set.root}: {len(missing)} of {len(samples)} pictures are not where the set says "
            f"({names}{more}): put them back, or run `prepare` again from where they are now."
        )


def missing_files(paths: Iterable[str]) -> list[str]:
    """Give those of `paths` that are no files; 118,000 take a second on a disk of one's own."""

    def absent(chunk: list[str]) -> list[str]:
        return [path for path in chunk if not os.path.isfile(path)]

    missing: list[str] = []
    remaining = iter(paths)
    with ThreadPoolExecutor(_ASKERS) as pool:
        while together := list(islice(remaining, _ASKERS * _ASKED_TOGETHER)):
            starts = range(0, len(together), _ASKED_TOGETHER)
            chunks = [together[start : start + _ASKED_TOGETHER] for start in starts]
            missing += [path for found in pool.map(absent, chunks) for path in found]
    return missing
