"""A training set on disk, and its samples: the one place that knows the layout of the folder.

    SET/set.json              version, taxonomy, licence, origin, where the pictures are, how splits were made
    SET/samples.parquet       a row per usable picture, sorted by id
    SET/captions.parquet      a row per captioned picture
    SET/similarities.parquet  a row per scored caption, with the filter's verdict
    SET/problems.jsonl        a line per picture that could not be used
    SET/images/               the pictures, where they were copied
    SET/cache/                latents and CLIP features; may be deleted at any time
    SET/.work/                parts of unfinished work (`sharedwork`)

`samples.parquet` depends on the source alone, so `prepare` may run again without losing captions or
similarities; rows of the other tables count only while the picture (and caption) they speak of has the same
content.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ..emotions import Taxonomy
from ..errors import DataError, TaxonomyError
from ..files import atomic_write_text, canonical_json
from . import tables
from .rows import Sample, SampleRows, Split, caption_hash, read_rows, side_by_side

SPLITS: tuple[Split, ...] = ("train", "val", "test")
FORMAT_VERSION = 1
SET_FILE = "set.json"

__all__ = [
    "FORMAT_VERSION",
    "SET_FILE",
    "SPLITS",
    "Sample",
    "SampleRows",
    "SetInfo",
    "Split",
    "TrainingSet",
    "caption_hash",
    "create_set",
    "side_by_side",
    "work_folder",
]


@dataclass(frozen=True)
class SetInfo:
    """What `set.json` holds. `image_root` is relative to the set; `image_root_absolute` where it was at
    first, so
    that pictures are found when set and pictures move together and when the set moves alone."""

    taxonomy: Taxonomy
    licence: str
    origin: str
    image_root: str | None
    image_root_absolute: str | None
    splits: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The object that is written."""
        return {
            "format_version": FORMAT_VERSION,
            "taxonomy": self.taxonomy.to_dict(),
            "licence": self.licence,
            "origin": self.origin,
            "images": {"root": self.image_root, "absolute": self.image_root_absolute},
            "splits": dict(self.splits),
        }

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> SetInfo:
        """Read `to_dict`'s object. Raises: KeyError, TypeError, AttributeError, TaxonomyError."""
        return cls(
            taxonomy=Taxonomy.from_dict(value["taxonomy"]),
            licence=str(value["licence"]),
            origin=str(value["origin"]),
            image_root=value["images"]["root"],
            image_root_absolute=value["images"]["absolute"],
            splits=dict(value["splits"]),
        )


class TrainingSet:
    """A set opened for reading; `set.samples("train", kept_only=True)` is what training sees."""

    def __init__(self, root: Path, info: SetInfo):
        self.root = root
        self.info = info
        self._rows: SampleRows | None = None

    @classmethod
    def open(cls, path: str | Path) -> TrainingSet:
        """Open the set in a folder. The pictures need not be there; their absence shows where they are read.

        Raises: DataError when there is no finished set, or one of another version.
        """
        root = Path(path).absolute()
        file = root / SET_FILE
        if not file.is_file():
            raise DataError(f"{root} is not a training set (it has no {SET_FILE}): make one with `prepare`.")
        try:
            value = json.loads(file.read_text(encoding="utf-8"))
            version = value["format_version"]
            if version != FORMAT_VERSION:
                raise DataError(
                    f"{file} has format version {version} instead of {FORMAT_VERSION}: prepare it anew."
                )
            return cls(root, SetInfo.from_dict(value))
        except (ValueError, KeyError, TypeError, AttributeError, OSError, TaxonomyError) as error:
            raise DataError(f"{file} cannot be read ({error}): make the set anew with `prepare`.") from None

    @property
    def taxonomy(self) -> Taxonomy:
        """The emotions that the set's labels are of."""
        return self.info.taxonomy

    @property
    def cache_folder(self) -> Path:
        """Where latents and features are kept."""
        return self.root / "cache"

    def samples(self, split: str | None = None, kept_only: bool = False) -> SampleRows:
        """Return a split's samples (None: all) sorted by id; `kept_only`: without what the filter dropped."""
        if split is not None and split not in SPLITS:
            raise DataError(f"there is no split {split!r}: choose one of {', '.join(SPLITS)}.")
        if self._rows is None:
            self._rows = read_rows(self.root, self.image_base)
        return self._rows.where(split, kept_only)

    def counts(self) -> dict[str, dict[str, int]]:
        """Return how many kept samples each emotion has in each split, emotions in the taxonomy's order."""
        found = {name: dict.fromkeys(SPLITS, 0) for name in self.taxonomy.names}
        for sample in self.samples(kept_only=True):
            found[sample.emotion][sample.split] += 1
        return cast("dict[str, dict[str, int]]", found)

    def reload(self) -> None:
        """Forget what was read; the next call sees the tables as they are now."""
        self._rows = None

    def work_folder(self, name: str) -> Path:
        """Where the parts of unfinished work are kept."""
        return work_folder(self.root, name)

    def caption_rows(self) -> list[dict[str, Any]]:
        """Return the rows of captions.parquet, [] where there is none."""
        return tables.read_table(self.root / "captions.parquet", tables.CAPTIONS)

    def similarity_rows(self) -> list[dict[str, Any]]:
        """Return the rows of similarities.parquet, [] where there is none."""
        return tables.read_table(self.root / "similarities.parquet", tables.SIMILARITIES)

    def write_captions(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Replace captions.parquet. rows: sorted by id; may be read while they are written."""
        tables.write_table(self.root / "captions.parquet", tables.CAPTIONS, _ascending(rows))
        self.reload()

    def write_similarities(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Replace similarities.parquet. rows: sorted by id; may be read while they are written."""
        tables.write_table(self.root / "similarities.parquet", tables.SIMILARITIES, _ascending(rows))
        self.reload()

    @property
    def image_base(self) -> Path:
        """The folder that relative image paths start from."""
        if self.info.image_root is not None:
            moved = Path(os.path.normpath(self.root / self.info.image_root))
            if moved.is_dir() or self.info.image_root_absolute is None:
                return moved
        return Path(self.info.image_root_absolute or self.root)


def work_folder(root: Path, name: str) -> Path:
    """Where the parts of a set's unfinished work are kept; the set itself need not exist yet."""
    return root / ".work" / name


def _ascending(rows: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Pass rows on, and see that they are sorted by id and none is there twice: joining them relies on it."""
    last: str | None = None
    for row in rows:
        if last is not None and row["id"] <= last:
            raise ValueError(f"the row {row['id']!r} does not come after {last!r}")
        last = row["id"]
        yield row


def create_set(
    root: Path, info: SetInfo, samples: Iterable[Mapping[str, Any]], given: Iterable[tuple[str, str, str]]
) -> TrainingSet:
    """Write a set's tables; `set.json` goes first and comes last, so that an unfinished set is none.

    samples: rows of tables.SAMPLES, sorted by id. given: (id, sha256, caption) of the captions that came with
    the source, sorted by id. Both may be read as they are written: nothing is held in memory.
    Captions that were written for these very pictures before are kept where the source brings none; those of
    pictures that are not there at the moment wait for them.
    """
    (root / SET_FILE).unlink(missing_ok=True)
    tables.write_table(root / "samples.parquet", tables.SAMPLES, _ascending(samples))
    made = TrainingSet(root, info)
    made.write_captions(_merged_captions(root, given))
    atomic_write_text(root / SET_FILE, canonical_json(info.to_dict()) + "\n")
    return made


def _merged_captions(root: Path, given: Iterable[tuple[str, str, str]]) -> Iterator[dict[str, Any]]:
    """The captions of a set whose samples were just written: what came with the source, and what the old
    table says of the same pictures."""
    told = ({"id": key, "sha256": digest, "caption": text, "origin": "given"} for key, digest, text in given)
    for row, old in side_by_side(told, _still_true(root)):
        if old is not None and (row is None or _outlives(old, row["caption"])):
            if row is not None or old["origin"] != "given" or old["review"]:
                yield old
        elif row is not None:
            yield row


def _still_true(root: Path) -> Iterator[dict[str, Any]]:
    """The rows of the captions table but those of pictures that have another content now."""
    samples = tables.iterate_table(root / "samples.parquet", tables.SAMPLES)
    captions = tables.iterate_table(root / "captions.parquet", tables.CAPTIONS)
    for sample, caption in side_by_side(samples, captions):
        if caption is not None and (sample is None or sample["sha256"] == caption["sha256"]):
            yield caption


def _outlives(old: Mapping[str, Any], given: str) -> bool:
    """Whether an old caption stays where the source brings one: a person wrote it, or it is the same one,
    with what was found out about it."""
    return bool(old["origin"] == "person" or given in (old["caption"], old["draft"]))
