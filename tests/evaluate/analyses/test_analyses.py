"""The analyses recover what a made-up world was made to show."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.stats import spearmanr

from coemogen_train.base.sampling import SamplingSettings, in_window
from coemogen_train.emotions import Taxonomy
from coemogen_train.evaluate.analyses.content import (
    Content,
    ContentSet,
    content_grid,
    content_runs,
    kept_contents,
)
from coemogen_train.evaluate.analyses.contents import neutral_contents, read_contents
from coemogen_train.evaluate.analyses.drawing import BareOrder, Order, Readings
from coemogen_train.evaluate.analyses.engine import NAMES as ANALYSES
from coemogen_train.evaluate.analyses.engine import Plan, read_analyses, run_analyses
from coemogen_train.evaluate.analyses.entry import Entry, centre_of, entry, entry_runs
from coemogen_train.evaluate.analyses.intensity import intensity, intensity_runs, pooled_correlation, spearman
from coemogen_train.evaluate.analyses.resamples import Resamples
from coemogen_train.evaluate.analyses.sections import analyses_page, sections
from coemogen_train.evaluate.analyses.swap import SwapRuns, probe_on_v, swap, swap_runs
from coemogen_train.evaluate.analyses.telling import _tell_dial, tell_content, tell_entry, tell_swap
from coemogen_train.evaluate.intervals import (
    Interval,
    bootstrap_difference,
    bootstrap_mean,
    share_interval,
    spread_out,
)

from .world import CONTENTS, NAMES, TAXONOMY, observer, picture

SETTINGS = SamplingSettings(steps=8, guidance=3.0)
GRID = ContentSet(tuple(Content(text, f"a photo of {text}") for text in CONTENTS), top=1)
RELATIVE = {0: 1, 1: 0, 2: 3, 3: 2}
OPPOSITE = {0: 2, 1: 3, 2: 0, 3: 1}


def _late_emotion(order: Order | BareOrder, i: int) -> Image.Image:
    """Polarity comes in the second quarter, the emotion in the third, both by the condition."""
    if isinstance(order, BareOrder):
        return picture(0)
    meant, window = NAMES.index(order.words[i]), order.settings.condition_window
    if in_window(window, 0.625):
        return picture(meant)
    return picture(RELATIVE[meant]) if in_window(window, 0.375) else picture(OPPOSITE[meant], blue=200)


def _entry(rule: Any = _late_emotion) -> Entry:
    runs = entry_runs(observer(rule), SETTINGS, 3, 0, stretches=4)
    return entry(runs, TAXONOMY, "clip", "red", 8, 0)


def test_entry_finds_the_stretch_in_which_an_emotion_comes() -> None:
    result = _entry()
    condition = [stretch for stretch in result.stretches if stretch.carrier == "condition"]
    assert [stretch.within.emotion.value for stretch in condition] == [0, 0, 1, 0]
    assert [stretch.within.polarity.value for stretch in condition] == [0, 1, 1, 0]
    assert [stretch.without.emotion.value for stretch in condition] == [1, 1, 0, 1]
    assert [stretch.without.polarity.value for stretch in condition] == [1, 1, 1, 1]
    assert [s.within.emotion.value for s in result.stretches if s.carrier == "hilora"] == [0, 0, 0, 0]
    assert result.full.brightness.value == 0 < result.nothing.brightness.value
    within = next(c for c in result.centres if (c.carrier, c.way) == ("both", "within"))
    assert within.later == Interval(0.125, 0.125, 0.125) and within.emotion == Interval(0.625, 0.625, 0.625)
    without = next(c for c in result.centres if (c.carrier, c.way) == ("both", "without"))
    assert without.polarity is None and without.later is None
    assert result.chance == {"emotion": 0.25, "polarity": 0.5}
    text = tell_entry(result)
    assert "a hint, on which no schedule should rest yet" in text
    within_peak, without_peak = result.peaks
    assert (within_peak.start, without_peak.start) == (0.5, 0.5)
    assert within_peak.beyond.value == 1 == -without_peak.beyond.value and within_peak.beyond.low > 0
    assert text.count("The stretch from 0.50 to 0.75") == 2 and "none stands out" not in text
    # Twelve of twelve are no certainty.
    assert result.full.emotion.value == 1 and result.full.emotion.low == pytest.approx(0.757, abs=0.001)
    lumas = [picture(i).convert("L").getpixel((0, 0)) for i in range(4)]
    assert result.full.luma.value == pytest.approx(np.mean(lumas) / 255)
    assert "Mean brightness, on in one stretch only" in sections({"entry": [result]})[0].html


def test_an_adapter_without_effect_gets_no_entry() -> None:
    told = tell_entry(_entry(lambda order, i: picture(i % 4)))
    assert "nothing can be said of when it enters" in told and "schedule" not in told


def test_the_best_of_stretches_that_differ_by_chance_is_not_named() -> None:
    """Every stretch helps as often as any other, and some is best by luck."""

    def lucky(order: Order | BareOrder, i: int) -> Image.Image:
        assert isinstance(order, Order)
        meant, (begin, end) = NAMES.index(order.words[i]), order.settings.condition_window
        if (begin, end) == (0.0, 1.0):
            return picture(meant)
        helped = end > begin and np.random.default_rng([i, int(8 * begin)]).random() < 0.5
        return picture(meant if helped else OPPOSITE[meant])

    runs = entry_runs(observer(lucky), SETTINGS, 6, 0, stretches=4)
    result = entry(runs, TAXONOMY, "clip", "red", 8, 0)
    both = [stretch.within.emotion.value for stretch in result.stretches if stretch.carrier == "both"]
    assert max(both) > min(both)
    assert result.peaks[0].beyond.level == pytest.approx(1 - 0.05 / 4)
    assert "Of 4 stretches none stands out by what it alone brings" in tell_entry(result)


def test_a_carrier_alone_and_all_but_it_are_switched_as_told() -> None:
    orders: list[Order] = []

    def note(order: Order | BareOrder, i: int) -> Image.Image:
        assert isinstance(order, Order)
        if i == 0:
            orders.append(order)
        return picture(0)

    entry_runs(observer(note), SETTINGS, 1, 0, stretches=2)
    seen = {(o.settings.condition_window, o.settings.hilora_window) for o in orders}
    never, always, first, rest = (0.0, 0.0), (0.0, 1.0), (0.0, 0.5), (0.5, 0.0)
    assert {(first, never), (never, first), (first, first)} <= seen  # within
    assert {(rest, always), (always, rest), (rest, rest)} <= seen  # without
    assert {(always, always), (never, never)} <= seen and len(orders) == len(seen) == 14


def test_centres_weigh_by_effect_and_pass_over_negative_ones() -> None:
    effects = np.array([[0.1, -1.0, 0.0], [0.3, 2.0, 0.0], [-0.5, 0.0, -1.0], [0.0, 0.0, 0.0]])
    centres = centre_of(effects)
    assert centres[0] == pytest.approx((0.1 * 0.125 + 0.3 * 0.375) / 0.4)
    assert centres[1] == 0.375 and np.isnan(centres[2])


def _labels(order: Order | BareOrder, i: int) -> Image.Image:
    """The label wins within a polarity; across polarities the routing wins."""
    assert isinstance(order, Order)
    return picture(NAMES.index(order.hilora[i]))


def test_swap_table_by_hand() -> None:
    pairs = (("joy", "joy"), ("joy", "calm"), ("joy", "rage"), ("rage", "joy"), ("joy", "rage"))
    seen = np.array([0, 0, 3, 1, -1])  # joy, joy, gloom, calm, none that is known
    readings = Readings({"clip": seen}, {}, np.zeros(5), np.zeros((5, 1), np.float32))
    result = swap(SwapRuns(1, {"v": pairs}, {"v": readings}), TAXONOMY, "clip", "red", 0)
    own, within, across = result.shares
    assert (own.label.value, own.source.value, own.pictures) == (1, 1, 1)
    assert (within.label.value, within.source.value, within.neither.value) == (0, 1, 0)
    assert (across.label.value, across.source.value, across.neither.value) == (0, 0, 1)
    assert across.label_polarity.value == pytest.approx(2 / 3) and across.source_polarity.value == 0
    assert result.seen_source[0] == (1, 1, 0, 0) and result.seen_label[0] == (1, 0, 0, 0)


def test_the_carrier_that_the_pictures_follow_is_found() -> None:
    runs = swap_runs(observer(_labels), SETTINGS, 2, 0)
    result = swap(runs, TAXONOMY, "clip", "red", 0)
    assert {odd.odd: (odd.own.value, odd.others.value) for odd in result.odd_ones} == {
        "v": (0, 1),
        "words": (0, 1),
        "hilora": (1, 0),
    }
    assert [shares.pictures for shares in result.shares] == [8, 8, 16]
    assert "follows the label" in tell_swap(result)
    own, _, across = result.shares
    assert own.lead.value == 0 and not own.lead.excludes_zero
    assert across.lead.value == 1 > across.lead.low > 0


def test_one_polarity_alone_has_no_pairs_across() -> None:
    watch = observer(_labels)
    watch.painter.taxonomy = Taxonomy("two", TAXONOMY.emotions[:2])  # type: ignore[misc]
    runs = swap_runs(watch, SETTINGS, 1, 0)
    result = swap(runs, watch.taxonomy, "clip", "red", 0)
    assert [shares.pairing for shares in result.shares] == ["own", "within"] and not result.odd_ones


def test_the_probe_on_v_alone_goes_by_name() -> None:
    watch = observer(_labels)
    for looking in watch.instruments.probes.values():
        alone = probe_on_v(watch, looking, 2, 0)
        assert alone is not None and alone.accuracy.value == 1 and alone.of == dict.fromkeys(NAMES, 1.0)
    narrow = replace(watch.instruments.probes["clip"].probe, mean=np.zeros(3), weight=np.zeros((4, 3)))
    assert probe_on_v(watch, replace(watch.instruments.probes["clip"], probe=narrow), 2, 0) is None


def _half(order: Order | BareOrder, i: int) -> Image.Image:
    """The adapter hits every emotion and keeps the street alone; the base keeps all and shows joy."""
    prompt = order.prompts[i] if isinstance(order, BareOrder) else order.prompt
    content = next((number for number, text in enumerate(CONTENTS) if prompt.startswith(text)), 0)
    return picture(0, content) if isinstance(order, BareOrder) else picture(NAMES.index(order.words[i]), 0)


def test_joint_score_by_hand() -> None:
    watch = observer(_half)
    runs = content_runs(watch, GRID, SETTINGS, 2, 0, intensities=(1.0,))
    texts = watch.instruments.clip.encode_texts([content.text for content in GRID.contents]).numpy()
    grid = content_grid(runs, GRID, texts, TAXONOMY, "clip", "red", 0)
    ours, base, alone = grid.rows
    assert (ours.kept.value, ours.hit.value, ours.joint.value) == pytest.approx((1 / 3, 1, 1 / 3))
    assert (base.kept.value, base.hit.value, base.joint.value) == pytest.approx((1, 1 / 4, 1 / 4))
    assert (alone.kept.value, alone.joint.value, alone.pictures) == pytest.approx((1, 1 / 4, 6))
    assert ours.grid == ((1.0,) * 4, (0.0,) * 4, (0.0,) * 4) and alone.grid is None
    assert grid.gain.value == pytest.approx(1 / 12) and grid.chance == pytest.approx(1 / 3)
    assert ours.surplus.value == pytest.approx(0)
    assert alone.joint.high == pytest.approx(alone.kept.high / 4)
    # One content of three is kept, whole: over contents that is next to nothing known.
    assert ours.kept.low < 0.05 and ours.kept.high > 0.9
    told = tell_content(grid)
    assert "a mark to compare with" in told and "over these 3 contents" in told


def test_elements_are_kept_by_rank_and_captions_by_similarity() -> None:
    contents = ContentSet(
        (Content("x", "x"), Content("y", "y"), Content("z", "z"), Content("c", "c", "caption")), 2, 0.6
    )
    texts = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]])
    features = np.array([[3.0, 2, 1], [1, 2, 3], [2, 2, 0]])
    kept = [kept_contents(features, texts, number, contents).tolist() for number in range(4)]
    cosines = features @ texts[3] / np.linalg.norm(features, axis=1) / np.sqrt(2)
    assert kept == [[1, 0, 1], [1, 1, 1], [0, 1, 0], (cosines > 0.6).astype(float).tolist()]


def test_rank_correlation_is_scipys() -> None:
    rng = np.random.default_rng(0)
    settings = (0.0, 0.5, 1.0, 1.5)
    values = rng.normal(size=(30, 4)).round(1) + 0.4 * np.array(settings)  # rounded: ranks with ties
    ours = pooled_correlation(settings, values, ["a"] * 30, 0)
    assert ours.value == pytest.approx(spearmanr(np.tile(settings, 30), values.ravel()).statistic)
    assert ours.low < ours.value < ours.high and ours.low > 0
    assert spearman(settings, values[0]) == pytest.approx(spearmanr(settings, values[0]).statistic)
    assert (
        spearman(settings, np.ones(4))
        == 0
        == pooled_correlation(settings, np.ones((3, 4)), ["a"] * 3, 0).value
    )


def _fades(order: Order | BareOrder, i: int) -> Image.Image:
    """The emotion is there from half the pseudo-words on; HiLoRA does nothing."""
    assert isinstance(order, Order)
    meant = NAMES.index(order.words[i])
    return picture(meant if order.intensity >= 0.5 else OPPOSITE[meant])


def test_intensity_tells_the_dial_that_turns_from_the_one_that_does_not() -> None:
    runs = intensity_runs(observer(_fades), SETTINGS, 2, 0, (0, 0.5, 1))
    words, hilora, both = intensity(runs, TAXONOMY, "clip", "red", 0).lines
    assert [point.hit.value for point in words.points] == [0, 1, 1]
    assert words.points[0].probability.value < 0.1 < 0.9 < words.points[1].probability.value
    assert words.correlation == both.correlation and words.correlation.low > 0.7
    assert hilora.correlation.value == 0 and set(words.of) == set(NAMES)
    assert words.rise.low > 0.7 and not hilora.rise.excludes_zero
    assert "more is more" in _tell_dial(words) and "no trend is told" in _tell_dial(hilora)
    back = replace(words, rise=Interval(0.01, -0.1, 0.1))
    assert "a trend, but the last setting is not told" in _tell_dial(back)
    assert words.own.value == pytest.approx(spearmanr([0, 0.5, 1], [0, 1, 1]).statistic)


def test_resamples_are_those_of_the_bootstrap() -> None:
    groups, values = ["a"] * 6 + ["b"] * 4, np.arange(10.0)
    wide = spread_out(values, groups)
    assert Resamples(groups, 7).mean(values).low == bootstrap_mean(wide, groups, seed=7).low
    right = values > 2
    assert Resamples(groups, 7).share(right) == share_interval(right, groups, seed=7)


def test_differences_are_of_the_same_pictures() -> None:
    """What agrees everywhere is still not certain, and pairs that go together are surer than strangers."""
    ones, noughts = np.ones(12), np.zeros(12)
    resamples = Resamples(["a"] * 12)
    apart, alike = resamples.difference(ones, noughts), resamples.difference(ones, ones)
    assert apart.value == apart.high == 1 and 0.5 < apart.low < 0.76
    assert alike.value == 0 and alike.low < -0.2 and alike.high > 0.2
    dice = np.random.default_rng(0)
    first = dice.random(400) < 0.5
    second = np.where(dice.random(400) < 0.1, ~first, first)
    paired = Resamples(["a"] * 400).difference(first, second)
    unpaired = bootstrap_difference(first, ["a"] * 400, second, ["a"] * 400)
    assert paired.high - paired.low < 0.6 * (unpaired.high - unpaired.low)


def test_contents_are_resampled_as_wholes() -> None:
    whole = np.repeat([0.0, 1.0] * 5, 20)  # ten contents, each kept always or never
    nested = Resamples.nested(10, 20).mean(whole)
    flat = Resamples(["a"] * 200).mean(whole)
    assert nested.high - nested.low > 3 * (flat.high - flat.low)
    assert nested.high - nested.low == pytest.approx(2 * 1.96 * 0.5 / np.sqrt(10), rel=0.15)
    assert Resamples.nested(10, 20).share(np.ones(200)).low == pytest.approx(0.722, abs=0.001)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return Plan(SETTINGS, GRID, count=2, stretches=2, draws=2, intensities=(0.0, 1.0))


def test_what_is_finished_is_read_and_what_was_seen_is_not_drawn_again(tmp_path: Path, plan: Plan) -> None:
    watch = observer(_late_emotion, folder=tmp_path / "seen", identity="one")
    results = run_analyses(watch, plan, ["entry", "intensity"], tmp_path)
    orders = watch.painter.orders
    assert orders == 14 + 6 - 2  # the three dials meet where all is as trained
    again = observer(_late_emotion, folder=tmp_path / "seen", identity="one")
    assert run_analyses(again, plan, ["entry", "intensity"], tmp_path) == results
    (tmp_path / "entry.json").unlink()
    assert run_analyses(again, plan, ["entry"], tmp_path)["entry"] == results["entry"]
    assert again.painter.orders == 0
    other = observer(_late_emotion, folder=tmp_path / "seen", identity="another adapter")
    run_analyses(other, plan, ["entry"], tmp_path)
    assert other.painter.orders == 14


def test_all_of_it_is_told_and_can_be_read_back(tmp_path: Path, plan: Plan) -> None:
    watch = observer(_half)
    results = run_analyses(watch, plan, ANALYSES, tmp_path)
    told = {name: [result.to_dict() for result in each] for name, each in results.items()}
    (tmp_path / "analyses.json").write_text(json.dumps({"analyses": told}, allow_nan=False), encoding="utf-8")
    assert read_analyses(tmp_path / "analyses.json") == results
    parts = sections(results)
    assert [bool(part.paragraph and part.html) for part in parts] == [True] * 4
    assert [len(each) for each in results.values()] == [2, 2, 2, 2]
    # The second probe's head has other classes in another order, and sees the same.
    for name, (first, second) in results.items():
        if name == "intensity":  # its probabilities are shared with a class more
            continue
        assert {**first.to_dict(), "probe": "", "backbone": "", "v_alone": None} == {
            **second.to_dict(),
            "probe": "",
            "backbone": "",
            "v_alone": None,
        }
    page = analyses_page("<An adapter>", "lead", results, "footer")
    assert "&lt;An adapter&gt;" in page and "nan" not in page and page.count("<svg") > 10


def test_contents_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "contents.txt"
    file.write_text("a street\n\n a  dog on a red sofa\na street\n", encoding="utf-8")
    contents = read_contents(file).contents
    assert contents == (
        Content("a street", "a photo of a street"),
        Content("a dog on a red sofa", "a dog on a red sofa", "caption"),
    )
    ours = neutral_contents().contents
    assert len({content.prompt for content in ours}) == len(ours) == 45 + 12


@pytest.mark.parametrize(("text", "reason"), [("a street", "holds 1 contents"), ("a\nb {emotion}", "a mark")])
def test_contents_that_make_no_grid_are_one_sentence(tmp_path: Path, text: str, reason: str) -> None:
    from coemogen_train.errors import UserError

    (tmp_path / "contents.txt").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=reason):
        read_contents(tmp_path / "contents.txt")
