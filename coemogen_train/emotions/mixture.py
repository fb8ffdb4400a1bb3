"""The grammar of mixtures: text such as "awe 0.7 + fear 0.3", a row of weights per picture."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from ..errors import MixtureError, TaxonomyError
from .spelling import plain
from .taxonomy import WEIGHT_START, Taxonomy

MAX_MIXTURE_ROWS = 4096
MAX_MIXTURE_LENGTH = 100_000


def one_hot(index: int, taxonomy: Taxonomy) -> tuple[float, ...]:
    """The mixture row of one emotion: 1 at `index`, 0 elsewhere."""
    return tuple(float(index == position) for position in range(taxonomy.num_emotions))


def parse_mixture(text: str, taxonomy: Taxonomy) -> tuple[tuple[float, ...], ...]:
    """Read a mixture: one row of E weights per picture.

    The grammar, where case, spaces, underscores and hyphens in a name do not matter:

        mixture = row { ";" row }           one row per picture; a line break separates rows too,
                                            and an empty row (a ";" at the end) is ignored
        row     = "all" | term { "+" term } "all" stands for E rows, one per emotion
        term    = name [ weight ]           "awe 0.7"; "awe" alone takes its share

    Weights are finite, not negative, and taken as written: "awe 0.7 + fear 0.7" is stronger than "awe", it
    is not rescaled to 1. Where no term of a row has a weight, the row is shared equally ("awe + fear" is .5
    and .5, "awe" is 1). A row with weights on some terms only is refused, and so is an emotion that occurs
    twice in a row, and a row in which all weights are 0.

    Raises:
        MixtureError: the text breaks the grammar, or names an emotion that the taxonomy lacks.
    """
    if len(text) > MAX_MIXTURE_LENGTH:
        raise MixtureError(f"the mixture has {len(text)} characters; at most {MAX_MIXTURE_LENGTH} are read.")
    rows: list[tuple[float, ...]] = []
    for part in re.split(r"[;\n]", text):
        if not part.strip():
            continue
        if plain(part) == "all":
            rows.extend(one_hot(index, taxonomy) for index in range(taxonomy.num_emotions))
        else:
            rows.append(_parse_row(part.strip(), taxonomy))
        if len(rows) > MAX_MIXTURE_ROWS:
            raise MixtureError(f"the mixture has more than {MAX_MIXTURE_ROWS} rows: use fewer.")
    if not rows:
        raise MixtureError(
            f"the mixture is empty: write an emotion, such as '{taxonomy.names[0]}', or 'all'."
        )
    return tuple(rows)


def _parse_row(part: str, taxonomy: Taxonomy) -> tuple[float, ...]:
    terms = [_parse_term(term, part) for term in part.split("+")]
    weights = [weight for _, weight in terms if weight is not None]
    if weights and len(weights) < len(terms):
        raise MixtureError(f"in '{part}' some emotions have a weight and some have none: give all or none.")
    row = [0.0] * taxonomy.num_emotions
    found: set[int] = set()
    for name, weight in terms:
        try:
            index = taxonomy.index(name)
        except TaxonomyError as error:
            raise MixtureError(f"in the mixture '{part}' {error}") from None
        if index in found:
            raise MixtureError(f"in '{part}' {taxonomy.names[index]} occurs twice: add its weights up.")
        found.add(index)
        row[index] = 1.0 / len(terms) if weight is None else weight
    if not any(row):
        raise MixtureError(f"in '{part}' every weight is 0: give one emotion at least a weight above 0.")
    return tuple(row)


def _parse_term(term: str, part: str) -> tuple[str, float | None]:
    """The name and, where one is written, the weight of "awe 0.7"."""
    words = term.split()
    if not words:
        raise MixtureError(f"in '{part}' a '+' has nothing beside it: write an emotion on both sides.")
    if not re.match(WEIGHT_START, words[-1]):
        return " ".join(words), None
    try:
        weight = float(words[-1])
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight) or weight < 0:
        raise MixtureError(f"'{words[-1]}' in '{part}' is no weight: write a number such as 0.7.")
    if len(words) == 1:
        raise MixtureError(f"in '{part}' the weight {words[-1]} stands alone: put its emotion before it.")
    return " ".join(words[:-1]), weight


def format_mixture(row: Iterable[float], taxonomy: Taxonomy) -> str:
    """A row of weights as `parse_mixture` reads it; weights keep every digit, a lone 1 is left out."""
    terms = [(name, weight) for name, weight in zip(taxonomy.names, row, strict=True) if weight]
    if len(terms) == 1 and terms[0][1] == 1.0:
        return terms[0][0]
    return " + ".join(f"{name} {weight!r}" for name, weight in terms)
