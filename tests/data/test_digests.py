"""Content hashes in arrays say what sets of strings would."""

import hashlib
import random

import numpy as np
import pytest

from coemogen_train.data.digests import DigestSet, as_hex, digests_of, from_hex
from coemogen_train.data.prepare import prepare
from coemogen_train.data.samples import TrainingSet
from coemogen_train.errors import DataError


def hashes(count: int) -> list[str]:
    """With some that end in zero bytes, which numpy would strip, and some that begin with them."""
    plain = [hashlib.sha256(str(index).encode()).hexdigest() for index in range(count)]
    return [*plain, "00" * 32, "ff" * 32, "ab" * 31 + "00", "ab" * 30 + "0000", "00" * 31 + "01"]


def test_a_digest_set_is_a_sorted_set_of_strings():
    mine, others = hashes(500), hashes(900)
    random.Random(1).shuffle(mine)
    found = DigestSet(mine * 2)
    assert as_hex(found.array) == tuple(sorted(set(mine)))
    assert found == set(mine) and found != set(mine[1:])
    for digest in others:
        assert (digest in found) == (digest in set(mine))
    places = found.places(from_hex(others))
    ordered = sorted(set(mine))
    assert places.tolist() == [ordered.index(d) if d in set(mine) else -1 for d in others]
    assert found.missing(from_hex(others)) == len(set(others) - set(mine))


def test_nothing_is_in_an_empty_set():
    empty = DigestSet()
    assert not empty and "ab" * 32 not in empty and empty.places(from_hex(["ab" * 32])).tolist() == [-1]


@pytest.mark.parametrize("wrong", ["", "ab", "g" * 64, "ab" * 33])
def test_what_is_no_hash_is_in_no_set_and_is_refused(wrong):
    assert wrong not in DigestSet(hashes(3))
    with pytest.raises(DataError, match="no SHA-256"):
        from_hex([*hashes(2), wrong])


def test_rows_and_lists_of_samples_have_the_same_digests(sorted_folder, tmp_path):
    prepare(sorted_folder, tmp_path / "set")
    rows = TrainingSet.open(tmp_path / "set").samples()
    assert as_hex(digests_of(rows)) == tuple(sample.sha256 for sample in rows)
    np.testing.assert_array_equal(digests_of(rows), digests_of(list(rows)))
    assert len(digests_of(rows[:0])) == 0
