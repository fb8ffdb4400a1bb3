"""What is minimised, L_LDM + weight * L_SEM (CoEmoGen, arXiv 2508.03535): from batch to losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..adapter.condition import EmotionEmbedder, TextStates, encode_text
from ..adapter.hilora import HiLoRA
from .batches import Batch
from .precision import without_autocast

if TYPE_CHECKING:
    from ..base.model import BaseModel

SemanticLoss = Literal["sequence", "pooled"]
SemanticDistance = Literal["cosine", "mae", "mse", "kl"]


@dataclass(frozen=True)
class Losses:
    """The losses of a micro-batch of B samples; all float32, on the device.

    total: scalar with gradient, the weighted sum. ldm, semantic: scalars, detached, means over the samples,
        before any weight, so that runs can be compared.
    per_sample: [B], detached, each sample's share of `total`: by it a non-finite loss finds its culprit.
    presence: [groups], detached, non-zero where the micro-batch has a sample of that HiLoRA group.
    """

    total: Tensor
    ldm: Tensor
    semantic: Tensor
    per_sample: Tensor
    presence: Tensor


def denoising_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """L_LDM per sample: the mean squared error over [B, C, h, w], in float32. Returns [B]."""
    return (prediction.float() - target.float()).square().flatten(1).mean(1)


def denoising_losses(base: BaseModel, schedule: Any, batch: Batch, hidden: Tensor) -> Tensor:
    """L_LDM [B] of the base's U-Net, in its own precision, under the condition `hidden` [B, L, W].

    Its weights have the precision of training already: autocast would only take the norms and their copies to
    single precision, whose kernels sum in single precision anyhow. schedule: of the noise.
    """
    noisy = schedule.add_noise(batch.latents, batch.noise, batch.timesteps)
    inputs = noisy.to(base.dtype), batch.timesteps
    with without_autocast(noisy.device.type):
        prediction = base.unet(*inputs, encoder_hidden_states=hidden.to(base.dtype)).sample
    if base.prediction_type == "epsilon":
        target = batch.noise
    elif base.prediction_type == "sample":
        target = batch.latents
    else:
        target = schedule.get_velocity(batch.latents, batch.noise, batch.timesteps)
    return denoising_loss(prediction, target)


def min_snr_weights(alphas_cumprod: Tensor, gamma: float, prediction_type: str) -> Tensor:
    """Give the weight of every timestep's error: min(SNR, gamma), in the terms of what is predicted.

    Min-SNR weighting (Hang et al., arXiv 2303.09556) keeps the many easy timesteps with little noise from
    deciding the gradient. The weight of the clean sample's error is min(SNR, gamma); an error of epsilon is
    SNR times, one of v SNR + 1 times smaller in these terms.

    Arguments:
        alphas_cumprod: [T], of the noise schedule. gamma: 5 in the paper; 0 gives ones.

    Returns:
        [T] float32.
    """
    alphas = alphas_cumprod.double()
    if not gamma:
        return torch.ones_like(alphas, dtype=torch.float32)
    snr = alphas / (1 - alphas)
    if prediction_type == "epsilon":
        return (gamma / snr).clamp(max=1).float()  # this way round, an SNR of 0 gives 1
    capped = snr.clamp(max=gamma)
    return (capped / (snr + 1) if prediction_type == "v_prediction" else capped).float()


def semantic_loss(
    condition: TextStates, caption: TextStates, form: SemanticLoss, distance: SemanticDistance = "cosine"
) -> Tensor:
    """L_SEM per sample: 1 - cos(e^c, T(c)), or another distance of the paper's comparison, in float32.

    The paper does not say on which output the cosine is taken. "sequence": at every position of [B, L, W]
    after BOS, averaged over the positions; those after EOS have attended to the whole sentence and carry it
    too. "pooled": once, at EOS. BOS attends to nothing but itself and is always equal, so it does not count.

    Returns:
        [B].
    """
    return _distance(
        _compared(condition.hidden, condition.pooled, form),
        _compared(caption.hidden, caption.pooled, form),
        distance,
    )


def _compared(hidden: Tensor, pooled: Tensor, form: SemanticLoss) -> Tensor:
    """What of a text's states the loss compares: [B, positions, W] or [B, P]."""
    return pooled if form == "pooled" else hidden[:, 1:]


def _distance(condition: Tensor, caption: Tensor, distance: SemanticDistance) -> Tensor:
    """The distance along the last axis, averaged over the positions where there are any: [B], float32.

    mae, mse: means over the width. kl: of the states' softmax over the width, from the caption's to the
    condition's, since states are no distributions themselves (the paper does not say).
    """
    a, b = condition.float(), caption.float()
    if distance == "cosine":
        apart = 1 - F.cosine_similarity(a, b, dim=-1)
    elif distance == "mae":
        apart = (a - b).abs().mean(-1)
    elif distance == "mse":
        apart = (a - b).square().mean(-1)
    else:
        apart = F.kl_div(a.log_softmax(-1), b.log_softmax(-1), reduction="none", log_target=True).sum(-1)
    return apart if apart.ndim == 1 else apart.mean(1)


class CoEmoGenObjective(nn.Module):
    """One forward: a `Batch` in, its `Losses` out; the only module that is wrapped for several devices.

    v and y become pseudo-words, which the frozen text encoder reads once; the resulting e^c both conditions
    the U-Net and enters the semantic loss. With the pseudo-words inside a neutral prompt (`content_prompts`)
    the target of the semantic loss remains T(c) of the picture's caption: the prompt tells a part of that
    sentence, and the pseudo-words still learn what it does not tell. Where the condition is dropped, the
    U-Net gets the empty prompt; HiLoRA stays on, and the semantic loss still acts on e^c.

    Arguments:
        base: the frozen base model. It is kept out of `state_dict`, `parameters` and the reach of DDP.
        embedder: mapper and visual-perception encoder, trained.
        hilora: trained; this attaches it to `base.unet`.
        semantic: form and weight of the semantic loss; at weight 0 it is not computed and reported as 0.
        semantic_distance: of e^c and T(c); the paper found cosine best.
        min_snr_gamma: see `min_snr_weights`; 0 weighs all timesteps alike.
        emotion_loras, polarity_loras: whether HiLoRA's groups of this kind are trained; those that are not
            stay at zero, so that the adapter's file needs not tell.

    Raises:
        ValueError: a base that predicts neither epsilon, nor v, nor the sample.
    """

    def __init__(
        self,
        base: BaseModel,
        embedder: EmotionEmbedder,
        hilora: HiLoRA,
        semantic: SemanticLoss = "sequence",
        semantic_weight: float = 1.0,
        min_snr_gamma: float = 0.0,
        emotion_loras: bool = True,
        polarity_loras: bool = True,
        semantic_distance: SemanticDistance = "cosine",
    ) -> None:
        super().__init__()
        if base.prediction_type not in ("epsilon", "v_prediction", "sample"):
            raise ValueError(f"unknown prediction type {base.prediction_type!r}")
        self.embedder, self.hilora = embedder, hilora
        self.semantic, self.semantic_weight = semantic, semantic_weight
        self.semantic_distance = semantic_distance
        self.strengths = float(emotion_loras), float(polarity_loras)
        # In a tuple, where nn.Module does not look for submodules.
        self._base = (base,)
        self.attached = hilora.attach(base.unet)
        self._schedule: Any = base.noise_schedule()
        with torch.no_grad():
            empty = base.tokenizer("", padding="max_length", max_length=base.max_length, return_tensors="pt")
            states = encode_text(base.text_encoder, empty["input_ids"].to(base.device), self._eos)
        self.register_buffer("empty_hidden", states.hidden, persistent=False)
        weights = min_snr_weights(self._schedule.alphas_cumprod, min_snr_gamma, base.prediction_type)
        self.register_buffer("timestep_weights", weights, persistent=False)

    empty_hidden: Tensor
    timestep_weights: Tensor

    @property
    def base(self) -> BaseModel:
        return self._base[0]

    @property
    def _eos(self) -> int:
        return int(self.base.tokenizer.eos_token_id)

    def forward(self, batch: Batch) -> Losses:
        gate = self.hilora.gate(batch.emotion, *self.strengths)
        ldm, semantic = self._errors(batch, gate, self.semantic_weight > 0)
        per_sample = ldm * self.timestep_weights[batch.timesteps] + self.semantic_weight * semantic
        groups = gate.unflatten(1, (self.hilora.num_groups, -1)).abs().amax(dim=(0, 2))
        return Losses(
            total=per_sample.mean(),
            ldm=ldm.detach().mean(),
            semantic=semantic.detach().mean(),
            per_sample=per_sample.detach(),
            presence=groups.detach(),
        )

    @torch.no_grad()
    def evaluate(self, batch: Batch, captioned: bool = True) -> tuple[Tensor, Tensor]:
        """Give (L_LDM, L_SEM) of each sample, [B] float32 each, whatever weights they have in training."""
        return self._errors(batch, self.hilora.gate(batch.emotion, *self.strengths), captioned)

    def _errors(self, batch: Batch, gate: Tensor, captioned: bool) -> tuple[Tensor, Tensor]:
        """Give both losses per sample; L_SEM is 0 where there is no caption to compare with."""
        condition = self._condition(batch)
        ldm = self._denoise(batch, condition.hidden, gate)
        if not captioned:
            return ldm, torch.zeros_like(ldm)
        return ldm, self._semantic(condition, batch)

    def _condition(self, batch: Batch) -> TextStates:
        """Give e^c."""
        pseudo_words = self.embedder(batch.emotion, batch.image_embeds)
        return encode_text(
            self.base.text_encoder, batch.prompt_ids, self._eos, pseudo_words, batch.prompt_start
        )

    def _semantic(self, condition: TextStates, batch: Batch) -> Tensor:
        """Give L_SEM [B] against T(c), cached or computed here."""
        cached = batch.caption_pooled if self.semantic == "pooled" else batch.caption_hidden
        if cached is None:
            return semantic_loss(condition, self._caption(batch), self.semantic, self.semantic_distance)
        own = _compared(condition.hidden, condition.pooled, self.semantic)
        of_caption = cached if self.semantic == "pooled" else cached[:, 1:]
        return _distance(own, of_caption, self.semantic_distance)

    @torch.no_grad()
    def _caption(self, batch: Batch) -> TextStates:
        """Give T(c)."""
        return encode_text(self.base.text_encoder, batch.caption_ids, self._eos)

    def _denoise(self, batch: Batch, hidden: Tensor, gate: Tensor) -> Tensor:
        """Give L_LDM [B] of the U-Net under the condition `hidden` [B, L, W], routed by `gate`."""
        dropped = batch.drop_condition[:, None, None]
        hidden = torch.where(dropped, self.empty_hidden.to(hidden.dtype), hidden)
        self.attached.route(gate.to(self.base.dtype))  # once for all layers
        return denoising_losses(self.base, self._schedule, batch, hidden)
