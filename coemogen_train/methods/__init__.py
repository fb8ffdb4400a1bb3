"""CoEmoGen and the methods it is compared with, each behind one small interface: fit, condition, generate."""

from .method import Condition, Drawer, FitRecord, Method

__all__ = ["Condition", "Drawer", "FitRecord", "Method"]
