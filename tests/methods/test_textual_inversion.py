"""A word per emotion: begun at the emotion's name, moved by its own pictures alone."""

from __future__ import annotations

from dataclasses import replace

import torch

from coemogen_train.base.generate import encode_prompts
from coemogen_train.methods.loop import prepare
from coemogen_train.methods.textual_inversion import TextualInversionDrawer, TextualInversionObjective
from coemogen_train.train.optimiser import GroupedAdamW


def test_an_absent_emotion_keeps_its_words(config, folder):
    ground = prepare(config, folder)
    objective = TextualInversionObjective(ground, tokens=2)
    optimiser = GroupedAdamW(objective.named_parameters(), 0.1)
    batch = replace(ground.batches(2).batch(0, range(4)), emotion=torch.eye(3)[[0, 0, 2, 2]])
    before = objective.words.detach().clone()
    for _ in range(2):
        losses = objective(batch)
        losses.total.backward()
        optimiser.step(losses.presence)
        optimiser.zero_grad()
    assert (before != objective.words).any(1).tolist() == [True, True, False, False, True, True]


def test_a_words_own_row_reads_as_the_word_itself(base):
    ids = base.tokenizer("x", add_special_tokens=False)["input_ids"]
    row = base.text_encoder.get_input_embeddings().weight.detach()[ids]
    drawer = TextualInversionDrawer(base, ("calm",), row[None])
    condition = drawer.condition(["calm"], 0, "a {emotion} tree")
    torch.testing.assert_close(condition.prompt_embeds, encode_prompts(base, ["a x tree"]))
