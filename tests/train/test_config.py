"""Settings: presets, overrides, and mistakes told in one sentence."""

from pathlib import Path

import pytest

from coemogen_train.errors import ConfigError
from coemogen_train.train.config import check_resume, load_config
from coemogen_train.train.written_settings import PRESETS

PLACES = ["set=a_set", "out=a_run"]


@pytest.mark.parametrize("preset", [file.stem for file in PRESETS.glob("*.toml")])
def test_every_preset_is_valid(preset):
    assert load_config(preset, PLACES).base


def test_overrides_win_over_file_and_file_over_preset(tmp_path: Path):
    file = tmp_path / "mine.toml"
    file.write_text('preset = "toy"\nsteps = 7\ntokens = 5\nset = "s"\n', encoding="utf-8")
    config = load_config(
        file, ["tokens=3", "out=here", 'targets=["to_q"]', "alpha=none", "licence=CC BY-NC 4.0"]
    )
    assert (config.semantic_weight, config.steps, config.tokens) == (0.1, 7, 3)
    assert (config.targets, config.alpha, config.licence) == (("to_q",), None, "CC BY-NC 4.0")


def test_unknown_key_names_the_nearest(tmp_path: Path):
    file = tmp_path / "mine.toml"
    file.write_text('preset = "toy"\nlearningrate = 1.0\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine\.toml.*'learningrate'.*'learning_rate'"):
        load_config(file, PLACES)
    with pytest.raises(ConfigError, match="'semantic_weight'"):
        load_config("toy", [*PLACES, "semantic-weigth=1"])


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("steps=0", "steps"),
        ("resolution=100", "resolution"),
        ("precision=fp8", "precision"),
        ("content_prompts=1.5", "content_prompts"),
        ("learning_rate=nan", "learning_rate"),
        ("targets=[]", "targets is empty"),
        ("preview_prompt=a street", "preview_prompt"),
        ("init_mode=add", "name it by init"),
        ("rank=2000", "rank"),
        ('log_with=["tensorbord"]', "log_with"),
        ("clip_skip=0", "clip_skip"),
        ("steps", "key=value"),
        ("preset=7gb", "8gb"),
    ],
)
def test_impossible_value_is_one_sentence(override, told):
    with pytest.raises(ConfigError, match=told) as caught:
        load_config("toy", [*PLACES, override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "9" * 5000,
        "0x" + "f" * 5000,
        "[" * 2000 + "]" * 2000,
        "[" + "1," * 20_000 + "]",
        '"' + "x" * 9999 + '"',
    ],
    ids=["long", "hexadecimal", "deep", "wide", "text"],
)
def test_values_beyond_reason_are_refused_on_one_screen(text, tmp_path: Path):
    file = tmp_path / "mine.toml"
    file.write_text(f'preset = "toy"\nsteps = {text}\n', encoding="utf-8")
    for path, pairs in ((file, PLACES), ("toy", [*PLACES, f"steps={text}"])):
        with pytest.raises(ConfigError) as caught:
            load_config(path, pairs)
        assert len(str(caught.value)) < 1900


def test_a_name_that_no_file_has_is_refused():
    with pytest.raises(ConfigError, match=r"a\\x00b"):
        load_config("a\0b")


def test_missing_file_and_missing_key(tmp_path: Path):
    with pytest.raises(ConfigError, match="nowhere"):
        load_config(tmp_path / "nowhere.toml")
    with pytest.raises(ConfigError, match="'set' is missing"):
        load_config("toy")


def test_resume_refuses_a_changed_method_but_not_more_steps(tmp_path: Path):
    stored = load_config("toy", PLACES).model_dump(mode="json")
    check_resume(stored, load_config("toy", [*PLACES, "steps=900", "preview_every=0"]), tmp_path)
    with pytest.raises(ConfigError, match=r"rank was 4 and is now 8.*free to change: .*preview_every"):
        check_resume(stored, load_config("toy", [*PLACES, "rank=8"]), tmp_path)


@pytest.mark.parametrize(
    "override, told",
    [
        ("aspect_buckets=true", "aspect_buckets was False and is now True"),
        ("cache_captions=float32", "cache_captions was False and is now 'float32'"),
    ],
)
def test_resume_takes_a_setting_that_a_run_did_not_have_yet_at_its_default(tmp_path: Path, override, told):
    stored = load_config("toy", PLACES).model_dump(mode="json")
    del stored["aspect_buckets"], stored["cache_captions"], stored["targets"]
    assert check_resume(stored, load_config("toy", PLACES), tmp_path) == []
    with pytest.raises(ConfigError, match=told):
        check_resume(stored, load_config("toy", [*PLACES, override]), tmp_path)


def test_resume_lets_the_rate_change_and_tells_it(tmp_path: Path):
    stored = load_config("toy", PLACES).model_dump(mode="json")
    told = check_resume(stored, load_config("toy", [*PLACES, "learning_rate=1e-4"]), tmp_path)
    assert told == ["learning_rate was 0.001 and is now 0.0001"]


def test_resume_lets_a_batch_be_divided_otherwise_and_not_be_another(tmp_path: Path):
    stored = load_config("8gb", PLACES).model_dump(mode="json")
    assert check_resume(stored, load_config("8gb", [*PLACES, "batch_size=2", "accumulate=8"]), tmp_path) == []
    with pytest.raises(ConfigError, match="batch_size was 4 and is now 2"):
        check_resume(stored, load_config("8gb", [*PLACES, "batch_size=2"]), tmp_path)


def test_resume_keeps_the_length_of_a_run_whose_rate_falls_towards_its_end(tmp_path: Path):
    stored = load_config("8gb", PLACES).model_dump(mode="json")
    with pytest.raises(ConfigError, match="steps was 8000 and is now 9000"):
        check_resume(stored, load_config("8gb", [*PLACES, "steps=9000"]), tmp_path)
