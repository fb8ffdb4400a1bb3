"""What travels between our nodes, by the names that ComfyUI shows on their wires."""

from __future__ import annotations

from comfy_api.latest import io

# coemogen_train.adapter.choice.EmotionChoice: the adapter, the mixture of every picture, two strengths.
EmotionType = io.Custom("COEMOGEN_EMOTION")
# A tensor [B, V], float32, on the CPU: a CLIP image embedding per picture.
EmbedsType = io.Custom("COEMOGEN_EMBEDS")

CATEGORY = "CoEmoGen"

# A seed stays as it is from run to run. ComfyUI 0.3.64 cannot be told so: there a fresh node draws a new one.
SEED_STAYS = io.ControlAfterGenerate.fixed if hasattr(io, "ControlAfterGenerate") else True
