"""From any source to a set: every picture decoded, every label mapped, every problem counted.

The source is listed, its pictures are judged in parts that several processes may share (`reading`), and one
process puts what was found in order (`settling`) and writes the set.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..emotions import MIKELS, Taxonomy, load_taxonomy
from ..errors import DataError
from ..files import atomic_path, atomic_write_bytes, sweep_parts
from .images import ImageLimits, quiet_pillow
from .reading import PER_PART, Labeller, Listing, Rules, read_run, write_lines
from .report import PrepareReport, Tally, encodable, printable
from .samples import SPLITS, SetInfo, create_set, work_folder
from .settling import Settlement, settlement
from .sharedwork import ALONE, Crew, SharedWork
from .sources import FOLDER, TABLE, Source, SourceContext, detect_source
from .splits import SplitRule

Progress = Callable[[str, int, "int | None"], None]
"""progress(stage, done, total): total is None while it is not known."""

# Part results of another version are not understood.
_VERSION = 1


@dataclass(frozen=True)
class PrepareOptions:
    """How a set is made.

    taxonomy: None for the one that the source's labels are of, else Mikels' eight. copy: the pictures into
    SET/images; else they stay. workers: decoding threads, 0 = one per core. licence, origin: of the
    pictures, as the adapter file will tell. labeller: tells the emotions of pictures without a label; None:
    they are a problem.
    """

    taxonomy: Taxonomy | None = None
    copy: bool = False
    licence: str = ""
    origin: str = ""
    splits: SplitRule = field(default_factory=SplitRule)
    limits: ImageLimits = field(default_factory=ImageLimits)
    workers: int = 0
    labeller: Labeller | None = None


def prepare(
    source: str | Path,
    out: str | Path,
    options: PrepareOptions = PrepareOptions(),
    kind: str | None = None,
    progress: Progress | None = None,
    crew: Crew = ALONE,
) -> PrepareReport:
    """Make the set `out` from `source`, whose format is recognised by itself or named by `kind`.

    Equal sources give equal bytes, whether a run was stopped and run again or not, and however many processes
    work. Raises: DataError when the source as a whole cannot be read, or no picture in it is usable.
    """
    path = Path(source).absolute()
    folder = Path(out).absolute()
    for place in (path, folder):
        if encodable(str(place)) != str(place):
            raise DataError(
                f"{printable(str(place))} is not valid Unicode, and no table could name what is in it: "
                "rename the folder."
            )
    if path in (folder, folder / "images", folder / "cache"):
        raise DataError(f"the set cannot be the folder that it is made from, {path}: choose another --out.")
    return _Preparation(path, folder, detect_source(path, kind), options, crew).run(progress)


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
    crew: Crew = ALONE,
) -> PrepareReport:
    """Make the set `out` from a CSV, TSV, JSON lines or Parquet table."""
    return prepare(source, out, options, TABLE.name, progress, crew)


class _Preparation:
    """One source on its way into one set."""

    def __init__(self, path: Path, out: Path, source: Source, options: PrepareOptions, crew: Crew):
        self.path, self.out, self.source, self.options, self.crew = path, out, source, options, crew
        self.taxonomy = options.taxonomy or _taxonomy_of(source)
        self.tally = Tally()
        self.listing = Listing(source, path, SourceContext(self.taxonomy, out, self.tally))

    def run(self, progress: Progress | None) -> PrepareReport:
        self.out.mkdir(parents=True, exist_ok=True)
        digests = self.listing.digests()
        rules = self._rules()
        work = SharedWork(work_folder(self.out, "prepare"), self._plan(digests, rules), self.crew)
        names = [
            work.parts / f"{number:07d}-{_digest(f'{_VERSION} {rules.key} {digest}')}.jsonl"
            for number, digest in enumerate(digests)
        ]
        told = 0

        def show(_part: int) -> None:
            nonlocal told
            told = min(told + PER_PART, self.listing.found)
            if progress is not None:
                progress("reading pictures", told, self.listing.found)

        with quiet_pillow(), ThreadPoolExecutor(self.options.workers or os.cpu_count() or 1) as pool:

            def judge(part: int) -> None:
                lines = read_run(self.listing.run(part), self.source, rules, pool)
                atomic_write_bytes(names[part], write_lines(lines))

            answer = work.run(
                len(names),
                lambda part: names[part].is_file(),
                judge,
                lambda: self._settle(names, rules),
                show,
            )
        return PrepareReport.from_dict(answer)

    def _rules(self) -> Rules:
        options = self.options
        return Rules(
            self.taxonomy,
            self.out,
            self.source.root(self.path),
            options.copy or self.listing.embedded,
            options.splits,
            options.limits,
            options.labeller,
        )

    def _plan(self, digests: list[str], rules: Rules) -> str:
        terms = [self.options.licence, self.options.origin, self.source.name, str(_VERSION)]
        return _digest("\n".join([*terms, rules.key, *digests]))

    def _settle(self, names: list[Path], rules: Rules) -> dict[str, Any]:
        """Write the set from the parts' results, and tell what was found."""
        sweep_parts(self.out)
        with settlement() as found:
            place = 0
            for name in names:
                with name.open(encoding="ascii") as stream:
                    place = found.add(map(json.loads, stream), place)
            found.sort_out_duplicates()
            found.count(self.tally)
            if not found.usable:
                raise DataError(_nothing_usable(self.path, self.listing.found, self.tally, self.taxonomy))
            _write_problems(self.out / "problems.jsonl", found.problems())
            if rules.copy:
                for copy in found.left_over_copies():
                    (self.out / copy).unlink(missing_ok=True)
            create_set(self.out, self._info(rules), found.samples(), found.captions())
            return self._report(found).to_dict()

    def _info(self, rules: Rules) -> SetInfo:
        root: str | None = "."
        absolute: str | None = None
        if not rules.copy:
            absolute = rules.image_root.as_posix()
            try:
                root = Path(os.path.relpath(rules.image_root, self.out)).as_posix()
            except ValueError:  # on another drive of Windows
                root = None
            if rules.image_root.is_relative_to(self.out):
                absolute = None  # the pictures move with the set, whatever its place
        options = self.options
        return SetInfo(
            self.taxonomy, options.licence, options.origin, root, absolute, options.splits.to_dict()
        )

    def _report(self, found: Settlement) -> PrepareReport:
        counts = found.counts()
        return PrepareReport(
            source=self.source.name,
            found=self.listing.found,
            usable=found.usable,
            problems=dict(sorted(self.tally.problems.items())),
            notes=dict(sorted(self.tally.notes.items())),
            examples=dict(sorted(self.tally.examples.items())),
            emotions={
                name: {str(split): counts.get((name, split), 0) for split in SPLITS}
                for name in self.taxonomy.names
            },
            captions=found.captioned(),
        )


def _taxonomy_of(source: Source) -> Taxonomy:
    return MIKELS if source.taxonomy == "mikels" else load_taxonomy(source.taxonomy)


def _write_problems(path: Path, problems: Iterator[tuple[str, str, str]]) -> None:
    with atomic_path(path) as part, part.open("w", encoding="utf-8", newline="\n") as stream:
        for kind, name, detail in problems:
            row = {"image": encodable(name), "problem": kind, "detail": encodable(detail)}
            stream.write(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


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
    cure = (
        " Pictures without labels are labelled by a probe: --format pictures --probe FILE --vision CLIP."
        if kind in ("unknown_emotion", "no_emotion")
        else ""
    )
    return (
        f"none of the {found} pictures in {where} is usable: {kind} for {count}, such as {name}.{known}{cure}"
    )
