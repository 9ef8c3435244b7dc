"""The person's own models: brought in from a folder, from the hub, or out of Stable Diffusion."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from digseg.errors import ModelError, ModelNotFoundError, OutputExistsError, UsageError
from digseg.model.registry import ModelInfo, describe, local_folder, shipped_folder

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

#: What a model folder may hold; everything else is left behind.
_KEPT = (".safetensors", ".json", ".txt", ".md")
_SAFE = ("*.safetensors", "*.json", "*.txt", "*.md", "LICENSE")


def import_model(
    folder: str | os.PathLike[str], name: str | None = None, *, overwrite: bool = False
) -> ModelInfo:
    """Check a model folder by loading it, and copy it to the local models.

    Parameters
    ----------
    name
        Under which ``--model`` finds it; the folder's own by default.

    Raises
    ------
    ModelNotFoundError
        There is no such folder.
    ModelError
        It can't be loaded, or holds pickles or code.
    OutputExistsError
        A local model of that name is there and ``overwrite`` is false.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise ModelNotFoundError(f"There is no folder {str(folder)!r}.")
    chosen = name or path.resolve().name
    target = _place(chosen, overwrite)
    check_model(path)
    write_folder(target, lambda partial: _copy(path, partial), overwrite=overwrite)
    return describe(target, chosen, shipped=False)


def fetch_model(hub_id: str, name: str | None = None, *, overwrite: bool = False) -> ModelInfo:
    """Download a model of this kind from the hub (safetensors and JSON only), and import it.

    Raises
    ------
    UsageError
        The text is no hub id.
    ModelNotFoundError
        The hub can't be reached, or has no such model.
    ModelError
        It is of another kind.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", hub_id):
        raise UsageError(f"{hub_id!r} is no hub id: write OWNER/NAME.")
    chosen = name or hub_id.split("/")[1]
    _place(chosen, overwrite)
    from huggingface_hub import snapshot_download

    patterns = [*_SAFE, *(f"*/{pattern}" for pattern in _SAFE)]
    try:
        folder = Path(snapshot_download(hub_id, allow_patterns=patterns))
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise ModelNotFoundError(
            f"{hub_id!r} could not be downloaded from the hub ({reason.rstrip('.')}): connect to "
            "the network, or download it elsewhere and use `models import FOLDER`."
        ) from error
    return import_model(folder, chosen, overwrite=overwrite)


def convert_model(
    folder: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    **choices: Any,
) -> ModelInfo:
    """Make a model folder of a Stable Diffusion checkpoint, see `digseg.model.convert`.

    Raises
    ------
    OutputExistsError
        ``target`` is there and ``overwrite`` is false.
    """
    place = Path(target).expanduser()
    refuse_existing(place, overwrite)
    from digseg.model.adapter import quiet
    from digseg.model.convert import from_stable_diffusion

    with quiet():
        pipeline = from_stable_diffusion(folder, **choices)
        card = _converted_card(os.fspath(folder), pipeline.scheduler.config.prediction_type)

        def write(partial: Path) -> None:
            pipeline.save_pretrained(partial)
            (partial / "README.md").write_text(card, encoding="utf-8")

        write_folder(place, write, overwrite=overwrite)
    return describe(place, place.name, shipped=False)


def check_model(folder: Path) -> None:
    """Load a folder once and throw it away.

    Raises
    ------
    ModelError
        It can't be loaded, or holds pickles or code.
    """
    index = folder / "model_index.json"
    try:
        kind = json.loads(index.read_text(encoding="utf-8")).get("_class_name")
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, AttributeError) as error:
        raise ModelError(f"{folder} is no model: it has no readable model_index.json.") from error
    if kind != "DiGSegPipeline":
        hint = (
            "use `models convert` for a Stable Diffusion checkpoint"
            if "StableDiffusion" in str(kind)
            else "give the folder of a DiGSegPipeline"
        )
        raise ModelError(f"{folder} holds a {kind}, no DiGSegPipeline: {hint}.")
    from digseg.model.adapter import load

    load(folder, device="cpu")


def write_folder(target: Path, write: Callable[[Path], object], *, overwrite: bool = False) -> None:
    """Let ``write`` fill a folder beside ``target``, then rename it."""
    refuse_existing(target, overwrite)
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        write(partial)
        if target.exists():
            shutil.rmtree(target)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def refuse_existing(target: Path, overwrite: bool) -> None:
    """Stop before the work where its output would have to replace something.

    Raises
    ------
    OutputExistsError
        Something is in ``target`` and ``overwrite`` is false.
    """
    if target.exists() and not overwrite and (target.is_file() or any(target.iterdir())):
        raise OutputExistsError(f"{target} is there already: use another name, or --overwrite.")


def _place(name: str, overwrite: bool) -> Path:
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name for a model: use letters, digits, dot and dash.")
    if (shipped_folder() / name).exists():
        raise UsageError(f"{name!r} is the name of a shipped model: use another with --name.")
    target = local_folder() / name
    refuse_existing(target, overwrite)
    return target


def _copy(source: Path, target: Path) -> None:
    for file in sorted(source.rglob("*")):
        if file.is_file() and (file.suffix in _KEPT or file.name == "LICENSE"):
            place = target / file.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)


def _converted_card(source: str, prediction: str) -> str:
    name = Path(source).name if Path(source).is_dir() else source
    return (
        "---\n"
        "license: that of the checkpoint it was made of\n"
        f"summary: {name} converted; to be trained before it segments\n"
        "---\n\n"
        f"# {name}, converted\n\n"
        "Made by `napari-digseg models convert`: the U-Net's first convolution reads image and "
        "mask latents, a text pathway was added that starts at zero, and the schedule is "
        f"trailing ({prediction}). It computes what the checkpoint computed; masks come after "
        "training (`napari-digseg train DATA --model FOLDER -o DIR`).\n"
    )
