"""Tiny multimodal models, made on the spot: transformers' real classes and processors at small widths.

The language model is a chain: each word has a direction of its own, every layer adds nothing, and the output
layer maps a word's direction to the word that comes after it. So what it says is known without any training.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

SENTENCE = "A brown dog leaps through golden leaves while one girl laughs ."
ENDLESS = "A dog runs past trees and houses and runs"
SPECIAL = {
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "image_token": "<image>",
}
ANSWER = "ASSISTANT:"
TEMPLATE = (
    "{% for m in messages %}USER: {% for c in m['content'] %}{% if c['type'] == 'image' %}<image> "
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)
_IMAGE, _PATCH = 16, 8


def make_tokenizer(sentence: str) -> Any:
    """Words as they stand between spaces; whatever is not in the sentence is unknown."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = dict.fromkeys([*SPECIAL.values(), ANSWER, *sentence.split()])
    bare = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(words)}, unk_token=SPECIAL["unk_token"])
    )
    bare.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=bare,
        extra_special_tokens={"image_token": SPECIAL["image_token"]},
        clean_up_tokenization_spaces=False,
        **SPECIAL,
    )


def chain_of(tokenizer: Any, sentence: str, ends: bool) -> dict[int, int]:
    """For each word the one that follows; the last is followed by the end, or by the first."""
    ids = tokenizer.convert_tokens_to_ids([ANSWER, *sentence.split()])
    follow = dict(pairwise(ids))
    follow[ids[-1]] = tokenizer.eos_token_id if ends else ids[1]
    return follow


def make_llava(folder: Path, sentence: str = SENTENCE, ends: bool = True, template: bool = True) -> Path:
    """A LLaVA that says `sentence` to any picture, over and over where it does not end."""
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    tokenizer = make_tokenizer(sentence)
    width = 64
    assert len(tokenizer) <= width
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
            image_size=_IMAGE, patch_size=_PATCH,
        ),
        text_config=LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=width, intermediate_size=16, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=8192, bos_token_id=2,
            eos_token_id=3, pad_token_id=0,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
    )  # fmt: skip
    model = LlavaForConditionalGeneration(config).eval()
    _say(model, chain_of(tokenizer, sentence, ends))
    model.generation_config.eos_token_id = 3
    model.generation_config.pad_token_id = 0
    model.save_pretrained(str(folder), safe_serialization=True)
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": _IMAGE}, crop_size={"height": _IMAGE, "width": _IMAGE}),
        tokenizer,
        patch_size=_PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE if template else None,
        image_token=SPECIAL["image_token"],
    )
    processor.save_pretrained(str(folder))
    return folder


@torch.no_grad()
def waver(model: Any) -> None:
    """Let a model of `make_llava` hang on every bit that it reads."""
    torch.manual_seed(4)
    for name, parameter in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            parameter.normal_(0, 0.5)
    head = model.get_output_embeddings().weight
    head.normal_(0, 1.0)
    head[: len(SPECIAL)] *= 0.1  # the special tokens, and with them the end


@torch.no_grad()
def _say(model: Any, follow: dict[int, int]) -> None:
    """Make the chain out of any decoder with an input embedding, an output layer and residual blocks."""
    for name, parameter in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            parameter.zero_()
    rows = model.get_input_embeddings().weight
    rows.zero_()
    rows[: len(rows), : len(rows)].fill_diagonal_(1.0)
    # What follows a word outside the chain (a patch of the picture, an unknown word) is the sentence's start,
    # so that the request may end with anything.
    head = model.get_output_embeddings().weight
    head.zero_()
    first = next(iter(follow.values()))
    for word in range(head.shape[0]):
        head[follow.get(word, first), word] = 10.0
