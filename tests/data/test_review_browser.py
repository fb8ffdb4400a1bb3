"""The review's page in Chromium, by the keys that a person presses; ComfyUI is not needed for it."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from coemogen_train.data import TrainingSet, prepare
from coemogen_train.data.review_session import review_set

from .conftest import noise_image

HOSTILE = "<img src=x onerror=\"document.title='broken'\"><script>document.title='broken'</script>\u202e end"


def test_keys_accept_mend_reject_and_undo(chromium: Any, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    rows = []
    for number, name in enumerate("abcde"):
        noise_image(number, 40, 30).save(tmp_path / "photos" / f"{number}.png")
        caption = HOSTILE if name == "b" else f"about {name}"
        rows.append({"image": f"photos/{number}.png", "id": name, "emotion": "awe", "caption": caption})
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    prepare(tmp_path / "t.jsonl", tmp_path / "set")
    of = TrainingSet.open(tmp_path / "set")
    opened: list[str] = []
    ready = threading.Event()
    answers: list[dict[str, int]] = []

    def on_open(url: str, total: int) -> None:
        opened.append(url)
        ready.set()

    review = threading.Thread(target=lambda: answers.append(review_set(of, on_open=on_open)))
    review.start()
    assert ready.wait(60)
    page = chromium.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(opened[0])

    def until(told: str) -> None:
        # Not wait_for_function: the page's policy forbids what that does.
        for _ in range(300):
            if page.evaluate(told):
                return
            page.wait_for_timeout(50)
        raise AssertionError(told)

    def at(place: int) -> None:
        until(f"!busy && document.getElementById('place').textContent === '{place} of 5'")

    at(1)
    until("document.getElementById('picture').naturalWidth === 40")
    page.keyboard.press("a")
    at(2)
    assert page.text_content("#caption") == HOSTILE.replace("\u202e", "\\u{202e}")
    page.keyboard.press("r")
    at(3)
    page.keyboard.press("e")
    page.keyboard.type(", and a few rules")  # r, e, u and a are letters while one writes
    page.keyboard.press("Enter")
    at(4)
    page.keyboard.press("r")
    at(5)
    page.keyboard.press("ArrowLeft")
    at(4)
    page.keyboard.press("u")
    until("document.getElementById('state').textContent === ''")
    page.keyboard.press("e")
    page.keyboard.type("no")
    page.keyboard.press("Escape")
    assert page.text_content("#caption") == "about d"
    assert page.text_content("#counts") == "1 accepted, 1 mended, 1 rejected"
    page.click("#finish")
    page.wait_for_selector("#message:not([hidden])")
    review.join(30)
    assert answers == [{"accepted": 1, "mended": 1, "rejected": 1, "outdated": 0}]
    assert page.title() == "Review of captions" and errors == []
    captions = {row["id"]: (row["caption"], row["review"]) for row in of.caption_rows()}
    assert captions == {
        "a": ("about a", "accepted"),
        "b": ("", "rejected"),
        "c": ("about c, and a few rules", "mended"),
        "d": ("about d", None),
        "e": ("about e", None),
    }
