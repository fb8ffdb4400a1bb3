"""Going on from an adapter: with other pictures, with fewer emotions, with one more."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from coemogen_train.adapter.file import load_adapter
from coemogen_train.emotions import Emotion, Taxonomy
from coemogen_train.errors import AdapterError, ConfigError, DataError
from coemogen_train.train import loop
from coemogen_train.train.config import make_config
from tests.train.test_loop import assert_same, quiet_train, saved


@pytest.fixture()
def adapter(settings, tmp_path) -> Path:
    """Trained on calm, joy and storm."""
    return quiet_train(settings, out=str(tmp_path / "first")).adapter


@pytest.fixture(scope="session")
def second_set(tmp_path_factory) -> Path:
    """Another set: storm, longing (a polarity of its own) and hope, in the first one's manner."""
    from PIL import Image

    from coemogen_train.data.prepare import PrepareOptions, prepare_table

    folder = tmp_path_factory.mktemp("second-source")
    generator = torch.Generator().manual_seed(9)
    rows = []
    for emotion in ("storm", "longing", "hope"):
        for number in range(5):
            name = f"{emotion}{number}.png"
            pixels = torch.randint(256, (16, 16, 3), generator=generator, dtype=torch.uint8)
            Image.fromarray(pixels.numpy()).save(folder / name)
            split = "train" if number < 4 else "val"
            rows.append({"image": name, "emotion": emotion, "split": split, "caption": f"{number} sea"})
    (folder / "samples.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    emotions = (Emotion("storm", "bad"), Emotion("longing", "mixed"), Emotion("hope", "good"))
    out = tmp_path_factory.mktemp("second")
    options = PrepareOptions(taxonomy=Taxonomy("other", emotions), workers=1, licence="CC0", origin="dice")
    prepare_table(folder / "samples.jsonl", out, options)
    return out


def first_step_stopped(monkeypatch) -> list:
    """Stop before the first step, and keep the run as it stands."""
    kept = []

    def stop(run, step):
        kept.append(run)
        raise InterruptedError

    monkeypatch.setattr(loop, "optimise", stop)
    return kept


def test_going_on_begins_where_the_adapter_stands(settings, adapter, monkeypatch):
    kept = first_step_stopped(monkeypatch)
    with pytest.raises(InterruptedError):
        quiet_train(settings, init=str(adapter))
    known, objective = load_adapter(adapter), kept[0].objective
    for name, tensor in known.embedder.state_dict().items():
        assert torch.equal(objective.embedder.state_dict()[name], tensor), name
    for name, tensor in known.hilora.state_dict().items():
        assert torch.equal(objective.hilora.state_dict()[name], tensor), name


def test_a_step_with_a_rate_near_zero_changes_next_to_nothing(settings, adapter):
    result = quiet_train(settings, init=str(adapter), learning_rate=1e-12, steps=2)
    before, after = load_file(str(adapter)), load_file(str(result.adapter))
    assert before.keys() == after.keys()
    assert all(torch.allclose(before[name].float(), after[name].float(), atol=1e-6) for name in before)


def test_fewer_emotions_leave_a_smaller_adapter(settings, adapter):
    result = quiet_train(settings, init=str(adapter), emotions=("storm", "calm"), validate_every=3)
    info = load_adapter(result.adapter).info
    assert info.taxonomy.names == ("calm", "storm")
    assert info.training["init"]["steps"] == 6 and info.training["init"]["mode"] == "continue"
    assert set(info.data["per_emotion"]) == {"calm", "storm"}
    assert str(Path(settings["out"]).parent) not in json.dumps(info.to_dict())


def test_an_empty_emotion_names_the_cure_and_the_cure_works(settings, training_set, tmp_path):
    wider = Taxonomy("four", (Emotion("joy", "good"), Emotion("calm", "good"), Emotion("void", "bad")))
    from PIL import Image

    from coemogen_train.data.prepare import PrepareOptions, prepare_folder

    for emotion in ("joy", "calm"):
        for number in range(3):
            path = tmp_path / "pictures" / emotion / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16), (40 * number, 90, 30 if emotion == "joy" else 200)).save(path)
    prepare_folder(tmp_path / "pictures", tmp_path / "set", PrepareOptions(taxonomy=wider, workers=1))
    mine = settings | {"set": str(tmp_path / "set"), "semantic_weight": 0, "steps": 1}
    with pytest.raises(DataError, match=r'void.*emotions=\["joy", "calm"\]'):
        quiet_train(mine)
    assert load_adapter(quiet_train(mine, emotions=("joy", "calm")).adapter).info.taxonomy.num_emotions == 2


def added(settings, adapter, second_set, **changes):
    return quiet_train(
        settings | {"set": str(second_set), "init": str(adapter), "init_mode": "add"} | changes,
    )


def test_an_added_emotion_leaves_the_others_bit_for_bit(settings, adapter, second_set):
    result = added(settings, adapter, second_set, weight_decay=0.5, learning_rate=0.05, validate_every=3)
    before, after = load_adapter(adapter), load_adapter(result.adapter)
    assert after.info.taxonomy.names == ("calm", "joy", "storm", "longing", "hope")
    assert after.info.taxonomy.polarity_of == (0, 0, 1, 2, 0)
    old_rows, new_rows = torch.eye(3), torch.eye(5)[:3]
    for seed in range(3):
        v = before.gaussians.sample(old_rows, seed)
        assert torch.equal(after.gaussians.sample(new_rows, seed), v)
        torch.testing.assert_close(
            after.embedder(new_rows, v), before.embedder(old_rows, v), rtol=0, atol=1e-7
        )
    for name, tensor in before.embedder.state_dict().items():
        kept = after.embedder.state_dict()[name]
        assert torch.equal(kept[:, :3] if name == "mapper.layers.0.weight" else kept, tensor), name
    rank = before.info.rank
    groups = [0, 1, 2, 5, 6]  # three emotions, two new ones between, two polarities, a new one behind
    rows = [group * rank + i for group in groups for i in range(rank)]
    moved = 0.0
    for key in before.hilora.layers:
        (down, up), (new_down, new_up) = before.hilora.matrices(key), after.hilora.matrices(key)
        assert torch.equal(new_down[rows], down) and torch.equal(new_up[:, rows], up)
        moved += float(new_up[:, 3 * rank : 5 * rank].abs().sum())
    assert moved > 0
    assert after.info.data["per_emotion"] == {"calm": 6, "joy": 6, "storm": 6, "longing": 4, "hope": 4}
    assert after.info.licence == "CC0"


def test_adding_can_be_resumed_and_only_from_the_same_adapter(settings, adapter, second_set, tmp_path):
    straight = added(settings, adapter, second_set, out=str(tmp_path / "straight"))
    stopped = {"out": str(tmp_path / "stopped")}
    added(settings, adapter, second_set, steps=3, **stopped)
    config = settings | {"set": str(second_set), "init": str(adapter), "init_mode": "add"} | stopped
    resumed = quiet_train(config, resume=True)
    # From the inside out, so that a difference shows where it begins.
    assert resumed.skipped == straight.skipped == 0
    assert_same(saved(tmp_path / "straight", 3), saved(tmp_path / "stopped", 3))
    assert resumed.history.read_bytes() == straight.history.read_bytes()
    assert_same(saved(tmp_path / "straight", 6), saved(tmp_path / "stopped", 6))
    assert_same(load_file(str(straight.adapter)), load_file(str(resumed.adapter)))
    assert resumed.adapter.read_bytes() == straight.adapter.read_bytes()
    other = quiet_train(settings, out=str(tmp_path / "other"), seed=5).adapter
    with pytest.raises(ConfigError, match="adapter to go on from"):
        quiet_train(config | {"init": str(other)}, resume=True, steps=7)


def test_nothing_to_add_and_other_sizes_are_one_sentence(settings, adapter):
    with pytest.raises(ConfigError, match=r"has all emotions.*calm, joy, storm"):
        quiet_train(settings, init=str(adapter), init_mode="add")
    with pytest.raises(AdapterError, match="rank") as caught:
        quiet_train(settings, init=str(adapter), rank=3, tokens=3)
    assert "--set rank=2" in str(caught.value) and "--set tokens=2" in str(caught.value)
    with pytest.raises(ConfigError, match="init_mode"):
        make_config(settings | {"init_mode": "add"})


@pytest.mark.parametrize("mapper_input", ["learned", "name"])
def test_every_mapper_input_trains_saves_and_goes_on(settings, tmp_path, second_set, mapper_input):
    mine = settings | {"mapper_input": mapper_input}
    first = quiet_train(mine, out=str(tmp_path / "mapper"))
    loaded = load_adapter(first.adapter)
    assert loaded.info.mapper_input == mapper_input
    v = torch.zeros(3, loaded.info.vision.width)
    words = loaded.embedder(torch.eye(3), v)
    assert (words[0] - words[1]).abs().max() > 1e-4
    more = load_adapter(added(mine, first.adapter, second_set).adapter)
    torch.testing.assert_close(more.embedder(torch.eye(5)[:3], v), words, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("left_out", "part"), [("emotion_loras", slice(0, 6)), ("polarity_loras", slice(6, 10))]
)
def test_loras_that_are_left_out_stay_silent_in_the_file(settings, adapter, left_out, part):
    for start in ({}, {"init": str(adapter)}):
        out = settings["out"] + ("-on" if start else "")
        result = quiet_train(settings | start, **{left_out: False, "out": out})
        hilora = load_adapter(result.adapter).hilora
        ups = [hilora.matrices(key)[1] for key in hilora.layers]
        assert all((up[:, part] == 0).all() for up in ups)
        assert any((up != 0).any() for up in ups)


def test_twelve_emotions_in_three_polarities_train(settings, tmp_path):
    from PIL import Image

    from coemogen_train.data.prepare import PrepareOptions, prepare_folder

    names = [f"emotion {letter}" for letter in "abcdefghijkl"]
    emotions = tuple(Emotion(name, f"polarity {index % 3}") for index, name in enumerate(names))
    for index, name in enumerate(names):
        for number in range(2):
            path = tmp_path / "pictures" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16), (20 * index, 100 * number, 60)).save(path)
    options = PrepareOptions(taxonomy=Taxonomy("twelve", emotions), workers=1)
    prepare_folder(tmp_path / "pictures", tmp_path / "set", options)
    result = quiet_train(settings, set=str(tmp_path / "set"), semantic_weight=0, steps=4, batch_size=6)
    steps = saved(settings["out"], 4)["optimiser.steps.stacked"]
    assert len(steps) == 15 and (steps == torch.tensor([2.0] * 12 + [4.0] * 3)).all()
    assert load_adapter(result.adapter).info.taxonomy.polarities == tuple(f"polarity {i}" for i in range(3))
