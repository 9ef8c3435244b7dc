"""A whole training job: both stages, the final model folder, the loss plot, a record."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
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
from digseg.train.plot import plot_loss
from digseg.train.record import begin, check_pictures, end, taken_up, write
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
        Go on in a folder that is there, or replace it. What goes on has to be of the same data,
        model and settings, but for how long it lasts and the mix.
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


def check_job(job: TrainJob, inputs: Sequence[str | Path] = ()) -> None:
    """Refuse what can't be trained before minutes of reading pictures.

    Parameters
    ----------
    inputs
        Files and folders that the training reads, which ``overwrite`` may not take away.

    Raises
    ------
    UsageError, MissingExtraError
        There is nothing to do, or something is not installed.
    OutputError
        The output can't be there.
    ResumeError
        What lies there is another training.
    ModelNotFoundError
        There is no such model to begin with.
    """
    stages = job.stages()
    _need_extras(job.settings)
    _check_place(job, inputs)
    find_model(job.model)
    taken_up(job, stages)


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
        A checkpoint there doesn't fit, or the training there is of other data or settings.
    UsageError
        The loss is no longer a number.
    """
    check_job(job)
    check_pictures(job, prepared)
    stages = taken_up(job, job.stages())
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    # Told here as accelerate tells itself later: else processes on CPUs don't know of each other.
    state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))
    if state.is_main_process:  # of several processes one makes the place for all
        _make_place(job)
    state.wait_for_everyone()
    with quiet():
        pipeline = _first(job)
    told = begin(job, stages, prepared)
    if state.is_main_process:
        write(told, job.output)
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
    told = end(told, stages)
    if state.is_main_process:
        with quiet():
            write_folder(job.output / "model", pipeline.save_pretrained, overwrite=True)
        write(told, job.output)
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


def _check_place(job: TrainJob, inputs: Sequence[str | Path]) -> None:
    output = job.output
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output} is a file: name a folder.")
    if not job.resume:
        if not job.overwrite and output.is_dir() and any(output.iterdir()):
            raise OutputExistsError(
                f"{output} holds something already: use --resume to go on there, or --overwrite."
            )
        model = [job.model] if Path(job.model).expanduser().is_dir() else []  # or a name
        for item in (*inputs, *model, *([job.mix] if job.mix else [])):
            path = Path(item).expanduser().resolve()
            if path.is_relative_to(output.resolve()):
                raise OutputError(f"{item} lies in the output folder {output}: name another one.")
    there = next(place for place in (output, *output.absolute().parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise OutputError(f"The folder {output} can't be made: nothing can be written to {there}.")


def _make_place(job: TrainJob) -> None:
    try:
        if job.output.is_dir() and not job.resume:  # `check_job` has seen that it may go
            shutil.rmtree(job.output)
        job.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {job.output} can't be made: {error}.") from error


def _need_extras(settings: TrainSettings) -> None:
    """Say what is not installed before a folder is made."""
    import importlib.util

    if importlib.util.find_spec("accelerate") is None:
        raise MissingExtraError("Training needs accelerate: pip install 'napari-digseg[train]'.")
    if settings.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise MissingExtraError("TensorBoard is not installed: pip install tensorboard.")
