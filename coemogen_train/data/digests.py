"""Content hashes of a whole set in one sorted array: 32 bytes a picture, where strings take four times that.

A digest is a SHA-256, as 64 hexadecimal digits outside and as an element of a numpy array of type S32 here.
(numpy strips zero bytes from the end of what it takes out of such an array: `as_hex` puts them back.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .rows import Sample, SampleRows

Digests = NDArray[np.bytes_]
_BYTES = 32


class DigestSet:
    """Content hashes: sorted, each once, as an array [n] of S32."""

    def __init__(self, digests: Digests | Iterable[str] = ()):
        """digests: in any order, more than once if need be."""
        array = digests if isinstance(digests, np.ndarray) else from_hex(digests)
        self.array: Digests = np.unique(array)

    def __len__(self) -> int:
        return len(self.array)

    def __contains__(self, digest: object) -> bool:
        return isinstance(digest, str) and self.place(digest) is not None

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (set, frozenset)):
            return set(as_hex(self.array)) == other
        return isinstance(other, DigestSet) and np.array_equal(self.array, other.array)

    __hash__ = None  # type: ignore[assignment]  # it compares by its content, as a set does

    def place(self, digest: str) -> int | None:
        """Where a digest (hexadecimal) stands; None where it does not."""
        try:
            raw = bytes.fromhex(digest)
        except ValueError:
            return None
        place = int(np.searchsorted(self.array, np.array(raw, dtype=f"S{_BYTES}")))
        if len(raw) != _BYTES or place == len(self.array) or bytes(self.array[place]) != raw.rstrip(b"\0"):
            return None
        return place

    def places(self, digests: Digests) -> NDArray[np.int64]:
        """Where each of `digests` [m] stands: [m], -1 where it does not."""
        if not len(self.array):
            return np.full(len(digests), -1, dtype=np.int64)
        places = np.minimum(np.searchsorted(self.array, digests), len(self.array) - 1)
        return np.where(self.array[places] == digests, places, -1).astype(np.int64)

    def missing(self, digests: Digests) -> int:
        """How many of `digests` [m] are not there."""
        return int((self.places(digests) < 0).sum())


def digests_of(samples: Sequence[Sample]) -> Digests:
    """The content hashes of samples, in their order: [n]. Raises: DataError for what is no SHA-256."""
    if not isinstance(samples, SampleRows):
        return from_hex(sample.sha256 for sample in samples)
    return _from_column(samples.columns("sha256")["sha256"])


def from_hex(digests: Iterable[str]) -> Digests:
    """Digests from their 64 hexadecimal digits each: [n]. Raises: DataError for what is no SHA-256."""
    return _from_digits([*digests])


def as_hex(digests: Digests) -> tuple[str, ...]:
    """The 64 hexadecimal digits of each digest."""
    digits = digests.tobytes().hex()
    return tuple(digits[start : start + 2 * _BYTES] for start in range(0, len(digits), 2 * _BYTES))


def text_digest(text: str) -> str:
    """The SHA-256 of a text, 64 hexadecimal digits."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _from_column(column: Any) -> Digests:
    """From an Arrow column, a piece of it at a time."""
    pieces = [_from_digits(piece.to_pylist()) for chunk in column.chunks for piece in _pieces(chunk)]
    return np.concatenate(pieces) if pieces else np.empty(0, dtype=f"S{_BYTES}")


def _pieces(chunk: Any, size: int = 8192) -> Iterable[Any]:
    return (chunk.slice(start, size) for start in range(0, len(chunk), size))


def _from_digits(digests: Sequence[str]) -> Digests:
    try:
        if any(len(digest) != 2 * _BYTES for digest in digests):
            raise ValueError
        return np.frombuffer(bytes.fromhex("".join(digests)), dtype=f"S{_BYTES}")
    except ValueError:
        raise DataError(
            "a content hash of the set is no SHA-256: make the set anew with `prepare`."
        ) from None
