"""Sample sheets during training: a row per emotion, from the same seeds. A failure here ends nothing."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from ..base.generate import emotion_conditions
from ..base.sampling import SamplingSettings, generate_images, noise_seeds
from ..files import atomic_path
from .finish import make_adapter
from .setup import Run

logger = logging.getLogger(__name__)

_LABEL_WIDTH, _GAP, _LARGEST_CELL = 110, 4, 256


class Previews:
    """Draws `folder/step-NNNNNNNN.png` with the weights as they are at that step."""

    def __init__(self, folder: Path, run: Run) -> None:
        self._folder, self._run = folder, run

    def file(self, step: int) -> Path:
        """Where the sheet of `step` is, or will be."""
        return self._folder / f"step-{step:08d}.png"

    def draw(self, step: int) -> Path | None:
        """Draw the sheet of `step`; gives its file, or None where it failed, which is logged.

        Neither the random state nor the gradients nor the U-Net's mode is other afterwards.
        """
        if not self._run.accelerator.is_main_process:
            return None
        file = self.file(step)
        devices = [self._run.device] if self._run.device.type == "cuda" else []
        try:
            with torch.random.fork_rng(devices=devices), torch.no_grad(), self._run.optimiser.averaged():
                sheet = self._sheet(step)
            with atomic_path(file) as part:
                sheet.save(part)
        except Exception as error:  # out of memory, a full disk: training is worth more than its preview
            kind = type(error).__name__
            logger.warning("no preview of step %d (%s: %s); training goes on", step, kind, error)
            return None
        finally:
            self._run.objective.attached.route(None)
        return file

    def _sheet(self, step: int) -> Image.Image:
        run, config = self._run, self._run.config
        names = run.taxonomy.names
        rows = torch.eye(len(names)).repeat_interleave(config.preview_columns, dim=0)
        adapter = make_adapter(run, step)
        embeds = adapter.gaussians.sample(rows, config.seed)
        conditions = emotion_conditions(run.base, adapter, rows, embeds, config.preview_prompt)
        settings = SamplingSettings(
            steps=config.preview_steps,
            guidance=config.guidance,
            hilora_branches=config.hilora_branches,
            height=config.resolution,
            width=config.resolution,
        )
        attached = run.objective.attached
        seeds = noise_seeds(config.seed, len(rows))
        images = generate_images(
            run.base, *conditions, seeds, settings, run.objective.hilora.gate(rows.to(run.device)), attached
        )
        return contact_sheet(images, names, config.preview_columns)


def contact_sheet(images: Sequence[Image.Image], labels: Sequence[str], columns: int) -> Image.Image:
    """Put `len(labels) * columns` pictures of one size into labelled rows."""
    side = max(images[0].size)
    scale = _LARGEST_CELL / side if side > _LARGEST_CELL else max(1, 128 // side)
    width, height = (round(length * scale) for length in images[0].size)
    sheet = Image.new(
        "RGB", (_LABEL_WIDTH + columns * (width + _GAP), len(labels) * (height + _GAP)), "white"
    )
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    resample = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        top = row * (height + _GAP)
        if column == 0:
            pen.text((_GAP, top + height // 2), labels[row], fill="black", font=font)
        sheet.paste(image.resize((width, height), resample), (_LABEL_WIDTH + column * (width + _GAP), top))
    return sheet
