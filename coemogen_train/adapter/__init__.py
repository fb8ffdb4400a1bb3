"""What is learned and its file: mapper, visual-perception encoder, condition, HiLoRA and Gaussian clusters.

Needs torch alone (fitting Gaussians also scikit-learn), because it runs inside users' ComfyUI.
"""

from .carry import carry_over, extended_taxonomy, freeze_carried, joined_gaussians
from .condition import (
    EMOTION_MARK,
    EmotionEmbedder,
    PromptIds,
    TextStates,
    at_intensity,
    emotion_name_embeddings,
    encode_text,
    plain_prompt,
    prompt_ids,
    vocabulary_row_norm,
)
from .encoder import VisualPerceptionEncoder
from .file import Adapter, describe_adapter, load_adapter, make_embedder, make_hilora, save_adapter
from .gaussian_fit import fit_gaussians
from .gaussians import EmotionGaussians
from .hilora import ATTENTION_TARGETS, AttachedHiLoRA, HiLoRA, hilora_delta
from .info import AdapterInfo, BaseInfo, GuidanceInfo, TextEncoderInfo, VisionInfo
from .mapper import NeuroSymbolicMapper

__all__ = [
    "ATTENTION_TARGETS",
    "EMOTION_MARK",
    "Adapter",
    "AdapterInfo",
    "AttachedHiLoRA",
    "BaseInfo",
    "EmotionEmbedder",
    "EmotionGaussians",
    "GuidanceInfo",
    "HiLoRA",
    "NeuroSymbolicMapper",
    "PromptIds",
    "TextEncoderInfo",
    "TextStates",
    "VisionInfo",
    "VisualPerceptionEncoder",
    "at_intensity",
    "carry_over",
    "describe_adapter",
    "emotion_name_embeddings",
    "encode_text",
    "extended_taxonomy",
    "fit_gaussians",
    "freeze_carried",
    "hilora_delta",
    "joined_gaussians",
    "load_adapter",
    "make_embedder",
    "make_hilora",
    "plain_prompt",
    "prompt_ids",
    "save_adapter",
    "vocabulary_row_norm",
]
