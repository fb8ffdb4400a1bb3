"""What stands for an emotion: one-hot, a learned row, its name's embedding; each travels in the file."""

import json
import struct

import pytest
import safetensors
import torch

from coemogen_train.adapter.condition import emotion_name_embeddings
from coemogen_train.adapter.file import describe_adapter, load_adapter, save_adapter
from coemogen_train.adapter.mapper import NeuroSymbolicMapper
from coemogen_train.emotions import Emotion, Taxonomy
from coemogen_train.errors import AdapterError

INPUTS = ("one_hot", "learned", "name")
TAXONOMY = Taxonomy("home", (Emotion("dread", "dark"), Emotion("calm", "mild"), Emotion("ire", "dark")))
ONE = Taxonomy("one", (Emotion("dread", "dark"),))
TWELVE = Taxonomy("twelve", tuple(Emotion(f"feeling{n}", ("up", "down", "level")[n % 3]) for n in range(12)))


class LetterTokenizer:
    """One id per letter, a = 1; padded with EOS as CLIP's is."""

    bos_token_id, eos_token_id, pad_token_id, model_max_length = 97, 98, 98, 20

    def __call__(self, text, **_):
        return {"input_ids": [ord(letter) - 96 for letter in text.lower() if "a" <= letter <= "z"]}


def mapper(kind):
    torch.manual_seed(0)
    return NeuroSymbolicMapper(
        3, 16, tokens=2, hidden=6, input=kind, table=torch.randn(3, 9) if kind == "name" else None
    )


def test_the_one_hot_mapper_has_the_tensors_that_the_first_files_have():
    assert list(mapper("one_hot").state_dict()) == [
        f"layers.{layer}.{part}" for layer in (0, 2) for part in ("weight", "bias")
    ]


@pytest.mark.parametrize("kind", ["learned", "name"])
def test_the_layers_read_the_mixture_of_the_tables_rows(kind):
    model = mapper(kind)
    first, _, second = model.layers
    symbol = 0.25 * model.table[0] + 0.75 * model.table[2]
    hidden = first.weight @ symbol + first.bias
    expected = second.weight @ (hidden * torch.sigmoid(hidden)) + second.bias
    torch.testing.assert_close(model(torch.tensor([[0.25, 0.0, 0.75]])), expected.reshape(1, 2, 16))


def test_the_learned_table_is_trained_a_row_per_emotion_and_the_names_are_not():
    for kind, trained in (("learned", True), ("name", False)):
        model = mapper(kind)
        model(torch.tensor([[0.0, 1.0, 0.0]])).square().sum().backward()
        assert ("table" in dict(model.named_parameters())) == trained
        assert model.layers[0].weight.grad.abs().max() > 0
        if trained:
            assert model.table.grad.abs().amax(dim=1).gt(0).tolist() == [False, True, False]


def test_the_learned_table_starts_with_numbers_of_size_1():
    """Far from it, the first layer's answers would drown in its bias, or drown it."""
    torch.manual_seed(0)
    model = NeuroSymbolicMapper(64, 8, hidden=512, input="learned")
    assert float(model.table.detach().square().mean()) == pytest.approx(1, rel=0.05)
    answers = torch.nn.functional.linear(model.table, model.layers[0].weight).detach()
    assert float(answers.std()) == pytest.approx((1 / 3) ** 0.5, rel=0.05)  # nn.Linear's for such an input


def test_impossible_inputs_are_refused():
    for settings in (
        {"input": "number"},
        {"input": "name"},
        {"input": "learned", "table": torch.zeros(3, 6)},
        {"input": "one_hot", "table": torch.zeros(3, 6)},
        {"input": "name", "table": torch.zeros(4, 6)},
        {"input": "name", "table": torch.zeros(3)},
    ):
        with pytest.raises(ValueError, match="the mapper"):
            NeuroSymbolicMapper(3, 16, **settings)


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("taxonomy", [ONE, TAXONOMY, TWELVE], ids=lambda taxonomy: taxonomy.name)
def test_every_input_comes_back_from_its_file(kind, taxonomy, make_adapter, tmp_path):
    adapter = make_adapter(taxonomy, mapper_input=kind)
    path = tmp_path / "a.safetensors"
    save_adapter(adapter, path)
    loaded = load_adapter(path)
    assert loaded.info == adapter.info
    for one, other in ((adapter.embedder, loaded.embedder), (adapter.hilora, loaded.hilora)):
        assert one.state_dict().keys() == other.state_dict().keys()
        assert all(torch.equal(other.state_dict()[name], part) for name, part in one.state_dict().items())
    mixtures = torch.rand(2, taxonomy.num_emotions)
    assert torch.equal(loaded.embedder.mapper(mixtures), adapter.embedder.mapper(mixtures))
    assert torch.equal(loaded.hilora.gate(mixtures), adapter.hilora.gate(mixtures))
    assert describe_adapter(path)["mapper_input"] == kind
    with safetensors.safe_open(path, "pt") as file:
        assert ("mapper.table" in file.keys()) == (kind != "one_hot")  # noqa: SIM118  # no mapping


def rewritten(path, change):
    """The file with its metadata changed, and the checksum of the whole set right again."""
    import hashlib

    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    header, data = json.loads(raw[8 : 8 + length]), raw[8 + length :]
    plain = json.loads(header["__metadata__"]["coemogen"])
    change(plain)
    header["__metadata__"]["coemogen"] = json.dumps(plain)
    del header["__metadata__"]["coemogen.sha256"]
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    header["__metadata__"]["coemogen.sha256"] = hashlib.sha256(text.encode("utf-8") + data).hexdigest()
    text = json.dumps(header).encode("utf-8")
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("claimed", INPUTS)
def test_a_file_that_claims_another_input_than_it_holds_is_refused(kind, claimed, make_adapter, tmp_path):
    path = tmp_path / "a.safetensors"
    save_adapter(make_adapter(TAXONOMY, mapper_input=kind), path)
    rewritten(path, lambda plain: plain.update(mapper_input=claimed))
    if kind == claimed:
        load_adapter(path)
        return
    with pytest.raises(AdapterError, match=r"a\.safetensors: its? .*mapper\.(table|layers\.0\.weight)"):
        load_adapter(path)


def test_files_written_before_there_was_a_choice_are_one_hot(make_adapter, tmp_path):
    path = tmp_path / "a.safetensors"
    adapter = make_adapter(TAXONOMY)
    save_adapter(adapter, path)

    def older(plain):
        del plain["mapper_input"], plain["base"]["zero_terminal_snr"]
        plain["text_encoders"][0]["clip_skip"] = 0

    rewritten(path, older)
    assert load_adapter(path).info == adapter.info


def test_names_are_embedded_by_what_sets_them_apart_from_the_empty_prompt(text_encoder):
    """Computed here by the text encoder's own states, unprojected whether or not it has a projection."""
    rows = emotion_name_embeddings(text_encoder, LetterTokenizer(), ["ab", "cab"])
    assert rows.shape == (2, 16) and rows.dtype == torch.float32
    for row, words in zip(rows, ([1, 2], [3, 1, 2]), strict=True):
        name, empty = torch.full((1, 20), 98), torch.full((1, 20), 98)
        name[0, 0] = empty[0, 0] = 97
        name[0, 1 : 1 + len(words)] = torch.tensor(words)
        state = text_encoder(input_ids=name).last_hidden_state[0, 1 + len(words)]
        offset = state - text_encoder(input_ids=empty).last_hidden_state[0, 1]
        torch.testing.assert_close(row, 4 * offset / offset.norm())


def test_a_names_row_is_the_same_in_any_company(text_encoder):
    def embed(*names):
        return emotion_name_embeddings(text_encoder, LetterTokenizer(), names)

    together = embed("ab", "no_thing", "cab")
    assert torch.equal(together[1:2], embed("no thing"))
    assert torch.equal(together[[2, 0]], embed("cab", "ab"))


def test_names_in_a_half_precision_encoder_are_float32(text_encoder):
    rows = emotion_name_embeddings(text_encoder.to(torch.bfloat16), LetterTokenizer(), ["ab"], 12)
    assert rows.dtype == torch.float32 and not rows.requires_grad
    assert float(rows.norm()) == pytest.approx(4)


def test_names_that_the_tokenizer_cannot_tell_are_refused(text_encoder):
    with pytest.raises(AdapterError, match=r"reads nothing in the name '感情': .*mapper_input=learned"):
        emotion_name_embeddings(text_encoder, LetterTokenizer(), ["ab", "感情"])
    with pytest.raises(AdapterError, match="reads the names 'ab' and 'a-b2' alike: rename"):
        emotion_name_embeddings(text_encoder, LetterTokenizer(), ["ab", "a-b2"])
