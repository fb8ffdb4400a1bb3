"""The emotion probe: a linear head on image features, trained on real pictures, that names the emotion.

A probe on the features that also condition the generator and filter its data is partial to them. So a probe
carries the name of its backbone and its own accuracy on real held-out pictures, and a table should show both
beside Emo-A.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..emotions.spelling import plain
from ..errors import DataError
from .metrics import confusion_matrix, emotion_accuracy

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

STRENGTHS = (0.01, 0.1, 1.0, 10.0)
# The strength is chosen on so many pictures at most: more hardly change which one is best, and cost hours.
_CHOSEN_ON = 20_000


@dataclass(frozen=True, eq=False)
class ProbeScore:
    """How a probe does on real pictures that it has not seen."""

    accuracy: float
    pictures: int
    # [E, E], rows the true emotion, columns the seen one, both in the order of the probe's classes
    confusion: IntArray


@dataclass(frozen=True, eq=False)
class EmotionProbe:
    """logits = weight ((features - mean) / scale) + bias.

    weight [E, V], bias [E], mean [V], scale [V], all float64; classes [E] in the order of the rows.
    `backbone` names the encoder of the features, and `encoder` is its fingerprint ("": not known, as of
    heads that others published); `trained_on` counts the pictures (0: not known); `licence` is theirs;
    `held_out` is None until the probe was scored.
    """

    classes: tuple[str, ...]
    weight: FloatArray
    bias: FloatArray
    mean: FloatArray
    scale: FloatArray
    backbone: str
    trained_on: int
    held_out: ProbeScore | None = None
    encoder: str = ""
    licence: str = ""

    @property
    def width(self) -> int:
        """Width V of the features that the probe reads."""
        return int(self.weight.shape[1])

    def logits(self, features: ArrayLike) -> FloatArray:
        """Scores [n, E] of features [n, V], columns in the order of `classes`."""
        array = np.asarray(features, dtype=np.float64)
        if array.ndim != 2 or array.shape[1] != self.width:
            raise DataError(
                f"The emotion probe reads features of width {self.width} ({self.backbone}), these have shape "
                f"{array.shape}: use the probe with the image encoder it was trained on."
            )
        return ((array - self.mean) / self.scale) @ self.weight.T + self.bias

    def probabilities(self, features: ArrayLike, names: Sequence[str] | None = None) -> FloatArray:
        """Probabilities [n, len(names)] of features [n, V], columns in the order of `names` or `classes`.

        With fewer names than classes the columns need not sum to one: nothing is renormalised.
        """
        logits = self.logits(features)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares = exponentials / exponentials.sum(axis=1, keepdims=True)
        return shares if names is None else shares[:, self.columns(names)]

    def predict(self, features: ArrayLike) -> list[str]:
        """The name of the likeliest emotion of each of [n, V] features."""
        return [self.classes[column] for column in self.logits(features).argmax(axis=1)]

    def columns(self, names: Sequence[str]) -> list[int]:
        """Where the named emotions stand among `classes`, forgiving case, spaces, underscores and hyphens.

        Raises:
            DataError: the probe was not taught one of them.
        """
        known = {plain(name): column for column, name in enumerate(self.classes)}
        missing = [name for name in dict.fromkeys(names) if plain(name) not in known]
        if missing:
            raise DataError(
                f"This emotion probe knows no {', '.join(missing)}, only {', '.join(self.classes)}: "
                "train one on pictures of these emotions."
            )
        return [known[plain(name)] for name in names]

    def knows(self, name: str) -> bool:
        """Whether an emotion is among `classes`, in any spelling."""
        return plain(name) in {plain(known) for known in self.classes}

    def require_encoder(self, fingerprint: str, name: str) -> None:
        """See that features come from the encoder that the probe was trained on.

        fingerprint, name: of the encoder at hand. A probe that knows no fingerprint takes any of its width.
        Raises: DataError for another one.
        """
        if self.encoder and self.encoder != fingerprint:
            raise DataError(
                f"the emotion probe was trained on the features of {self.backbone}, which {name} does not "
                "give: name the same CLIP with --vision, or train a probe on this one."
            )

    def score(self, features: ArrayLike, labels: Sequence[str]) -> ProbeScore:
        """Accuracy and confusion on real pictures: features [n, V], labels [n]."""
        seen = self.predict(features)
        true = [self.classes[column] for column in self.columns(labels)]
        return ProbeScore(emotion_accuracy(seen, true), len(true), confusion_matrix(seen, true, self.classes))


def fit_probe(
    features: ArrayLike,
    labels: Sequence[str],
    classes: Sequence[str],
    *,
    held_out: tuple[ArrayLike, Sequence[str]] | None = None,
    backbone: str = "image features",
    strength: float | Sequence[float] = STRENGTHS,
    seed: int = 0,
) -> EmotionProbe:
    """Train a probe by multinomial logistic regression on standardised features of real pictures.

    Args:
        features: [n, V], finite.
        labels: [n] emotion names.
        classes: [E] names in the order that the probe shall have, at least two, each with a picture.
        held_out: features [m, V] and labels [m] of pictures that were kept apart; they only score the probe.
        backbone: what made the features.
        strength: inverse of the L2 penalty (scikit-learn's C); of several, the one with the best
            cross-validated log loss on the training pictures (20,000 of them at most) is taken.
        seed: shuffles the folds of that cross-validation; the fit itself has no chance in it.

    Raises:
        DataError: a class without pictures, a label that is no class, or features that do not fit.
    """
    array, numbers = _training_arrays(features, labels, classes)
    candidates = (strength,) if isinstance(strength, int | float) else tuple(strength)
    chosen = candidates[0] if len(candidates) == 1 else _best_strength(array, numbers, candidates, seed)
    mean, scale = _standard(array)
    weight, bias = _logistic_regression(_standardised(array, mean, scale), numbers, chosen)
    probe = EmotionProbe(tuple(classes), weight, bias, mean, scale, backbone, len(array))
    return probe if held_out is None else replace(probe, held_out=probe.score(*held_out))


def _training_arrays(
    features: ArrayLike, labels: Sequence[str], classes: Sequence[str]
) -> tuple[FloatArray, IntArray]:
    array = np.asarray(features, dtype=np.float64)
    if array.ndim != 2 or len(array) != len(labels):
        raise DataError(f"A probe needs one row of features per label, not {array.shape} and {len(labels)}.")
    if not np.isfinite(array).all():
        raise DataError("Some image features are not finite numbers: encode the pictures again in fp32.")
    if len(set(classes)) != len(classes) or len(classes) < 2:
        raise DataError("A probe tells at least two different emotions apart.")
    index = {name: number for number, name in enumerate(classes)}
    if unknown := sorted(set(labels) - set(index)):
        raise DataError(
            f"The pictures show {', '.join(unknown)}, which the probe shall not know: add or drop them."
        )
    if empty := [name for name in classes if name not in set(labels)]:
        raise DataError(
            f"There is no training picture of {', '.join(empty)}: a probe needs some of every emotion."
        )
    return array, np.array([index[label] for label in labels], dtype=np.int64)


def _standard(features: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation [V]; a constant feature is left as it is instead of divided by nothing."""
    scale = features.std(axis=0)
    scale[scale <= 1e-12 * np.abs(features).max(initial=1.0)] = 1.0
    return features.mean(axis=0), scale


def _standardised(features: FloatArray, mean: FloatArray, scale: FloatArray) -> FloatArray:
    """(features - mean) / scale with one new array, not two: these are the large ones."""
    array = features - mean
    array /= scale
    return array


def _logistic_regression(
    standardised: FloatArray, numbers: IntArray, strength: float
) -> tuple[FloatArray, FloatArray]:
    """Weight [E, V] and bias [E] of the multinomial fit."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, max_iter=5000, tol=1e-6).fit(standardised, numbers)
    weight = np.asarray(model.coef_, dtype=np.float64)
    bias = np.asarray(model.intercept_, dtype=np.float64)
    if len(weight) == 1:  # of two classes only the second one's log odds are given: half to each side
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return weight, bias


def _best_strength(features: FloatArray, numbers: IntArray, candidates: Sequence[float], seed: int) -> float:
    """The candidate with the lowest cross-validated log loss; the stronger penalty where two are equal."""
    from sklearn.model_selection import StratifiedKFold

    classes, fewest = int(numbers.max()) + 1, np.bincount(numbers).min()
    if len(features) > _CHOSEN_ON:
        chosen = np.sort(np.random.default_rng(seed).permutation(len(features))[:_CHOSEN_ON])
        features, numbers = features[chosen], numbers[chosen]
        fewest = np.bincount(numbers, minlength=classes).min()
    folds = min(4, int(fewest))
    if folds < 2:
        return 1.0 if 1.0 in candidates else candidates[0]
    splits = list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(features, numbers))

    def loss(strength: float) -> float:
        total = 0.0
        for train, test in splits:
            mean, scale = _standard(features[train])
            weight, bias = _logistic_regression(
                _standardised(features[train], mean, scale), numbers[train], strength
            )
            logits = _standardised(features[test], mean, scale) @ weight.T + bias
            peak = logits.max(axis=1)
            normaliser = peak + np.log(np.exp(logits - peak[:, None]).sum(axis=1))
            total += float((normaliser - logits[np.arange(len(test)), numbers[test]]).sum())
        return total

    return min(sorted(candidates), key=loss)
