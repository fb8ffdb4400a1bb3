"""A prepared set with real weights as the arena of a comparison: the way to the real table.

There is one set, so a seed changes the fits and the pictures and not the data. Settings are chosen by the
pictures of the val split and by probes trained on it; the table has the test split, and probes trained on the
train split.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from filelock import FileLock

from ...base.sampling import SamplingSettings
from ...base.shape import read_base_shape
from ...base.vision import ClipEncoder, load_vision
from ...data.cache import build_cache
from ...data.caption_variants import variant_set
from ...data.samples import TrainingSet
from ...errors import DataError
from ...train.config import TrainConfig
from ..backbones import PictureEncoder, load_backbone
from ..encoders_paper import paper_instruments
from ..instruments import Instruments
from ..pictures import LabelledPictures
from ..probe_file import save_probe
from ..probes import fit_probe
from ..weights import clip_spec
from .arena import HELD_IN
from .identity import of_set
from .paper_settings import PaperSettings
from .variants import Captions

_SPLITS = ("train", "val", "test")


class SetArena:
    """The arena of a set.

    settings: rows, budget and scales. training_set: as `prepare`, `caption` and `filter` made it. folder: for
    what is made here, probes and sets with other captions. base, vision: in the place of the preset's.
    weights_dir: of the instruments' weights. device: to compute on.

    Raises:
        DataError: the set lacks one of the three splits.
    """

    def __init__(
        self,
        settings: PaperSettings,
        training_set: Path,
        folder: Path,
        base: str | None = None,
        vision: str | None = None,
        weights_dir: Path | None = None,
        device: str = "cpu",
    ) -> None:
        self.settings, self.folder = settings, folder
        self.base, self.vision = base, clip_spec(vision, weights_dir)
        self.weights_dir, self.device = weights_dir, device
        self.one_set = True
        self.notes: tuple[str, ...] = ()
        self._plain = TrainingSet.open(training_set)
        for split in _SPLITS:
            if not len(self._plain.samples(split)):
                raise DataError(
                    f"{training_set} has no pictures in the split {split}: a comparison learns from train, "
                    "chooses by val and measures by test; make the set with all three."
                )
        config = self.config(0, Captions())
        self.real_weights = read_base_shape(config.base).architecture == "stable-diffusion-v1"
        self.world = f"{self._plain.info.origin or training_set.name}, drawn by {config.base}."
        self.emotions: tuple[str, ...] = self._plain.taxonomy.names
        self.guidances, self.each = settings.guidances, settings.each
        self.sampling = SamplingSettings(steps=settings.sampler_steps, batch_size=settings.drawn_together)
        self._instruments_of = lru_cache(maxsize=2)(self._instruments)
        self._check_captions()

    def training_set(self, seed: int, captions: Captions) -> TrainingSet:
        """The set, or one of its pictures with other captions."""
        if captions == Captions():
            return self._plain
        form, corrupted, dropped = captions.form, captions.corrupted, captions.dropped
        out = self.folder / "sets" / f"{form}-{corrupted * 100:.0f}-{dropped * 100:.0f}"
        out.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(out.parent / f".{out.name}.lock"):
            return variant_set(self._plain, out, form, corrupted, dropped, self._clip(), seed=0)

    def config(self, seed: int, captions: Captions) -> TrainConfig:
        """The preset's settings within the budget."""
        root = self.training_set(seed, captions).root
        return self.settings.fit_config(root, self.folder / "out", self.base, self.vision, seed)

    def real(self, seed: int) -> LabelledPictures:
        """The test split; for choosing the val split."""
        split = "val" if seed == HELD_IN else "test"
        return LabelledPictures.from_samples(self._plain.samples(split), self._plain.taxonomy)

    def instruments(self, seed: int) -> Instruments:
        """With probes of the train split; for choosing, of the val split."""
        return self._instruments_of("val" if seed == HELD_IN else "train")

    def _instruments(self, split: str) -> Instruments:
        second = load_backbone(self.settings.second, self.weights_dir, self.device)
        encoders: dict[str, PictureEncoder] = {"clip": self._clip(), "second": second}
        probes = {name: self._probe(split, encoder, name) for name, encoder in encoders.items()}
        return paper_instruments(probes, self.vision, self.weights_dir, self.device)

    def _check_captions(self) -> None:
        """See before days of work that the set is captioned and filtered.

        Raises:
            DataError: it is not.
        """
        root, train = self._plain.root, self._plain.samples("train", kept_only=True)
        silent = train.columns("caption")["caption"].null_count
        if silent:
            raise DataError(
                f"{root}: {silent} of {len(train)} training pictures have no caption: run `caption` first."
            )
        if not (root / "similarities.parquet").exists():
            raise DataError(f"{root}: the captions are not filtered: run `filter` (--drop 0 keeps all).")

    def _clip(self) -> ClipEncoder:
        return load_vision(self.vision, self.device)

    def _probe(self, split: str, encoder: PictureEncoder, name: str) -> Path:
        """The file of a probe trained on a split and scored on test, made where it is missing."""
        of_pictures, of_encoder = of_set(self._plain)[:8], encoder.fingerprint[:8]
        file = self.folder / "probes" / f"{name}-{split}-{of_pictures}-{of_encoder}.safetensors"
        if not file.exists():
            cache = build_cache(self._plain, clip=encoder)
            train, test = self._plain.samples(split), self._plain.samples("test")
            probe = fit_probe(
                cache.embeds_of(train).numpy(),
                [sample.emotion for sample in train],
                self.emotions,
                held_out=(cache.embeds_of(test).numpy(), [sample.emotion for sample in test]),
                backbone=encoder.name,
            )
            terms = self._plain.info.licence
            save_probe(replace(probe, encoder=encoder.fingerprint, licence=terms), file)
        return file
