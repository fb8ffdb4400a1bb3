"""EmoGen (Yang et al., CVPR 2024, arXiv 2401.04608): from an emotion space to one word, told by attributes.

A picture's place in the emotion space (`emotion_space`) becomes, by a mapping network, one word embedding;
that word alone is the prompt, the U-Net and the text encoder are frozen, and

    L = (1 - alpha) L_LDM + 0.01 alpha L_attr,

where L_attr is the cross-entropy over the cosines between the prompt's pooled text feature and the texts of
all attributes, and alpha the emotion confidence of the picture's attribute (`attributes`). For drawing, each
emotion has a diagonal Gaussian in the space. Weights, widths (768, 1024), ReLU and the softmax without a
temperature are those of the authors' published settings.

Ours, where paper and settings are silent or rest on what is theirs alone: a picture counts with the mean over
its objects and its scene, where they train on one list of pictures per attribute; the confidence follows from
the annotations; attributes are read by the base's own text encoder, projected where it has a projection; the
words begin at the length of the vocabulary's rows; pictures without annotations teach by L_LDM alone; and a
quarter of the budget's samples goes to the emotion space, which without ImageNet's weights (`space_weights`)
starts from nothing: see `emotion_space` on what that means for a comparison.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..adapter.condition import EMOTION_MARK, encode_text, prompt_ids, vocabulary_row_norm
from ..adapter.gaussian_fit import fit_gaussians
from ..adapter.gaussians import EmotionGaussians
from ..base.generate import encode_prompts
from ..base.model import BaseModel
from ..errors import DataError
from ..files import atomic_write_text, sha256_file
from ..train.batches import Batch, BatchMaker
from ..train.config import TrainConfig
from ..train.objective import Losses
from ..train.setup import run_folders
from .attributes import Attributes, read_attributes, shared_confidence
from .conditions import encode_with
from .cost import measured
from .emotion_space import WIDTH, EmotionSpace, PictureBatches
from .learned import LEARNED, Learned, reading
from .loop import Ground, Objective, losses_of, prepare, settings_of, train_steps
from .method import Condition, Drawer, FitRecord, Method

HIDDEN = 1024
ATTRIBUTE_WEIGHT = 0.01
SPACE_SHARE = 0.25
_SPACE_BATCH = 16
_SPACE_RATE = 1e-3
_SPACE, _WEIGHTS, _TEXT_BATCH = "space", "space_weights.sha256", 64


class MappingNetwork(nn.Module):
    """From the space [B, WIDTH] to one word [B, 1, W]."""

    scale: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, width))
        self.register_buffer("scale", torch.ones(()))

    @torch.no_grad()
    def begin_at(self, row_norm: float, features: Tensor) -> None:
        """Make words of the length `row_norm`, in the mean over `features` [n, WIDTH], for a start."""
        self.scale.fill_(row_norm / float(self.layers(features).norm(dim=1).mean()))

    def forward(self, features: Tensor) -> Tensor:
        return (self.scale * self.layers(features)).unsqueeze(1)


class EmoGenObjective(Objective):
    """The mapping network under L.

    features: [n, WIDTH], the training pictures in the space; a batch's `image_embeds` are their numbers.
    attributes: of the same pictures.
    """

    features: Tensor
    of_picture: Tensor
    confidence: Tensor
    attribute_states: Tensor

    def __init__(self, ground: Ground, features: Tensor, attributes: Attributes) -> None:
        super().__init__(ground.base, ground.config.min_snr_gamma)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(ground.config.seed)
            self.mapper = MappingNetwork(ground.base.width)
        self.mapper.begin_at(vocabulary_row_norm(ground.base.text_encoder), features)
        for name, tensor in (
            ("features", features),
            ("of_picture", attributes.of_picture),
            ("confidence", attributes.confidence),
            ("attribute_states", F.normalize(pooled_texts(ground.base, attributes.names), dim=1)),
        ):
            self.register_buffer(name, tensor, persistent=False)
        self.to(ground.base.device)

    def forward(self, batch: Batch) -> Losses:
        pictures = batch.image_embeds[:, 0]
        states = encode_text(
            self.base.text_encoder,
            batch.prompt_ids,
            int(self.base.tokenizer.eos_token_id),
            self.mapper(self.features[pictures]),
            batch.prompt_start,
        )
        ldm = self.denoise(batch, states.hidden)
        alphas = shared_confidence(self.of_picture[pictures], self.confidence, batch.emotion.argmax(1))
        attribute = attribute_loss(states.pooled, self.attribute_states, alphas)
        per_sample = (1 - alphas.sum(1)) * self.weighted(batch, ldm) + ATTRIBUTE_WEIGHT * attribute
        return losses_of(per_sample, ldm, attribute)


def attribute_loss(pooled: Tensor, attribute_states: Tensor, alphas: Tensor) -> Tensor:
    """alpha L_attr of each sample, [B] float32: cross-entropy over cosines, weighted by alpha.

    Arguments:
        pooled: [B, P]. attribute_states: [A, P], of length 1. alphas: [B, A], `shared_confidence`.
    """
    cosines = F.normalize(pooled.float(), dim=1) @ attribute_states.T
    return -(alphas * cosines.log_softmax(1)).sum(1)


class EmoGenDrawer(Drawer):
    """gaussians: of the emotions in the space."""

    def __init__(
        self, base: BaseModel, names: Sequence[str], mapper: MappingNetwork, gaussians: EmotionGaussians
    ) -> None:
        super().__init__(base, names)
        self.mapper, self.gaussians = mapper, gaussians

    @torch.no_grad()
    def condition(self, intended: Sequence[str], seed: int, prompt: str = EMOTION_MARK) -> Condition:
        rows = torch.eye(len(self.names))[[self.names.index(name) for name in intended]]
        words = self.mapper(self.gaussians.sample(rows, seed))
        return Condition(encode_with(self.base, prompt, words), encode_prompts(self.base, [""]))


class EmoGen(Method):
    """The emotion space first, then the mapping network, within one budget.

    space_weights: ImageNet's, see `EmotionSpace`. They are part of what a fit is, as the settings are, and a
        folder of fits keeps to one.
    """

    key, title, version = "emogen", "EmoGen", 1
    tried: Sequence[Mapping[str, Any]] = ({}, {"learning_rate": 5e-3})
    note = "its emotion space starts without ImageNet weights, inside the budget"

    def __init__(self, space_weights: Path | None = None) -> None:
        self.space_weights = space_weights
        if space_weights is not None:
            self.note = "its emotion space starts at ImageNet weights where pictures have 128 pixels or more"

    def fit(self, config: TrainConfig, folder: Path, device: str | None = None) -> FitRecord:
        self._keep_to_one_space(folder)
        if known := FitRecord.finished(shares(settings_of(config, folder))[1], folder):
            return known
        with measured(folder, device) as cost:
            ground = prepare(config, folder, device)
            space_config, config = shares(ground.config)
            features, space_size = emotion_features(ground, space_config, self.space_weights)
            labels = torch.from_numpy(ground.items.labels)
            attributes = read_attributes(ground.start.samples, labels, len(ground.names))
            objective = EmoGenObjective(ground, features, attributes)
            train_steps(ground, objective, _numbered(ground), config)
            gaussians = fit_gaussians(features, labels, len(ground.names), "diagonal", 1, config.seed)
            clusters = {"weights": gaussians.weights, "mean": gaussians.mean, "factor": gaussians.factor}
            network = {f"mapper.{name}": tensor for name, tensor in objective.mapper.state_dict().items()}
            Learned(network | clusters, {"names": ground.names}).write(folder)
        record = FitRecord(
            seconds=cost.seconds,
            parameters=space_size + sum(p.numel() for p in objective.mapper.parameters()),
            peak_bytes=cost.peak_bytes,
            samples=config.steps * ground.whole + space_config.steps * space_config.batch_size,
        )
        record.write(folder)
        return record

    def _keep_to_one_space(self, folder: Path) -> None:
        """Raises: DataError for a fit that was begun with other weights of the space."""
        file, given = folder / _WEIGHTS, sha256_file(self.space_weights) if self.space_weights else ""
        begun = file.read_text(encoding="utf-8") if file.exists() else ""
        if (folder / _SPACE).exists() and begun != given:
            raise DataError(f"{folder}: the fit was begun with other space_weights: choose another folder.")
        if given != begun:
            atomic_write_text(file, given)

    def open(self, config: TrainConfig, folder: Path, base: BaseModel) -> EmoGenDrawer:
        with reading(folder) as learned:
            tensors, mapper = learned.tensors, MappingNetwork(base.width)
            network = {name: t for name, t in tensors.items() if name.startswith("mapper.")}
            mapper.load_state_dict({name.removeprefix("mapper."): t for name, t in network.items()})
            gaussians = EmotionGaussians(tensors["weights"], tensors["mean"], tensors["factor"])
            return EmoGenDrawer(base, learned.facts["names"], mapper.requires_grad_(False), gaussians)


def shares(config: TrainConfig) -> tuple[TrainConfig, TrainConfig]:
    """Divide the budget: the settings of the emotion space, and those of the mapping network.

    Together they see no more than `steps` of `config`'s effective batches.
    """
    whole = config.batch_size * config.accumulate
    budget = config.steps * whole
    # A batch norm wants batches of some size, whatever the diffusion model's are.
    batch = min(_SPACE_BATCH, max(2, round(SPACE_SHARE * budget)))
    steps = max(1, round(SPACE_SHARE * budget / batch))
    changes: dict[str, Any] = {
        **{"out": config.out / _SPACE, "steps": steps, "batch_size": batch, "accumulate": 1},
        **{"learning_rate": _SPACE_RATE, "schedule": "cosine", "precision": "fp32", "ema_decay": 0.0},
    }
    rest = max(1, (budget - steps * batch) // whole)
    return config.model_copy(update=changes), config.model_copy(update={"steps": rest})


def emotion_features(ground: Ground, config: TrainConfig, weights: Path | None = None) -> tuple[Tensor, int]:
    """Train the emotion space, and give the training pictures' places [n, WIDTH] and its parameters' number.

    Kept in a folder of their own, so that a fit that goes on does not look at them again.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        space = EmotionSpace(len(ground.names), config.resolution, weights).to(ground.base.device)
    if not (config.out / LEARNED).exists():
        samples, labels = ground.start.samples, ground.items.labels
        drawn = (config.batch_size, space.size, config.seed, config.flip)
        train_steps(ground, space, PictureBatches(samples, labels, len(ground.names), *drawn), config)
        Learned({"features": space.features(samples, ground.base.device)}, {}).write(config.out)
    # Hundreds of megabytes, of no further use; also those of a fit that was killed just here.
    shutil.rmtree(run_folders(config.out)[0], ignore_errors=True)
    with reading(config.out) as kept:
        return kept.tensors["features"], sum(p.numel() for p in space.parameters())


@torch.no_grad()
def pooled_texts(base: BaseModel, texts: Sequence[str]) -> Tensor:
    """The pooled text features [n, P] of plain texts, float32."""
    eos = int(base.tokenizer.eos_token_id)
    width = encode_text(base.text_encoder, _ids(base, [""]), eos).pooled.shape[1]
    rows = [torch.empty(0, width, device=base.device)]
    for start in range(0, len(texts), _TEXT_BATCH):
        ids = _ids(base, texts[start : start + _TEXT_BATCH])
        rows.append(encode_text(base.text_encoder, ids, eos).pooled.float())
    return torch.cat(rows)


def _ids(base: BaseModel, texts: Sequence[str]) -> Tensor:
    ids = [prompt_ids(base.tokenizer, text, 0, base.max_length).input_ids for text in texts]
    return torch.stack(ids).to(base.device)


def _numbered(ground: Ground) -> BatchMaker:
    """The ground's batches, whose `image_embeds` [B, 1] int64 are the pictures' numbers."""
    numbers = {sample.id: torch.tensor([row]) for row, sample in enumerate(ground.start.samples)}
    return ground.batches(image_embeds=numbers.__getitem__)
