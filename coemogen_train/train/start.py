"""Where a run starts from: its set, its emotions, its pictures, and the adapter that is gone on from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from PIL import Image

from ..adapter.carry import carry_over, extended_taxonomy, freeze_carried
from ..adapter.condition import EmotionEmbedder, emotion_name_embeddings, vocabulary_row_norm
from ..adapter.encoder import VisualPerceptionEncoder
from ..adapter.file import Adapter, load_adapter
from ..adapter.hilora import HiLoRA
from ..adapter.mapper import NeuroSymbolicMapper
from ..base.declared import Declared
from ..base.generate import trained_settings
from ..base.shape import BaseShape, read_base_shape, read_vision_width
from ..data.samples import Sample, SampleRows, TrainingSet
from ..emotions import Taxonomy
from ..errors import AdapterError, ConfigError
from ..files import canonical_json, sha256_file
from .checkpoint import read_newest_state
from .config import TrainConfig, check_resume
from .division import Division, divided
from .objective import CoEmoGenObjective
from .preflight import Checked, check_run

if TYPE_CHECKING:
    from ..base.model import BaseModel
    from ..base.vision import ClipEncoder


@dataclass(frozen=True)
class Start:
    """What a run begins with, read before any weight of the base.

    config: the settings, with the batch divided as this number of processes needs it. begun: how it was
    divided when the run was begun; division: what there is to tell of that.
    training_set: the set. shape: the base's sizes. checked: the pictures, and what there is to say of them.
    taxonomy: of the adapter to be; `trained` are those of its emotions that have pictures in this run.
    source: the adapter that is gone on from; source_sha256: of its file.
    carried: the source where emotions are added to it, and all that it has stays as it is.
    """

    config: TrainConfig
    begun: Division
    division: str | None
    training_set: TrainingSet
    shape: BaseShape
    checked: Checked
    taxonomy: Taxonomy
    source: Adapter | None = None
    source_sha256: str | None = None
    carried: Adapter | None = None

    @property
    def trained(self) -> Taxonomy:
        """The emotions that this run trains."""
        return self.checked.taxonomy

    @property
    def samples(self) -> SampleRows:
        """The pictures to train on, sorted by id."""
        return self.checked.samples

    @property
    def held_out(self) -> list[Sample]:
        """The pictures of the validation loss, sorted by id."""
        return self.checked.validation

    @cached_property
    def fingerprint(self) -> str:
        """A hash of what is trained on: ids, contents, labels, captions, annotations, and the adapter."""
        told: Iterable[list[Any]] = (
            [list(row.values()) for row in rows]
            for rows in self.samples.pieces("id", "sha256", "emotion", "caption", "scene", "objects")
        )
        # The hash of one JSON list, a thousand rows in memory at a time.
        digest, before = hashlib.sha256(), "["
        for rows in chain(told, [[self.source_sha256]] if self.source_sha256 else []):
            digest.update((before + canonical_json(rows)[1:-1]).encode("utf-8"))
            before = ","
        digest.update(b"[]" if before == "[" else b"]")
        return digest.hexdigest()

    def terms(self, config: TrainConfig, field: Literal["licence", "origin"]) -> tuple[str, str]:
        """Give the licence or the origin that the adapter will carry, and who says so ("nobody" for "").

        Of the pictures, as the settings or else the set say it; and before it, where it differs, that of the
        adapter at the start.
        """
        said = getattr(config, field)
        who = {"the settings" if said is not None else "the set": said}
        if said is None:
            who["the set"] = getattr(self.training_set.info, field)
        if self.source is not None:
            who = {"the adapter at the start": getattr(self.source.info, field), **who}
        known = {name: str(text) for name, text in who.items() if text}
        if not known:
            return "", "nobody"
        return "; ".join(dict.fromkeys(known.values())), " and ".join(known)

    def check_vision(self, clip: ClipEncoder) -> None:
        """Refuse an image encoder whose embeddings the adapter at the start cannot read.

        Raises:
            AdapterError: another width than the adapter's.
        """
        if self.source is None:
            return
        known, width = self.source.info.vision, clip.encode_images([Image.new("RGB", (64, 64))]).shape[1]
        if width != known.width:
            raise AdapterError(
                f"the adapter to go on from reads image embeddings {known.width} wide ({known.name}), but "
                f"{clip.name} gives {width}: take the image encoder that it was trained with."
            )


def begin(config: TrainConfig, resume: bool = False, device: str = "cpu", processes: int = 1) -> Start:
    """Read what the settings name, but for the weights of the base, and find what is wrong with it.

    Arguments:
        resume: whether `config.out` may hold a run. device: the type of device to train on.
        processes: that train together.

    Raises:
        UserError: whatever is missing or does not fit, in one sentence.
    """
    checkpoints = config.out / "checkpoints"
    state = read_newest_state(checkpoints) if resume else None
    begun, division = Division.of(config, processes), None
    if state is not None:
        begun = Division.of_state(state)
        config, division = divided(config, processes, begun, checkpoints)
    training_set = TrainingSet.open(config.set)
    source = load_adapter(config.init) if config.init else None
    shape = read_base_shape(config.base, *base_settings(config, source))
    checked = check_run(
        config,
        shape,
        training_set,
        resume=resume,
        device=device,
        source=source.info if source else None,
        vision_width=read_vision_width(config.vision),
    )
    taxonomy, carried = checked.taxonomy, None
    if source is not None and config.init_mode == "add":
        taxonomy, carried = extended_taxonomy(source.info.taxonomy, checked.taxonomy.emotions), source
    start = Start(
        config=config,
        begun=begun,
        division=division,
        training_set=training_set,
        shape=shape,
        checked=checked,
        taxonomy=taxonomy,
        source=source,
        source_sha256=sha256_file(config.init) if config.init else None,
        carried=carried,
    )
    if state is not None:
        _check_same_run(state, start, processes, checkpoints)
    return start


def base_settings(
    config: TrainConfig, source: Adapter | None
) -> tuple[int | None, str | None, Declared | None]:
    """Give how the base is to be read: clip skip and prediction type as the settings say them, or None.

    The last is for a base whose files say nothing: what the adapter at the start was trained with.
    """
    return (
        None if config.clip_skip == "auto" else config.clip_skip,
        None if config.prediction_type == "auto" else config.prediction_type,
        trained_settings(source) if source else None,
    )


def build_objective(
    config: TrainConfig, base: BaseModel, start: Start, vision_width: int
) -> CoEmoGenObjective:
    """Make what is trained around the frozen base: its start a function of the seed and of the adapter.

    Raises:
        AdapterError: an adapter to go on from whose sizes are not those of the settings.
    """
    taxonomy = start.taxonomy
    names = None
    if config.mapper_input == "name":
        names = emotion_name_embeddings(base.text_encoder, base.tokenizer, taxonomy.names, base.max_length)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        mapper = NeuroSymbolicMapper(
            taxonomy.num_emotions, base.width, config.tokens, config.hidden, config.mapper_input, names
        )
        row_norm = vocabulary_row_norm(base.text_encoder)
        encoder = VisualPerceptionEncoder(base.width, vision_width, config.visual_tokens, row_norm)
        hilora = HiLoRA.for_unet(base.unet, taxonomy.polarity_of, config.rank, config.targets, config.alpha)
    embedder = EmotionEmbedder(mapper, encoder)
    if start.source is not None:
        carry_over(start.source, embedder, hilora, taxonomy)
        if start.carried is not None:
            freeze_carried(start.source.info.taxonomy, embedder, hilora)
        else:
            _silence(hilora, config)
    return CoEmoGenObjective(
        base,
        embedder,
        hilora,
        config.semantic_loss,
        config.semantic_weight,
        config.min_snr_gamma,
        config.emotion_loras,
        config.polarity_loras,
        config.semantic_distance,
    ).to(base.device)


def _check_same_run(state: Mapping[str, Any], start: Start, processes: int, where: Path) -> None:
    """Refuse to resume a run that was begun otherwise, before anything is loaded."""
    check_resume(state["settings"], start.config, where, int(state["processes"]), processes)
    if state["data"] != start.fingerprint:
        raise ConfigError(
            f"{where}: the training set {start.config.set} (or the adapter to go on from) is no longer the "
            "one this run was begun with; choose a new --out."
        )


@torch.no_grad()
def _silence(hilora: HiLoRA, config: TrainConfig) -> None:
    """Set to zero what an ablation leaves out: groups that are not trained must not act later either."""
    first = hilora.num_emotions * hilora.rank
    for key in hilora.layers:
        _, up = hilora.matrices(key)
        if not config.emotion_loras:
            up[:, :first] = 0
        if not config.polarity_loras:
            up[:, first:] = 0
