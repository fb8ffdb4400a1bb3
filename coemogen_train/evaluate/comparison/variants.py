"""The rows: which method, fitted how, drawn how; and the experiments that they make up.

An experiment is a question with the rows that answer it. Rows that differ in drawing only share their fit,
and a row that stands in several experiments is made once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ...data.caption_variants import CaptionForm
from .embeddings import Source
from .result import Kind


@dataclass(frozen=True)
class Captions:
    """What the fit reads as captions: their form, the share exchanged for another picture's before the
    filter, and the share that the filter then drops.
    """

    form: CaptionForm = "sentences"
    corrupted: float = 0.0
    dropped: float = 0.2


@dataclass(frozen=True)
class Drawing:
    """How pictures are drawn, beside the guidance.

    branches: of the guidance on which low-rank updates act; None: as the configuration says. embeds: where v
        comes from: the adapter's own Gaussians, their "mean", Gaussians fitted otherwise ("diagonal" or
        "full", then the number per emotion, "auto" for the best), or "real" held-out pictures.
    """

    branches: Literal["both", "conditional"] | None = None
    embeds: Source = "gaussians"


@dataclass(frozen=True)
class Variant:
    """A row.

    fit: settings that differ from the comparison's own; `times_steps` is a factor on its steps. like: another
    variant, as which it takes the setting and the guidance that were chosen on held-in seeds; None: it has
    those of its own chosen. own_guidance: only the setting is the other's.
    """

    name: str
    title: str
    kind: Kind
    method: str = "coemogen"
    fit: Mapping[str, Any] = field(default_factory=dict)
    captions: Captions = Captions()
    drawing: Drawing = Drawing()
    like: str | None = "coemogen"
    own_guidance: bool = False
    note: str = ""

    @property
    def tries(self) -> bool:
        return self.like is None


@dataclass(frozen=True)
class Experiment:
    """A question and its rows. guidances: "chosen", each row at its own scale alone; "curve", the methods at
    all of the comparison's scales; or scales of the experiment's own.
    """

    name: str
    question: str
    variants: Sequence[Variant]
    guidances: Literal["chosen", "curve"] | tuple[float, ...] = "chosen"


def _baseline(name: str, title: str, method: str, **more: Any) -> Variant:
    return Variant(name, title, "baseline", method, **({"like": None} | more))


def _ours(name: str, title: str, **more: Any) -> Variant:
    return Variant(name, title, "ablation", **more)


FULL = Variant("coemogen", "CoEmoGen", "ours", like=None)
WITHOUT_SEMANTIC = _ours("without_semantic", "without the semantic loss", fit={"semantic_weight": 0.0})
TABLE = (
    _baseline("name", "Stable Diffusion, the emotion's name", "name"),
    _baseline("sentences", "Stable Diffusion, sampled captions", "sentences"),
    _baseline("textual_inversion", "Textual Inversion", "textual_inversion"),
    _baseline("dreambooth", "DreamBooth (LoRA)", "dreambooth", drawing=Drawing(branches="both")),
    _baseline(
        "dreambooth_conditional",
        "DreamBooth, LoRA on the conditional branch",
        "dreambooth",
        drawing=Drawing(branches="conditional"),
        like="dreambooth",
        own_guidance=True,
    ),
    _baseline("emogen", "EmoGen", "emogen"),
    FULL,
    WITHOUT_SEMANTIC,
    _ours("without_emotion", "without emotion LoRAs", fit={"emotion_loras": False}),
    _ours("without_polarity", "without polarity LoRAs", fit={"polarity_loras": False}),
)


def _pair(name: str, title: str, **fit: Any) -> tuple[Variant, Variant]:
    """The full method under other settings, with the semantic loss and without."""
    return (
        _ours(name, title, fit=fit),
        _ours(f"{name}_without_semantic", f"{title}, without", fit={**fit, "semantic_weight": 0.0}),
    )


def _noise(corrupted: float, dropped: float) -> Variant:
    name = f"corrupted_{corrupted * 100:.0f}_dropped_{dropped * 100:.0f}"
    title = f"{corrupted:.0%} of the captions corrupted, {dropped:.0%} dropped"
    return _ours(name, title, captions=Captions(corrupted=corrupted, dropped=dropped))


_SHARES = (0.0, 0.2, 0.4)
PAPER_RATE = 1e-3

_ALL = (
    Experiment(
        "table", "The paper's methods and ablations, and the baselines that it left out.", TABLE, "curve"
    ),
    Experiment(
        "paper_rate",
        "The same at the paper's learning rate, where another was chosen on the held-in seed.",
        tuple(
            replace(
                variant,
                name=f"{variant.name}_paper_rate",
                title=f"{variant.title}, the paper's rate",
                kind="ablation",
                fit={**variant.fit, "learning_rate": PAPER_RATE},
                like="coemogen",
            )
            for variant in TABLE
            if variant.method == "coemogen"
        ),
    ),
    Experiment(
        "semantic",
        "Which form and which weight of the semantic loss does what?",
        (
            FULL,
            WITHOUT_SEMANTIC,
            _ours("semantic_pooled", "cosine of the pooled states", fit={"semantic_loss": "pooled"}),
            _ours("semantic_mae", "MAE", fit={"semantic_distance": "mae"}),
            _ours("semantic_mse", "MSE", fit={"semantic_distance": "mse"}),
            _ours("semantic_kl", "KL", fit={"semantic_distance": "kl"}),
            _ours("semantic_weight_0.3", "cosine, weight 0.3", fit={"semantic_weight": 0.3}),
            _ours("semantic_weight_1", "cosine, weight 1", fit={"semantic_weight": 1.0}),
        ),
    ),
    Experiment(
        "semantic_when",
        "Does the semantic loss matter at another number of pseudo-words, or with twice the steps?",
        (
            FULL,
            WITHOUT_SEMANTIC,
            *_pair("tokens_1", "1 pseudo-word", tokens=1),
            *_pair("tokens_4", "4 pseudo-words", tokens=4),
            *_pair("tokens_8", "8 pseudo-words", tokens=8),
            *_pair("twice_the_steps", "twice the steps", times_steps=2),
        ),
    ),
    Experiment(
        "captions",
        "Is it the sentences? Captions as word lists, as the emotion's name, or none.",
        (
            FULL,
            WITHOUT_SEMANTIC,
            _ours("captions_words", "captions as word lists", captions=Captions("words")),
            _ours("captions_name", "captions as the emotion's name", captions=Captions("name", dropped=0.0)),
            _ours(
                "captions_none",
                "no captions",
                fit={"semantic_weight": 0.0},
                captions=Captions("none", dropped=0.0),
            ),
        ),
    ),
    Experiment(
        "noise",
        "What do wrong captions cost, and what does the filter mend?",
        tuple(_noise(corrupted, dropped) for corrupted in _SHARES for dropped in _SHARES),
    ),
    Experiment(
        "training",
        "The mapper's input, and the two options against reading the emotion from v alone.",
        (
            FULL,
            _ours("mapper_learned", "mapper input: a learned vector", fit={"mapper_input": "learned"}),
            _ours("mapper_name", "mapper input: the name's embedding", fit={"mapper_input": "name"}),
            _ours("no_content_prompts", "without content prompts", fit={"content_prompts": 0.0}),
            _ours("v_dropout", "v dropped for 30%", fit={"v_dropout": 0.3}),
        ),
    ),
    Experiment(
        "sampling",
        "What the Gaussians cost: their form and number, their mean, and real v as the line above.",
        (
            FULL,
            _ours("full_1", "one full Gaussian (the paper's number)", drawing=Drawing(embeds=("full", 1))),
            _ours("diagonal_1", "one diagonal Gaussian", drawing=Drawing(embeds=("diagonal", 1))),
            _ours("diagonal_several", "several diagonal", drawing=Drawing(embeds=("diagonal", "auto"))),
            _ours("mean_v", "the mean of v", drawing=Drawing(embeds="mean")),
            _ours("real_v", "v of real held-out pictures", drawing=Drawing(embeds="real")),
        ),
    ),
    Experiment(
        "branches",
        "HiLoRA on both branches of the guidance, or on the conditional one only.",
        (
            _ours("conditional_branch", "conditional branch", drawing=Drawing(branches="conditional")),
            _ours("both_branches", "both branches", drawing=Drawing(branches="both"), own_guidance=True),
        ),
        (1.0, 1.5, 3.0, 5.0, 7.5, 10.0),
    ),
)

EXPERIMENTS: dict[str, Experiment] = {experiment.name: experiment for experiment in _ALL}
"""By the name that `compare --experiment` takes."""
