"""filter.html shows the pictures around the cut, and nothing that a caption or a file brought along."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from coemogen_train.data import TrainingSet, filter_set, prepare
from coemogen_train.data.histogram import Scale, histogram

from .conftest import noise_image

HOSTILE = "</p><script>alert(1)</script><img src=x onerror=alert(2)>\"' \u202eevil\u202c \x07"
COLOURS = 40


class Page(HTMLParser):
    """Cards by their id: (class, similarity, caption, picture), and every tag and attribute."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.cards: list[dict[str, str]] = []
        self._inside = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        named = dict(attrs)
        if tag == "figure" and (named.get("class") or "").startswith("card"):
            self.cards.append({"class": str(named["class"]), "img": "", "p": "", "b": "", "small": ""})
        if tag == "img" and self.cards:
            self.cards[-1]["img"] = str(named["src"])
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self.cards and self._inside in ("p", "b", "small"):
            self.cards[-1][self._inside] += data

    def ids(self, kind: str) -> list[str]:
        return [card["small"] for card in self.cards if card["class"] == f"card {kind}"]


def plain_picture(number: int) -> Image.Image:
    """One grey per number, by which a picture on the page is known; the corner makes it unique."""
    image = Image.new("RGB", (32, 24), (number * 6, number * 6, number * 6))
    image.paste(noise_image(number, 2, 2), (0, 0))
    return image


@pytest.fixture
def scored(tmp_path: Path) -> TrainingSet:
    """Forty pictures of awe, whose similarity rises with their number."""
    (tmp_path / "photos").mkdir()
    rows = ["image,id,emotion,caption,split,score"]
    for number in range(COLOURS):
        plain_picture(number).save(tmp_path / "photos" / f"{number}.png")
        rows.append(f"photos/{number}.png,n{number:02d},awe,number {number},train,{number / 100}")
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    prepare(tmp_path / "t.csv", tmp_path / "set")
    return TrainingSet.open(tmp_path / "set")


def with_captions(of: TrainingSet, captions: dict[str, str]) -> None:
    of.write_captions([{**r, "caption": captions.get(r["id"], r["caption"])} for r in of.caption_rows()])


def test_the_pictures_around_the_cut_and_at_the_ends_are_shown(scored: TrainingSet) -> None:
    filter_set(scored, 0.5, column="score")  # 0 .. 19 are dropped
    page = Page(scored.root / "filter.html")
    assert page.ids("dropped") == [f"n{n:02d}" for n in (*range(14, 20), 0, 1, 2)]
    assert page.ids("kept") == [f"n{n:02d}" for n in (*range(20, 26), 37, 38, 39)]
    for card in page.cards:
        number = int(card["small"][1:])
        assert card["p"] == f"number {number}" and card["b"] == f"{number / 100:.4f}"
        shown = Image.open(io.BytesIO(base64.b64decode(card["img"].removeprefix("data:image/jpeg;base64,"))))
        assert shown.format == "JPEG" and shown.size == (32, 24)
        assert abs(np.asarray(shown)[-4:, -4:].mean() - number * 6) < 3


def test_few_pairs_are_each_shown_once(scored: TrainingSet) -> None:
    with_captions(scored, {f"n{n:02d}": "" for n in range(10, COLOURS)})
    filter_set(scored, 0.2, column="score")
    page = Page(scored.root / "filter.html")
    assert sorted(card["small"] for card in page.cards) == [f"n{n:02d}" for n in range(10)]


def test_nothing_dropped_shows_what_fits_worst(scored: TrainingSet) -> None:
    filter_set(scored, 0.0, column="score")
    page = Page(scored.root / "filter.html")
    assert page.ids("dropped") == [] and page.ids("kept")[:6] == [f"n{n:02d}" for n in range(6)]
    assert 'class="cut"' not in (scored.root / "filter.html").read_text(encoding="utf-8")


def test_hostile_captions_stay_text(scored: TrainingSet) -> None:
    with_captions(scored, {"n00": HOSTILE, "n39": "x" * 100_000})
    filter_set(scored, 0.5, column="score")
    page = Page(scored.root / "filter.html")
    allowed = {
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "main",
        "h1",
        "h2",
        "h3",
        "p",
        "div",
        "table",
    }
    allowed |= {"thead", "tbody", "tfoot", "tr", "th", "td", "a", "section", "figure", "svg", "rect", "line"}
    allowed |= {"text", "ul", "li", "i", "b", "img", "figcaption", "small", "footer"}
    assert set(page.tags) <= allowed
    assert not any(name.startswith("on") for name, _ in page.attributes)
    shown = {card["small"]: card["p"] for card in page.cards}
    assert shown["n00"].startswith("</p><script>alert(1)</script>")
    assert "\u202e" not in shown["n00"] and "\x07" not in shown["n00"]
    assert len(shown["n39"]) < 500


def test_the_page_asks_for_nothing_elsewhere(scored: TrainingSet) -> None:
    filter_set(scored, 0.2, column="score")
    text = (scored.root / "filter.html").read_text(encoding="utf-8")
    page = Page(scored.root / "filter.html")
    assert all(
        str(value).startswith("data:image/jpeg;base64,") for name, value in page.attributes if name == "src"
    )
    assert all(str(value).startswith("#") for name, value in page.attributes if name == "href")
    assert "http" not in re.sub(r"http-equiv", "", text) and "url(" not in text and "@import" not in text
    assert str(scored.root) not in text


def test_the_page_is_the_same_wherever_the_set_lies(scored: TrainingSet, tmp_path: Path) -> None:
    filter_set(scored, 0.2, column="score")
    first = (scored.root / "filter.html").read_bytes()
    scored.root.rename(tmp_path / "moved")
    moved = TrainingSet.open(tmp_path / "moved")
    filter_set(moved, 0.2, column="score")
    assert (moved.root / "filter.html").read_bytes() == first


@pytest.mark.parametrize("what", ["gone", "changed", "broken"])
def test_a_picture_that_cannot_be_shown_is_told(scored: TrainingSet, what: str) -> None:
    path = next(sample.image for sample in scored.samples() if sample.id == "n00")
    if what == "gone":
        path.unlink()
    else:
        path.write_bytes(b"no picture" if what == "broken" else (path.parent / "1.png").read_bytes())
    filter_set(scored, 0.5, column="score")
    page = Page(scored.root / "filter.html")
    assert next(card["img"] for card in page.cards if card["small"] == "n00") == ""
    assert "No picture: " in (scored.root / "filter.html").read_text(encoding="utf-8")


def test_comments_in_a_picture_are_not_passed_on(scored: TrainingSet, tmp_path: Path) -> None:
    noise_image(7).save(
        tmp_path / "photos" / "0.png", "JPEG", comment=b"secret place", exif=b"Exif\x00\x00secret"
    )
    prepare(tmp_path / "t.csv", tmp_path / "set")
    filter_set(TrainingSet.open(tmp_path / "set"), 0.5, column="score")
    page = Page(tmp_path / "set" / "filter.html")
    first = next(card["img"] for card in page.cards if card["small"] == "n00")
    assert first and b"secret" not in base64.b64decode(first.partition(",")[2])


def test_what_says_another_emotion_stands_apart(scored: TrainingSet) -> None:
    rows = [{**r, "blind_emotion": "fear" if r["id"] == "n30" else "awe"} for r in scored.caption_rows()]
    scored.write_captions(rows)
    filter_set(scored, 0.5, column="score", agree=True)
    page = Page(scored.root / "filter.html")
    assert page.ids("disagreed") == ["n30"]
    assert next(card["b"] for card in page.cards if card["small"] == "n30") == "0.3000, says fear"


def test_bars_count_every_pair_once_and_part_at_the_cut() -> None:
    values = np.random.default_rng(0).normal(0.25, 0.04, 2000)
    values[0] = -40.0  # one wild value must not flatten the rest
    cut = float(np.sort(values)[400])
    scale = Scale.over(values)
    text = histogram("t", scale, [("dropped", values[values < cut]), ("kept", values[values >= cut])], cut)
    bars = re.findall(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)" height="([\d.]+)" class="(\w+)"', text)
    area = {kind: sum(float(h) for _, _, h, k in bars if k == kind) for kind in ("dropped", "kept")}
    assert area["kept"] / area["dropped"] == pytest.approx(4, rel=0.03)
    line = float(re.findall(r'<line x1="([\d.]+)"[^>]*class="cut"', text)[0])
    assert max(float(x) + float(w) for x, w, _, kind in bars if kind == "dropped") <= line + 0.6
    assert min(float(x) for x, _, _, kind in bars if kind == "kept") >= line - 0.6
    assert scale.low > 0


def test_equal_similarities_can_be_drawn() -> None:
    values = np.full(10, 0.3)
    assert 'class="kept"' in histogram("t", Scale.over(values), [("kept", values)], None)
