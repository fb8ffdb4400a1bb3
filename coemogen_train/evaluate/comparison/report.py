"""The files of a comparison: JSON for programs, Markdown for texts, one HTML page for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...files import atomic_write_text
from ...pages import Section
from . import words
from .claims import Claims, Judged, judge, load_claims
from .page import comparison_page
from .published import SOURCE
from .result import Comparison, plain_json
from .tables import (
    costs_table,
    experiments,
    figures_table,
    markdown,
    measures_of_the_paper,
    published_table,
    question,
    rows_of_the_paper,
)


def write_report(
    comparison: Comparison, folder: Path, extra: Sequence[Section] = (), claims: Claims | None = None
) -> tuple[Path, Path, Path]:
    """Write `compare.json`, `compare.md` and `compare.html` into a folder, each whole or not at all.

    Args:
        comparison: what was found; the pictures of its sheets are files under the folder.
        folder: where the files go.
        extra: parts that the page and the Markdown have at their end.
        claims: the package's own, unless others are given.

    Returns:
        The three paths.
    """
    known = claims or load_claims()
    judged = judge(known, comparison)
    texts = {
        "json": json.dumps(as_json(comparison, known, judged), indent=1, ensure_ascii=False, allow_nan=False)
        + "\n",
        "md": as_markdown(comparison, known, judged, extra),
        "html": comparison_page(comparison, folder, judged, known, extra),
    }
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for kind, text in texts.items():
        path = folder / f"compare.{kind}"
        atomic_write_text(path, text)
        paths.append(path)
    return paths[0], paths[1], paths[2]


def as_json(comparison: Comparison, claims: Claims, judged: Sequence[Judged]) -> dict[str, Any]:
    """The comparison with its claims, in numbers that JSON has."""
    told = comparison.to_dict()
    told["claims"] = [plain_json(entry.to_dict()) for entry in judged]
    told["claims_file_sha256"] = claims.sha256
    return told


def as_markdown(
    comparison: Comparison, claims: Claims, judged: Sequence[Judged], extra: Sequence[Section] = ()
) -> str:
    """The report as text."""
    parts = [f"# {words.TITLE}", comparison.world, words.weights(comparison), words.tally(judged)]
    parts += [words.unfinished(comparison)]
    parts.append("\n".join(f"- {what}: {value}" for what, value in comparison.facts))
    parts += [*comparison.notes, words.intervals(comparison)]
    for name, rows in experiments(comparison).items():
        parts += [f"## {name}", question(name), *words.experiment(name, rows, comparison)]
        parts += [markdown(figures_table(rows)), markdown(costs_table(rows))]
    parts += [words.COSTS if comparison.rows else "", "## Claims", words.claims(claims, judged, comparison)]
    parts.append(
        "\n".join(f"- **{entry.verdict}**: {entry.claim.sentence} {entry.sentence}" for entry in judged)
    )
    if ours := rows_of_the_paper(comparison):
        parts += ["## Beside the published figures", words.beside(comparison), "The paper:"]
        parts += [markdown(published_table()), SOURCE, "This run:"]
        parts.append(markdown(figures_table(ours, measures_of_the_paper())))
    for section in extra:
        parts += [f"## {section.title}", section.paragraph]
    return "\n\n".join(part for part in parts if part) + "\n"
