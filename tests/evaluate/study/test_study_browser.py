"""A study's page in Chromium: answered by keys and clicks, taken back, opened again, saved, scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from coemogen_train.evaluate.study import read_answers, score_study

from .simulated import METHODS, make_pictures, make_study


def test_page_is_answered_saved_and_scored(chromium: Any, tmp_path: Path) -> None:
    study = make_study(make_pictures(tmp_path / "pictures"), pairs=3)
    file = tmp_path / "study.html"
    file.write_text(study.page, encoding="utf-8")
    trials = {option.id: trial for trial in study.key.trials for option in trial.options}
    context = chromium.new_context(accept_downloads=True)
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url[:60]))
    errors: list[str] = []

    def opened() -> Any:
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda told: errors.append(told.text) if told.type == "error" else None)
        page.goto(file.as_uri())
        page.click("#begin")
        return page

    def answer(page: Any) -> None:
        """As somebody would who likes the first method, and reads."""
        page.evaluate("ready = 0")  # without the pause after an answer
        sides = page.evaluate("screens[mine.answers.length].sides.map((side) => side.id)")
        trial = trials[sides[0]]
        rank = {option.id: METHODS.index(option.method) if option.method else 9 for option in trial.options}
        chosen = {"A": 0, "B": 1}.get(trial.check, min((0, 1), key=lambda side: rank[sides[side]]))
        if trial.questions[0] == "fidelity":
            page.keyboard.press("ab"[chosen])
        else:
            page.click(("#choose-a", "#choose-b")[chosen])

    page = opened()
    total = page.evaluate("screens.length")
    assert total == 3 * 4 + 4 and page.text_content("#place") == f"1 of {total}"
    for _ in range(5):
        answer(page)
    page.evaluate("ready = 0")
    page.keyboard.press("e")
    page.keyboard.press("a")  # too soon after: no answer
    assert page.text_content("#place") == f"7 of {total}"
    page.click("#pictures-a img")
    page.keyboard.press("b")  # while a picture is large, keys do not answer
    page.click("#large img")
    page.keyboard.press("u")
    assert page.text_content("#place") == f"6 of {total}"
    page.close()
    page = opened()
    assert page.text_content("#place") == f"6 of {total}"
    while page.is_visible("#desk"):
        answer(page)
    with page.expect_download() as saved:
        page.click("#save")
    saved.value.save_as(tmp_path / "answers.json")
    assert errors == [] and {url.split(":")[0] for url in asked} <= {"file", "data", "blob"}
    told = json.loads((tmp_path / "answers.json").read_text(encoding="utf-8"))
    assert told["finished"] and len(told["answers"]) == total
    raters, _ = read_answers([tmp_path / "answers.json"], study.key)
    score = score_study(study.key, raters, resamples=20)
    assert not score.dropped and all(told.share.value == 1.0 for told in score.preferences)
    context.close()
