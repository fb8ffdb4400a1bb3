"""Sentence captions: the prompt, the cleaning of answers, and the models and servers that give them.

Shared by the ComfyUI node and the command; needs the standard library and torch, and transformers only where
a local model is read.
"""

from .caption import Answer, Caption, Captioner, CaptionStopped, Wording, bounded_picture, write_caption
from .cleaning import FAULTS, CleanedAnswer, clean_answer
from .clip_score import check_text_projection, clip_similarity
from .growing_set import SavedPicture, add_picture, set_folder
from .local import LocalCaptioner, check_local_captioner, load_local_captioner
from .model_folder import check_model_folder, folder_fingerprint, is_model_folder, sees_pictures
from .prompt import PROMPT_VERSION, caption_prompt, emotions_of, plain_emotion
from .server import ServerCaptioner

__all__ = [
    "FAULTS",
    "PROMPT_VERSION",
    "Answer",
    "Caption",
    "CaptionStopped",
    "Captioner",
    "CleanedAnswer",
    "LocalCaptioner",
    "SavedPicture",
    "ServerCaptioner",
    "Wording",
    "add_picture",
    "bounded_picture",
    "caption_prompt",
    "check_local_captioner",
    "check_model_folder",
    "check_text_projection",
    "clean_answer",
    "clip_similarity",
    "emotions_of",
    "folder_fingerprint",
    "is_model_folder",
    "load_local_captioner",
    "plain_emotion",
    "sees_pictures",
    "set_folder",
    "write_caption",
]
