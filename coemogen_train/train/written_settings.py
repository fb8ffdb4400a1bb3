"""Settings as people write them down: in a TOML file, as the name of a preset, as `key=value`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ..errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PRESETS = Path(__file__).parent / "presets"


def read_settings(path: str | Path) -> dict[str, Any]:
    """The table in a TOML file, or in the preset of that name where there is no such file.

    Raises:
        ConfigError: neither can be read.
    """
    file = Path(path)
    if not file.is_file() and (PRESETS / f"{path}.toml").is_file():
        file = PRESETS / f"{path}.toml"
    return _read_toml(file)


def read_preset(name: str) -> dict[str, Any]:
    """The table of a preset. Raises: ConfigError."""
    if name not in _preset_names():
        raise ConfigError(f"no preset is called {name!r}; there are {', '.join(_preset_names())}.")
    return _read_toml(PRESETS / f"{name}.toml")


def override(pair: str) -> tuple[str, Any]:
    """The key and the value of `key=value`, the value as TOML, bare text or none. Raises: ConfigError."""
    key, equals, text = pair.partition("=")
    key, text = key.strip(), text.strip()
    if not equals or not key:
        raise ConfigError(f"--set {pair!r}: write it as key=value, for example --set steps=300.")
    if text.casefold() == "none":
        return key, None
    try:
        return key, tomllib.loads(f"value = {text}")["value"]
    except (ValueError, KeyError, RecursionError):
        return key, text


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        names = ", ".join(_preset_names())
        raise ConfigError(
            f"{file}: the settings cannot be read ({error.strerror}); name a TOML file or a preset ({names})."
        ) from None
    except ValueError as error:  # no TOML, no UTF-8, a number or a name beyond reason
        raise ConfigError(f"{file}: not valid TOML in UTF-8: {error}.") from None
    except RecursionError:
        raise ConfigError(f"{file}: its values are nested too deeply: write plain ones.") from None


def _preset_names() -> list[str]:
    return sorted(file.stem for file in PRESETS.glob("*.toml"))
