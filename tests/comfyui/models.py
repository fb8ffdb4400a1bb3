"""The models folder that all test servers share: each file is made when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import adapters, checkpoints


class Models:
    """Files under `folder`, in ComfyUI's subfolders; every method gives the name for a loader's menu."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("checkpoints", "coemogen", "coemogen_captioners"):
            (folder / name).mkdir(parents=True)

    def path(self, kind: str, name: str) -> Path:
        """The file of this name; kind: "checkpoints", "coemogen", "controlnet" and so on."""
        return self.folder / kind / name

    def checkpoint(self, unet: str = "small", vae: str = "tiny", seed: int = 0) -> str:
        name = unet + ("" if vae == "tiny" else f"-{vae}") + (f"-{seed}" if seed else "")
        return self._made(
            "checkpoints", name, lambda path: checkpoints.write_checkpoint(path, unet, seed, vae)
        )

    def adapter(self, unet: str = "small", name: str | None = None, **choices: Any) -> str:
        """choices: of `adapters.make_adapter`; give such an adapter a name of its own."""
        assert name or not choices
        return self._made(
            "coemogen", name or unet, lambda path: adapters.write_adapter(path, unet, **choices)
        )

    def damaged_adapter(self) -> str:
        sound = self.path("coemogen", self.adapter())
        return self._made("coemogen", "damaged", lambda path: adapters.write_damaged_adapter(path, sound))

    def adapter_of_another_width(self) -> str:
        return self._made("coemogen", "wide", adapters.write_adapter_of_another_width)

    def adapter_of_another_taxonomy(self) -> str:
        return self.adapter(name="places", taxonomy=adapters.TWO_EMOTIONS)

    def sdxl(self) -> str:
        return self._made("checkpoints", "sdxl", checkpoints.write_sdxl)

    def controlnet(self, unet: str = "small") -> str:
        return self._made("controlnet", unet, lambda path: checkpoints.write_controlnet(path, unet))

    def clip_vision(self) -> str:
        return self._made("clip_vision", "vit-l", checkpoints.write_clip_vision)

    def clip_text(self) -> str:
        return self._made("text_encoders", "clip-l", checkpoints.write_clip_text)

    def _made(self, kind: str, name: str, write: Callable[[Path], object]) -> str:
        path = self.path(kind, f"{name}.safetensors")
        if not path.exists():
            write(path)
        return path.name
