"""The items of a JSON file come one by one, the same as json's own, and from a window of the file."""

import json
import random

import pytest

from coemogen_train.data.sources import json_stream
from coemogen_train.data.sources.json_stream import iterate_json


def random_value(source: random.Random, depth: int = 0):
    kinds = ["int", "float", "text", "none", "bool"] + ["list", "dict"] * (depth < 3)
    kind = source.choice(kinds)
    if kind == "list":
        return [random_value(source, depth + 1) for _ in range(source.randrange(4))]
    if kind == "dict":
        return {str(source.random()): random_value(source, depth + 1) for _ in range(source.randrange(4))}
    text = "".join(source.choice('a"\\/é图𝄞\n[]{},: \ud800') for _ in range(source.randrange(30)))
    return {
        "int": source.randrange(-(10**20), 10**20),
        "float": source.random() * 10**9,
        "text": text,
        "none": None,
        "bool": source.random() < 0.5,
    }[kind]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("chunk", [1, 7, 1 << 16])
def test_items_are_those_of_json_itself_however_the_file_is_cut(tmp_path, monkeypatch, seed, chunk):
    monkeypatch.setattr(json_stream, "_CHUNK", chunk)
    source = random.Random(seed)
    values = [random_value(source) for _ in range(source.randrange(20))]
    whole = values if seed % 2 else {str(i): v for i, v in enumerate(values)}
    path = tmp_path / "x.json"
    text = json.dumps(whole, indent=source.choice([None, 2]))
    path.write_text(text, encoding="utf-8-sig" if seed % 5 == 0 else "utf-8")
    assert list(iterate_json(path)) == values


@pytest.mark.parametrize(
    ("text", "before"),
    [
        ("", 0),
        ("  ", 0),
        ("3", 0),
        ('"[1]"', 0),
        ("[1, 2", 2),
        ("[1, 2,", 2),
        ("[1 2]", 1),
        ("[1, 2]]", 2),
        ("[1, [2]", 2),
        ('{"a": 1, 2: 3}', 1),
        ('{"a" 1}', 0),
        ("[1, " + "[" * 50_000, 1),
        ("[1, nul]", 1),
    ],
)
def test_what_is_no_json_is_told_after_what_came_before(tmp_path, text, before):
    path = tmp_path / "x.json"
    path.write_text(text, encoding="utf-8")
    items = iterate_json(path)
    assert len([next(items) for _ in range(before)]) == before
    with pytest.raises(ValueError):
        next(items)


def test_an_item_without_end_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "_MAX_ITEM", 1 << 17)
    path = tmp_path / "x.json"
    path.write_text('[1, "' + "x" * (1 << 20), encoding="utf-8")
    items = iterate_json(path)
    assert next(items) == 1
    with pytest.raises(ValueError):
        next(items)


def test_names_in_another_encoding_are_a_fault_of_their_row_alone(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(b'["a", "\xe9.jpg", "b"]')
    assert list(iterate_json(path)) == ["a", "\udce9.jpg", "b"]
