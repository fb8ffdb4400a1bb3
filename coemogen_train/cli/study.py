"""`study build` and `study score`: a user study as one page, and what the answers say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .answer import Answer
from .options import Json

if TYPE_CHECKING:
    from ..evaluate.pictures import LabelledPictures

app = typer.Typer(
    name="study",
    help="A user study: a page of blind pairs, and the score of its answers.",
    add_completion=False,
)


@app.command("build")
def build(
    method: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=FOLDER",
            help="A method's pictures, a subfolder per emotion; at least two.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the page goes.")] = Path("study.html"),
    pairs: Annotated[int, typer.Option(min=1, max=500, help="Pairs of pictures that a rater sees.")] = 20,
    pool: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=5000,
            help="Different pairs in the page; each rater sees some of them.",
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Compare this method with each other, not all with all."),
    ] = None,
    checks: Annotated[int, typer.Option(min=0, max=50, help="Attention checks for every rater.")] = 4,
    several: Annotated[int, typer.Option(min=2, max=9, help="Pictures in a set, for diversity.")] = 4,
    side: Annotated[int, typer.Option(min=64, max=2048, help="Longest side of a picture, in pixels.")] = 512,
    questions: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Other questions than the paper's four, in TOML.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of pairs, pictures and their order.")] = 0,
    as_json: Json = False,
) -> Answer:
    """Make one page of blind, randomised pairs that raters open, answer, and send a file back from.

    It asks the paper's four questions (fidelity, semantic coherence, emotion faithfulness, semantic
    diversity; the words are ours), among attention checks. Everything is inside the page: no server, and
    no name of a method. The names are in FILE-key.json, which score needs and raters must not have.

    \b
    Example: coemogen_train study build --method ours=out/ours --method emogen=out/emogen --out study.html
    """
    from ..errors import DataError
    from ..evaluate.study import Design, build_study, load_questions
    from ..files import atomic_write_text

    if pool is not None and pool < pairs:
        raise DataError(f"a rater cannot see {pairs} pairs of a pool of {pool}: give a larger --pool.")
    if out.is_dir():
        raise DataError(f"{out} is a folder: give --out the name of a file, such as study.html.")
    design = Design(pairs, pool, checks, several, side, seed, against)
    study = build_study(_methods(method), design, load_questions(questions))
    key = out.with_name(f"{out.stem}-key.json")
    study.key.save(key)
    atomic_write_text(out, study.page)
    data = {
        "page": out,
        "key": key,
        "study": study.key.study,
        "methods": study.key.methods,
        "pairs": study.key.pairs,
        "trials": len(study.key.trials),
        "pictures": study.pictures,
        "bytes": out.stat().st_size,
    }
    return Answer(
        data,
        [
            f"The page for raters is {out}: {study.pictures} pictures, {out.stat().st_size / 1e6:.1f} MB.",
            f"The key is {key}: keep it, and do not give it to raters.",
        ],
    )


@app.command("score")
def score(
    key: Annotated[Path, typer.Argument(metavar="KEY", help="The key that build wrote.", show_default=False)],
    answers: Annotated[
        list[Path], typer.Argument(metavar="ANSWERS", help="The files that raters sent.", show_default=False)
    ],
    allow_failed: Annotated[
        int, typer.Option(min=0, help="Attention checks that a rater may fail and still count.")
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of the intervals.")] = 0,
    as_json: Json = False,
) -> Answer:
    """Tell which method raters prefer, with intervals over raters and pictures, and how far raters agree.

    Raters who failed attention checks are left out, and named. Gives the preferences of every two methods
    on every question, a Bradley-Terry order, and Krippendorff's alpha.

    \b
    Example: coemogen_train study score study-key.json answers/*.json
    """
    from ..evaluate.study import load_key, read_answers, score_dict, score_parts, score_study

    of = load_key(key)
    raters, notes = read_answers(answers, of)
    result = score_study(of, raters, allowed_failures=allow_failed, seed=seed)
    data = score_dict(result)
    data["notes"] = [*notes, *data["notes"]]
    return Answer(data, [*score_parts(result, of), *(f"Note: {note}" for note in notes)])


def _methods(told: list[str]) -> dict[str, LabelledPictures]:
    from ..errors import DataError
    from ..evaluate.pictures import LabelledPictures

    found: dict[str, LabelledPictures] = {}
    for text in told:
        name, _, folder = text.partition("=")
        name = name.strip()
        if not name or not folder:
            raise DataError(f"--method {text}: give a name and a folder, as in ours=out/ours.")
        if name in found:
            raise DataError(f"two methods are called {name}: give each a name of its own.")
        names = next(iter(found.values())).names if found else None
        found[name] = LabelledPictures.from_folder(Path(folder), names)
    return found
