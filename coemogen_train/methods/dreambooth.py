"""DreamBooth (Ruiz et al., arXiv 2208.12242) by LoRA: a rare word, an update per emotion, a class preserved.

As in the paper and in diffusers' example: the prompt has a rare token before the class ("an image of sks
fear"), every second sample is a class picture that the bare base drew once from "an image", and its loss has
weight 1; the text encoder is frozen. Of its class pictures the latents are kept as the base drew them, before
the autoencoder would make pictures of them and read these again.

Each emotion has a LoRA of its own, of twice CoEmoGen's rank, since there two updates are active at once. They
stand in one HiLoRA bank whose polarity groups stay at zero: peft knows neither another LoRA for each sample
of a batch nor one branch of the guidance without, and for one emotion the bank is peft's LoRA (tested). On
which branches it acts is a matter of drawing, not of the fit: `SamplingSettings.hilora_branches`, "both" as
usual or "conditional".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..adapter.condition import EMOTION_MARK, encode_text, prompt_ids
from ..adapter.hilora import HiLoRA
from ..base.generate import encode_prompts
from ..base.model import BaseModel
from ..base.sampling import SamplingSettings, noise_seeds, sample_latents
from ..train.batches import Batch, BatchMaker
from ..train.config import TrainConfig
from ..train.objective import Losses
from .cost import measured
from .learned import LEARNED, Learned, reading
from .loop import Ground, Objective, losses_of, prepare, settings_of, train_steps
from .method import Condition, Drawer, FitRecord, Method
from .prompts import spoken

RARE_WORD = "sks"
CLASS_PROMPT = "an image"
CLASS_PICTURES = 100
"""As many as diffusers' example draws; fewer where the budget does not show as many."""
_CLASS_FOLDER = "class"
_CLASS_SEED = 9_000_000


def instance_text(name: str) -> str:
    """What stands for an emotion in a prompt: the rare token, and the class."""
    return f"{RARE_WORD} {spoken(name)}"


class WithClassPictures:
    """Batches in which every second sample shows a class picture under the class prompt.

    Emotion, noise and timestep stay those of the sample whose place it takes, so that it is that emotion's
    update which learns to leave the class alone.

    Arguments:
        batches: of training pictures. instance_ids: [E, L], the prompt of each emotion. class_ids: [L].
        class_latents: [n, C, h, w].
    """

    def __init__(
        self, batches: BatchMaker, instance_ids: Tensor, class_ids: Tensor, class_latents: Tensor
    ) -> None:
        self._batches, self._instance_ids, self._class_ids = batches, instance_ids, class_ids
        self._class_latents = class_latents
        self.micro_batches, self.sample_ids = batches.micro_batches, batches.sample_ids

    def batch(self, step: int, positions: Iterable[int]) -> Batch:
        """See `BatchMaker.batch`."""
        places = list(positions)
        batch = self._batches.batch(step, places)
        # Counted over the whole run, so that batches of one sample alternate.
        draws = torch.tensor([step * self._batches.effective_batch + place for place in places])
        of_class = draws % 2 == 1
        shown = self._class_latents[draws // 2 % len(self._class_latents)]
        return replace(
            batch,
            latents=torch.where(of_class[:, None, None, None], shown, batch.latents),
            prompt_ids=torch.where(
                of_class[:, None], self._class_ids, self._instance_ids[batch.emotion.argmax(1)]
            ),
        )


class DreamBoothObjective(Objective):
    """The LoRAs beside the frozen U-Net, each trained by the samples of its emotion."""

    def __init__(self, ground: Ground) -> None:
        config, base = ground.config, ground.base
        super().__init__(base, config.min_snr_gamma)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            hilora = HiLoRA.for_unet(base.unet, **_sizes(config, len(ground.names)))
        self.hilora = hilora.to(base.device)
        self.attached = self.hilora.attach(base.unet)

    def forward(self, batch: Batch) -> Losses:
        eos = int(self.base.tokenizer.eos_token_id)
        with torch.no_grad():
            hidden = encode_text(self.base.text_encoder, batch.prompt_ids, eos).hidden
        gate = self.hilora.gate(batch.emotion, polarity_strength=0.0)
        self.attached.route(gate.to(self.base.dtype))  # once for all layers
        ldm = self.denoise(batch, hidden)
        groups = gate.unflatten(1, (self.hilora.num_groups, -1)).abs().amax(dim=(0, 2))
        return losses_of(self.weighted(batch, ldm), ldm, presence=groups)


class DreamBoothDrawer(Drawer):
    """The LoRAs on their base."""

    hilora: HiLoRA

    def __init__(self, base: BaseModel, names: Sequence[str], hilora: HiLoRA) -> None:
        super().__init__(base, names, hilora.to(base.device))

    def condition(self, intended: Sequence[str], seed: int, prompt: str = EMOTION_MARK) -> Condition:
        around = f"{CLASS_PROMPT} of {EMOTION_MARK}" if prompt == EMOTION_MARK else prompt
        prompts = [around.replace(EMOTION_MARK, instance_text(name)) for name in intended]
        rows = torch.eye(len(self.names))[[self.names.index(name) for name in intended]]
        gates = self.hilora.gate(rows, polarity_strength=0.0)
        return Condition(encode_prompts(self.base, prompts), encode_prompts(self.base, [""]), gates)


class DreamBooth(Method):
    """A LoRA per emotion, its rare word, and class pictures between the training pictures."""

    key, title, version = "dreambooth", "DreamBooth (LoRA)", 1
    tried: Sequence[Mapping[str, Any]] = ({}, {"learning_rate": 3e-3})

    def fit(self, config: TrainConfig, folder: Path, device: str | None = None) -> FitRecord:
        if known := FitRecord.finished(settings_of(config, folder), folder):
            return known
        with measured(folder, device) as cost:
            ground = prepare(config, folder, device)
            wanted = min(CLASS_PICTURES, max(1, ground.config.steps * ground.whole // 2))
            class_latents = draw_class(ground, folder / _CLASS_FOLDER, wanted)
            objective = DreamBoothObjective(ground)
            with objective.attached:
                train_steps(ground, objective, with_class_pictures(ground, class_latents))
            hilora = objective.hilora
            Learned(hilora.state_dict(), {"names": ground.names}).write(folder)
        record = FitRecord(
            seconds=cost.seconds,
            parameters=sum(p.numel() for p in hilora.parameters()) * len(ground.names) // hilora.num_groups,
            peak_bytes=cost.peak_bytes,
            samples=ground.config.steps * ground.whole,
        )
        record.write(folder)
        return record

    def open(self, config: TrainConfig, folder: Path, base: BaseModel) -> DreamBoothDrawer:
        with reading(folder) as learned:
            names = learned.facts["names"]
            hilora = HiLoRA.for_unet(base.unet, **_sizes(config, len(names)))
            hilora.load_state_dict(dict(learned.tensors))
        return DreamBoothDrawer(base, names, hilora.requires_grad_(False))


def with_class_pictures(ground: Ground, class_latents: Tensor) -> WithClassPictures:
    """The ground's batches with class pictures among them."""
    base = ground.base
    texts = [f"{CLASS_PROMPT} of {instance_text(name)}" for name in ground.names]
    ids = [prompt_ids(base.tokenizer, text, 0, base.max_length).input_ids for text in (*texts, CLASS_PROMPT)]
    return WithClassPictures(ground.batches(), torch.stack(ids[:-1]), ids[-1], class_latents)


def draw_class(ground: Ground, folder: Path, count: int) -> Tensor:
    """The latents [count, C, h, w] of class pictures by the bare base, drawn once for the folder."""
    config, base = ground.config, ground.base
    if not (folder / LEARNED).exists():
        settings = SamplingSettings(
            steps=config.preview_steps,
            guidance=config.guidance,
            height=config.resolution,
            width=config.resolution,
        )
        embeds = encode_prompts(base, [CLASS_PROMPT]).expand(count, -1, -1)
        seeds = noise_seeds(_CLASS_SEED + config.seed * count, count)
        latents = sample_latents(base, embeds, encode_prompts(base, [""]), seeds, settings)
        Learned({"latents": latents}, {"prompt": CLASS_PROMPT}).write(folder)
    with reading(folder) as kept:
        return kept.tensors["latents"]


def _sizes(config: TrainConfig, emotions: int) -> dict[str, Any]:
    """The bank's sizes; HiLoRA has one polarity at least, whose group is never routed to."""
    return {
        "polarity_of": (0,) * emotions,
        "rank": 2 * config.rank,
        "targets": config.targets,
        "alpha": None if config.alpha is None else 2 * config.alpha,
    }
