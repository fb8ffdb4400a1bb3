"""The node that opens an adapter, chooses the emotion, and puts HiLoRA on the model."""

from __future__ import annotations

from comfy_api.latest import io
from torch import Tensor, tensor

from ..coemogen_train.adapter.choice import EmotionChoice
from ..coemogen_train.adapter.file import Adapter
from ..coemogen_train.emotions import one_hot, parse_mixture
from ..coemogen_train.errors import AdapterError, MixtureError, TaxonomyError
from . import adapter_files
from .model_layers import setting_warnings
from .routing import merge_hilora, route_hilora
from .types import CATEGORY, EmotionType

ALL = "all, one per picture"


class HiLoRALoader(io.ComfyNode):
    """Model and adapter in; the model with HiLoRA and the chosen emotion out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HiLoRALoader",
            display_name="Load Emotion (HiLoRA)",
            category=CATEGORY,
            description=(
                "Start here: pick an emotion. Takes a Stable Diffusion 1.5 model and an emotion adapter "
                "(models/coemogen), and gives the model tuned to that emotion, and the emotion itself "
                "for the Gaussian Emotion Sampler and the Emotion Conditioner."
            ),
            inputs=[
                io.Model.Input("model", tooltip="A Stable Diffusion 1.5 model, or any fine-tune of one."),
                io.Combo.Input(
                    "adapter",
                    options=adapter_files.adapter_options(),
                    tooltip=(
                        "The adapter file, from models/coemogen. 'none installed' means that the folder is "
                        "empty: put a .safetensors file made by coemogen_train there and press R."
                    ),
                ),
                io.Combo.Input(
                    "emotion",
                    options=[*adapter_files.emotion_options(), ALL],
                    tooltip=(
                        "What the picture should make people feel. 'all, one per picture' gives a batch in "
                        "which every picture has another emotion."
                    ),
                ),
                io.String.Input(
                    "mixture",
                    default="",
                    tooltip=(
                        "Leave empty to use the emotion above. A blend: awe 0.7 + fear 0.3. One picture "
                        "each: awe; fear; awe 0.5 + fear 0.5. Weights that sum to more than 1 are stronger."
                    ),
                ),
                io.Float.Input(
                    "emotion_strength",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip=(
                        "How far the model is bent to this very emotion. 0 is not at all, 1 as trained; "
                        "above 1 it gets stronger, then crude."
                    ),
                ),
                io.Float.Input(
                    "polarity_strength",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip=(
                        "How far the model is bent to what all pleasant (or all unpleasant) emotions share: "
                        "mostly light and colour. 0 is not at all, 1 as trained."
                    ),
                ),
                io.Combo.Input(
                    "mode",
                    options=["routed", "merged"],
                    tooltip=(
                        "routed: every picture of a batch, and every area of a picture, may have its own "
                        "emotion. merged: one emotion for all, no cost per step, as an ordinary LoRA."
                    ),
                ),
                io.Float.Input(
                    "negative_strength",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip=(
                        "How much of it acts on the negative prompt (routed only). 0 lets guidance amplify "
                        "the emotion; 1 is milder, as an ordinary LoRA. Too much colour? Raise it."
                    ),
                ),
            ],
            outputs=[
                io.Model.Output(
                    "emotional_model", display_name="model", tooltip="The model with the emotion on it."
                ),
                EmotionType.Output(
                    "chosen_emotion", display_name="emotion", tooltip="The emotion, for our other nodes."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, adapter: str | None) -> bool | str:
        if adapter is None:  # it comes over a wire, and is not known yet
            return True
        try:
            adapter_files.check_header(adapter)
        except AdapterError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, adapter: str | None, **others: object) -> str | float:
        # Made anew, NaN equals nothing; math.nan is one object, which ComfyUI's cache finds equal to itself.
        return float("nan") if adapter is None else adapter_files.fingerprint(adapter)

    @classmethod
    def execute(
        cls,
        model: object,
        adapter: str,
        emotion: str,
        mixture: str,
        emotion_strength: float,
        polarity_strength: float,
        mode: str,
        negative_strength: float,
    ) -> io.NodeOutput:
        content = adapter_files.read_adapter(adapter)
        name = adapter_files.find_adapter(adapter).name
        rows = chosen_rows(content, name, emotion, mixture)
        choice = EmotionChoice(content, name, rows, emotion_strength, polarity_strength)
        setting_warnings(model, choice)
        if mode == "merged":
            return io.NodeOutput(merge_hilora(model, choice), choice)
        return io.NodeOutput(route_hilora(model, choice, negative_strength), choice)


def chosen_rows(adapter: Adapter, name: str, emotion: str, mixture: str) -> Tensor:
    """[R, E]: the mixture if one is written, else the emotion of the menu.

    Raises:
        AdapterError: the adapter `name` lacks an emotion, or the mixture cannot be read.
    """
    taxonomy = adapter.info.taxonomy
    try:
        if mixture.strip():
            return tensor(parse_mixture(mixture, taxonomy))
        if emotion == ALL:
            return tensor(parse_mixture("all", taxonomy))
        return tensor([one_hot(taxonomy.index(emotion), taxonomy)])
    except (MixtureError, TaxonomyError) as error:
        raise AdapterError(f"{name}: {error}") from None
