"""A run of a source's pictures, each decoded whole and judged: what one part of `prepare` does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from ..emotions import Taxonomy
from ..errors import DataError
from ..files import atomic_write_bytes, canonical_json, sha256_file
from .candidates import Candidate, Problem, accept
from .formats import suffix_of
from .images import CheckedImage, ImageLimits, ImageProblem, check_bytes, decode_rgb, read_file
from .sources.record import Embedded, Record, Source, SourceContext
from .splits import SplitRule, split_named

PER_PART = 256
"""Pictures in a part: enough to keep the decoders busy, few enough that a killed worker loses little."""

_LABELLED_AT_ONCE = 16


class Labeller(Protocol):
    """Tells the emotions of pictures that have no label (`evaluate.ProbeLabeller`)."""

    @property
    def fingerprint(self) -> str:
        """Differs whenever a label might."""

    @property
    def floor(self) -> float:
        """The confidence, 0..1, below which a picture is not labelled."""

    def label(self, images: list[Image.Image]) -> list[tuple[str, float]]:
        """RGB pictures -> the likeliest emotion of each, and its probability."""


@dataclass(frozen=True)
class Rules:
    """What decides about every picture alike. copy: pictures go to SET/images; image_root: else the folder
    that their paths are relative to."""

    taxonomy: Taxonomy
    out: Path
    image_root: Path
    copy: bool
    splits: SplitRule
    limits: ImageLimits
    labeller: Labeller | None = None

    @property
    def key(self) -> str:
        """Differs whenever a picture might be judged otherwise."""
        told = {
            "taxonomy": self.taxonomy.to_dict(),
            "image_root": self.image_root.as_posix(),
            "copy": self.copy,
            "splits": self.splits.to_dict(),
            "limits": [self.limits.min_side, self.limits.max_pixels, self.limits.max_bytes],
            "labeller": self.labeller and self.labeller.fingerprint,
        }
        return canonical_json(told)


class Listing:
    """A source's records in runs of PER_PART, listed anew where that is needed instead of held in memory."""

    def __init__(self, source: Source, path: Path, context: SourceContext):
        self._source, self._path, self._context = source, path, context
        self._runs: Iterator[list[Record]] | None = None
        self._next = 0
        self._digests: list[str] = []
        self.found = 0
        self.embedded = False

    def digests(self) -> list[str]:
        """Go through all records once, and tell of every run which pictures it is of: 32 hexadecimal digits.

        Files count by name, size and time here; a picture that changed is read again.
        """
        for run in self._fresh(self._context):
            self.found += len(run)
            self.embedded |= any(not isinstance(r.image, Path | None) for r in run)
            self._digests.append(_digest_of(run))
        return self._digests

    def run(self, number: int) -> list[Record]:
        """The records of a run; quick where runs are asked for in their order.

        Raises: DataError where they are no longer those that `digests` told of.
        """
        if self._runs is None or number < self._next:
            silent = replace(self._context, tally=type(self._context.tally)())
            self._runs, self._next = self._fresh(silent), 0
        run: list[Record] = []
        for _ in range(self._next, number + 1):
            run = next(self._runs, [])
        self._next = number + 1
        if _digest_of(run) != self._digests[number]:
            raise DataError(
                f"pictures came, went or changed in {self._path} while it was read: run `prepare` again when "
                "nothing writes there."
            )
        return run

    def _fresh(self, context: SourceContext) -> Iterator[list[Record]]:
        records = iter(self._source.records(self._path, context))
        while run := list(islice(records, PER_PART)):
            yield run


def read_run(records: Sequence[Record], source: Source, rules: Rules, pool: Executor) -> list[dict[str, Any]]:
    """Judge a run of pictures: one JSON object for each, in their order.

    {"problem": [kind, name, detail]}, or {"name", "notes", "caption", "row"} with a row of tables.SAMPLES.
    """
    completed = list(pool.map(source.complete, records))
    checked = list(pool.map(lambda record: _check(record, rules.limits), completed))
    if rules.labeller is not None:
        completed = _labelled(completed, checked, rules.labeller, rules.limits, pool)
    found = [accept(r, c, rules.taxonomy) for r, c in zip(completed, checked, strict=True)]
    return list(pool.map(lambda judged: _told(judged, rules), found))


def _check(record: Record, limits: ImageLimits) -> CheckedImage | ImageProblem | None:
    if record.problem is not None or record.image is None:
        return None
    try:
        return check_bytes(_bytes(record.image, limits), record.image, limits)
    except ImageProblem as problem:
        return problem


def _bytes(image: Path | Embedded, limits: ImageLimits) -> bytes:
    if isinstance(image, Path):
        return read_file(image, limits)
    try:
        data = image.read(limits.max_bytes)
    except (OSError, ValueError) as error:
        raise ImageProblem("unreadable", getattr(error, "strerror", None) or str(error)) from None
    if not data:
        raise ImageProblem("empty", "it has no bytes")
    return data


def _labelled(
    records: Sequence[Record],
    checked: Sequence[CheckedImage | ImageProblem | None],
    labeller: Labeller,
    limits: ImageLimits,
    pool: Executor,
) -> list[Record]:
    """Give pictures without a label the one that the probe is sure of; where it is not, that is the
    problem."""
    labelled = list(records)
    bare = [
        place
        for place, (record, picture) in enumerate(zip(records, checked, strict=True))
        if isinstance(picture, CheckedImage) and not (record.emotion or "").strip()
    ]
    for start in range(0, len(bare), _LABELLED_AT_ONCE):
        places = bare[start : start + _LABELLED_AT_ONCE]
        images = list(pool.map(lambda place: _decoded(records[place], limits), places))
        for place, (emotion, confidence) in zip(places, labeller.label(images), strict=True):
            labelled[place] = _with_label(records[place], emotion, confidence, labeller.floor)
    return labelled


def _with_label(record: Record, emotion: str, confidence: float, floor: float) -> Record:
    if confidence < floor:
        told = f"the probe is {confidence:.2f} sure of {emotion}, less than {floor:g}"
        return replace(record, problem=("unsure", told))
    known = {**record.attributes, "emotion_confidence": f"{confidence:.4f}", "emotion_from": "probe"}
    return replace(record, emotion=emotion, attributes=known)


def _decoded(record: Record, limits: ImageLimits) -> Image.Image:
    assert record.image is not None  # noqa: S101 - it was checked
    return decode_rgb(_bytes(record.image, limits), limits)[0]


def _told(judged: Candidate | Problem, rules: Rules) -> dict[str, Any]:
    if isinstance(judged, Candidate):
        try:
            image = _copied(judged, rules) if rules.copy else _relative(judged, rules.image_root)
        except ImageProblem as problem:
            judged = Problem(problem.kind, judged.record.name, problem.detail)
        else:
            record = judged.record
            return {
                "name": record.name,
                "notes": judged.notes,
                "caption": record.caption,
                "row": _row(judged, image, rules.splits),
            }
    return {"problem": [judged.kind, judged.name, judged.detail]}


def _row(candidate: Candidate, image: str, splits: SplitRule) -> dict[str, Any]:
    record, checked = candidate.record, candidate.checked
    given = split_named(record.split) if record.split is not None else None
    return {
        "id": candidate.id,
        "image": image,
        "emotion": candidate.emotion,
        "split": given or splits.split_of(checked.sha256),
        "sha256": checked.sha256,
        "width": checked.width,
        "height": checked.height,
        "scene": record.scene,
        "objects": list(record.objects),
        "attributes": canonical_json(dict(record.attributes)),
    }


def _copied(candidate: Candidate, rules: Rules) -> str:
    """Copy a picture under a name made of its content: short, unique, and allowed on every system."""
    checked, image = candidate.checked, candidate.record.image
    assert image is not None  # noqa: S101 - accept lets nothing else through
    folder = "".join(c if c.isascii() and c.isalnum() else "_" for c in candidate.emotion)
    name = f"images/{folder}/{checked.sha256[:32]}{suffix_of(checked.format)}"
    target = rules.out / name
    if not target.is_file() or sha256_file(target) != checked.sha256:
        data = _bytes(image, rules.limits)
        if hashlib.sha256(data).hexdigest() != checked.sha256:
            raise ImageProblem("unreadable", "it changed while it was read")
        atomic_write_bytes(target, data)
    return name


def _relative(candidate: Candidate, root: Path) -> str:
    """The path as the table holds it: below `root` without it, elsewhere absolute."""
    image = candidate.record.image
    assert isinstance(image, Path)  # noqa: S101 - embedded pictures are always copied
    return image.relative_to(root).as_posix() if image.is_relative_to(root) else image.as_posix()


def _digest_of(run: Sequence[Record]) -> str:
    return hashlib.sha256("\n".join(map(_identity, run)).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _identity(record: Record) -> str:
    """A line that changes when the record does, or a file that it is made of."""
    files = [p for p in (record.image, *record.beside) if isinstance(p, Path)]
    stats = [_stat(path) for path in files]
    told = replace(record, image=None, beside=(), attributes={})
    key = record.image.key if record.image is not None and not isinstance(record.image, Path) else ""
    return json.dumps([repr(told), sorted(record.attributes.items()), [*map(str, files)], stats, key])


def _stat(path: Path) -> list[int]:
    try:
        status = path.stat()
        # With the time of the last change of any kind: a copy may bring another file's time along.
        return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    except (OSError, ValueError):
        return []


def write_lines(values: Iterable[Any]) -> bytes:
    """JSON lines in ASCII: names that are no valid Unicode survive in them."""
    return "".join(json.dumps(value, sort_keys=True) + "\n" for value in values).encode("ascii")
