"""Captions from a model on this machine: any of transformers' image-text-to-text models, from its folder."""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import CaptionError
from .caption import Answer, CaptionStopped, Wording
from .local_inputs import batch_inputs, single_inputs
from .model_folder import check_model_folder, needs_code

if TYPE_CHECKING:
    from PIL import Image

_LOG = logging.getLogger(__name__)
# What processors and models raise for a batch that they cannot make or read.
_CANNOT = (ValueError, TypeError, IndexError, KeyError, AttributeError, RuntimeError, NotImplementedError)
_NEW_DTYPE_NAME = (4, 56)
_OFFLINE: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


class LocalCaptioner:
    """A model and its processor. Whoever holds it may move `network` to any device between two answers.

    network: a transformers model. processor: its processor. model: its name, for the record.
    """

    def __init__(self, network: nn.Module, processor: Any, name: str):
        self.network = network
        self.processor = processor
        self._name = name
        self._one_by_one = False

    @property
    def model(self) -> str:
        """The folder's name."""
        return self._name

    def answer(
        self,
        picture: Image.Image | None,
        prompt: str,
        wording: Wording,
        should_stop: Callable[[], bool],
        on_token: Callable[[int], None],
    ) -> Answer:
        """Answer once, as `Captioner.answer`, where the network is; others' random numbers stay."""
        inputs = single_inputs(self.processor, self._kind, picture, prompt)
        return self._generate(inputs, wording, should_stop, on_token)[0]

    def answers(
        self,
        pictures: Sequence[Image.Image | None],
        prompts: Sequence[str],
        wording: Wording,
        should_stop: Callable[[], bool],
    ) -> list[Answer]:
        """Answer several requests at once, or one after the other where the model cannot.

        Raises: as `answer`; CaptionError where the memory does not hold so many.
        """
        if len(prompts) > 1 and not self._one_by_one:
            try:
                inputs = batch_inputs(self.processor, self._kind, pictures, prompts)
                return self._generate(inputs, wording, should_stop, lambda _count: None)
            except torch.OutOfMemoryError:
                raise CaptionError(
                    f"{len(prompts)} pictures at once do not fit into the memory beside the model "
                    f"'{self._name}': take smaller batches."
                ) from None
            except _CANNOT as error:
                _LOG.warning(
                    "the model '%s' takes one picture at a time (%s: %s)",
                    *(self._name, type(error).__name__, " ".join(str(error).split())[:200]),
                )
                self._one_by_one = True
        return [
            self.answer(picture, prompt, wording, should_stop, lambda _count: None)
            for picture, prompt in zip(pictures, prompts, strict=True)
        ]

    @torch.inference_mode()
    def _generate(
        self,
        inputs: Any,
        wording: Wording,
        should_stop: Callable[[], bool],
        on_token: Callable[[int], None],
    ) -> list[Answer]:
        from transformers import StoppingCriteriaList

        if should_stop():
            raise CaptionStopped
        weight = next(self.network.parameters())
        inputs = inputs.to(weight.device, weight.dtype)
        if "token_type_ids" not in inspect.signature(self.network.forward).parameters:
            inputs.pop("token_type_ids", None)  # some tokenizers give them to models that refuse them
        watch = _Watch(should_stop, on_token)
        network: Any = self.network
        with _random_numbers_of(wording, weight.device):
            ids = network.generate(
                **inputs,
                generation_config=_generation_config(network, wording),
                stopping_criteria=StoppingCriteriaList([watch]),
            )
        if watch.stopped:
            raise CaptionStopped
        tokenizer = getattr(self.processor, "tokenizer", self.processor)
        # A decoder of its own begins with a mark, which in some models is the one that they end with.
        begun = inputs.get("input_ids") is None or getattr(network.config, "is_encoder_decoder", False)
        found = []
        for new in _new_tokens(ids, inputs.get("input_ids")):
            new = _up_to_its_end(new, _ends(network), begun)
            text = tokenizer.decode(new, skip_special_tokens=True)
            found.append(Answer(text, len(new) >= wording.max_tokens and int(new[-1]) not in _ends(network)))
        return found

    @property
    def _kind(self) -> str:
        return str(getattr(self.network.config, "model_type", ""))


def check_local_captioner(folder: str | Path) -> None:
    """See that a model can be opened, from what is known without reading its weights.

    Raises: CaptionError, as `load_local_captioner`.
    """
    path = Path(folder)
    config = check_model_folder(path)
    transformers = _transformers()
    _model_class(transformers)
    try:
        transformers.AutoConfig.from_pretrained(str(path), **_OFFLINE)
    except Exception as error:  # whatever transformers raises for a kind that it does not know
        raise CaptionError(_unreadable(path, config, error, transformers.__version__)) from error


def load_local_captioner(
    folder: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> LocalCaptioner:
    """Open a model's folder; no network, no code of its own, no pickles.

    Raises:
        CaptionError: transformers is missing or does not know the model, or the folder is not one.
    """
    path = Path(folder)
    config = check_model_folder(path)
    transformers = _transformers()
    try:
        processor = transformers.AutoProcessor.from_pretrained(str(path), **_OFFLINE)
        network, told = _model_class(transformers).from_pretrained(
            str(path),
            use_safetensors=True,
            output_loading_info=True,
            **{_dtype_name(transformers): dtype},
            **_OFFLINE,
        )
    except CaptionError:
        raise
    except Exception as error:  # whatever transformers and its kin raise for a model that they cannot open
        raise CaptionError(_unreadable(path, config, error, transformers.__version__)) from error
    if not hasattr(processor, "image_processor"):
        raise CaptionError(f"the model in {path} reads text alone: take one that can see pictures.")
    missing = sorted(told["missing_keys"])
    if missing:
        # transformers would fill them with random numbers, and the captions would be noise.
        raise CaptionError(
            f"the weights in {path} lack '{missing[0]}' and {len(missing) - 1} more that this model has in "
            f"transformers {transformers.__version__}: get the model in the form made for transformers."
        )
    return LocalCaptioner(network.eval().requires_grad_(False).to(device), processor, path.name)


class _Watch:
    """Asked by `generate` after every token; stops all of the batch where the user does. No beams."""

    def __init__(self, should_stop: Callable[[], bool], on_token: Callable[[int], None]):
        self._should_stop = should_stop
        self._on_token = on_token
        self._count = 0
        self.stopped = False

    def __call__(self, input_ids: Tensor, _scores: Any, **_options: Any) -> Tensor:
        self._count += 1
        self._on_token(self._count)
        self.stopped = self._should_stop()
        return torch.full((input_ids.shape[0],), self.stopped, device=input_ids.device, dtype=torch.bool)


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise CaptionError(
            "a captioning model on this machine needs the Python package transformers, which cannot be "
            f"imported ({error}): install it (4.48 or newer), or caption through a server."
        ) from None
    return transformers


def _model_class(transformers: Any) -> Any:
    """The class that opens any image-text-to-text model, by its name now or then."""
    for name in ("AutoModelForImageTextToText", "AutoModelForVision2Seq"):
        if hasattr(transformers, name):
            return getattr(transformers, name)
    raise CaptionError(
        f"transformers {transformers.__version__} is too old for captioning models: install 4.48 or newer, "
        "or caption through a server."
    )


def _dtype_name(transformers: Any) -> str:
    version = tuple(int(part) for part in transformers.__version__.split(".")[:2])
    return "dtype" if version >= _NEW_DTYPE_NAME else "torch_dtype"


def _unreadable(folder: Path, config: dict[str, Any], error: Exception, version: str) -> str:
    """One sentence on a model that transformers did not open."""
    kind = str(config.get("model_type", "unknown"))[:60]
    if needs_code(config):
        return (
            f"the model in {folder} ('{kind}') wants to run code of its own, which is never done, and "
            f"transformers {version} cannot open it without: take one that transformers itself knows, or "
            "caption through a server."
        )
    reason = " ".join(str(error).split())[:200]
    return (
        f"transformers {version} cannot open the model in {folder} ('{kind}'; {type(error).__name__}: "
        f"{reason}): check that the folder is whole, update transformers, or caption through a server."
    )


def _generation_config(network: Any, wording: Wording) -> Any:
    """The model's own, apart from how long and how freely it speaks."""
    config = copy.deepcopy(network.generation_config)
    config.max_new_tokens = wording.max_tokens
    config.max_length = None
    config.num_beams = 1
    config.do_sample = wording.temperature > 0
    config.temperature = wording.temperature if config.do_sample else None
    if not config.do_sample:
        config.top_p = config.top_k = None
    return config


@contextmanager
def _random_numbers_of(wording: Wording, device: torch.device) -> Iterator[None]:
    """Within the block random numbers are the wording's; after it they go on as if it had not been."""
    if not wording.temperature:
        yield
        return
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(wording.seed)
        yield


def _new_tokens(ids: Tensor, asked: Tensor | None) -> Tensor:
    """What the model added to each of [B, n] tokens; some models give the request back before it."""
    if asked is None or ids.shape[1] < asked.shape[1] or not torch.equal(ids[:, : asked.shape[1]], asked):
        return ids
    return ids[:, asked.shape[1] :]


def _up_to_its_end(new: Tensor, ends: tuple[int, ...], begun: bool) -> Tensor:
    """Without what fills the row up after its end, where others of the batch went on.

    begun: the first token is no answer yet.
    """
    for position, token in enumerate(new.tolist()):
        if token in ends and position >= begun:
            return new[: position + 1]
    return new


def _ends(network: Any) -> tuple[int, ...]:
    end = network.generation_config.eos_token_id
    return tuple(end) if isinstance(end, list | tuple) else () if end is None else (int(end),)
