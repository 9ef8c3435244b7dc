"""Fine-tuning inside the engine's process: a labelled set to a model folder. No Qt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from digseg.events import CancelToken
from digseg.types import AnyArray, Float32Array
from napari_digseg._protocol import Message


def fine_tune(
    command: Message, token: CancelToken, say: Callable[[Message], None]
) -> dict[str, Any]:
    """Train on ``command["data"]`` and say the loss as it falls.

    Returns
    -------
    What the viewer is told: the model's folder, the loss plot and a before/after picture.

    Raises
    ------
    DigsegError
        The set is broken, the folder is there already, or the person stopped.
    """
    from digseg.train.job import TrainJob, run_job
    from digseg.train.layouts.prepare import prepare_any
    from digseg.train.loop import Progress
    from digseg.train.settings import TrainSettings

    output = Path(command["output"])
    prepared = prepare_any([command["data"]], layout=None, use=None, split="train")
    settings = TrainSettings(
        minutes=float(command["minutes"]),
        batch=int(command["batch"]),
        rate=float(command["rate"]),
        encoder_rate=0.0,
        log_every=1,
    )

    def listen(stage: int, done: Progress) -> None:
        token.check()
        say(
            {
                "say": "loss",
                "id": command["id"],
                "step": done.step,
                "share": done.share,
                "loss": done.losses.get("loss", 0.0),
            }
        )

    # Never over what is there: it may be anything that the person picked.
    job = TrainJob(output, command["model"], stage2=int(command["steps"]), settings=settings)
    told = run_job(job, prepared, listen)
    picture = output / "before-after.png"
    _before_after(command, str(told["model"]), picture)
    return {"model": str(told["model"]), "picture": str(picture)}


def _before_after(command: Message, model: str, path: Path) -> None:
    """The first picture of the set: as it is, as the old model sees it, as the new one does."""
    from PIL import Image

    from digseg.engine import LabelRule
    from digseg.model import load
    from digseg.prompts import PromptSet
    from digseg.settings import SegmentSettings
    from napari_digseg._preview import shrunk

    prompts = PromptSet.from_list(command["prompts"])
    first = sorted((Path(command["data"]) / "images").iterdir())[0]
    with Image.open(first) as opened:
        shown = np.asarray(opened.convert("RGB"))
    pixels: Float32Array = np.moveaxis(shown, -1, 0).astype(np.float32) / np.float32(255)
    rule = LabelRule(prompts, SegmentSettings())
    colors = np.array([(0, 0, 0), *(p.color for p in prompts.positive)], np.uint8)
    panels: list[AnyArray] = []
    for name in (command["model"], model):
        seen = load(name, device="auto", steps=1, ensemble=1, seed=0)
        tile, rows, columns = shrunk(pixels, 512, seen.multiple)
        answer = seen(tile[None], tuple(prompts))[0][:, : rows.new, : columns.new]
        values = np.rint(answer * 255).astype(np.uint8)
        labels = rule(values, np.ones(values.shape[1:], np.uint8))
        small = np.asarray(Image.fromarray(shown).resize((columns.new, rows.new)))
        blended = np.where(labels[..., None] > 0, small // 2 + colors[labels] // 2, small).astype(
            np.uint8
        )
        panels.append(blended)
    gap = np.full((panels[0].shape[0], 8, 3), 255, np.uint8)
    Image.fromarray(np.concatenate([panels[0], gap, panels[1]], axis=1)).save(path)
