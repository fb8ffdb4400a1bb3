"""The commands, one thin file each: they read options, call the rooms behind, and show what comes back."""

from .program import run

__all__ = ["run"]
