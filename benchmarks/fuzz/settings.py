"""Settings under fire: a TOML file, a table and `--set` pairs give a TrainConfig or ConfigError."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from coemogen_train.errors import ConfigError
from coemogen_train.train.config import TrainConfig, load_config, make_config
from coemogen_train.train.written_settings import PRESETS

from .cases import Case
from .drawn import Drawn, texts
from .values import damaged_text

_KEYS = (*TrainConfig.model_fields, "preset")
_keys = st.one_of(st.sampled_from(_KEYS), st.sampled_from(_KEYS), texts)
_VALUES = (
    "1",
    "0",
    "-1",
    "true",
    "1e-3",
    "1e999",
    "nan",
    "-inf",
    "9" * 30,
    "9" * 5000,
    "0x" + "f" * 5000,
    "1979-05-27T07:32:00Z",
    "1979-05-27",
    "07:32:00",
    "[]",
    "{}",
    '["to_q"]',
    '["to_q", 1]',
    "[[[1]]]",
    "[" * 2000 + "]" * 2000,
    "{a = {b = {c = 1}}}",
    '""',
    '"none"',
    '"toy"',
    '"auto"',
    '"{emotion}"',
    '"\\u0000"',
    '"\\u202e"',
    '"' + "x" * 50_000 + '"',
    "'''\n'''",
    "[" + "1," * 20_000 + "]",
)
_values = st.one_of(
    st.sampled_from(_VALUES),
    st.integers().map(str),
    st.floats().map(repr),
    texts,
    texts.map(lambda text: f'"{text}"'),
)
_pairs = st.tuples(_keys, _values)
_PLAIN = {"base": "toy", "vision": "toy", "set": "a_set", "out": "a_run"}
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)


def _line(pair: tuple[str, str]) -> str:
    key, value = pair
    plain = key.replace("_", "").isalnum() and key.isascii()
    return f"{key} = {value}" if plain else f"'{key}' = {value}"


_forms: st.SearchStrategy[tuple[str, Any]] = st.one_of(
    st.tuples(
        st.just("TOML of lines"), st.lists(_pairs, max_size=6).map(lambda all: "\n".join(map(_line, all)))
    ),
    st.tuples(st.just("TOML of any text"), st.one_of(texts, st.binary(max_size=300))),
    st.tuples(st.just("preset, damaged"), st.integers(0, 2**32)),
    st.tuples(st.just("--set"), st.lists(_pairs.map("=".join), max_size=4)),
    st.tuples(st.just("--set of any text"), st.lists(texts, max_size=3)),
    st.tuples(st.just("name of a preset"), texts),
    st.tuples(st.just("table"), st.dictionaries(_keys, _json, max_size=5)),
)


class SettingsTarget:
    """`load_config` and `make_config`."""

    def __init__(self, seed: int, work: Path) -> None:
        work.mkdir(parents=True, exist_ok=True)
        self._drawn, self._file = Drawn(_forms, seed), work / "mine.toml"
        self._presets = [path.read_text(encoding="utf-8") for path in sorted(PRESETS.glob("*.toml"))]
        load_config("toy", ["set=a", "out=b"])

    def case(self, number: int) -> Case:
        form, value = self._drawn[number]
        path: str | Path | None = self._file
        overrides = [f"{key}={text}" for key, text in _PLAIN.items()]
        if form == "preset, damaged":
            chance = random.Random(value)
            value = damaged_text(chance, chance.choice(self._presets))
        if form.startswith("--set"):
            path, overrides = None, [*overrides, *value]
        elif form == "name of a preset":
            path = value
        elif form != "table":
            raw = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
            self._file.write_bytes(raw)

        def run() -> TrainConfig:
            if form == "table":
                return make_config({**_PLAIN, **value})
            return load_config(path, overrides)

        content = repr(value).encode("utf-8", "backslashreplace")
        return Case(form, run, ConfigError, content, _judge, seconds=2.0, mib=64)


def _judge(config: Any) -> str:
    """A configuration is stored in checkpoints and read from them."""
    again = make_config(json.loads(json.dumps(config.model_dump(mode="json"))))
    return "" if again == config else "stored and read again it is another one"
