"""A training set on disk, and its samples: the one place that knows the layout of the folder.

    SET/set.json              version, taxonomy, licence, origin, where the pictures are, how splits were made
    SET/samples.parquet       a row per usable picture, sorted by id
    SET/captions.parquet      a row per captioned picture
    SET/similarities.parquet  a row per scored caption, with the filter's verdict
    SET/problems.jsonl        a line per picture that could not be used
    SET/images/               the pictures, where they were copied
    SET/cache/                latents and CLIP features; may be deleted at any time

`samples.parquet` depends on the source alone, so `prepare` may run again without losing captions or
similarities; rows of the other tables count only while the picture (and caption) they speak of has the same
content.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from ..emotions import Taxonomy
from ..errors import DataError, TaxonomyError
from ..files import atomic_write_text, canonical_json
from . import tables

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
FORMAT_VERSION = 1
SET_FILE = "set.json"


@dataclass(frozen=True, slots=True)
class Sample:
    """One usable picture of a set.

    id: unique in the set, never changes. image: absolute path. sha256: of the file's bytes, 64 hexadecimal
    digits.
    width, height: of the upright picture. objects: names, may be empty. kept: False if the filter dropped it.
    attributes: whatever else the source said of it, as strings.
    """

    id: str
    image: Path
    emotion: str
    split: Split
    sha256: str
    width: int
    height: int
    caption: str | None = None
    scene: str | None = None
    objects: tuple[str, ...] = ()
    kept: bool = True
    attributes: Mapping[str, str] = field(default_factory=dict, hash=False)


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
        self._samples: list[Sample] | None = None

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

    def samples(self, split: str | None = None, kept_only: bool = False) -> list[Sample]:
        """Return a split's samples (None: all) sorted by id; `kept_only`: without what the filter dropped."""
        if split is not None and split not in SPLITS:
            raise DataError(f"there is no split {split!r}: choose one of {', '.join(SPLITS)}.")
        if self._samples is None:
            self._samples = self._read()
        return [s for s in self._samples if split in (None, s.split) and (s.kept or not kept_only)]

    def counts(self) -> dict[str, dict[str, int]]:
        """Return how many kept samples each emotion has in each split, emotions in the taxonomy's order."""
        found = {name: dict.fromkeys(SPLITS, 0) for name in self.taxonomy.names}
        for sample in self.samples(kept_only=True):
            found[sample.emotion][sample.split] += 1
        return cast("dict[str, dict[str, int]]", found)

    def reload(self) -> None:
        """Forget what was read; the next call sees the tables as they are now."""
        self._samples = None

    def caption_rows(self) -> list[dict[str, Any]]:
        """Return the rows of captions.parquet, [] where there is none."""
        return tables.read_table(self.root / "captions.parquet", tables.CAPTIONS)

    def similarity_rows(self) -> list[dict[str, Any]]:
        """Return the rows of similarities.parquet, [] where there is none."""
        return tables.read_table(self.root / "similarities.parquet", tables.SIMILARITIES)

    def write_captions(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Replace captions.parquet; `rows` are sorted by id here."""
        ordered = sorted(rows, key=lambda row: row["id"])
        tables.write_table(self.root / "captions.parquet", tables.CAPTIONS, ordered)
        self.reload()

    def write_similarities(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Replace similarities.parquet; `rows` are sorted by id here."""
        ordered = sorted(rows, key=lambda row: row["id"])
        tables.write_table(self.root / "similarities.parquet", tables.SIMILARITIES, ordered)
        self.reload()

    def _image_base(self) -> Path:
        """The folder that relative image paths start from."""
        if self.info.image_root is not None:
            moved = Path(os.path.normpath(self.root / self.info.image_root))
            if moved.is_dir() or self.info.image_root_absolute is None:
                return moved
        return Path(self.info.image_root_absolute or self.root)

    def _read(self) -> list[Sample]:
        rows = tables.read_table(self.root / "samples.parquet", tables.SAMPLES)
        captions = {row["id"]: row for row in self.caption_rows()}
        verdicts = {row["id"]: row for row in self.similarity_rows()}
        base = self._image_base()
        return [_sample(row, base, captions.get(row["id"]), verdicts.get(row["id"])) for row in rows]


def create_set(
    root: Path, info: SetInfo, samples: Iterable[Mapping[str, Any]], given: Mapping[str, str]
) -> TrainingSet:
    """Write a set's tables; `set.json` comes last, so that an unfinished set is none.

    samples: rows of tables.SAMPLES, in any order. given: captions that came with the source, by sample id.
    Captions that were written for these very pictures before are kept where the source brings none.
    """
    rows = sorted(samples, key=lambda row: row["id"])
    hashes = {row["id"]: row["sha256"] for row in rows}
    captions = [
        {"id": key, "sha256": hashes[key], "caption": text, "origin": "given"}
        for key, text in given.items()
        if key in hashes
    ]
    for old in tables.read_table(root / "captions.parquet", tables.CAPTIONS):
        if old["origin"] != "given" and old["id"] not in given and hashes.get(old["id"]) == old["sha256"]:
            captions.append(old)
    tables.write_table(root / "samples.parquet", tables.SAMPLES, rows)
    made = TrainingSet(root, info)
    made.write_captions(captions)
    atomic_write_text(root / SET_FILE, canonical_json(info.to_dict()) + "\n")
    return made


def caption_hash(caption: str) -> str:
    """Return the SHA-256 of a caption: by it a similarity knows which caption it belongs to."""
    return hashlib.sha256(caption.encode("utf-8")).hexdigest()


def _sample(
    row: dict[str, Any], base: Path, caption_row: dict[str, Any] | None, verdict: dict[str, Any] | None
) -> Sample:
    caption = None
    if caption_row is not None and caption_row["sha256"] == row["sha256"]:
        caption = caption_row["caption"]
    kept = True
    if verdict is not None and caption is not None and verdict["sha256"] == row["sha256"]:
        kept = verdict["kept"] or verdict["caption_sha256"] != caption_hash(caption)
    return Sample(
        id=row["id"],
        image=base / row["image"],
        emotion=row["emotion"],
        split=row["split"],
        sha256=row["sha256"],
        width=row["width"],
        height=row["height"],
        caption=caption,
        scene=row["scene"],
        objects=tuple(row["objects"]),
        kept=kept,
        attributes=json.loads(row["attributes"]),
    )
