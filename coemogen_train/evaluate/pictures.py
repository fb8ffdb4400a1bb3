"""The pictures that are measured: files, each with the emotion that it is meant to evoke."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image

from ..data.formats import is_picture_name
from ..data.images import load_rgb
from ..data.rows import Sample
from ..emotions import MIKELS, Taxonomy
from ..emotions.spelling import plain
from ..errors import DataError
from ..files import PART_PREFIX


@dataclass(frozen=True)
class LabelledPictures:
    """n picture files of any format, in the order in which they are measured.

    emotions: [n], intended or labelled. paths: [n]. polarities: of each emotion of the taxonomy the group
    that it belongs to, whether there are pictures of it or not: a probe may see any of them. Empty where
    nobody knows.
    """

    emotions: tuple[str, ...]
    paths: tuple[Path, ...]
    polarities: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __len__(self) -> int:
        return len(self.paths)

    @classmethod
    def from_folder(cls, folder: Path, taxonomy: Taxonomy | Sequence[str] | None = None) -> LabelledPictures:
        """The pictures below `folder`, one subfolder per emotion; sorted by emotion and name, 2
        before 10.

        Every format counts, however the file is called; what cannot be decoded shows when it is loaded.

        Arguments:
            taxonomy: the emotions that a subfolder may be called after, forgiving case, spaces, underscores
                and hyphens; their names, their order and their polarities count. None: any name is an
                emotion, in the order of the names. Where they are all Mikels', in his, with his polarities.

        Raises:
            DataError: no such folder, no pictures in it or in one of its subfolders, or a subfolder that
                names no emotion.
        """
        found = _folders(folder)
        names = _names(taxonomy) if taxonomy is not None else _in_order(found)
        meant = {name: _meant(folder / name, names) for name in found}
        files = {
            emotion: [p for name in found if meant[name] == emotion for p in found[name]] for emotion in names
        }
        return cls.of(files, taxonomy)

    @classmethod
    def from_samples(
        cls, samples: Iterable[Sample], taxonomy: Taxonomy | Sequence[str] | None = None
    ) -> LabelledPictures:
        """Samples of a set, in the order of `taxonomy` or, without one, in their own."""
        rows = [(sample.emotion, sample.image) for sample in samples]
        names = _names(taxonomy) if taxonomy is not None else tuple(dict.fromkeys(e for e, _ in rows))
        return cls.of({name: [path for emotion, path in rows if emotion == name] for name in names}, taxonomy)

    @classmethod
    def of(
        cls, files: Mapping[str, Sequence[Path]], taxonomy: Taxonomy | Sequence[str] | None = None
    ) -> LabelledPictures:
        """Files by emotion, in the mapping's order."""
        pairs = [(emotion, path) for emotion, paths in files.items() for path in paths]
        emotions = tuple(emotion for emotion, _ in pairs)
        polarities = _polarities(taxonomy, tuple(dict.fromkeys(emotions)))
        return cls(emotions, tuple(path for _, path in pairs), polarities)

    @property
    def names(self) -> tuple[str, ...]:
        """The emotions that there are, each once, in order."""
        return tuple(dict.fromkeys(self.emotions))

    @property
    def counts(self) -> dict[str, int]:
        """How many pictures each emotion has."""
        return {name: self.emotions.count(name) for name in self.names}

    def load(self, number: int) -> Image.Image:
        """Picture `number`, upright and in RGB.

        Raises:
            ImageProblem: it cannot be decoded.
        """
        return load_rgb(self.paths[number])

    def of_emotions(self, emotions: Collection[str]) -> LabelledPictures:
        """Those of some emotions."""
        rows = [i for i, emotion in enumerate(self.emotions) if emotion in emotions]
        return self.chosen(rows)

    def chosen(self, rows: Sequence[int]) -> LabelledPictures:
        """Those of these numbers, in that order."""
        return replace(
            self,
            emotions=tuple(self.emotions[i] for i in rows),
            paths=tuple(self.paths[i] for i in rows),
        )


def _folders(folder: Path) -> dict[str, list[Path]]:
    """The pictures of each subfolder, by its name."""
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder: give one with a subfolder of pictures for each emotion.")
    below = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = {path.name: sorted(_pictures_below(path), key=_natural) for path in below}
    if not any(found.values()):
        raise DataError(f"{folder} has no pictures: it needs a subfolder of pictures for each emotion.")
    for name, files in found.items():
        if not files:
            raise DataError(f"{folder / name} has no pictures: fill the folder or remove it.")
    return found


def _pictures_below(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            if not name.startswith((".", PART_PREFIX)) and is_picture_name(Path(name)):
                yield Path(parent, name)


def _names(taxonomy: Taxonomy | Sequence[str]) -> tuple[str, ...]:
    return taxonomy.names if isinstance(taxonomy, Taxonomy) else tuple(taxonomy)


def _in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Mikels' order where all names are his, else their own."""
    order = {plain(name): place for place, name in enumerate(MIKELS.names)}
    given = tuple(names)
    if all(plain(name) in order for name in given):
        return tuple(sorted(given, key=lambda name: order[plain(name)]))
    return given


def _natural(path: Path) -> tuple[list[tuple[str, int]], str]:
    """Sorts 2 before 10, as people number files."""
    parts = re.findall(r"([^0-9]*)([0-9]*)", str(path))
    return [(text, int(digits or -1)) for text, digits in parts], str(path)


def _meant(folder: Path, names: Sequence[str]) -> str:
    """The emotion that a subfolder is called after."""
    for name in names:
        if plain(name) == plain(folder.name):
            return name
    raise DataError(
        f"{folder} is called after none of the emotions {', '.join(names)}: rename the folder or move it "
        "away."
    )


def _polarities(taxonomy: Taxonomy | Sequence[str] | None, names: Sequence[str]) -> dict[str, str]:
    """Of every emotion of the taxonomy its group, those that there are spelt as in `names`."""
    known = taxonomy if isinstance(taxonomy, Taxonomy) else MIKELS
    groups = {plain(emotion.name): emotion.polarity for emotion in known.emotions}
    if not all(plain(name) in groups for name in names):
        return {}
    here = {plain(name): name for name in names}
    return {here.get(plain(emotion.name), emotion.name): emotion.polarity for emotion in known.emotions}
