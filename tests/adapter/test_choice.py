"""An emotion as it was chosen: rows that come round, gates at two strengths, words for people."""

from __future__ import annotations

import pytest
import torch

from coemogen_train.adapter.choice import EmotionChoice, cycled
from coemogen_train.emotions import MIKELS, parse_mixture


@pytest.fixture
def choose(make_adapter):
    def choose(mixture, **strengths):
        rows = torch.tensor(parse_mixture(mixture, MIKELS))
        return EmotionChoice(make_adapter(MIKELS), "eight.safetensors", rows, **strengths)

    return choose


def test_rows_come_round_when_there_are_more_pictures():
    rows = torch.arange(6.0).view(3, 2)
    assert cycled(rows, 5)[:, 0].tolist() == [0, 2, 4, 0, 2]
    assert cycled(rows, 2)[:, 0].tolist() == [0, 2]
    assert cycled(rows, 0).shape == (0, 2)


def test_gates_are_hiloras_at_the_two_strengths(choose):
    choice = choose("awe; fear 0.5", emotion_strength=0.5, polarity_strength=2.0)
    gates = choice.gates()
    hilora = choice.adapter.hilora
    assert gates.shape == (2, hilora.gate_width)
    awe, positive = MIKELS.index("awe"), MIKELS.num_emotions
    scale = hilora.alpha / hilora.rank
    assert gates[0, awe * hilora.rank] == 0.5 * scale
    assert gates[0, positive * hilora.rank] == 2.0 * scale
    assert gates[0].count_nonzero() == 2 * hilora.rank


def test_strength_0_is_no_gate_at_all(choose):
    assert not choose("all", emotion_strength=0.0, polarity_strength=0.0).gates().any()


@pytest.mark.parametrize(
    ("mixture", "words"),
    [
        ("awe", "awe"),
        ("awe 0.3 + fear 0.7", "fear and awe"),
        ("awe 0.2 + fear 0.5 + anger 0.3", "fear, anger and awe"),
    ],
)
def test_words_name_the_strongest_first(choose, mixture, words):
    assert choose(mixture).words(0) == words


def test_words_and_mixtures_come_round_as_the_rows_do(choose):
    choice = choose("awe; fear 0.5")
    assert [choice.words(i) for i in range(3)] == ["awe", "fear", "awe"]
    assert choice.mixture(1) == "fear 0.5"
