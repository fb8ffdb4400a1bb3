"""The page: whole, self-contained, safe with any name, and honest where nothing was found."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from coemogen_train.evaluate import (
    Comparison,
    Curve,
    DemoReport,
    GuidancePoint,
    Interval,
    ProbeFacts,
    Row,
    StageTime,
    confusion_of,
    print_report,
    write_report,
)
from coemogen_train.evaluate.captions import comparison_verdict, duration
from coemogen_train.evaluate.page import report_page
from coemogen_train.pages.markup import VOID, join, tag

HOSTILE = "</td><script>alert('1')</script>\"><img src=x onerror=alert(2)>&lt;"
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class Page(HTMLParser):
    """Reads a page strictly: every element closed in its turn; keeps tags, attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def report(name: str = "awe") -> DemoReport:
    return DemoReport(
        title=f"Title {name}",
        introduction=f"Introduction {name}",
        rows=(
            Row("Real", 0.96, 0.94, 0.98, 5.8, 6, 0.97, 0.5, n=64, kind="reference"),
            Row(f"Base {name}", 0.44, 0.38, 0.50, 1.7, 6, 0.41, 7.0, 0.4, 3.0, 64, note=name),
            Row("Ours", 0.78, 0.73, 0.83, 4.2, 6, 0.70, 3.2, 0.6, 5.0, 64, kind="ours"),
            Row("Never measured"),
        ),
        comparison=Comparison("Ours", f"Base {name}", Interval(0.34, 0.26, 0.42)),
        probe=ProbeFacts(name, 0.96, 800, 3200),
        confusions=(confusion_of(f"Ours {name}", [name, "fear"], [[3, 1], [0, 0]]),),
        guidance_points=(GuidancePoint(name, 1.5, 0.4, 2.0), GuidancePoint(name, 3.0, 0.5, 3.0)),
        curves=(Curve(f"loss {name}", (1, 2, 3, 4), (1.0, math.nan, 0.5, math.inf)),),
        stages=(StageTime(f"train {name}", 61.0), StageTime("nothing", 0.0)),
        settings=((f"Training {name}", ((f"key {name}", f"value {name}"),)),),
        caveats=(f"caveat {name}",),
        sheet=PNG,
        sheet_caption=f"sheet {name}",
        footer=f"footer {name}",
    )


def test_page_is_well_formed_and_shows_every_part() -> None:
    page = Page(report_page(report()))
    text = " ".join(page.texts)
    for part in (
        "Title awe",
        "Introduction awe",
        "Base awe",
        "0.44",
        "0.38 to 0.50",
        "loss awe",
        "1 min 01 s",
        "value awe",
        "caveat awe",
        "sheet awe",
        "footer awe",
        "3 of 4",
        "Never measured",
    ):
        assert part in text, part
    assert {"svg", "path", "img", "table"} <= set(page.tags)


def test_page_loads_nothing_from_elsewhere() -> None:
    text = report_page(report())
    page = Page(text)
    assert "http://" not in text and "https://" not in text and "url(" not in text and "@import" not in text
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    sources = [
        value for name, value in page.attributes if name in {"src", "href", "xlink:href", "srcset", "data"}
    ]
    assert len(sources) == 1
    assert sources[0] is not None and sources[0].startswith("data:image/png;base64,")
    assert base64.b64decode(sources[0].removeprefix("data:image/png;base64,")) == PNG


def test_hostile_emotion_name_is_text_everywhere() -> None:
    page, harmless = Page(report_page(report(HOSTILE))), Page(report_page(report()))
    assert page.tags == harmless.tags
    assert [name for name, _ in page.attributes] == [name for name, _ in harmless.attributes]
    assert sum(HOSTILE in text for text in page.texts) > 12


def test_empty_report_is_still_a_page() -> None:
    page = Page(report_page(DemoReport("Nothing yet", "No rows.", ())))
    assert "img" not in page.tags and "svg" not in page.tags


def test_verdict_does_not_claim_what_the_interval_does_not_support() -> None:
    shown = replace(report(), comparison=Comparison("Ours", "Base awe", Interval(0.34, 0.26, 0.42)))
    unclear = replace(report(), comparison=Comparison("Ours", "Base awe", Interval(0.03, -0.05, 0.11)))
    worse = replace(report(), comparison=Comparison("Ours", "Base awe", Interval(-0.2, -0.3, -0.1)))
    assert "78%" in comparison_verdict(shown) and "+26 to +42" in comparison_verdict(shown)
    assert "does not show a difference" in comparison_verdict(unclear)
    assert "the worse of the two" in comparison_verdict(worse)
    assert "does not" not in comparison_verdict(shown)


def test_json_is_plain_and_without_the_picture() -> None:
    plain = report().to_json()
    again = json.loads(json.dumps(plain, allow_nan=False))
    assert again == plain
    assert "sheet" not in again
    assert again["curves"][0]["values"] == [1.0, None, 0.5, None]
    assert again["comparison"]["gain"]["low"] == 0.26


def test_equal_reports_are_equal_bytes(tmp_path: Path) -> None:
    write_report(report(), tmp_path / "one.html")
    write_report(report(), tmp_path / "two.html")
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


def test_terminal_table_has_the_page_figures_and_takes_brackets_literally() -> None:
    stream = io.StringIO()
    print_report(report("[red]awe[/red]"), Console(file=stream, width=120))
    text = re.sub(r"\s+", " ", stream.getvalue())
    assert "0.44 (0.38 to 0.50)" in text and "1.7 of 6" in text and "7.00" in text
    assert "Base [red]awe[/red]" in text
    assert "1 min 01 s in all." in text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (59.96, "1 min 00 s"), (3599.6, "1 h 00 min"), (3900, "1 h 05 min")],
)
def test_duration_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_only_markup_is_left_unescaped() -> None:
    inner = tag("b", "<&\"'")
    assert inner == "<b>&lt;&amp;&quot;&#x27;</b>"
    assert tag("p", inner, [1, None, "<"], class_='"', hidden=True, title=None) == (
        f'<p class="&quot;" hidden>{inner}1&lt;</p>'
    )
    assert join(str(inner)[:3]) == "&lt;b&gt;"
