"""Scoring a study: known preferences come back, careless raters do not count, files may be anything."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression

from coemogen_train.errors import DataError, UserError
from coemogen_train.evaluate.study import (
    Study,
    StudyScore,
    load_key,
    read_answers,
    score_dict,
    score_parts,
    score_study,
)
from coemogen_train.evaluate.study.agreement import agreeing_share, krippendorff_alpha
from coemogen_train.evaluate.study.bradley_terry import bradley_terry
from coemogen_train.evaluate.study.shares import effective_number

from .simulated import METHODS, answered, by_strength, make_pictures, make_study, write

OURS, ONE, TWO = METHODS
STRENGTH = {OURS: 1.5, ONE: 0.0, TWO: -1.5}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_study(make_pictures(tmp_path_factory.mktemp("pictures")), pairs=24)


def score(study: Study, folder: Path, *told: dict[str, Any], **options: Any) -> StudyScore:
    raters, _ = read_answers(write(folder, *told), study.key)
    return score_study(study.key, raters, **{"resamples": 300} | options)


def test_known_preference_is_recovered(study: Study, tmp_path: Path) -> None:
    def chance(question: str, first: str, second: str) -> float:
        return 0.5 if question == "diversity" else by_strength(STRENGTH)(question, first, second)

    found = score(study, tmp_path, *(answered(study.key, n, chance, ties=0.1) for n in range(24)))
    assert found.raters == 24 and not found.dropped
    for told in found.preferences:
        if told.question in ("diversity", "all"):
            continue
        expected = 0.9 * chance(told.question, told.first, told.second) + 0.05
        assert told.share.low < expected < told.share.high
        assert told.share.low > 0.5 and told.answers == 24 * 8 and told.pairs == 8
    even = [told for told in found.preferences if told.question == "diversity"]
    assert len(even) == 3 and all(told.share.low < 0.5 < told.share.high for told in even)
    order = found.order["fidelity"]
    assert [standing.method for standing in order] == [OURS, ONE, TWO]
    assert order[0].range is not None and order[0].first_share is not None
    assert order[0].range.low < 0.9 * STRENGTH[OURS] < order[0].range.high + 0.3
    assert order[0].first_share > 0.95
    alphas = {accord.question: accord.alpha for accord in found.agreement}
    assert alphas["fidelity"] is not None and alphas["diversity"] is not None
    assert alphas["fidelity"] > 0.1 > abs(alphas["diversity"])
    assert json.loads(json.dumps(score_dict(found)))["raters"] == 24


def test_intervals_grow_where_raters_differ(study: Study, tmp_path: Path) -> None:
    """Answers alone would make the same interval of one opinion per answer and of one per rater."""

    def stubborn(rater: int) -> Any:
        return lambda *_: float(rater % 2)

    mixed = score(study, tmp_path, *(answered(study.key, n, lambda *_: 0.5) for n in range(12)))
    split = score(study, tmp_path, *(answered(study.key, n, stubborn(n)) for n in range(12)))
    widths = [
        np.mean([told.share.high - told.share.low for told in found.preferences if told.question == "all"])
        for found in (mixed, split)
    ]
    assert widths[1] > 2 * widths[0]


def test_a_few_of_one_mind_are_no_certainty(tmp_path: Path) -> None:
    """Two raters who always choose the same leave room for others; and an order says nothing of its ends."""
    pictures = make_pictures(tmp_path / "pictures")
    pair = make_study({name: pictures[name] for name in (OURS, ONE)}, pairs=6)
    lows = {}
    for raters in (2, 5):
        folder = tmp_path / str(raters)
        folder.mkdir()
        found = score(pair, folder, *(answered(pair.key, n, lambda *_: 1.0) for n in range(raters)))
        told = next(told for told in found.preferences if told.question == "fidelity")
        ends = binomtest(raters, raters).proportion_ci(method="wilson")
        assert (told.share.value, told.share.high) == (1.0, 1.0)
        assert told.share.low == pytest.approx(ends.low)
        assert all(one.range is None and one.first_share is None for one in found.order["fidelity"])
        lows[raters] = told.share.low
        shown = "".join(str(part) for part in score_parts(found, pair.key))
        assert "about which all answers are alike" in shown
        assert ("2 raters say little" in shown) == (raters == 2)
    assert lows[2] < 0.5 < lows[5]


def test_answers_are_worth_what_they_differ() -> None:
    one_mind, split = np.ones(60), np.arange(60) % 2
    assert effective_number(one_mind, 6) == 6 and effective_number(one_mind, 60) == 60
    assert 30 < effective_number(split, 6) < 60


def test_swapped_sides_do_not_matter(study: Study, tmp_path: Path) -> None:
    chance = by_strength(STRENGTH)
    one = score(study, tmp_path, *(answered(study.key, n, chance) for n in range(5)))
    two = score(study, tmp_path, *(answered(study.key, n, chance, swapped=True) for n in range(5)))
    assert one.preferences == two.preferences and one.order == two.order and one.agreement == two.agreement
    assert one.side_a is not None and two.side_a == pytest.approx(1 - one.side_a)


def test_names_in_another_order_mirror_the_preferences(study: Study, tmp_path: Path) -> None:
    told = [answered(study.key, n, by_strength(STRENGTH)) for n in range(5)]
    mirrored = Study(study.page, study.key.model_copy(update={"methods": (TWO, ONE, OURS)}), 0)
    one, two = score(study, tmp_path, *told), score(mirrored, tmp_path, *told)
    shares = {(p.question, p.first, p.second): p.share.value for p in one.preferences}
    for told_two in two.preferences:
        share = shares[told_two.question, told_two.second, told_two.first]
        assert told_two.share.value == pytest.approx(1 - share)
    assert [a.alpha for a in one.agreement] == pytest.approx([a.alpha for a in two.agreement])
    assert [s.method for s in one.order["all"]] == [s.method for s in two.order["all"]]


def test_careless_raters_are_left_out_and_named(study: Study, tmp_path: Path) -> None:
    careful = [answered(study.key, n, lambda *_: 1.0) for n in range(3)]
    careless = answered(study.key, 3, lambda *_: 0.0)
    checks = {trial.id: trial for trial in study.key.trials if trial.check}
    for answer in careless["answers"]:
        if (trial := checks.get(answer["trial"])) and not trial.passed("equal", answer["first"]):
            answer["choice"] = "equal"
    silent = answered(study.key, 4, lambda *_: 0.0)
    silent["answers"] = [answer for answer in silent["answers"] if answer["trial"] not in checks]
    found = score(study, tmp_path, *careful, careless, silent)
    assert {dropped.rater[-1]: dropped.reason for dropped in found.dropped} == {
        "3": "failed 4 of 4 attention checks",
        "4": "met no attention check",
    }
    assert found.raters == 3 and all(told.share.value == 1.0 for told in found.preferences)
    kept = score(study, tmp_path, *careful, careless, allowed_failures=4)
    assert kept.raters == 4
    with pytest.raises(DataError, match="nobody's answers are left of 1"):
        score(study, tmp_path, careless)


def test_raters_by_chance_seldom_pass_the_checks(study: Study, tmp_path: Path) -> None:
    told = [answered(study.key, n, lambda *_: 0.5, careful=False) for n in range(40)]
    found = score(study, tmp_path, *told, resamples=2)
    assert 32 <= len(found.dropped) < 40  # one in sixteen guesses all four


def test_what_unfinished_raters_said_counts(study: Study, tmp_path: Path) -> None:
    told = answered(study.key, 0, lambda *_: 1.0)
    checks = {trial.id for trial in study.key.trials if trial.check}
    of_checks = [answer for answer in told["answers"] if answer["trial"] in checks][:1]
    told["answers"] = told["answers"][:5] + of_checks
    told["finished"] = False
    found = score(study, tmp_path, told)
    assert found.answers == 5 and "stopped before the end" in found.notes[0] and "one rater" in found.notes[1]


def test_bradley_terry_is_a_logistic_regression() -> None:
    dice = np.random.default_rng(1)
    tables = dice.integers(0, 30, (3, 4, 4)).astype(float) + 0.5 * dice.integers(0, 2, (3, 4, 4))
    tables[:, range(4), range(4)] = 0
    tables[:, 0, 3] = tables[:, 3, 0] = 0  # never compared
    for table, ours in zip(tables, bradley_terry(tables, prior=0.5), strict=True):
        pairs = [(i, j) for i in range(4) for j in range(4) if i != j and {i, j} != {0, 3}]
        rows = np.array([np.eye(4)[i] - np.eye(4)[j] for i, j in pairs])
        weights = np.array([table[i, j] + 0.5 for i, j in pairs])
        # Each win twice, once the other way round, so that there are two classes.
        model = LogisticRegression(C=1e8, fit_intercept=False, tol=1e-10, max_iter=10_000)
        model.fit(np.concatenate([rows, -rows]), [1] * len(rows) + [0] * len(rows), np.tile(weights, 2))
        theirs = model.coef_[0] - model.coef_[0].mean()
        assert np.allclose(ours, theirs, atol=1e-3)


def test_method_that_never_lost_has_a_finite_strength() -> None:
    strength = bradley_terry(np.array([[0, 200.0], [0, 0]]))
    assert strength[0] == pytest.approx(np.log(200.5 / 0.5) / 2) and strength.sum() == pytest.approx(0)


def test_alpha_of_the_textbook() -> None:
    """Krippendorff's own example of four observers, twelve units and gaps: 0.743."""
    rows = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    ]
    counts = np.zeros((12, 5))
    for row in rows:
        for unit, name in enumerate(row):
            if name is not None:
                counts[unit, name - 1] += 1
    assert krippendorff_alpha(counts) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha([[3, 0], [3, 0]]) is None and krippendorff_alpha([[1, 0]]) is None
    assert krippendorff_alpha([[3, 0], [0, 3]]) == 1.0
    assert agreeing_share([[2, 1], [0, 1]]) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: b"", "is not a file of answers"),
        (lambda t: b"[" * 100_000, "is not a file of answers"),
        (lambda t: b"\xff\xfe{}", "is not a file of answers"),
        (lambda t: json.dumps([t]).encode(), "is not a file of answers"),
        (lambda t: json.dumps(t | {"more": 1}).encode(), "more: Extra"),
        (lambda t: json.dumps(t | {"rater": "<b>"}).encode(), "rater: String"),
        (lambda t: json.dumps(t | {"study": "0" * 16}).encode(), "answers another study"),
        (lambda t: json.dumps(t | {"answers": t["answers"][:1] * 2}).encode(), "twice"),
        (lambda t: json.dumps(t).replace("2.5", "NaN").encode(), r"seconds: .*finite"),
        (lambda t: json.dumps(t).replace("2.5", '"2"').encode(), "seconds"),
        (lambda t: json.dumps(t).replace("fidelity", "likes").encode(), "does not ask"),
        (lambda t: json.dumps(t).replace(t["answers"][0]["trial"], "0" * 16).encode(), "does not ask"),
        (lambda t: json.dumps(t).replace(t["answers"][0]["first"], "0" * 16).encode(), "was not shown"),
        (lambda t: b" " * (5 << 20), "more than 4 MB"),
    ],
)
def test_broken_files_are_one_sentence(study: Study, tmp_path: Path, damage: Any, message: str) -> None:
    told = answered(study.key, 0, lambda *_: 1.0)
    (tmp_path / "broken.json").write_bytes(damage(told))
    with pytest.raises(UserError, match=message) as error:
        read_answers([tmp_path / "broken.json"], study.key)
    sentence = str(error.value)
    assert "broken.json" in sentence and "\n" not in sentence and len(sentence) < 400


def test_the_same_rater_twice(study: Study, tmp_path: Path) -> None:
    told = answered(study.key, 0, lambda *_: 1.0)
    paths = write(tmp_path, told, told)
    raters, notes = read_answers(paths, study.key)
    assert len(raters) == 1 and "counted once" in notes[0]
    paths = write(tmp_path, told, told | {"finished": False})
    with pytest.raises(DataError, match="different answers of one rater"):
        read_answers(paths, study.key)


def test_more_pairs_than_the_page_asks_about_are_refused(tmp_path: Path) -> None:
    wide = make_study(make_pictures(tmp_path / "pictures"), pairs=4, pool=12)
    paths = write(tmp_path, answered(wide.key, 0, lambda *_: 1.0))
    with pytest.raises(DataError, match="answers about 12 pairs, and the page asks about 4"):
        read_answers(paths, wide.key)


def test_key_of_another_study_is_not_written_over(study: Study, tmp_path: Path) -> None:
    path = tmp_path / "study-key.json"
    study.key.save(path)
    study.key.save(path)
    assert load_key(path) == study.key
    with pytest.raises(DataError, match="key of another study"):
        study.key.model_copy(update={"study": "0" * 16}).save(path)
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match="is not the key of a study"):
        load_key(path)
    with pytest.raises(DataError, match="is no file"):
        load_key(tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda told: told["trials"][0]["options"][0].update(method="gone"), "shows gone, which is none of"),
        (lambda told: told["methods"].append(OURS), "two methods have one name"),
        (lambda told: told["trials"][0].update(questions=["gone"]), "asks what is none of the questions"),
        (lambda told: told["trials"][0]["options"][0].update(method=""), "does not compare two methods"),
        (lambda told: told["trials"][0].update(id=told["trials"][1]["id"]), "two trials have one id"),
    ],
)
def test_key_that_somebody_edited_is_one_sentence(
    study: Study, tmp_path: Path, damage: Any, message: str
) -> None:
    told = study.key.model_dump(mode="json")
    damage(told)
    path = tmp_path / "key.json"
    path.write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(DataError, match=message) as error:
        load_key(path)
    assert (
        "key.json" in str(error.value)
        and "\n" not in str(error.value)
        and "Value error" not in str(error.value)
    )


def test_command_tells_it_all_in_its_tables(study: Study, tmp_path: Path) -> None:
    import io

    from coemogen_train.cli.study import score as command

    study.key.save(tmp_path / "key.json")
    told = [answered(study.key, n, by_strength(STRENGTH)) for n in range(4)]
    careless = answered(study.key, 9, lambda *_: 0.5)
    careless["answers"] = careless["answers"][:4]
    answer = command(tmp_path / "key.json", write(tmp_path, *told, told[0], careless))
    shown = io.StringIO()
    answer.show(shown)
    text = " ".join(shown.getvalue().split())
    assert (
        "of 4 raters; left out: 1." in text and "answers-5.json, whose rater met no attention check" in text
    )
    assert "counted once" in text and "Krippendorff's alpha" in text
    share = next(told.share for told in score(study, tmp_path, *told).preferences)
    assert f"{share.value:.1%}" in text and re.search(rf"Fidelity {OURS} \+\d", text)
    assert {"preferences", "order", "agreement", "dropped"} <= set(answer.data)
