"""Sets that share a set's pictures and have other captions: what the experiments about captions train on.

Such a set holds tables alone. Its pictures are those of the set that it is made from, where they lie, and of
that one's cache it has links, since what is cached is known by content: no latents are computed again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from ..errors import DataError
from ..files import PART_PREFIX, atomic_path, atomic_write_text, canonical_json, sha256_file
from . import tables
from .filter import PAGE, filter_set
from .samples import SET_FILE, Sample, SetInfo, TrainingSet, create_set
from .similarity import PairEncoder, fingerprint

CaptionForm = Literal["sentences", "words", "name", "none"]
REPORT = "variant.json"
FORMAT_VERSION = 1

_ACTIONS = ("human_action", "action")
_BRIGHT = 0.5  # of EmoSet's brightness, 0.0 to 1.0
# The kinds of a cache's stores that follow from the pictures; the others follow from captions too.
_OF_PICTURES = ("latents", "held_out_latents", "image_embeds")
_TABLES = ("samples.parquet", "captions.parquet")


@dataclass(frozen=True)
class VariantReport:
    """What was done to the captions of a set.

    key: differs whenever the set would; "" while it is being made. captioned: pictures of all splits with a
    caption now. chosen: training captions that were to be exchanged. alike: of these, those that read as
    before, since another picture's caption may be the same one. dropped: pairs that the filter dropped.
    """

    key: str
    form: CaptionForm
    corrupted: float
    drop: float
    seed: int
    captioned: int = 0
    uncaptioned: int = 0
    chosen: int = 0
    alike: int = 0
    dropped: int = 0

    @classmethod
    def read(cls, root: Path) -> VariantReport | None:
        """The report of the variant in `root`; None where none was finished."""
        try:
            return cls(**json.loads((root / REPORT).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None


def variant_set(
    source: TrainingSet,
    out: Path,
    form: CaptionForm,
    corrupted: float = 0.0,
    drop: float = 0.2,
    clip: PairEncoder | None = None,
    seed: int = 0,
) -> TrainingSet:
    """Make a set in `out` of the source's pictures with captions of another form, some of them wrong.

    Made once: called again for what is there, it links what came to the source's cache since, and opens it.
    Equal input gives equal tables.

    Arguments:
        form: "sentences", the captions as they are; "words", EmoSet's annotations as a list (scene, objects,
            action, brightness); "name", "an image of" the emotion; "none", no caption, for which a run's
            semantic loss must be off.
        corrupted: share of the training captions, of the chosen form, that are exchanged among each other, so
            that each is another picture's. Those chosen at a smaller share are among those at a larger one.
        drop: the filter's share per emotion, as `filter_set`; 0 keeps all, without asking a CLIP.
        clip: what the filter compares with; needed unless `drop` is 0 or there are no captions.
        seed: of which captions are exchanged, and for which.

    Raises:
        DataError: an impossible form or share, a folder that holds another set, or as `filter_set`.
    """
    root = Path(out).absolute()
    _check(source, root, form, corrupted, drop, clip)
    key = _key(source, form, corrupted, drop, clip, seed)
    share_cache(source, root)
    report = VariantReport.read(root)
    if report is None or report.key != key or not (root / SET_FILE).is_file():
        asked = VariantReport("", form, corrupted, drop, seed)
        _write(root, asked)  # unfinished, but the folder is known as a variant's from here on
        for stale in ("similarities.parquet", PAGE):
            (root / stale).unlink(missing_ok=True)
        _write(root, replace(_make(source, root, asked, clip), key=key))
    return TrainingSet.open(root)


def share_cache(source: TrainingSet, root: Path) -> int:
    """Give the set in `root` the source's latents and features of pictures that its own cache lacks.

    By hard links, which cost no disk, or copies where the file system has none. Either set may delete its
    own.

    Returns:
        How many files came.
    """
    shared = 0
    files = [file for kind in _OF_PICTURES for file in source.cache_folder.glob(f"{kind}*/*.safetensors")]
    for file in sorted(files):
        target = root / "cache" / file.relative_to(source.cache_folder)
        if file.name.startswith(PART_PREFIX) or target.exists():
            continue
        with suppress(FileNotFoundError), atomic_path(target) as part:  # the source's owner may tidy up
            try:
                os.link(file, part)
            except FileNotFoundError:
                raise
            except OSError:  # another file system, or one without links
                shutil.copyfile(file, part)
        shared += target.exists()
    return shared


def word_list(sample: Sample) -> str | None:
    """A picture's annotations as EmoSet has them, "street, dog, child, running, bright"; None without any.

    Facial expressions are left out: their labels may be an emotion's own name.
    """
    words = [sample.scene, *sample.objects]
    words += [sample.attributes.get(key) for key in _ACTIONS]
    with suppress(KeyError, ValueError):
        words.append("bright" if float(sample.attributes["brightness"]) >= _BRIGHT else "dim")
    plain = (word.replace("_", " ").strip() for word in words if word)
    return ", ".join(dict.fromkeys(word for word in plain if word)) or None


def _make(source: TrainingSet, root: Path, asked: VariantReport, clip: PairEncoder | None) -> VariantReport:
    """Write the set and filter it."""
    captions, training = _captions(source, asked.form)
    exchanged = _exchanged(training, asked.corrupted, asked.seed)
    alike = sum(captions[key][1] == captions[other][1] for key, other in exchanged.items())
    told = {key: captions[exchanged.get(key, key)][1] for key in captions}
    given = ((key, digest, told[key]) for key, (digest, _) in captions.items())
    # Else a caption of an earlier variant could outlive it.
    (root / "captions.parquet").unlink(missing_ok=True)
    made = create_set(root, _info(source, root, asked), _sample_rows(source), given)
    dropped = 0
    if asked.drop and captions:
        dropped = filter_set(made, asked.drop, clip).dropped
    return replace(
        asked,
        captioned=len(captions),
        uncaptioned=len(source.samples()) - len(captions),
        chosen=len(exchanged),
        alike=alike,
        dropped=dropped,
    )


def _write(root: Path, report: VariantReport) -> None:
    atomic_write_text(root / REPORT, canonical_json(asdict(report)) + "\n")


def _captions(source: TrainingSet, form: CaptionForm) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """(id -> content hash and caption in that form, ids ascending; those ids that are of the train split)."""
    found: dict[str, tuple[str, str]] = {}
    training = []
    for sample in source.samples():
        caption = _caption(sample, form)
        if caption:
            found[sample.id] = (sample.sha256, caption)
            if sample.split == "train":
                training.append(sample.id)
    return found, training


def _caption(sample: Sample, form: CaptionForm) -> str | None:
    if form == "sentences":
        return sample.caption
    if form == "words":
        return word_list(sample)
    return f"an image of {sample.emotion}" if form == "name" else None


def _exchanged(ids: list[str], share: float, seed: int) -> dict[str, str]:
    """Whose caption each chosen picture gets: a ring through all of them in the order of their hashes.

    Held-out captions are left alone, or the measure would be of another set.
    """

    def place(key: str) -> str:
        return hashlib.sha256(f"coemogen corrupted caption {seed} {key}".encode()).hexdigest()

    chosen = sorted(ids, key=place)[: round(share * len(ids))]
    # Next to each other in this order are any two pictures; alone, one has nobody to exchange with.
    return dict(zip(chosen, [*chosen[1:], *chosen[:1]], strict=True)) if len(chosen) > 1 else {}


def _sample_rows(source: TrainingSet) -> Iterator[Mapping[str, object]]:
    yield from tables.iterate_table(source.root / "samples.parquet", tables.SAMPLES)


def _info(source: TrainingSet, root: Path, asked: VariantReport) -> SetInfo:
    """The source's, with its pictures where they are."""
    base = source.image_base
    try:
        relative: str | None = Path(os.path.relpath(base, root)).as_posix()
    except ValueError:  # on another drive of Windows
        relative = None
    info, told = source.info, f"captions: {asked.form}"
    if asked.corrupted:
        told += f", {asked.corrupted:.0%} of them exchanged"
    origin = "; ".join(text for text in (info.origin, told) if text)
    return SetInfo(info.taxonomy, info.licence, origin, relative, base.as_posix(), info.splits)


def _key(
    source: TrainingSet, form: str, corrupted: float, drop: float, clip: PairEncoder | None, seed: int
) -> str:
    """SHA-256 of all that the set follows from."""
    files = [sha256_file(path) if (path := source.root / name).is_file() else "" for name in _TABLES]
    by = fingerprint(clip) if drop and form != "none" and clip is not None else ""
    told = [FORMAT_VERSION, source.info.to_dict(), files, form, corrupted, drop, by, seed]
    return hashlib.sha256(canonical_json(told).encode("utf-8")).hexdigest()


def _check(
    source: TrainingSet, root: Path, form: str, corrupted: float, drop: float, clip: PairEncoder | None
) -> None:
    if form not in get_args(CaptionForm):
        forms = ", ".join(get_args(CaptionForm))
        raise DataError(f"captions have no form {form!r}: choose one of {forms}.")
    for what, share, allowed in (
        ("corrupted", corrupted, 0 <= corrupted <= 1),
        ("dropped", drop, 0 <= drop < 1),
    ):
        if not allowed:
            raise DataError(f"a share of {share} of the captions cannot be {what}: choose one in 0 to 1.")
    if drop and form != "none" and clip is None:
        raise DataError(f"no CLIP is there to drop {drop:.0%} of the captions by: name one, or drop 0.")
    if root == source.root:
        raise DataError(f"{root} is the set itself: make the one with other captions in another folder.")
    if (root / SET_FILE).is_file() and VariantReport.read(root) is None:
        raise DataError(f"{root} holds another set: choose an empty folder for the one with other captions.")
