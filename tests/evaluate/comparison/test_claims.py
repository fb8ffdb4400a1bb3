"""Claims: read strictly, written for rows that exist, decided as often as they should be."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from coemogen_train.errors import ConfigError
from coemogen_train.evaluate.comparison.claims import Claim, Claims, judge, load_claims
from coemogen_train.evaluate.comparison.measures import MEASURES
from coemogen_train.evaluate.comparison.result import Comparison, Row
from coemogen_train.evaluate.comparison.statistics import estimate
from coemogen_train.evaluate.comparison.variants import EXPERIMENTS

NAMES = ("a", "b", "c", "d", "e", "f")


def table(effects: dict[str, float], generator: np.random.Generator, seeds: int = 5) -> Comparison:
    """Rows with these true accuracies above 0.5; seeds move all rows, and each a little."""
    common = generator.normal(0, 0.05, seeds)
    rows = tuple(
        Row(
            name,
            "table",
            "baseline",
            name.upper(),
            tuple(range(seeds)),
            64,
            {
                "emo_a": estimate(
                    (0.5 + effects.get(name, 0.0) + common + generator.normal(0, 0.02, seeds)).tolist()
                )
            },
        )
        for name in NAMES
    )
    return Comparison("", "fixed", (), rows)


def claims(*pairs: str, **more: float) -> Claims:
    """ "ab": row a has the higher accuracy of a and b."""
    return Claims(tuple(Claim(pair, pair, "emo_a", "higher", *pair, **more) for pair in pairs), "")  # type: ignore[arg-type]


ALL_PAIRS = tuple(first + second for first in NAMES for second in NAMES if first < second)


def test_a_known_effect_is_found_with_its_sign() -> None:
    generator = np.random.default_rng(0)
    found = [judge(claims(*ALL_PAIRS), table({"a": 0.3}, generator, 3)) for _ in range(40)]
    verdicts = [entry.verdict for run in found for entry in run if entry.claim.first == "a"]
    assert verdicts.count("supported") >= 0.8 * len(verdicts)
    assert "contradicted" not in verdicts
    against = judge(claims("ba"), table({"a": 0.3}, generator))[0]
    assert against.verdict == "contradicted" and against.test is not None
    assert against.test.low < -0.3 + 0.05 and against.test.high < 0
    assert "over 5 seeds. Contradicted: p below 0.001" in against.sentence


def test_without_an_effect_hardly_any_run_decides_anything() -> None:
    generator = np.random.default_rng(1)
    runs = [judge(claims(*ALL_PAIRS), table({}, generator, 3)) for _ in range(60)]
    undecided = [all(entry.verdict == "not decided" for entry in run) for run in runs]
    assert np.mean(undecided) >= 0.95


def test_lower_is_better_where_the_claim_says_so() -> None:
    comparison = table({"b": 0.4}, np.random.default_rng(2))
    claim = replace(claims("ab").claims[0], better="lower")
    assert judge(Claims((claim,), ""), comparison)[0].verdict == "supported"


def test_a_minimum_effect_has_to_be_exceeded() -> None:
    comparison = table({"a": 0.3}, np.random.default_rng(3))
    verdicts = {least: judge(claims("ab", minimum=least), comparison)[0].verdict for least in (0.1, 0.3, 0.6)}
    assert verdicts == {0.1: "supported", 0.3: "not decided", 0.6: "contradicted"}
    lower = replace(claims("ba", minimum=0.1).claims[0], better="lower")
    assert judge(Claims((lower,), ""), comparison)[0].verdict == "supported"


def test_the_spread_of_other_experiments_with_the_same_seeds_counts() -> None:
    comparison = table({"a": 0.1}, np.random.default_rng(8), 3)
    apart = tuple(
        replace(row, experiment="table" if row.name in "ab" else "other") for row in comparison.rows
    )
    tests = [judge(claims("ab"), replace(comparison, rows=rows))[0].test for rows in (comparison.rows, apart)]
    alone = judge(claims("ab"), replace(comparison, rows=comparison.rows[:2]))[0].test
    assert tests[0] is not None and tests[0] == tests[1] and tests[0].freedom == 5
    assert alone is not None and alone.freedom == 2 and alone.p == alone.pair == tests[0].pair


def test_rows_of_one_fit_count_once_in_the_pool() -> None:
    comparison = table({"a": 0.1}, np.random.default_rng(9), 3)
    alone = judge(claims("ab"), comparison)[0].test
    own = [replace(row, fits=tuple(f"{row.name}{seed}" for seed in row.seeds)) for row in comparison.rows]
    drawn_otherwise = replace(own[0], name="again", experiment="other", metrics=own[2].metrics)
    together = judge(claims("ab"), replace(comparison, rows=(*own, drawn_otherwise)))[0].test
    assert together == alone
    apart = replace(drawn_otherwise, fits=())
    assert judge(claims("ab"), replace(comparison, rows=(*own, apart)))[0].test != alone


def test_rows_that_stand_at_different_scales_are_told_so() -> None:
    comparison = table({"a": 0.1}, np.random.default_rng(10))
    like = [replace(row, guidance=3.0, setting={"learning_rate": 0.001}) for row in comparison.rows]
    assert "stands at" not in judge(claims("ab"), replace(comparison, rows=tuple(like)))[0].sentence
    like[1] = replace(like[1], guidance=7.5, setting={})
    said = judge(claims("ab"), replace(comparison, rows=tuple(like)))[0].sentence
    assert "A stands at guidance 3, learning_rate 0.001; B at guidance 7.5. " in said


def test_one_seed_is_said_to_decide_nothing() -> None:
    entry = judge(claims("ab"), table({"a": 0.4}, np.random.default_rng(4), 1))[0]
    assert entry.verdict == "not decided" and entry.p is None
    assert "Not decidable with 1 seed" in entry.sentence


def test_rows_are_paired_by_seed_wherever_it_stands() -> None:
    comparison = table({"a": 0.1}, np.random.default_rng(5))
    rows = list(comparison.rows)
    values = rows[0].metrics["emo_a"].values
    turned = estimate([*values[::-1], 9.0])  # the same seeds backwards, and one that b does not have
    rows[0] = replace(rows[0], seeds=(4, 3, 2, 1, 0, 77), metrics={"emo_a": turned})
    before, after = (judge(claims("ab"), c)[0] for c in (comparison, replace(comparison, rows=tuple(rows))))
    assert before.test is not None and after.test is not None
    assert sorted(after.test.differences) == pytest.approx(sorted(before.test.differences))
    assert after.test.p == pytest.approx(before.test.p)


def test_a_claim_without_its_rows_is_not_counted() -> None:
    comparison = table({"a": 0.3}, np.random.default_rng(6))
    alone = judge(claims("ab"), comparison)[0]
    together = judge(claims("ab", "xy", "ax"), comparison)
    assert [entry.verdict for entry in together] == [alone.verdict, "not tested", "not tested"]
    assert together[0].p == alone.p


def test_figures_that_are_none_test_nothing() -> None:
    comparison = table({}, np.random.default_rng(7))
    rows = (
        replace(comparison.rows[0], metrics={"emo_a": estimate([float("nan")] * 5)}),
        *comparison.rows[1:],
    )
    assert judge(claims("ab"), replace(comparison, rows=rows))[0].verdict == "not tested"


def test_the_claims_of_the_package_name_rows_and_figures_that_exist() -> None:
    known = load_claims().claims
    assert len({claim.id for claim in known}) == len(known) >= 30
    for claim in known:
        names = {variant.name for variant in EXPERIMENTS[claim.experiment].variants}
        assert {claim.first, claim.second} <= names, claim.id
        assert MEASURES[claim.metric].better == claim.better, claim.id
        assert claim.sentence.endswith(".") and claim.group


def test_line_ends_do_not_change_what_was_claimed(tmp_path: Path) -> None:
    package = files("coemogen_train.evaluate.comparison") / "claims" / "paper.toml"
    text = package.read_text(encoding="utf-8")
    windows = tmp_path / "claims.toml"
    windows.write_bytes(text.replace("\n", "\r\n").encode("utf-8"))
    assert load_claims(windows).sha256 == load_claims().sha256
    windows.write_text(text.replace("raises", "lowers"), encoding="utf-8")
    assert load_claims(windows).sha256 != load_claims().sha256


CLAIM = 'id = "x"\nsentence = "s"\nmetric = "m"\nbetter = "higher"\nfirst = "a"\nsecond = "b"\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no claims"),
        ("[[claim]\n", "cannot be read"),
        ("[[claim]]\nid = 'x'\n", "claim 1"),
        ("claim = [1]\n", "claim 1"),
        (f"[[claim]]\n{CLAIM}odd = 1\n", "at most"),
        (f"[[claim]]\n{CLAIM}minimum = 'a'\n", "'minimum' is a number"),
        (f"[[claim]]\n{CLAIM}minimum = nan\n", "not below 0"),
        (f"[[claim]]\n{CLAIM.replace('higher', 'up')}", "'better' is"),
        (f"[[claim]]\n{CLAIM}[[claim]]\n{CLAIM}", "two claims have the id 'x'"),
    ],
)
def test_claims_that_cannot_be_read_are_one_sentence(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "claims.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=says) as refused:
        load_claims(path)
    assert "claims.toml" in str(refused.value) and "\n" not in str(refused.value)
