"""Pseudo-words are words: rows of real ones give exactly what the text encoder gives for those words."""

from types import SimpleNamespace

import pytest
import torch

from coemogen_train.adapter.condition import (
    EmotionEmbedder,
    at_intensity,
    encode_text,
    plain_prompt,
    prompt_ids,
    vocabulary_row_norm,
)
from coemogen_train.adapter.encoder import VisualPerceptionEncoder
from coemogen_train.adapter.mapper import NeuroSymbolicMapper
from coemogen_train.errors import AdapterError, UserError

BOS, EOS, LENGTH = 97, 98, 20


class LetterTokenizer:
    """One id per letter, a = 1; padded with EOS as CLIP's is, and as strict about what it is asked."""

    bos_token_id, eos_token_id, pad_token_id, model_max_length = BOS, EOS, EOS, LENGTH

    def __call__(self, text, *, add_special_tokens, truncation, verbose):
        assert not add_special_tokens and not truncation and text.encode("utf-8") is not None
        return {"input_ids": [ord(letter) - 96 for letter in text.lower() if letter.isalpha()]}


def full(*words):
    return torch.tensor([BOS, *words, EOS] + [EOS] * (LENGTH - 2 - len(words)))


def token_rows(text_encoder, *words):
    return text_encoder.get_input_embeddings().weight[torch.tensor(words)]


def test_rows_of_real_words_give_exactly_the_encoders_own_output(text_encoder):
    words = full(5, 6, 7, 8, 9)[None]
    own = text_encoder(input_ids=words)
    placed = full(5, 1, 1, 1, 9)[None]
    states = encode_text(
        text_encoder, placed, EOS, token_rows(text_encoder, 6, 7, 8)[None], torch.tensor([2])
    )
    assert torch.equal(states.hidden, own.last_hidden_state)
    assert states.eos.tolist() == [6]


def test_pooling_is_transformers_own_where_its_eos_is_right(text_encoder):
    """The same weights, told the right EOS: transformers then pools at the first EOS, and projects."""
    words = full(5, 6, 7)[None]
    states = encode_text(text_encoder, words, EOS)
    for module in text_encoder.modules():  # the text model keeps the config's value, in some versions nested
        if hasattr(module, "eos_token_id"):
            module.eos_token_id = EOS
    own = text_encoder(input_ids=words)
    expected = own.text_embeds if hasattr(text_encoder, "text_projection") else own.pooler_output
    assert torch.equal(states.pooled, expected)
    assert states.pooled.shape[1] == (10 if hasattr(text_encoder, "text_projection") else 16)


def test_rows_without_pseudo_words_are_untouched(text_encoder):
    ids = torch.stack([full(5, 1, 1, 9), full(5, 1, 1, 9), full(3, 4)])
    rows = token_rows(text_encoder, 20, 21).expand(3, 2, -1)
    states = encode_text(text_encoder, ids, EOS, rows, torch.tensor([2, -1, -1]))
    expected = torch.stack([full(5, 20, 21, 9), full(5, 1, 1, 9), full(3, 4)])
    torch.testing.assert_close(states.hidden, text_encoder(input_ids=expected).last_hidden_state)


def test_without_start_the_pseudo_words_follow_bos(text_encoder):
    ids = prompt_ids(LetterTokenizer(), "{emotion}", 3).input_ids[None]
    rows = token_rows(text_encoder, 20, 21, 22)[None]
    own = text_encoder(input_ids=full(20, 21, 22)[None]).last_hidden_state
    assert torch.equal(encode_text(text_encoder, ids, EOS, rows).hidden, own)


def test_the_hook_leaves_no_trace_even_after_an_error(text_encoder):
    ids = full(5, 6)[None]
    own = text_encoder(input_ids=ids).last_hidden_state
    with pytest.raises(AdapterError, match="16 wide, the adapter's pseudo-words 12"):
        encode_text(text_encoder, ids, EOS, torch.zeros(1, 2, 12))
    with pytest.raises(Exception, match=r".+"):
        encode_text(text_encoder, torch.full((1, LENGTH), 10_000), EOS, torch.zeros(1, 2, 16))
    assert torch.equal(text_encoder(input_ids=ids).last_hidden_state, own)


def test_the_condition_differs_by_emotion_and_its_gradient_reaches_the_mapper(text_encoder):
    torch.manual_seed(0)
    row_norm = vocabulary_row_norm(text_encoder)
    embedder = EmotionEmbedder(
        NeuroSymbolicMapper(4, 16, tokens=3, hidden=32), VisualPerceptionEncoder(16, 8, row_norm=row_norm)
    )
    words = embedder(torch.eye(4), torch.randn(1, 8).expand(4, 8))
    prompt = prompt_ids(LetterTokenizer(), "{emotion}", 3)
    states = encode_text(
        text_encoder, prompt.input_ids.expand(4, -1), EOS, words, torch.full((4,), prompt.start)
    )
    for condition in (states.hidden.flatten(1), states.pooled):
        distances = torch.cdist(condition, condition)[~torch.eye(4, dtype=torch.bool)]
        assert distances.min() > 0.02 * condition.norm(dim=1).mean()
    (states.hidden[:, 1:] * torch.randn(4, LENGTH - 1, 16)).sum().backward()
    assert all(parameter.grad.abs().max() > 1e-5 for parameter in embedder.mapper.parameters())
    assert all(parameter.grad is None for parameter in text_encoder.parameters())


def test_pseudo_words_enter_a_half_precision_encoder(text_encoder):
    encoder = text_encoder.to(torch.bfloat16)
    states = encode_text(encoder, full(1, 1)[None], EOS, torch.randn(1, 2, 16))
    assert states.hidden.dtype == torch.bfloat16


def test_vocabulary_row_norm_is_the_mean_length(text_encoder):
    rows = text_encoder.get_input_embeddings().weight.numpy()
    assert vocabulary_row_norm(text_encoder) == pytest.approx(((rows**2).sum(1) ** 0.5).mean(), rel=1e-5)


def ids_of(prompt, tokens=2, length=None):
    result = prompt_ids(LetterTokenizer(), prompt, tokens, length)
    return result.input_ids.tolist(), result.start


def test_the_mark_alone_is_bos_words_eos_padding():
    ids, start = ids_of("{emotion}")
    assert (start, ids[0], ids[3:]) == (1, BOS, [EOS] * 17)
    assert not {BOS, EOS} & set(ids[1:3])


def test_the_mark_inside_a_prompt():
    ids, start = ids_of("abc, {emotion} de")
    assert (start, ids[:4], ids[6:]) == (4, [BOS, 1, 2, 3], [4, 5] + [EOS] * 12)


def test_a_prompt_without_the_mark():
    assert ids_of("ab") == ([BOS, 1, 2] + [EOS] * 17, -1)
    assert ids_of("") == ([BOS] + [EOS] * 19, -1)


def test_a_prompt_with_half_a_letter_is_one_all_the_same():
    assert ids_of("a\ud800b{emotion}\udfff") == ids_of("a?b{emotion}?")


@pytest.mark.parametrize(("before", "after"), [(30, 5), (10, 30), (5, 11), (16, 0), (0, 40)])
def test_long_prompts_lose_their_end_and_never_the_pseudo_words(before, after):
    ids, start = ids_of("b" * before + "{emotion}" + "c" * after)
    assert len(ids) == LENGTH and ids[-1] == EOS
    assert start == 1 + min(before, 16)
    assert ids[1:start] == [2] * min(before, 16)
    assert ids.count(3) == min(after, 16 - min(before, 16))
    assert not {2, 3, BOS, EOS} & set(ids[start : start + 2])


def test_a_long_plain_prompt_keeps_its_eos():
    assert ids_of("b" * 50) == ([BOS] + [2] * 18 + [EOS], -1)


def test_the_places_are_never_a_special_id():
    tokenizer = LetterTokenizer()
    tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id = 0, 2, 1
    ids = prompt_ids(tokenizer, "{emotion}", 3).input_ids.tolist()
    assert ids == [0, 3, 3, 3, 2] + [1] * 15


def test_prompts_that_cannot_be_are_refused():
    with pytest.raises(UserError, match="2 times"):
        ids_of("{emotion} and {emotion}")
    with pytest.raises(AdapterError, match="do not fit into the text encoder's 20"):
        ids_of("{emotion}", tokens=19)
    with pytest.raises(AdapterError, match="names no start, end or length"):
        prompt_ids(
            SimpleNamespace(bos_token_id=None, eos_token_id=1, pad_token_id=1, model_max_length=9), "", 1
        )
    with pytest.raises(AdapterError, match="names no start, end or length"):
        ids_of("{emotion}", length=10**30)


@pytest.mark.parametrize(
    ("prompt", "plain"),
    [
        ("{emotion}", ""),
        ("a street, {emotion}", "a street"),
        ("{emotion}, a street", "a street"),
        ("a {emotion} street", "a street"),
        ("a street, {emotion}, at night", "a street, at night"),
        ("a street in {emotion}.", "a street in."),
        ("no mark,  as written ,", "no mark,  as written ,"),
    ],
)
def test_the_plain_prompt(prompt, plain):
    assert plain_prompt(prompt) == plain


def test_intensity_is_exact_at_its_ends_and_linear_between_and_beyond():
    plain, emotional = torch.randn(2, 5, 4), torch.randn(2, 5, 4)
    assert torch.equal(at_intensity(plain, emotional, 0.0), plain)
    assert torch.equal(at_intensity(plain, emotional, 1.0), emotional)
    torch.testing.assert_close(at_intensity(plain, emotional, 0.25), 0.75 * plain + 0.25 * emotional)
    torch.testing.assert_close(at_intensity(plain, emotional, 1.5), 1.5 * emotional - 0.5 * plain)


@pytest.fixture
def clip_tokenizer(tmp_path):
    """transformers' own CLIPTokenizer over a vocabulary of single letters."""
    import json

    from transformers import CLIPTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz,"
    vocabulary = {piece: index for index, piece in enumerate([*letters, *(f"{x}</w>" for x in letters)])}
    vocabulary |= {"<|startoftext|>": BOS, "<|endoftext|>": EOS}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (tmp_path / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    return CLIPTokenizer(
        str(tmp_path / "vocab.json"),
        str(tmp_path / "merges.txt"),
        model_max_length=LENGTH,
        pad_token="<|endoftext|>",  # noqa: S106
    )


def test_transformers_tokenizer_agrees_with_its_own_padding(clip_tokenizer):
    own = clip_tokenizer("a b, c", padding="max_length", max_length=LENGTH, truncation=True)["input_ids"]
    assert prompt_ids(clip_tokenizer, "a b, c", 2).input_ids.tolist() == own


def test_transformers_tokenizer_around_the_mark(clip_tokenizer):
    whole = clip_tokenizer("a b, c", add_special_tokens=False)["input_ids"]
    prompt = prompt_ids(clip_tokenizer, "a b, {emotion} c", 2)
    ids = prompt.input_ids.tolist()
    assert ids[1 : prompt.start] == whole[:3] and ids[prompt.start + 2 : prompt.start + 4] == [whole[3], EOS]
