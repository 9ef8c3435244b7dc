"""A whole training job: both stages, the final model folder, the loss plot, a record."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from digseg.errors import MissingExtraError, OutputError, OutputExistsError, UsageError
from digseg.model import DiGSegPipeline
from digseg.model.adapter import quiet
from digseg.model.collect import write_folder
from digseg.model.fresh import Layout, new_pipeline
from digseg.model.registry import DEFAULT, find_model
from digseg.train.loop import Progress
from digseg.train.plot import plot_loss, read_log
from digseg.train.run import Prepared, train_sets
from digseg.train.settings import TrainSettings


@dataclass(frozen=True)
class TrainJob:
    """What is trained, from what, for how long.

    Parameters
    ----------
    output
        Folder: ``stage1``, ``stage2`` (checkpoints, ``loss.csv``), ``model``, ``loss.png``.
    model
        Name or folder of the model to begin with.
    fresh
        Keep only its text tower and mask autoencoder: everything else starts at random.
    stage1, stage2
        Optimizer steps of each stage; 0 leaves it out.
    settings
        Everything else; its ``stage`` and ``steps`` are set for each stage.
    mix
        Mix file; `None` for that of the default model.
    resume, overwrite
        Go on in a folder that is there, or replace it.
    """

    output: Path
    model: str = DEFAULT
    fresh: bool = False
    stage1: int = 0
    stage2: int = 2000
    settings: TrainSettings = field(default_factory=TrainSettings)
    mix: Path | None = None
    resume: bool = False
    overwrite: bool = False

    def stages(self) -> list[tuple[Path, TrainSettings]]:
        """Folder and settings of each stage that is done.

        Raises
        ------
        UsageError
            There is none.
        """
        done = []
        for number, steps in ((1, self.stage1), (2, self.stage2)):
            if steps < 0:
                raise UsageError(f"Stage {number} can't have {steps} steps.")
            if steps:
                settings = replace(self.settings, stage=number, steps=steps)
                done.append((self.output / f"stage{number}", settings))
        if not done:
            raise UsageError("Nothing is to be done: give --stage1 or --stage2 some steps.")
        return done


def run_job(
    job: TrainJob, prepared: Prepared, listen: Callable[[int, Progress], None] | None = None
) -> dict[str, Any]:
    """Train; returns what `training.json` in the output folder says.

    Parameters
    ----------
    listen
        Called with the stage's number and the progress.

    Raises
    ------
    OutputExistsError
        Something is in the output folder and neither ``resume`` nor ``overwrite`` is set.
    ResumeError
        A checkpoint there doesn't fit.
    """
    stages = job.stages()
    _need_extras(job.settings)
    from accelerate import PartialState

    state = PartialState()
    if state.is_main_process:  # of several processes one makes the place for all
        _make_place(job)
    state.wait_for_everyone()
    with quiet():
        pipeline = _first(job)
    for folder, settings in stages:
        number = settings.stage
        heard = (lambda done, n=number: listen(n, done)) if listen is not None else None
        for part in (pipeline.unet, *_trained_parts(pipeline)):
            part.requires_grad_(True)  # the stage before froze what it has no loss for
        pipeline = train_sets(pipeline, prepared, settings, folder, job.mix, heard)
        if settings.lora_rank:
            # What was learned beside the weights becomes part of them, so that any reader of
            # the folder has it, and the next stage can begin anew.
            pipeline.unet.fuse_lora()
            pipeline.unet.unload_lora()
    told = _record(job, stages, prepared)
    if state.is_main_process:
        with quiet():
            write_folder(job.output / "model", pipeline.save_pretrained, overwrite=True)
        _write_text(job.output / "training.json", json.dumps(told, indent=1))
        plot_loss([folder for folder, _ in stages], job.output / "loss.png")
    return told


def _first(job: TrainJob) -> DiGSegPipeline:
    import torch

    pipeline = DiGSegPipeline.from_pretrained(find_model(job.model).folder)
    # Weights that ship are in half precision: the optimizer needs all digits.
    pipeline.to(torch.float32)
    if not job.fresh:
        return pipeline
    made = new_pipeline(
        Layout(latents=pipeline.parts.mask_channels),
        pipeline.vae,
        pipeline.text_encoder,
        pipeline.tokenizer,
        seed=job.settings.seed,
    )
    given = pipeline.text_pathway
    mine = made.text_pathway.projection
    if given is not None and given.projection.weight.shape == mine.weight.shape:
        # Part of the text tower: it never learns, and says which words are alike.
        mine.load_state_dict(given.projection.state_dict())
    return made


def _trained_parts(pipeline: DiGSegPipeline) -> list[Any]:
    parts = (pipeline.text_pathway, pipeline.image_encoder, pipeline.mask_decoder)
    return [part for part in parts if part is not None]


def _make_place(job: TrainJob) -> None:
    output = job.output
    if output.is_file():
        raise OutputError(f"{output} is a file: name a folder.")
    if output.is_dir() and any(output.iterdir()) and not job.resume:
        if not job.overwrite:
            raise OutputExistsError(
                f"{output} holds something already: use --resume to go on there, or --overwrite."
            )
        shutil.rmtree(output)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {output} can't be made: {error}.") from error


def _record(
    job: TrainJob, stages: list[tuple[Path, TrainSettings]], prepared: Prepared
) -> dict[str, Any]:
    infos, pictures = prepared
    logged = {folder.name: read_log(folder) for folder, _ in stages}
    return {
        "model": str(job.output / "model"),
        "begun_with": job.model,
        "fresh": job.fresh,
        "sets": [
            {"name": info.name, "pictures": len(pictures[info.name]), "licence": info.licence}
            for info in infos
        ],
        "stages": {
            folder.name: {
                "settings": settings.to_dict(),
                "steps": int(rows[-1]["step"]) if rows else settings.steps,
                "seconds": rows[-1]["seconds"] if rows else None,
                "pictures_per_second": rows[-1]["pictures_per_second"] if rows else None,
                "loss": rows[-1].get("loss") if rows else None,
            }
            for folder, settings in stages
            for rows in (logged[folder.name],)
        },
    }


def _write_text(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def _need_extras(settings: TrainSettings) -> None:
    """Say what is not installed before a folder is made."""
    import importlib.util

    if importlib.util.find_spec("accelerate") is None:
        raise MissingExtraError("Training needs accelerate: pip install 'napari-digseg[train]'.")
    if settings.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise MissingExtraError("TensorBoard is not installed: pip install tensorboard.")
