"""From any source to a set: every picture decoded, every label mapped, every problem counted."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from ..emotions import MIKELS, Taxonomy
from ..errors import DataError
from ..files import atomic_write_bytes, atomic_write_text, canonical_json, sha256_file, sweep_parts
from .candidates import Candidate, accept, without_duplicates
from .formats import suffix_of
from .images import CheckedImage, ImageLimits, ImageProblem, check_image, quiet_pillow
from .report import PrepareReport, Tally, printable
from .samples import SPLITS, SetInfo, create_set
from .sources import FOLDER, TABLE, Record, Source, SourceContext, detect_source
from .splits import SplitRule, split_named

Progress = Callable[[str, int, "int | None"], None]
"""progress(stage, done, total): total is None while it is not known."""

# Pictures in flight: enough to keep the decoders busy, few enough that memory does not grow with the source.
_CHUNK = 256


@dataclass(frozen=True)
class PrepareOptions:
    """How a set is made. copy: the pictures into SET/images; else they stay. workers: decoding threads, 0 =
    one per core.

    licence, origin: of the pictures, as the adapter file will tell.
    """

    taxonomy: Taxonomy = MIKELS
    copy: bool = False
    licence: str = ""
    origin: str = ""
    splits: SplitRule = field(default_factory=SplitRule)
    limits: ImageLimits = field(default_factory=ImageLimits)
    workers: int = 0


def prepare(
    source: str | Path,
    out: str | Path,
    options: PrepareOptions = PrepareOptions(),
    kind: str | None = None,
    progress: Progress | None = None,
) -> PrepareReport:
    """Make the set `out` from `source`, whose format is recognised by itself or named by `kind`.

    Equal sources give equal bytes, so a run that was stopped is simply run again.
    Raises: DataError when the source as a whole cannot be read, or no picture in it is usable.
    """
    path = Path(source).absolute()
    return _prepare(path, Path(out).absolute(), detect_source(path, kind), options, progress)


def prepare_folder(
    source: str | Path,
    out: str | Path,
    options: PrepareOptions = PrepareOptions(),
    progress: Progress | None = None,
) -> PrepareReport:
    """Make the set `out` from a folder with a subfolder per emotion."""
    return prepare(source, out, options, FOLDER.name, progress)


def prepare_table(
    source: str | Path,
    out: str | Path,
    options: PrepareOptions = PrepareOptions(),
    progress: Progress | None = None,
) -> PrepareReport:
    """Make the set `out` from a CSV, TSV, JSON lines or Parquet table."""
    return prepare(source, out, options, TABLE.name, progress)


def _prepare(
    source: Path, out: Path, source_format: Source, options: PrepareOptions, progress: Progress | None
) -> PrepareReport:
    if source in (out, out / "images", out / "cache"):
        raise DataError(f"the set cannot be the folder that it is made from, {source}: choose another --out.")
    out.mkdir(parents=True, exist_ok=True)
    sweep_parts(out)
    tally = Tally()
    context = SourceContext(options.taxonomy, out, tally)
    found = 0
    candidates: list[Candidate] = []
    with quiet_pillow():
        for record, checked in _checked(source_format.records(source, context), options):
            found += 1
            candidate = accept(record, checked, options.taxonomy, tally)
            if candidate is not None:
                candidates.append(candidate)
            if progress is not None and (found % _CHUNK == 0):
                progress("reading pictures", found, None)
    usable = without_duplicates(candidates, tally)
    if not usable:
        raise DataError(_nothing_usable(source, found, tally, options.taxonomy))
    image_root = source_format.root(source)
    rows = sorted((_row(c, out, image_root, options) for c in usable), key=lambda row: row["id"])
    usable.sort(key=lambda c: c.id)
    given = [(c.id, c.checked.sha256, c.record.caption) for c in usable if c.record.caption]
    create_set(out, _info(out, image_root, options), rows, given)
    lines = [json.dumps(row, ensure_ascii=False, sort_keys=True) for row in tally.rows]
    atomic_write_text(out / "problems.jsonl", "".join(line + "\n" for line in lines))
    if progress is not None:
        progress("reading pictures", found, found)
    return _report(source_format.name, found, rows, given, tally, options.taxonomy)


def _checked(
    records: Iterable[Record], options: PrepareOptions
) -> Iterator[tuple[Record, CheckedImage | ImageProblem | None]]:
    """Yield each record with what its picture turned out to be, in order; several threads decode."""

    def check(record: Record) -> CheckedImage | ImageProblem | None:
        if record.problem is not None or record.image is None:
            return None
        try:
            return check_image(record.image, options.limits)
        except ImageProblem as problem:
            return problem

    source = iter(records)
    with ThreadPoolExecutor(options.workers or os.cpu_count() or 1) as pool:
        while chunk := list(islice(source, _CHUNK)):
            yield from zip(chunk, pool.map(check, chunk), strict=True)


def _row(candidate: Candidate, out: Path, image_root: Path, options: PrepareOptions) -> dict[str, Any]:
    record, checked = candidate.record, candidate.checked
    assert record.image is not None  # noqa: S101 - accept lets nothing else through
    if options.copy:
        image = _copy(record.image, out, candidate.emotion, checked)
    else:
        image = _relative(record.image, image_root)
    given = split_named(record.split) if record.split is not None else None
    return {
        "id": candidate.id,
        "image": image,
        "emotion": candidate.emotion,
        "split": given or options.splits.split_of(checked.sha256),
        "sha256": checked.sha256,
        "width": checked.width,
        "height": checked.height,
        "scene": record.scene,
        "objects": list(record.objects),
        "attributes": canonical_json(dict(record.attributes)),
    }


def _copy(image: Path, out: Path, emotion: str, checked: CheckedImage) -> str:
    """Copy a picture under a name made of its content: short, unique, and allowed on every system."""
    folder = "".join(c if c.isascii() and c.isalnum() else "_" for c in emotion)
    name = f"images/{folder}/{checked.sha256[:32]}{suffix_of(checked.format)}"
    target = out / name
    if not target.is_file() or sha256_file(target) != checked.sha256:
        atomic_write_bytes(target, image.read_bytes())
    return name


def _relative(image: Path, root: Path) -> str:
    """The path as the table holds it: below `root` without it, elsewhere absolute."""
    return image.relative_to(root).as_posix() if image.is_relative_to(root) else image.as_posix()


def _info(out: Path, image_root: Path, options: PrepareOptions) -> SetInfo:
    root: str | None = "."
    absolute: str | None = None
    if not options.copy:
        absolute = image_root.as_posix()
        try:
            root = Path(os.path.relpath(image_root, out)).as_posix()
        except ValueError:  # on another drive of Windows
            root = None
        if image_root.is_relative_to(out):
            absolute = None  # the pictures move with the set, whatever its place
    return SetInfo(
        options.taxonomy, options.licence, options.origin, root, absolute, options.splits.to_dict()
    )


def _report(
    source: str,
    found: int,
    rows: list[dict[str, Any]],
    given: list[Any],
    tally: Tally,
    taxonomy: Taxonomy,
) -> PrepareReport:
    emotions = {name: dict.fromkeys(map(str, SPLITS), 0) for name in taxonomy.names}
    for row in rows:
        emotions[row["emotion"]][row["split"]] += 1
    return PrepareReport(
        source=source,
        found=found,
        usable=len(rows),
        problems=dict(sorted(tally.problems.items())),
        notes=dict(sorted(tally.notes.items())),
        examples=dict(sorted(tally.examples.items())),
        emotions=emotions,
        captions=len(given),
    )


def _nothing_usable(source: Path, found: int, tally: Tally, taxonomy: Taxonomy) -> str:
    if not found:
        return (
            f"there are no pictures in {printable(str(source))}: give a folder with a subfolder per emotion."
        )
    kind, count = tally.problems.most_common(1)[0]
    name = tally.examples[kind][0]
    known = (
        f" The emotions are {', '.join(taxonomy.names)}." if kind in ("unknown_emotion", "no_emotion") else ""
    )
    where = printable(str(source))
    return f"none of the {found} pictures in {where} is usable: {kind} for {count}, such as {name}.{known}"
