"""Which split a picture is in: the one it came with, or one made from its content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import DataError
from .samples import Split

_NAMES: Mapping[str, Split] = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


def split_named(text: str) -> Split | None:
    """Return the split that a folder or a cell calls by any of its usual names, None for none of them."""
    return _NAMES.get(text.strip().casefold())


@dataclass(frozen=True)
class SplitRule:
    """Shares of the splits that `prepare` makes where the source has none.

    A picture's place depends on its own content and `seed` alone: the same content is always on the same
    side, and a picture keeps its split when others come or go. Shares are met on average, not exactly.
    Raises: DataError when the shares are not in 0..1 or leave nothing to train on.
    """

    val: float = 0.05
    test: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.val >= 0 and self.test >= 0 and self.val + self.test < 1):
            raise DataError(
                f"the shares val = {self.val} and test = {self.test} must be 0 or more, and below 1 together."
            )

    def split_of(self, sha256: str) -> Split:
        """Return the split of the file with this content hash (64 hexadecimal digits)."""
        digest = hashlib.sha256(f"coemogen split {self.seed} {sha256}".encode()).digest()
        place = int.from_bytes(digest[:8], "big") / 2**64
        if place < self.val:
            return "val"
        return "test" if place < self.val + self.test else "train"

    def to_dict(self) -> dict[str, Any]:
        """The rule as `set.json` keeps it."""
        return {"val": self.val, "test": self.test, "seed": self.seed}
