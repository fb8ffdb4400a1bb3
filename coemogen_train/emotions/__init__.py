"""Emotions as data: a taxonomy names and groups them by polarity; a mixture weighs them, a row per picture.

Standard library only: the ComfyUI nodes, the adapter file and the trainer all read these.
"""

from .bundled import BUILT_IN, EKMAN, EMOART, MIKELS, PLUTCHIK, load_taxonomy
from .mixture import MAX_MIXTURE_LENGTH, MAX_MIXTURE_ROWS, format_mixture, one_hot, parse_mixture
from .taxonomy import MAX_EMOTIONS, MAX_NAME_LENGTH, Emotion, Taxonomy

__all__ = [
    "BUILT_IN",
    "EKMAN",
    "EMOART",
    "MAX_EMOTIONS",
    "MAX_MIXTURE_LENGTH",
    "MAX_MIXTURE_ROWS",
    "MAX_NAME_LENGTH",
    "MIKELS",
    "PLUTCHIK",
    "Emotion",
    "Taxonomy",
    "format_mixture",
    "load_taxonomy",
    "one_hot",
    "parse_mixture",
]
