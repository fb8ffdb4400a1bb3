"""`caption`: a sentence per picture on what in it evokes the emotion."""

from __future__ import annotations

from contextlib import nullcontext
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .answer import Answer
from .options import Device, Json, SetFolder, pick_device
from .progress import progress_bar

if TYPE_CHECKING:
    import torch


class Redo(str, Enum):
    """What is asked again although there is an answer."""

    none = "none"
    faulty = "faulty"
    rejected = "rejected"
    all = "all"
    given = "given"
    blind = "blind"


class Split(str, Enum):
    """Which pictures."""

    all = "all"
    train = "train"
    val = "val"
    test = "test"


class Dtype(str, Enum):
    """How a local model's weights are held."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


def caption(
    set_folder: SetFolder,
    model: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="An image-text-to-text model of transformers.")
    ] = None,
    server: Annotated[
        str | None, typer.Option(metavar="URL", help="OpenAI-compatible, such as http://127.0.0.1:11434/v1.")
    ] = None,
    server_model: Annotated[
        str,
        typer.Option(metavar="NAME", help="Its name there; the first that the server lists unless given."),
    ] = "",
    attempts: Annotated[
        int, typer.Option(min=1, help="Answers to a picture at most, until one is usable.")
    ] = 3,
    max_tokens: Annotated[
        int,
        typer.Option(min=1, help="Where an answer is cut off; models that think aloud need 1000 and more."),
    ] = 256,
    temperature: Annotated[
        float, typer.Option(min=0, help="Of first attempts; 0: the likeliest words.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of whatever is drawn by chance.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="With --model: pictures at once.")] = 8,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="With --server: requests at once.")] = 8,
    timeout: Annotated[float, typer.Option(min=1, help="With --server: seconds for one answer.")] = 120.0,
    tries: Annotated[
        int, typer.Option(min=1, max=20, help="With --server: how often a failed request is sent.")
    ] = 6,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="PICTURES", help="Ask about so many in this run.")
    ] = None,
    max_requests: Annotated[
        int | None, typer.Option(min=1, help="With --server: send so many requests in this run, never more.")
    ] = None,
    max_minutes: Annotated[float | None, typer.Option(min=0, help="Then begin nothing new.")] = None,
    split: Annotated[Split, typer.Option(help="Which pictures.")] = Split.all,
    redo: Annotated[
        Redo,
        typer.Option(
            help="Ask again: faulty answers; what a person rejected; all that another model or setting "
            "wrote; captions given with the source; blind judgements of another model."
        ),
    ] = Redo.none,
    blind: Annotated[
        bool, typer.Option("--blind", help="Then judge which emotion each sentence alone evokes.")
    ] = False,
    device: Device = "auto",
    dtype: Annotated[
        Dtype, typer.Option(help="With --model; auto: bf16 or fp16 on a GPU, else fp32.")
    ] = Dtype.auto,
    as_json: Json = False,
) -> Answer:
    """Write a sentence per picture on what in it evokes its emotion, by a local model or a server.

    Captions that came with the pictures, and those of persons, stay. Stopped at any moment, it goes on where
    it was; several processes (accelerate launch, or the same command on machines that see the folder) share
    it. A server's key is read from COEMOGEN_CAPTION_KEY.

    \b
    Example: coemogen_train caption sets/mine --server http://127.0.0.1:11434/v1 --server-model qwen2.5vl
    """
    from ..captions import Wording
    from ..data import TrainingSet
    from ..data.captioning import CaptionOptions, LocalWriter, ServerWriter, Writer, caption_set
    from ..data.sharedwork import Crew
    from ..errors import UserError

    if (model is None) == (server is None):
        raise UserError("say who writes the captions: either --model FOLDER or --server URL.")
    if server is None and max_requests is not None:
        raise UserError("--max-requests is for a server: a local model has --limit and --max-minutes.")
    training_set = TrainingSet.open(set_folder)
    crew = Crew.from_environment()
    writer: Writer
    if model is not None:
        place = pick_device(device)
        writer = LocalWriter(model, place, _dtype(dtype, place), batch_size)
    else:
        writer = ServerWriter(_opener(str(server), timeout, tries), server_model, concurrency)
    options = CaptionOptions(
        Wording(max_tokens, temperature, seed),
        attempts,
        None if split is Split.all else split.value,
        redo.value,
        blind,
        limit,
        max_requests,
        max_minutes,
    )
    with progress_bar() if crew.speaks else nullcontext() as progress:
        report = caption_set(training_set, writer, options, crew, progress)
    return Answer({"set": set_folder, **report.to_dict()}, report.tables())


def _opener(url: str, timeout: float, tries: int) -> Any:
    from ..captions import ServerCaptioner

    def opened(name: str, on_request: Any) -> ServerCaptioner:
        return ServerCaptioner(
            url, name, timeout=timeout, tries=tries, wait_for_it=True, on_request=on_request
        )

    return opened


def _dtype(wanted: Dtype, place: str) -> torch.dtype:
    import torch

    if wanted is Dtype.auto:
        if place.startswith("cuda"):
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        return torch.float16 if place.startswith("mps") else torch.float32
    return {Dtype.fp32: torch.float32, Dtype.bf16: torch.bfloat16, Dtype.fp16: torch.float16}[wanted]
