"""CoEmoGen and the methods it is compared with, each behind one small interface: fit, condition, generate."""

from collections.abc import Mapping

from .coemogen import CoEmoGen
from .method import Condition, Drawer, FitRecord, Method

METHODS: Mapping[str, Method] = {method.key: method for method in (CoEmoGen(),)}
"""By key, in the order of the table."""

__all__ = ["METHODS", "Condition", "Drawer", "FitRecord", "Method"]
