"""CoEmoGen and the methods it is compared with, each behind one small interface: fit, condition, generate."""

from collections.abc import Mapping

from .coemogen import CoEmoGen, EmbedsOf
from .dreambooth import DreamBooth
from .emogen import EmoGen
from .method import Condition, Drawer, FitRecord, Method
from .prompts import NamePrompt, SentencePrompt
from .textual_inversion import TextualInversion

_IN_ORDER: tuple[Method, ...] = (
    NamePrompt(),
    SentencePrompt(),
    TextualInversion(),
    DreamBooth(),
    EmoGen(),
    CoEmoGen(),
)

METHODS: Mapping[str, Method] = {method.key: method for method in _IN_ORDER}
"""By key, in the order of the table."""

__all__ = ["METHODS", "CoEmoGen", "Condition", "Drawer", "EmbedsOf", "FitRecord", "Method"]
