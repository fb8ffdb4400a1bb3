"""What people read in ComfyUI: a help page per node and language with its pictures, and the translated texts.

Needs no ComfyUI; that the texts are those of the nodes is held by tests/comfyui/test_texts.py.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "web" / "docs"
LOCALES = ROOT / "locales"
NODES = (
    "HiLoRALoader",
    "GaussianEmotionSampler",
    "EmotionConditioner",
    "EmotionCaptioner",
    "SaveToEmotionSet",
)
LANGUAGES = ("en", "zh")
LARGEST_PICTURE = 80_000
PAGES = [(node, language) for node in NODES for language in LANGUAGES]
# Braces vanish with what stands in them, a bar cuts the text off, and an @ keeps 1.27 from starting at all.
SIGNS = re.compile(r"[{}@|]")
WRONG = {"en": "## When something is wrong", "zh": "## 出了问题时"}


def page_path(node: str, language: str) -> Path:
    """Front ends ask for docs/<node>/<language>.md, and for docs/<node>.md where there is none."""
    return DOCS / f"{node}.md" if language == "en" else DOCS / node / f"{language}.md"


def page(node: str, language: str) -> str:
    return page_path(node, language).read_text(encoding="utf-8")


def pictures(text: str) -> list[str]:
    """The addresses of a page's pictures."""
    return re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", text)


def locale(language: str) -> dict[str, Any]:
    return json.loads((LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8"))


def texts(tree: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a locale, with its place."""
    if isinstance(tree, str):
        yield path, tree
    else:
        for key, value in tree.items():
            yield from texts(value, f"{path}.{key}" if path else key)


def places(tree: dict[str, Any]) -> set[str]:
    """Of all texts but the prompt's tooltip, whose English has braces: front ends ask the node for it."""
    return {place for place, _ in texts(tree)} - {"EmotionConditioner.inputs.prompt.tooltip"}


@pytest.mark.parametrize(("node", "language"), PAGES)
def test_every_node_has_a_help_page_with_pictures(node: str, language: str) -> None:
    text = page(node, language)
    assert text.startswith("# ") and len(text) > 1000
    assert pictures(text)
    for address in pictures(text):
        # Both front ends resolve it against docs/, wherever below it the page lies.
        assert re.fullmatch(rf"{node}/\w+{'-zh' if language == 'zh' else ''}\.png", address)
        path = DOCS / address
        assert path.stat().st_size < LARGEST_PICTURE
        with Image.open(path) as picture:
            picture.load()
            assert min(picture.size) > 200


def test_every_picture_is_shown_somewhere() -> None:
    shown = {address for node, language in PAGES for address in pictures(page(node, language))}
    assert {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.png")} == shown


@pytest.mark.parametrize(("node", "language"), PAGES)
def test_pages_lead_nowhere_else(node: str, language: str) -> None:
    """Links between pages have no address that works in the panel, and nobody has our folders."""
    text = page(node, language)
    assert not re.search(r"(?<!!)\[[^\]]+\]\([^)]+\)", text)
    assert not re.search(r"(?<![\w./])/(home|root|work|tmp|opt|Users)/|[A-Z]:\\|file://", text)


@pytest.mark.parametrize("node", NODES)
def test_both_languages_tell_the_same(node: str) -> None:
    """The same headings, pictures, placeholders and messages, one after the other."""
    english, chinese = (page(node, language) for language in LANGUAGES)
    for pattern in (r"(?m)^#+ ", r"(?m)^- ", r"(?m)^\|", r"<!-- [\w: ]+ -->"):
        assert len(re.findall(pattern, english)) == len(re.findall(pattern, chinese)), pattern
    assert [address.replace("-zh", "") for address in pictures(chinese)] == pictures(english)
    assert messages(english, "en") == messages(chinese, "zh")


def messages(text: str, language: str) -> list[str]:
    """The messages that a page explains."""
    return re.findall(r"(?m)^- `([^`]+)`", text[text.index(WRONG[language]) :])


def pieces(text: str) -> set[str]:
    return {text[start : start + 8] for start in range(len(text) - 7)}


@cache
def spoken() -> set[str]:
    """The pieces of all texts in the code, of formatted ones without what is filled in."""
    rooms = ("nodes", *(f"coemogen_train/{room}" for room in ("adapter", "captions", "emotions", "")))
    trees = [
        ast.parse(path.read_text(encoding="utf-8"))
        for room in rooms
        for path in sorted((ROOT / room).glob("*.py"))
    ]
    parts = (part.value for tree in trees for part in ast.walk(tree) if isinstance(part, ast.Constant))
    return set().union(*(pieces(part) for part in parts if isinstance(part, str)))


@pytest.mark.parametrize("node", NODES)
def test_the_messages_that_a_page_explains_are_told_by_the_code(node: str) -> None:
    for message in messages(page(node, "en"), "en"):
        wanted = pieces(message)
        assert len(wanted & spoken()) > len(wanted) / 2, message  # the rest is what was filled in


def test_both_languages_translate_the_same_texts() -> None:
    english, chinese = (places(locale(language)) for language in LANGUAGES)
    assert english == chinese
    assert {place.partition(".")[0] for place in english} == set(NODES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_holds_a_sign_that_the_front_end_reads_as_its_own(language: str) -> None:
    assert not [place for place, text in texts(locale(language)) if SIGNS.search(text)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_values_of_menus_stay_as_they_are(language: str) -> None:
    """A translated value would be sent to the server, which does not know it."""
    assert not [place for place, _ in texts(locale(language)) if ".options" in place]


def test_chinese_is_chinese() -> None:
    for place, text in texts(locale("zh")):
        assert re.search(r"[\u4e00-\u9fff]", text) or text == "CLIP", place
