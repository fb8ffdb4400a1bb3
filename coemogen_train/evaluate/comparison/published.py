"""The paper's figures, as they were printed: shown beside ours, never in one table with them.

They are of EmoSet and Stable Diffusion 1.5, by the paper's own scripts and probe, without intervals.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SOURCE = (
    "As printed in the paper (arXiv 2508.03535): EmoSet, Stable Diffusion 1.5, 1,000 pictures per emotion, "
    "its own probe and scripts, no intervals; Emo-A in percent."
)
METRICS = ("fid", "lpips", "emo_a", "sem_c", "sem_d")


@dataclass(frozen=True)
class PublishedRow:
    """A line of the paper's tables. name: of the row that stands for the same method here. figures: by
    metric, with the digits of the print.
    """

    name: str
    title: str
    figures: Mapping[str, str]


def _row(name: str, title: str, *figures: str) -> PublishedRow:
    return PublishedRow(name, title, dict(zip(METRICS, figures, strict=True)))


PUBLISHED = (
    _row("name", "Stable Diffusion", "44.05", "0.687", "70.77", "0.608", "0.0199"),
    _row("textual_inversion", "Textual Inversion", "50.51", "0.702", "74.87", "0.605", "0.0282"),
    _row("dreambooth", "DreamBooth", "46.89", "0.661", "70.50", "0.614", "0.0178"),
    _row("emogen", "EmoGen", "41.60", "0.717", "76.25", "0.633", "0.0335"),
    _row("coemogen", "CoEmoGen", "40.66", "0.732", "80.15", "0.641", "0.0349"),
    _row("without_semantic", "without the semantic loss", "50.32", "0.698", "65.90", "0.562", "0.0255"),
    _row("without_emotion", "without emotion LoRAs", "45.30", "0.713", "75.37", "0.625", "0.0308"),
    _row("without_polarity", "without polarity LoRAs", "41.47", "0.724", "78.83", "0.638", "0.0336"),
)
