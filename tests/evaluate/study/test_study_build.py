"""Building a study: balanced and blind pairs, one page with nothing but itself, questions as data."""

from __future__ import annotations

import base64
import io
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from coemogen_train.errors import ConfigError, DataError
from coemogen_train.evaluate.pictures import LabelledPictures
from coemogen_train.evaluate.study import load_key, load_questions
from coemogen_train.evaluate.study.plan import _cells

from .simulated import EMOTIONS, METHODS, make_pictures, make_study

Pictures = dict[str, LabelledPictures]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    return make_pictures(tmp_path_factory.mktemp("pictures"))


def test_the_page_names_no_method_and_no_file(pictures: Pictures) -> None:
    study = make_study(pictures)
    text = re.sub(r"data:image/jpeg;base64,[\w+/=]+", "", study.page)
    for secret in (*METHODS, "baseline", ".png", "pictures0", "noise"):
        assert secret not in text, secret
    held = json.loads(re.findall(r'type="application/json" id="study">(.*?)</script>', study.page)[0])
    assert "http:" not in text and "https:" not in text and "src=" not in text
    ids = {option.id: option.method for trial in study.key.trials for option in trial.options}
    first = Counter(ids[trial["options"][0]["id"]] for trial in held["trials"])
    assert len(ids) == 2 * len(study.key.trials) and len(first) == 4  # any method, and noise, may come first
    shown = [name for trial in held["trials"] for option in trial["options"] for name in option["pictures"]]
    assert set(shown) == set(held["pictures"]) and len(held["pictures"]) == study.pictures


def test_pictures_are_written_anew_and_small(tmp_path: Path) -> None:
    pictures = make_pictures(tmp_path)
    told = Image.open(pictures[METHODS[0]].paths[0])
    exif = Image.Exif()
    exif[0x010E] = "made by " + METHODS[0]
    told.save(pictures[METHODS[0]].paths[0], exif=exif)
    page = make_study(pictures, side=32).page
    sizes = set()
    for found in re.findall(r"base64,([\w+/=]+)", page):
        data = base64.b64decode(found)
        assert METHODS[0].encode() not in data
        sizes.add(Image.open(io.BytesIO(data)).size)
    assert sizes == {(32, 24), (16, 12), (32, 32)}  # alone, in a set, noise


def test_every_run_of_pairs_is_balanced(pictures: Pictures) -> None:
    key = make_study(pictures, pairs=6, pool=18).key
    singles = [trial for trial in key.trials if not trial.check and len(trial.options[0].pictures) == 1]
    assert len(singles) == 18
    for start in range(13):
        run = singles[start : start + 6]
        couples = Counter(frozenset(option.method for option in trial.options) for trial in run)
        assert set(couples.values()) == {2} and len(couples) == 3
        emotions = Counter(trial.emotion for trial in run)
        assert set(emotions.values()) == {3} if start % 6 == 0 else max(emotions.values()) <= 4
        assert start % 6 or len({(frozenset(o.method for o in t.options), t.emotion) for t in run}) == 6
    against = make_study(pictures, against=METHODS[1]).key
    for trial in against.trials:
        assert trial.check or METHODS[1] in {option.method for option in trial.options}


@pytest.mark.parametrize("pool", [8, 9, 11, 12, 18])
def test_runs_past_the_end_of_the_pool_are_balanced_too(pool: int) -> None:
    """What `plan` says of a rater's run: couples differ by one, by two past the end of an uneven pool."""
    couples = [("a", "b"), ("a", "c"), ("b", "c")]
    cells = list(_cells(couples, EMOTIONS, pool, np.random.default_rng(pool)))
    for begin in range(pool):
        run = [cells[(begin + i) % pool] for i in range(8)]  # as study.js takes it
        past = begin + 8 > pool
        for place, names, most in (
            (0, couples, 1 + (past and pool % 3 > 0)),
            (1, EMOTIONS, 2 + (past and pool % 6 > 0)),
        ):
            counts = [[cell[place] for cell in run].count(name) for name in names]
            assert max(counts) - min(counts) <= most, (begin, place)


def test_sides_show_the_right_emotion_and_sets_repeat_nothing(pictures: Pictures) -> None:
    for trial in make_study(pictures).key.trials:
        for option in trial.options:
            assert len(set(option.pictures)) == len(option.pictures)
            if not trial.check:
                assert all(Path(p).parts[-3:-1] == (option.method, trial.emotion) for p in option.pictures)


def test_the_same_seed_gives_the_same_page(pictures: Pictures) -> None:
    assert make_study(pictures).page == make_study(pictures).page
    assert make_study(pictures).key.study != make_study(pictures, seed=4).key.study


def test_checks_are_of_both_kinds_and_both_sides(pictures: Pictures) -> None:
    checks = [trial for trial in make_study(pictures, checks=4).key.trials if trial.check]
    assert [trial.check for trial in checks] == ["noise", "A", "noise", "B"]
    noise, told = checks[0], checks[1]
    real = next(option for option in noise.options if option.method)
    other = next(option for option in noise.options if not option.method)
    assert noise.passed(real.id, other.id) and not noise.passed(other.id, other.id)
    assert not noise.passed("equal", real.id)
    one, two = told.options
    assert told.passed(two.id, two.id) and not told.passed(two.id, one.id)


def test_own_questions_replace_ours(pictures: Pictures, tmp_path: Path) -> None:
    file = tmp_path / "questions.toml"
    file.write_text(
        '[[question]]\nname = "mood"\ntitle = "Mood"\nshows = "one"\n'
        'text = "Which </script><b>is</b> {emotion}?"\n'
        '[check]\nnoise = "See?"\ntold = "Take {side}."\n',
        encoding="utf-8",
    )
    from coemogen_train.evaluate.study import Design, build_study

    study = build_study(pictures, Design(pairs=2, checks=0, side=32), load_questions(file))
    assert {trial.questions for trial in study.key.trials} == {("mood",)}
    assert "</script><b>" not in study.page and study.page.count("</script>") == 2
    assert any(f"is\\u003c/b> {emotion}?" in study.page for emotion in EMOTIONS)
    for text, message in (
        ("a = ", "not in TOML"),
        ('[check]\nnoise = "a"\ntold = "b {side}"', "question: Field required"),
        (file.read_text(encoding="utf-8").replace("{side}", "it"), "which side"),
        (file.read_text(encoding="utf-8").replace('"mood"', '"all"'), "name of its own"),
    ):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match=message):
            load_questions(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_questions(tmp_path / "absent.toml")


def test_what_cannot_be_compared_is_one_sentence(pictures: Pictures, tmp_path: Path) -> None:
    from coemogen_train.cli.study import build as command

    folders = {name: of.paths[0].parents[1] for name, of in pictures.items()}
    (tmp_path / "one" / "awe").mkdir(parents=True)
    Image.new("RGB", (20, 20)).save(tmp_path / "one" / "awe" / "a.png")
    (tmp_path / "bad" / "awe").mkdir(parents=True)
    (tmp_path / "bad" / "awe" / "a.png").write_bytes(b"no picture")
    one, bad = f"one={tmp_path / 'one'}", f"bad={tmp_path / 'bad'}"
    ours = f"ours={folders[METHODS[0]]}"
    for methods, options, message in (
        ([ours], {}, "at least two"),
        ([ours, one], {}, "same emotions .*fear"),
        ([one, f"two={tmp_path / 'one'}"], {}, "1 pictures of awe, and a set needs 4"),
        ([bad, f"two={tmp_path / 'bad'}"], {"several": 1}, "a.png cannot be shown"),
        ([ours, ours], {}, "two methods are called ours"),
        (["ours"], {}, "name and a folder"),
        ([ours, f"two={tmp_path / 'none'}"], {}, "is no folder"),
        ([ours, f"two={folders[METHODS[1]]}"], {"against": "x"}, "none of the methods"),
        ([ours, one], {"pool": 3}, "larger --pool"),
        ([ours, one], {"out": tmp_path}, "is a folder"),
    ):
        with pytest.raises(DataError, match=message):
            command(methods, **{"out": tmp_path / "page.html"} | options)  # type: ignore[arg-type]
    assert not (tmp_path / "page.html").exists()


def test_command_writes_page_and_key(pictures: Pictures, tmp_path: Path) -> None:
    from coemogen_train.cli.study import build as command

    methods = [f"{name}={of.paths[0].parents[1]}" for name, of in pictures.items()]
    answer = command(methods, out=tmp_path / "page.html", pairs=3, side=64)
    key = load_key(tmp_path / "page-key.json")
    assert key.methods == METHODS and answer.data["study"] == key.study
    assert key.study in (tmp_path / "page.html").read_text(encoding="utf-8")
