"""Every mistake that a run can begin with: one sentence, exit code 2, before any weight is read.

`python -m pytest tests/train/test_mistakes.py -s` prints the sentences.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from coemogen_train.cli.program import run
from tests.train.test_loop import quiet_train

Told = Callable[..., str]


@pytest.fixture()
def told(settings, capsys, monkeypatch, pytestconfig) -> Told:
    """Run `train` with some settings changed, dry and for real; gives the sentence that both print."""

    def tell(*extra: str, dry: bool = True, **changes: object) -> str:
        def never(*_: object, **__: object) -> None:
            raise AssertionError("a weight was read")

        monkeypatch.setattr("coemogen_train.train.loop.prepare_run", never)
        pairs = {key: json.dumps(value) for key, value in (settings | changes).items()}
        given = [
            "train",
            *extra,
            *(part for key, value in pairs.items() for part in ("--set", f"{key}={value}")),
        ]
        sentences = set()
        for arguments in [given, [*given, "--dry-run"]] if dry else [given]:
            assert run(arguments) == 2
            error = capsys.readouterr().err.strip().splitlines()[-1]
            sentences.add(error)
        assert len(sentences) == 1
        sentence = sentences.pop().removeprefix("coemogen_train: ")
        assert sentence.endswith((".", "?")) and "Traceback" not in sentence
        if pytestconfig.getoption("capture") == "no":
            with capsys.disabled():
                print(f"\n    {sentence}", end="")
        return sentence

    return tell


@pytest.fixture()
def own_set(settings, training_set, tmp_path) -> Path:
    """A copy of the set with copies of its pictures, to be spoilt."""
    from coemogen_train.data.prepare import PrepareOptions, prepare_table
    from coemogen_train.data.samples import TrainingSet

    opened = TrainingSet.open(training_set)
    source = opened.samples()[0].image.parent
    shutil.copytree(source, tmp_path / "source")
    options = PrepareOptions(taxonomy=opened.taxonomy, workers=1)
    prepare_table(tmp_path / "source" / "samples.jsonl", tmp_path / "set", options)
    return tmp_path / "set"


def checkpoint(path: Path, **shapes: tuple[int, ...]) -> str:
    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, path)
    return str(path)


def test_a_misspelt_key_names_the_nearest(told):
    assert "'learningrate'" in (sentence := told(learningrate=1)) and "'learning_rate'" in sentence


def test_a_missing_picture_is_counted_and_named(told, own_set, tmp_path):
    (tmp_path / "source" / "calm2.png").unlink()
    (tmp_path / "source" / "joy0.png").unlink()
    sentence = told(set=str(own_set))
    assert "2 of 24 pictures" in sentence and "calm2.png" in sentence


def test_an_emotion_outside_the_taxonomy(told, own_set):
    plain = json.loads((own_set / "set.json").read_text(encoding="utf-8"))
    plain["taxonomy"]["emotions"][0]["name"] = "serenity"
    (own_set / "set.json").write_text(json.dumps(plain), encoding="utf-8")
    assert "calm, which the set's taxonomy does not have" in told(set=str(own_set))


def test_an_emotion_asked_for_that_the_set_lacks(told):
    assert "'clam'" in (sentence := told(emotions=["clam", "joy"])) and "calm" in sentence


def test_an_emotion_without_pictures_names_the_cure(told, own_set):
    from coemogen_train.data import tables

    rows = tables.read_table(own_set / "samples.parquet", tables.SAMPLES)
    tables.write_table(
        own_set / "samples.parquet", tables.SAMPLES, [row for row in rows if row["emotion"] != "storm"]
    )
    assert """--set 'emotions=["calm", "joy"]'""" in told(set=str(own_set))


def test_one_picture_of_each_emotion_is_told_before_the_clusters_are_fitted(told, own_set):
    from coemogen_train.data import tables

    rows = tables.read_table(own_set / "samples.parquet", tables.SAMPLES)
    first = [row for row in rows if row["id"].endswith("0.png")]
    tables.write_table(own_set / "samples.parquet", tables.SAMPLES, first)
    assert len(first) == 3 and "one picture only" in told(set=str(own_set))


def test_a_checkpoint_of_sdxls_shape(told, tmp_path):
    stem = "model.diffusion_model.input_blocks.0.0.weight"
    tensors = {stem: (4, 4, 1, 1), "model.diffusion_model.label_emb.0.0.weight": (2, 2)}
    file = checkpoint(tmp_path / "xl.safetensors", **tensors)
    assert "xl.safetensors" in (sentence := told(base=file)) and "Stable Diffusion XL" in sentence


@pytest.mark.parametrize("content", [b"hello", b"", b"\\xff" * 4000])
def test_a_file_that_is_no_checkpoint(told, tmp_path, content):
    (tmp_path / "holiday.safetensors").write_bytes(content)
    assert "holiday.safetensors" in told(base=str(tmp_path / "holiday.safetensors"))


def test_a_lora_in_place_of_a_checkpoint(told, tmp_path):
    file = checkpoint(tmp_path / "style.safetensors", **{"lora_unet_x.lora_up.weight": (2, 2)})
    assert "a LoRA" in told(base=file)


def test_a_base_that_is_not_there(told, tmp_path):
    assert "nowhere" in told(base=str(tmp_path / "nowhere"))


def test_a_clip_of_another_width(told, settings, tmp_path):
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    adapter = quiet_train(settings, out=str(tmp_path / "first"), steps=1).adapter
    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        projection_dim=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
    )
    CLIPVisionModelWithProjection(config).save_pretrained(tmp_path / "other-clip")
    sentence = told("--init", str(adapter), vision=str(tmp_path / "other-clip"))
    assert "16 wide" in sentence and "24 wide" in sentence


def test_a_resolution_that_is_no_multiple_of_8(told):
    assert "multiple of 8" in told(resolution=20)


def test_a_folder_that_holds_a_run_and_one_resumed_with_other_settings(told, settings):
    quiet_train(settings, steps=1)
    assert "--resume" in told(steps=1)
    assert "rank was 2 and is now 3" in (sentence := told("--resume", rank=3))
    assert "free to change: " in sentence and "learning_rate" in sentence and "preview_every" in sentence


def test_a_licence_that_an_adapter_cannot_carry(told):
    assert "printable" in (sentence := told(licence="CC\u00a0BY")) and "--set licence=" in sentence
    assert "path" in told(origin="/home/anna/pictures")


def test_adding_leaves_out_none_of_the_loras(told, tmp_path):
    sentence = told(init=str(tmp_path / "a.safetensors"), init_mode="add", polarity_loras=False)
    assert "none can be left out" in sentence


def test_a_disk_that_is_too_small(told, monkeypatch):
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    assert "make room" in told()


HOLDS = """
import sys, time
from pathlib import Path
from coemogen_train.train.folder_lock import run_lock
with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_in_use_by_a_living_run(told, settings):
    command = [sys.executable, "-c", HOLDS, settings["out"]]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    try:
        assert process.stdout and process.stdout.readline().strip() == "held"
        assert "in use by a running training" in told(dry=False)
    finally:
        process.kill()
        process.wait()
