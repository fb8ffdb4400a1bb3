"""A second toy base, as many fine-tunes of Stable Diffusion 1.5 are: it predicts v, and its U-Net was trained
on the text encoder's states before the last layer (clip skip 2).

It starts from the bundled base and is kept as a diffusers folder whose text encoder has all its layers: the
scheduler's config tells the prediction type, and nothing tells the clip skip, which has to be asked for.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from ...base.generate import encode_prompts
from ...base.load import load_base
from ...base.model import BaseModel
from ..captions import names_an_emotion
from .corpus import build_corpus
from .resumable import Schedule, fit
from .stages import as_pixels, draw_rows

Log = Callable[[str], None]

CLIP_SKIP = 2
NAMED_SHARE = 0.3
"""Share of a batch that is drawn from captions with an emotion's name, so that the base still knows them."""
EMPTY_SHARE = 0.1


def make_velocity_base(work: Path, steps: int, pictures: int, seed: int, log: Log, batch: int = 32) -> Path:
    """Fine-tune the bundled base to predict v at clip skip 2, and give the diffusers folder it is saved to.

    Resumable: the corpus, its encodings and the weights of every 200 steps are kept in `work`; a finished
    folder, `work/toy-v`, is not made again.

    Args:
        pictures: of the broader world that the bundled base was pretrained on, drawn anew.
    """
    folder = work / "toy-v"
    if (folder / "model_index.json").exists():
        return folder
    work.mkdir(parents=True, exist_ok=True)
    base = load_base("toy", clip_skip=CLIP_SKIP)
    data = _encoded(base, work, pictures, seed)
    schedule = base.noise_schedule()
    schedule.register_to_config(prediction_type="v_prediction")
    unet = base.unet.requires_grad_(True).train()
    named = torch.nonzero(data["named"])[:, 0].numpy()
    means, deviations, states, empty = (data[key].float() for key in ("means", "stds", "states", "empty"))

    def loss_of(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        several = round(NAMED_SHARE * batch)
        rows = torch.from_numpy(
            np.concatenate(
                [
                    draw_rows(len(means), batch - several, seed + 2, step),
                    named[draw_rows(len(named), several, seed + 3, step)],
                ]
            )
        )
        shape = (batch, *means.shape[1:])
        clean = means[rows] + deviations[rows] * torch.randn(shape, generator=generator)
        noise = torch.randn(shape, generator=generator)
        timesteps = torch.randint(0, schedule.config.num_train_timesteps, (batch,), generator=generator)
        dropped = torch.rand(batch, generator=generator) < EMPTY_SHARE
        context = torch.where(dropped[:, None, None], empty, states[rows])
        noisy = schedule.add_noise(clean, noise, timesteps).contiguous(memory_format=torch.channels_last)
        predicted = unet(noisy, timesteps, context).sample
        return (predicted - schedule.get_velocity(clean, noise, timesteps)).square().mean()

    fit("v-prediction", unet, loss_of, Schedule(steps, 6e-4), work / "unet.pt", log, ema_decay=0.998)
    _save(unet, schedule, folder)
    return folder


def _encoded(base: BaseModel, work: Path, pictures: int, seed: int) -> dict[str, Tensor]:
    """Latents of the corpus (means, deviations), its captions' states, whether they name an emotion."""
    file = work / "encoded.pt"
    if not file.exists():
        drawn, captions = build_corpus(work / "corpus", pictures, seed)
        batches = [
            base.encode_latents(as_pixels(np.array(drawn[i : i + 200]))) for i in range(0, len(drawn), 200)
        ]
        torch.save(
            {
                "means": torch.cat([mean for mean, _ in batches]).half(),
                "stds": torch.cat([deviation for _, deviation in batches]).half(),
                "states": encode_prompts(base, captions).half(),
                "empty": encode_prompts(base, [""])[0],
                "named": torch.tensor([names_an_emotion(caption) for caption in captions]),
            },
            file,
        )
    encoded: dict[str, Tensor] = torch.load(file, weights_only=True)
    return encoded


def _save(unet: torch.nn.Module, schedule: object, folder: Path) -> None:
    """Write the bundled base with another U-Net and schedule, its text encoder whole, in half precision."""
    whole, partial = load_base("toy"), folder.with_name("toy-v.partial")
    shutil.rmtree(partial, ignore_errors=True)
    StableDiffusionPipeline(
        vae=whole.vae.half(),
        text_encoder=whole.text_encoder.half(),
        tokenizer=whole.tokenizer,
        unet=unet.half(),
        scheduler=schedule,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(partial, safe_serialization=True)
    partial.replace(folder)
