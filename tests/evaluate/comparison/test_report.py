"""The files of a comparison: the figures are the data's, nothing is mixed, nothing can break the page."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from coemogen_train.evaluate.comparison import words
from coemogen_train.evaluate.comparison.claims import load_claims
from coemogen_train.evaluate.comparison.measures import measure
from coemogen_train.evaluate.comparison.plots import curves_plot
from coemogen_train.evaluate.comparison.published import PUBLISHED
from coemogen_train.evaluate.comparison.report import write_report
from coemogen_train.evaluate.comparison.result import Comparison, Estimate
from coemogen_train.evaluate.comparison.tables import figures_table, rich_table
from coemogen_train.pages import Section, tag
from coemogen_train.pages.markup import VOID

HOSTILE = "</td></svg><script>alert('1')</script>\"><img src=x onerror=alert(2)>|[bold]`\n"


class Page(HTMLParser):
    """Reads a page strictly: every element closed in its turn; keeps tags, addresses, texts and tables."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.texts: list[str] = []
        self.tables: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]
        if tag == "table":
            self.tables.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if "table" in self.open:
            self.tables[-1] += f"{data}\n"


@pytest.fixture(scope="module")
def written(
    make_comparison: Callable[..., Comparison], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Comparison, dict, str, Page]:
    """A comparison with the JSON, the Markdown and the page that were written of it."""
    folder = tmp_path_factory.mktemp("comparison")
    comparison = make_comparison(folder=folder)
    extra = Section("When it enters", "Polarity first.", tag("p", "an analysis"))
    found, text, page = write_report(comparison, folder, [extra])
    told = json.loads(found.read_text(encoding="utf-8"))
    return comparison, told, text.read_text(encoding="utf-8"), Page(page.read_text(encoding="utf-8"))


def test_json_has_every_row_with_its_seeds_and_metrics(written: tuple[Comparison, dict, str, Page]) -> None:
    comparison, told, _, _ = written
    assert len(told["rows"]) == len(comparison.rows)
    for row, plain in zip(comparison.rows, told["rows"], strict=True):
        assert plain["name"] == row.name and plain["seeds"] == [1, 2, 3]
        for name, figure in row.metrics.items():
            values = {key: plain[name][key] for key in ("mean", "low", "high")}
            assert values == {"mean": figure.mean, "low": figure.low, "high": figure.high}
    known = load_claims()
    assert told["claims_file_sha256"] == known.sha256
    assert [claim["id"] for claim in told["claims"]] == [claim.id for claim in known.claims]


def test_page_and_markdown_have_the_figures_of_the_data(written: tuple[Comparison, dict, str, Page]) -> None:
    comparison, _, markdown, page = written
    for row in comparison.rows:
        line = next(line for line in markdown.splitlines() if line.startswith(f"| {row.title} |"))
        if row.experiment != "table":
            continue
        for name, figure in row.metrics.items():
            kind = measure(name)
            assert f" {kind.told(figure)} |" in line
            assert f"{figure.mean:.{kind.digits}f}".replace("-", "\N{MINUS SIGN}") in page.tables[0]
            assert kind.interval(figure) in page.tables[0]


def test_every_claim_stands_on_the_page_with_its_verdict(written: tuple[Comparison, dict, str, Page]) -> None:
    _, told, markdown, page = written
    texts = iter(page.texts)
    for claim in sorted(told["claims"], key=lambda claim: claim["verdict"] == "not tested"):
        assert claim["verdict"] in texts  # consumes: verdict, claim and sentence follow each other
        assert next(texts) == claim["sentence"] and next(texts) == claim["says"]
        assert f"**{claim['verdict']}**: {claim['sentence']}" in markdown
    verdicts = {claim["verdict"] for claim in told["claims"]}
    assert verdicts >= {"supported", "not decided", "not tested"}


def test_published_figures_are_in_a_table_of_their_own(written: tuple[Comparison, dict, str, Page]) -> None:
    _, _, markdown, page = written
    printed = [figure for row in PUBLISHED for figure in row.figures.values()]
    theirs = [table for table in page.tables if "40.66" in table]
    assert len(theirs) == 1 and all(figure in theirs[0] for figure in printed)
    assert " to " not in theirs[0]  # no interval, so none of ours
    blocks = [block for block in markdown.split("\n\n") if "40.66" in block]
    assert len(blocks) == 1 and " to " not in blocks[0]
    assert any("No figure here is from real Stable Diffusion 1.5 weights" in text for text in page.texts)


def test_the_published_figures_are_the_papers() -> None:
    rows = {row.name: row.figures for row in PUBLISHED}
    assert len(rows) == 8
    assert rows["coemogen"] == {
        "fid": "40.66", "lpips": "0.732", "emo_a": "80.15", "sem_c": "0.641", "sem_d": "0.0349"
    }  # fmt: skip
    assert rows["without_semantic"]["emo_a"] == "65.90" and rows["name"]["fid"] == "44.05"


def test_page_holds_all_it_shows(written: tuple[Comparison, dict, str, Page]) -> None:
    page = written[3]
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    assert page.addresses and all(a.startswith("data:image/jpeg;base64,") for a in page.addresses)
    assert "an analysis" in page.texts and "When it enters" in page.texts
    assert page.tags.count("svg") > 20 and page.tags.count("svg") <= page.tags.count("title") + 40
    assert {"desc", "title", "details"} <= set(page.tags)


def test_hostile_titles_are_text_everywhere(
    make_comparison: Callable[..., Comparison], tmp_path: Path
) -> None:
    harmless, hostile = make_comparison(title=lambda title: "x"), make_comparison(title=lambda title: HOSTILE)
    pages, markdown = [], ""
    for number, comparison in enumerate((harmless, hostile)):
        _, text, page = write_report(comparison, tmp_path / str(number))
        pages.append(Page(page.read_text(encoding="utf-8")))
        markdown = text.read_text(encoding="utf-8")
    plain, harmful = (
        [tag for tag in page.tags if tag != "tspan"] for page in pages
    )  # titles may need two lines
    assert plain == harmful
    tables = [line for line in markdown.splitlines() if line.startswith("|")]
    assert "<script" not in "\n".join(tables)
    console = Console(file=io.StringIO(), width=400)
    rows = [row for row in hostile.rows if row.experiment == "branches"]
    console.print(rich_table(figures_table(rows), "[bold]"))
    assert "[bold]" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_changed_or_unknown_claims_file_is_said(
    make_comparison: Callable[..., Comparison], tmp_path: Path
) -> None:
    comparison = make_comparison(seeds=(1,), experiments=("branches",))
    said = []
    for sha in ("", load_claims().sha256, "other"):
        page = write_report(replace(comparison, claims_sha256=sha), tmp_path)[2].read_text(encoding="utf-8")
        said.append([part in page for part in ("was not noted", "the one that was noted", "HAS CHANGED")])
    assert said == np.eye(3, dtype=bool).tolist()


def test_nothing_measured_yet_is_still_a_report(tmp_path: Path) -> None:
    comparison = Comparison("A world.", "fixed", ("awe",), (), unfinished=("coemogen, seed 3",))
    found, _, page = write_report(comparison, tmp_path)
    assert json.loads(found.read_text(encoding="utf-8"))["rows"] == []
    text = " ".join(Page(page.read_text(encoding="utf-8")).texts)
    assert "coemogen, seed 3" in text and "tests none of the claims" in text


def test_figures_that_are_none_break_nothing(
    make_comparison: Callable[..., Comparison], tmp_path: Path
) -> None:
    comparison = make_comparison(seeds=(1, 2), experiments=("branches",))
    none = Estimate(math.nan, math.nan, math.inf, (math.nan, 0.5))
    rows = [
        replace(row, metrics={**row.metrics, "emo_a": none}, sheet={"awe": ["../gone.png"]})
        for row in comparison.rows
    ]
    found, markdown, page = write_report(replace(comparison, rows=tuple(rows)), tmp_path)
    assert json.loads(found.read_text(encoding="utf-8"))["rows"][0]["emo_a"]["mean"] is None
    Page(page.read_text(encoding="utf-8"))
    assert "nan" not in page.read_text(encoding="utf-8") and " nan" not in markdown.read_text(
        encoding="utf-8"
    )


def test_a_single_seed_with_hardly_any_pictures_is_strict_json(
    make_comparison: Callable[..., Comparison], tmp_path: Path
) -> None:
    comparison = make_comparison(seeds=(1,))
    rows = [
        replace(row, metrics={name: replace(figure, errors=()) for name, figure in row.metrics.items()})
        for row in comparison.rows
    ]
    found, _, _ = write_report(replace(comparison, rows=tuple(rows)), tmp_path)
    claims = json.loads(found.read_text(encoding="utf-8"))["claims"]
    tested = [claim["test"]["difference"] for claim in claims if "test" in claim]
    assert tested and all(difference["low"] is None for difference in tested)


def test_a_plot_says_in_words_what_it_shows(make_comparison: Callable[..., Comparison]) -> None:
    rows = [row for row in make_comparison().rows if row.experiment == "table"]
    drawn = curves_plot(rows)
    own = next(row for row in rows if row.name == "coemogen")
    for row in rows:
        if row.kind == "ablation":  # drawn at one scale: a point without a ring
            place = f"{row.metrics['coverage'].mean:.2f}, {row.metrics['emo_a'].mean:.2f}"
            assert not row.curve and f"{row.title}: guidance 3: {place}" in drawn
    for point in own.curve:
        place = f"{point.metrics['coverage'].mean:.2f}, {point.metrics['emo_a'].mean:.2f}"
        assert f"guidance {point.guidance:g}: {place}" in drawn
    assert drawn.count('class="best"') == sum(bool(row.curve) for row in rows)
    assert "<path" in drawn and "nan" not in drawn


def text_of(page: Path) -> str:
    return " ".join(Page(page.read_text(encoding="utf-8")).texts)


def test_what_a_reader_must_know_stands_on_page_and_markdown(
    make_comparison: Callable[..., Comparison], tmp_path: Path
) -> None:
    plain = make_comparison(seeds=(1, 2), experiments=("table", "semantic"))
    _, markdown, page = write_report(plain, tmp_path)
    for text in (text_of(page), markdown.read_text(encoding="utf-8")):
        assert text.count("Rows that change the whole method have, but for that change, the setting") == 2
        assert "Cosine, MAE, MSE and KL stand at one and the same weight" in text
        assert "half of DreamBooth's are class pictures" in text
        assert "All seeds share one set" not in text
    told = replace(plain, one_set=True, notes=("A tenth of the captions is <mistaken>.",), real_weights=True)
    _, markdown, page = write_report(told, tmp_path)
    for text in (text_of(page), markdown.read_text(encoding="utf-8")):
        assert "All seeds share one set" in text and "A tenth of the captions is <mistaken>." in text
        assert "published ones this page cannot know" in text


def test_ablations_with_a_guidance_of_their_own_are_named(make_comparison: Callable[..., Comparison]) -> None:
    comparison = make_comparison(seeds=(1, 2), experiments=("table",))
    rows = [replace(row, guidance=7.5) if row.name == "without_emotion" else row for row in comparison.rows]
    told = words.experiment("table", rows, comparison)
    assert len(told) == 1 and "(the guidance of without emotion LoRAs is another)" in told[0]
    assert "is another" not in words.experiment("table", comparison.rows, comparison)[0]
