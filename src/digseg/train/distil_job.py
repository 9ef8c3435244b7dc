"""Distilling as a whole job: a model folder in, a model folder with a mask decoder out."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import safe_open

from digseg.model.adapter import quiet
from digseg.model.collect import refuse_existing, write_folder
from digseg.model.pipeline import DiGSegPipeline
from digseg.model.registry import ModelInfo, describe, find_model
from digseg.train.distil import DistilSettings, distil_pipeline
from digseg.train.layouts.prepare import prepare_any
from digseg.train.shapes import draw_shapes, masks_of


def distil_model(
    model: str | os.PathLike[str],
    target: str | os.PathLike[str],
    data: Sequence[str | Path] = (),
    settings: DistilSettings | None = None,
    *,
    overwrite: bool = False,
    listen: Callable[[str], None] | None = None,
) -> tuple[ModelInfo, dict[str, float]]:
    """Distil a model folder's mask decoder and save the model with it as another folder.

    Parameters
    ----------
    model
        Name or folder.
    data
        Labelled data (any that `train` takes) whose ``train`` masks are learned from; made-up
        shapes where there are none.

    Raises
    ------
    UsageError
        The model has a mask decoder already.
    ModelNotFoundError, ModelError, DatasetError
        The model or the data can't be read.
    OutputExistsError
        ``target`` holds something and ``overwrite`` is false.
    """
    place, info = Path(target).expanduser(), find_model(model)
    refuse_existing(place, overwrite)
    with quiet():
        pipeline = DiGSegPipeline.from_pretrained(info.folder).to(torch.float32)
    kept = _kept_type(info.folder)
    draw = masks_of(prepare_any(data)) if data else draw_shapes
    found = distil_pipeline(pipeline, draw, settings, listen)
    card = info.card.rstrip() or f"# {info.name}"
    card += (
        "\n\nIts mask decoder was distilled from the VAE's decoder (`napari-digseg models "
        f"distil`): IoU of masks {found['distilled_iou']:.4f}, through the VAE "
        f"{found['full_iou']:.4f}.\n"
    )

    def write(partial: Path) -> None:
        pipeline.to(kept)
        pipeline.save_pretrained(partial)
        (partial / "README.md").write_text(card, encoding="utf-8")
        if (info.folder / "LICENSE").is_file():
            shutil.copyfile(info.folder / "LICENSE", partial / "LICENSE")

    with quiet():
        write_folder(place, write, overwrite=overwrite)
    return describe(place, place.name, shipped=False), found


def _kept_type(folder: Path) -> torch.dtype:
    """The kind of number that a folder's U-Net is stored in."""
    file = next((folder / "unet").glob("*.safetensors"))
    with safe_open(file, framework="pt") as opened:
        first: torch.Tensor = opened.get_tensor(next(iter(opened.keys())))
    return first.dtype
