"""A data set of the Hugging Face hub, fetched whole before it is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...errors import DataError
from ...files import atomic_write_text

# In a hidden folder, where the hub's library keeps its own notes too, and no source looks.
_NOTE = Path(".cache") / "fetched.json"


def fetch_hub_set(name: str, folder: Path) -> Path:
    """Fetch the data set `name` ("owner/name", or "owner/name@revision") into `folder`, and return it.

    What arrived before a run was stopped is not fetched again, and once all of it is there the hub is not
    asked again.
    Raises: DataError when the hub cannot be reached, has no such data set, or does not give it to everybody;
    when `folder` holds another one.
    """
    wanted = name.removeprefix("hf:").strip()
    owner_and_name, _, revision = wanted.partition("@")
    if owner_and_name.count("/") != 1:
        raise DataError(f"{name!r} is no data set of the Hugging Face hub: write it as hf:owner/name.")
    there = _noted(folder)
    if there is not None:
        if there != wanted:
            raise DataError(f"{folder} holds the data set {there}: choose another --out for {wanted}.")
        return folder
    _download(owner_and_name, revision or None, folder)
    atomic_write_text(folder / _NOTE, json.dumps({"dataset": wanted}) + "\n")
    return folder


def _download(name: str, revision: str | None, folder: Path) -> None:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    try:
        # Asked first, and compared afterwards: without a network snapshot_download is content with what is
        # there, be it half a data set or another one.
        told = HfApi().dataset_info(name, revision=revision, files_metadata=True)
        snapshot_download(name, repo_type="dataset", revision=told.sha, local_dir=str(folder))
    except GatedRepoError:
        raise DataError(
            f"the data set {name} is given out on request only: ask for it on its page on the hub, log in "
            "with `hf auth login`, and run this again."
        ) from None
    except (RepositoryNotFoundError, HFValidationError):
        raise DataError(
            f"the Hugging Face hub has no data set {name} for you: look at the name, and log in with "
            "`hf auth login` if it is private."
        ) from None
    except Exception as error:
        # Whatever the network, a proxy or the disk has to say comes as an exception of one of several
        # libraries.
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(
            f"the data set {name} could not be fetched from the Hugging Face hub ({said}): look at the "
            "network and run this again, what has arrived is kept."
        ) from None
    lacking = [file.rfilename for file in told.siblings or () if not _is_whole(folder, file)]
    if lacking:
        raise DataError(
            f"{len(lacking)} files of the data set {name} did not arrive whole, such as {lacking[0]}: look "
            "at the network and run this again, what has arrived is kept."
        )


def _is_whole(folder: Path, file: Any) -> bool:
    """Whether a file that the hub told of is there, in its size where that was told."""
    path = folder / file.rfilename
    return path.is_file() and file.size in (None, path.stat().st_size)


def _noted(folder: Path) -> str | None:
    """Which data set is in `folder` as a whole, None for none."""
    try:
        noted = json.loads((folder / _NOTE).read_text(encoding="utf-8"))["dataset"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return noted if isinstance(noted, str) else None
