"""Sentence captions: the prompt, the cleaning of answers, and the models and servers that give them.

Shared by the ComfyUI node and the command; needs the standard library and torch, and transformers only where
a local model is read.
"""

from .blind import BLIND_VERSION, blind_emotion, blind_emotions
from .caption import (
    Answer,
    BatchCaptioner,
    Caption,
    Captioner,
    CaptionStopped,
    NoAnswer,
    Wording,
    bounded_picture,
    write_caption,
    write_captions,
)
from .cleaning import FAULTS, CleanedAnswer, clean_answer
from .clip_score import check_text_projection, clip_similarity
from .growing_set import SavedPicture, add_picture, set_folder
from .local import LocalCaptioner, check_local_captioner, load_local_captioner
from .model_folder import (
    check_model_folder,
    content_fingerprint,
    folder_fingerprint,
    is_model_folder,
    sees_pictures,
)
from .prompt import PROMPT_VERSION, caption_prompt, emotions_of, plain_emotion
from .server import ServerCaptioner

__all__ = [
    "BLIND_VERSION",
    "FAULTS",
    "PROMPT_VERSION",
    "Answer",
    "BatchCaptioner",
    "Caption",
    "CaptionStopped",
    "Captioner",
    "CleanedAnswer",
    "LocalCaptioner",
    "NoAnswer",
    "SavedPicture",
    "ServerCaptioner",
    "Wording",
    "add_picture",
    "blind_emotion",
    "blind_emotions",
    "bounded_picture",
    "caption_prompt",
    "check_local_captioner",
    "check_model_folder",
    "check_text_projection",
    "clean_answer",
    "clip_similarity",
    "content_fingerprint",
    "emotions_of",
    "folder_fingerprint",
    "is_model_folder",
    "load_local_captioner",
    "plain_emotion",
    "sees_pictures",
    "set_folder",
    "write_caption",
    "write_captions",
]
