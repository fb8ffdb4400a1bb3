"""The ComfyUI face, one file a node: it knows ComfyUI and holds no mathematics, which is coemogen_train's."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .emotion_captioner import EmotionCaptioner
from .emotion_conditioner import EmotionConditioner
from .folders import register_folders
from .gaussian_emotion_sampler import GaussianEmotionSampler
from .hilora_loader import HiLoRALoader
from .save_to_emotion_set import SaveToEmotionSet


class CoEmoGen(ComfyExtension):
    """The pack, as ComfyUI asks for it."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """The nodes, in the order of a graph."""
        return [HiLoRALoader, GaussianEmotionSampler, EmotionConditioner, EmotionCaptioner, SaveToEmotionSet]


async def comfy_entrypoint() -> CoEmoGen:
    """What ComfyUI calls when it has imported the pack."""
    # Here and not in ComfyExtension.on_load, which ComfyUI 0.3.64 does not call.
    register_folders()
    return CoEmoGen()
