"""Going on from an adapter: emotions keep what they learned under their names; added ones disturb nothing."""

import dataclasses
from functools import partial

import pytest
import safetensors.torch
import torch

from coemogen_train.adapter.carry import carry_over, extended_taxonomy, freeze_carried, joined_gaussians
from coemogen_train.adapter.file import Adapter, load_adapter, make_embedder, make_hilora, save_adapter
from coemogen_train.adapter.gaussians import EmotionGaussians
from coemogen_train.emotions import Emotion, Taxonomy
from coemogen_train.errors import AdapterError, TaxonomyError

INPUTS = ("one_hot", "learned", "name")
SOURCE = Taxonomy(
    "home",
    (Emotion("dread", "dark"), Emotion("quiet joy", "mild"), Emotion("ire", "dark"), Emotion("awe", "odd")),
)
NEW = (Emotion("longing", "mild"), Emotion("vertigo", "dizzy"), Emotion("glee", "Mild"))


def fresh(info, taxonomy, seed=9):
    """Modules as a new run makes them, with numbers of their own even where they would start at 0."""
    torch.manual_seed(seed)
    info = dataclasses.replace(info, taxonomy=taxonomy)
    embedder, hilora = make_embedder(info, 0.7), make_hilora(info)
    for tensor in (*embedder.state_dict().values(), *hilora.up.values()):
        torch.nn.init.normal_(tensor.detach())
    return info, embedder, hilora


def carried(source, taxonomy):
    info, embedder, hilora = fresh(source.info, taxonomy)
    carry_over(source, embedder, hilora, taxonomy)
    return info, embedder, hilora


def mapper_part(embedder, emotion):
    if embedder.mapper.input == "one_hot":
        return embedder.mapper.layers[0].weight[:, emotion]
    return embedder.mapper.table[emotion]


def group(hilora, key, number):
    """(down [rank, in], up [out, rank]) of one group, cut out by hand."""
    down, up = hilora.matrices(key)
    rows = slice(number * hilora.rank, (number + 1) * hilora.rank)
    return down[rows], up[:, rows]


def same_group(one, number, other, other_number):
    return all(
        torch.equal(mine, theirs)
        for key in one.layers
        for mine, theirs in zip(group(one, key, number), group(other, key, other_number), strict=True)
    )


FEWER = Taxonomy("fewer", (Emotion("ire", "dark"), Emotion("awe", "odd")))
MORE = Taxonomy(
    "more", (Emotion("calm", "new"), *SOURCE.emotions[:2], Emotion("x", "odd"), *SOURCE.emotions[2:])
)
REORDERED = Taxonomy("reordered", SOURCE.emotions[::-1])
RESPELT = Taxonomy(
    "respelt", (Emotion("AWE", "Odd"), Emotion("Quiet_Joy", "MILD"), Emotion("d-read", "dark"))
)


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize(
    "taxonomy", [SOURCE, FEWER, MORE, REORDERED, RESPELT], ids=lambda taxonomy: taxonomy.name
)
def test_each_emotion_and_polarity_finds_its_own_again(kind, taxonomy, make_adapter):
    source = make_adapter(SOURCE, mapper_input=kind)
    _, untouched, blank = fresh(source.info, taxonomy)
    _, embedder, hilora = carried(source, taxonomy)
    old = {"dread": 0, "quietjoy": 1, "ire": 2, "awe": 3}
    for here, name in enumerate(taxonomy.names):
        there = old.get(name.casefold().replace("_", "").replace("-", "").replace(" ", ""))
        if there is None:
            assert torch.equal(mapper_part(embedder, here), mapper_part(untouched, here))
            assert same_group(hilora, here, blank, here)
        else:
            assert torch.equal(mapper_part(embedder, here), mapper_part(source.embedder, there))
            assert same_group(hilora, here, source.hilora, there)
    first = taxonomy.num_emotions
    for here, name in enumerate(taxonomy.polarities):
        there = {"dark": 4, "mild": 5, "odd": 6}.get(name.casefold())
        if there is None:
            assert same_group(hilora, first + here, blank, first + here)
        else:
            assert same_group(hilora, first + here, source.hilora, there)


@pytest.mark.parametrize("kind", INPUTS)
def test_what_is_shared_is_carried_whole_and_nothing_is_tied_to_the_source(kind, make_adapter):
    source = make_adapter(SOURCE, mapper_input=kind)
    before = {name: part.clone() for name, part in source.embedder.state_dict().items()}
    _, embedder, hilora = carried(source, MORE)
    own = embedder.mapper.per_emotion[0]
    for name, part in embedder.state_dict().items():
        if name != f"mapper.{own}":
            assert torch.equal(part, source.embedder.state_dict()[name])
    with torch.no_grad():
        for parameter in (*embedder.parameters(), *hilora.parameters()):
            parameter.fill_(3.0)
    assert all(torch.equal(part, before[name]) for name, part in source.embedder.state_dict().items())
    assert not any((parameter == 3.0).any() for parameter in source.hilora.parameters())


def test_the_same_emotions_give_the_same_adapter(make_adapter, tmp_path):
    """Byte for byte: nothing of the source is forgotten."""
    source = make_adapter(SOURCE)
    info, embedder, hilora = carried(source, SOURCE)
    save_adapter(source, tmp_path / "a.safetensors")
    save_adapter(Adapter(info, embedder, hilora, source.gaussians), tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rank": 5}, ["rank 2 (here 5)", "add --set rank=2."]),
        ({"alpha": 4.5}, ["alpha 3 (here 4.5)", "--set alpha=3."]),
        (
            {"tokens": 5, "hidden": 7},
            ["tokens 3 (here 5)", "hidden 6 (here 7)", "--set tokens=3 --set hidden=6."],
        ),
        ({"visual_tokens": 2}, ["visual_tokens 4 (here 2)", "--set visual_tokens=4"]),
        ({"mapper_input": "learned"}, ["mapper_input one_hot (here learned)", "--set mapper_input=one_hot"]),
        (
            {"layers": {"a.to_q": (8, 8)}, "targets": ("to_q",)},
            ["other layers in its U-Net", "use its base model 'tiny'"],
        ),
    ],
)
def test_settings_that_do_not_fit_are_all_named_with_their_cure(changes, told, make_adapter):
    source = make_adapter(SOURCE)
    _, embedder, hilora = fresh(dataclasses.replace(source.info, **changes), SOURCE)
    before = [parameter.clone() for parameter in embedder.parameters()]
    with pytest.raises(AdapterError) as caught:
        carry_over(source, embedder, hilora, SOURCE)
    for part in told:
        assert part in str(caught.value)
    assert all(torch.equal(one, other) for one, other in zip(before, embedder.parameters(), strict=True))


def test_other_targets_of_the_same_base_are_a_setting(make_adapter):
    """The cure is what --set reads: one word for any shell, TOML inside."""
    from coemogen_train.train.config import load_config

    source = make_adapter(SOURCE)
    only = {key: size for key, size in source.info.layers.items() if key.endswith("to_q")}
    _, embedder, hilora = fresh(dataclasses.replace(source.info, layers=only, targets=("to_q",)), SOURCE)
    with pytest.raises(AdapterError, match="other targets") as caught:
        carry_over(source, embedder, hilora, SOURCE)
    assert "base model" not in str(caught.value)
    override = str(caught.value).split('--set "')[1].split('"')[0]
    assert load_config("toy", [override, "set=x", "out=x"]).targets == source.info.targets


def test_another_width_is_another_model(make_adapter):
    source = make_adapter(SOURCE)
    from coemogen_train.adapter.info import TextEncoderInfo, VisionInfo

    wider = dataclasses.replace(source.info, text_encoders=(TextEncoderInfo(24),), vision=VisionInfo("x", 12))
    _, embedder, hilora = fresh(wider, SOURCE)
    told = (
        r"16 wide \(here 24\), .*10 wide \(here 12\): use its base model .*, and use its vision model 'tiny'"
    )
    with pytest.raises(AdapterError, match=told):
        carry_over(source, embedder, hilora, SOURCE)


def test_modules_of_another_taxonomy_are_a_fault_of_ours(make_adapter):
    source = make_adapter(SOURCE)
    _, embedder, hilora = fresh(source.info, FEWER)
    with pytest.raises(ValueError, match="another taxonomy"):
        carry_over(source, embedder, hilora, SOURCE)


# ---- adding emotions ----


def test_added_emotions_follow_and_every_old_number_stays():
    extended = extended_taxonomy(SOURCE, NEW)
    assert extended.emotions[:4] == SOURCE.emotions
    assert extended.names[4:] == ("longing", "vertigo", "glee")
    assert extended.polarities == ("dark", "mild", "odd", "dizzy")
    assert extended.polarity_of[:4] == SOURCE.polarity_of and extended.polarity_of[4:] == (1, 3, 1)
    assert extended_taxonomy(extended, [Emotion("x", "dark")]).name == extended.name == "home extended"


def test_an_emotion_that_is_there_cannot_be_added():
    with pytest.raises(TaxonomyError, match=r"already has Quiet-Joy: .*--set init_mode=continue"):
        extended_taxonomy(SOURCE, [Emotion("Quiet-Joy", "mild"), Emotion("new", "mild")])
    with pytest.raises(TaxonomyError, match="every emotion of the set already"):
        extended_taxonomy(SOURCE, [])
    with pytest.raises(TaxonomyError, match="the same name"):
        extended_taxonomy(SOURCE, [Emotion("new", "mild"), Emotion("NEW", "mild")])


def trained_on(embedder, hilora, steps=3):
    """By the trainer's optimiser, every emotion in every step: only masks can hold anything still."""
    from coemogen_train.train.optimiser import GroupedAdamW

    named = [*embedder.named_parameters(), *hilora.named_parameters()]
    optimiser = GroupedAdamW(named, learning_rate=0.1, weight_decay=0.1)
    torch.manual_seed(3)
    count = hilora.num_emotions
    for _ in range(steps):
        optimiser.zero_grad()
        loss = embedder(torch.eye(count), torch.randn(count, 10)).square().sum()
        for key in hilora.layers:
            for row in hilora.gate(torch.eye(count)):
                loss = loss + (hilora.merged_delta(key, row) - 1).square().sum()
        if loss.requires_grad:
            loss.backward()
        optimiser.step(torch.ones(hilora.num_groups))


def added_adapter(source, taxonomy, components=3):
    info, embedder, hilora = carried(source, taxonomy)
    freeze_carried(source.info.taxonomy, embedder, hilora)
    trained_on(embedder, hilora)
    new = taxonomy.num_emotions - source.info.taxonomy.num_emotions
    gaussians = EmotionGaussians(
        torch.full((new, components), 1 / components),
        torch.randn(new, components, 10),
        torch.rand(new, components, 10, 10).half(),
    )
    return Adapter(info, embedder, hilora, joined_gaussians(source.gaussians, gaussians))


def bytes_of(tensor):
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


TWELVE = extended_taxonomy(
    SOURCE, (*NEW, *(Emotion(f"feeling{n}", ("dark", "mild")[n % 2]) for n in range(5)))
)
THREE_POLARITIES = Taxonomy(
    "three", tuple(Emotion(f"e{n}", ("up", "down", "level")[n % 3]) for n in range(10))
)
TWELVE_OF_THREE = extended_taxonomy(THREE_POLARITIES, [Emotion("e10", "up"), Emotion("e11", "level")])


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize(
    ("before", "after"),
    [(SOURCE, extended_taxonomy(SOURCE, NEW)), (SOURCE, TWELVE), (THREE_POLARITIES, TWELVE_OF_THREE)],
    ids=["7", "12", "12 of 3 polarities"],
)
def test_after_adding_and_training_the_file_holds_every_old_byte(kind, before, after, make_adapter, tmp_path):
    """Read back by the safetensors library, and cut up by hand."""
    source = make_adapter(before, mapper_input=kind)
    adapter = added_adapter(source, after)
    save_adapter(source, tmp_path / "old.safetensors")
    save_adapter(adapter, tmp_path / "new.safetensors")
    old = safetensors.torch.load_file(tmp_path / "old.safetensors")
    new = safetensors.torch.load_file(tmp_path / "new.safetensors")
    assert old.keys() == new.keys()
    emotions, wider = before.num_emotions, after.num_emotions
    rank, components = 2, source.gaussians.weights.shape[1]
    groups = [*range(emotions), *(wider + p for p in range(before.num_polarities))]
    places = [group * rank + row for group in groups for row in range(rank)]
    for name, tensor in old.items():
        other = new[name]
        if name == "mapper.layers.0.weight" and kind == "one_hot":
            other = other[:, :emotions]
        elif name == "mapper.table":
            other = other[:emotions]
        elif name.endswith(".down"):
            other = other[places]
        elif name.endswith(".up"):
            other = other[:, places]
        elif name.startswith("gaussians."):
            other = other[:emotions, :components]
            assert not new["gaussians.weights"][:emotions, components:].any()
        assert tensor.dtype == other.dtype and bytes_of(tensor) == bytes_of(other), name


@pytest.mark.parametrize("kind", INPUTS)
def test_after_adding_the_old_emotions_answer_as_before(kind, make_adapter, tmp_path):
    source = make_adapter(SOURCE, mapper_input=kind)
    save_adapter(added_adapter(source, extended_taxonomy(SOURCE, NEW)), tmp_path / "a.safetensors")
    adapter = load_adapter(tmp_path / "a.safetensors")
    v = torch.randn(4, 10)
    old, new = torch.eye(4), torch.eye(7)[:4]
    assert torch.equal(adapter.embedder(new, v), source.embedder(old, v))
    assert torch.equal(adapter.gaussians.sample(new, seed=5), source.gaussians.sample(old, seed=5))
    mixed = torch.tensor([[0.5, 0.0, 0.5, 0.0]])
    wider = torch.nn.functional.pad(mixed, (0, 3))
    assert torch.equal(adapter.gaussians.sample(wider, seed=6), source.gaussians.sample(mixed, seed=6))
    torch.testing.assert_close(adapter.embedder(wider, v[:1]), source.embedder(mixed, v[:1]))
    for key in source.hilora.layers:
        for here, there in zip(adapter.hilora.gate(new), source.hilora.gate(old), strict=True):
            assert sorted(here.tolist()) == [0.0] * (len(here) - len(there)) + sorted(there.tolist())
            torch.testing.assert_close(
                adapter.hilora.merged_delta(key, here),
                source.hilora.merged_delta(key, there),
                rtol=0,
                atol=1e-5,
            )


@pytest.mark.parametrize("kind", INPUTS)
def test_the_new_emotions_do_learn(kind, make_adapter):
    source, extended = make_adapter(SOURCE, mapper_input=kind), extended_taxonomy(SOURCE, NEW)
    _, start, blank = carried(source, extended)
    adapter = added_adapter(source, extended)
    for emotion in (4, 5, 6):
        moved = not torch.equal(mapper_part(adapter.embedder, emotion), mapper_part(start, emotion))
        assert moved == (kind != "name")
    for number in range(adapter.hilora.num_groups):
        # dread, quiet joy, ire, awe, longing, vertigo, glee; dark, mild, odd, dizzy
        assert same_group(adapter.hilora, number, blank, number) == (number not in (4, 5, 6, 10))


@pytest.mark.parametrize("kind", INPUTS)
def test_masks_are_told_where_there_is_something_to_train_and_the_rest_is_frozen(kind, make_adapter):
    source, extended = make_adapter(SOURCE, mapper_input=kind), extended_taxonomy(SOURCE, NEW)
    _, embedder, hilora = carried(source, extended)
    freeze_carried(SOURCE, embedder, hilora)
    trainable = {name for name, parameter in embedder.named_parameters() if parameter.requires_grad}
    assert (
        trainable == {"one_hot": {"mapper.layers.0.weight"}, "learned": {"mapper.table"}, "name": set()}[kind]
    )
    for parameter in (*embedder.parameters(), *hilora.parameters()):
        if parameter.requires_grad:
            mask = parameter.trainable_mask
            assert mask.dtype == torch.bool and mask.shape == parameter.shape
            assert 0 < int(mask.sum()) < mask.numel()
    freeze_carried(extended, embedder, hilora)
    assert not any(parameter.requires_grad for parameter in (*embedder.parameters(), *hilora.parameters()))
    with pytest.raises(ValueError, match="extended taxonomy"):
        freeze_carried(REORDERED, embedder, hilora)


def gaussians_of(emotions, components, shape):
    torch.manual_seed(emotions)
    weights = torch.full((emotions, components), 1 / components)
    return EmotionGaussians(
        weights, torch.randn(emotions, components, 6), torch.rand(emotions, components, *shape).half()
    )


@pytest.mark.parametrize("shape", [(6, 6), (6,)], ids=["full", "diagonal"])
@pytest.mark.parametrize(("first", "second"), [(1, 3), (3, 1), (2, 2)])
def test_joined_gaussians_keep_every_component(shape, first, second):
    one, other = gaussians_of(2, first, shape), gaussians_of(3, second, shape)
    joined = joined_gaussians(one, other)
    assert joined.components == (*[first] * 2, *[second] * 3)
    assert joined.covariance == one.covariance and joined.factor.dtype == torch.float16
    for part in ("weights", "mean", "factor"):
        assert torch.equal(getattr(joined, part)[:2, :first], getattr(one, part))
        assert torch.equal(getattr(joined, part)[2:, :second], getattr(other, part))
    torch.testing.assert_close(
        joined.mean_embedding(), torch.cat([one.mean_embedding(), other.mean_embedding()])
    )
    eye = partial(torch.nn.functional.one_hot, num_classes=5)
    for emotion in range(5):
        row = eye(torch.full((40,), emotion)).float()
        part, place = (one, emotion) if emotion < 2 else (other, emotion - 2)
        if emotion < 2:  # the draws of the first emotions hang on nothing that came after them
            assert torch.equal(joined.sample(row, 1), one.sample(row[:, :2], 1))
        means = joined.sample(row, 2, truncation=0.0)
        assert all((part.mean[place] == mean).all(dim=1).any() for mean in means)


def test_gaussians_that_cannot_be_joined_are_refused():
    one = gaussians_of(2, 2, (6, 6))
    with pytest.raises(
        AdapterError, match=r"are full, the new emotions' diagonal: .*gaussian_covariance=full"
    ):
        joined_gaussians(one, gaussians_of(3, 2, (6,)))
    narrow = EmotionGaussians(torch.ones(1, 1), torch.zeros(1, 1, 5), torch.ones(1, 1, 5, 5).half())
    with pytest.raises(AdapterError, match="width 6, the new emotions' of width 5: use the vision model"):
        joined_gaussians(one, narrow)
