"""The training loop, on accelerate: one process on a CPU or a GPU, or several."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from digseg.errors import MissingExtraError, UsageError
from digseg.model.pipeline import DiGSegPipeline
from digseg.train.batch import TextCache, collate
from digseg.train.sampler import Sampler
from digseg.train.settings import TrainSettings
from digseg.train.stages import Step, Trainee
from digseg.train.state import FILE, RunningMean, load_state, read_checkpoint, save_state

#: Columns of ``loss.csv``.
COLUMNS = (
    "step", "seconds", "pictures_per_second", "rate",
    "loss", "entropy", "dice", "choice", "match", "latent", "diffusion", "restart",
)  # fmt: skip


@dataclass(frozen=True)
class Progress:
    """What a listener is told every ``log_every`` steps."""

    step: int
    seconds: float
    pictures_per_second: float
    rate: float
    share: float
    losses: dict[str, float]


def factor_of(step: int, share: float, settings: TrainSettings) -> float:
    """Factor on the learning rates: linear warm-up, plateau, cosine at the end.

    ``share`` is how much of the run is done, in [0, 1].
    """
    warm = min(1.0, (step + 1) / settings.warmup) if settings.warmup else 1.0
    left = (1 - share) / settings.decay if settings.decay else 1.0
    return warm * (0.5 - 0.5 * math.cos(math.pi * min(1.0, max(0.0, left))))


def kind_of(settings: TrainSettings, rng: np.random.Generator) -> Step:
    """What the next step is judged by."""
    if settings.stage == 1:
        return "diffusion"
    drawn = rng.random()
    if drawn < settings.diffusion_share:
        return "diffusion"
    return "match" if drawn < settings.diffusion_share + settings.match_share else "mask"


def train(
    pipeline: DiGSegPipeline,
    sampler_of: Callable[[TextCache], Sampler],
    settings: TrainSettings,
    folder: str | Path,
    listen: Callable[[Progress], None] | None = None,
    stop_at: int | None = None,
) -> DiGSegPipeline:
    """Train `pipeline` in place and save it to ``folder/pipeline``.

    A checkpoint in `folder` is taken up; with ``steps`` as the only limit the resumed run equals
    an uninterrupted one bit for bit.

    Parameters
    ----------
    sampler_of
        Builds the sampler, given the text cache (which tells what phrases are alike).
    stop_at
        Stop after this step with a checkpoint and without ending the schedule (tests).

    Returns
    -------
    The pipeline, with the running mean of the weights where there is one.

    Raises
    ------
    MissingExtraError
        accelerate is not installed.
    ResumeError
        The checkpoint in `folder` doesn't fit.
    UsageError
        The loss or its gradient is no longer a number; the last checkpoint stays.
    """
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
        from accelerate.utils import DistributedDataParallelKwargs, broadcast
    except ImportError:
        raise MissingExtraError(
            "Training needs accelerate: pip install 'napari-digseg[train]'."
        ) from None
    if settings.threads:
        torch.set_num_threads(settings.threads)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # An earlier training in this process may have had another precision.
    AcceleratorState._reset_state()
    accelerator = Accelerator(
        mixed_precision=settings.mixed_precision,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    torch.manual_seed(settings.seed + accelerator.process_index)
    rng = np.random.default_rng([settings.seed, accelerator.process_index])
    pipeline.text_encoder.requires_grad_(False).to(accelerator.device)
    # Channels last: a step of the default model takes 0.8 of the time on a CPU.
    layout = torch.channels_last
    trainee = Trainee(pipeline, settings).to(accelerator.device, memory_format=layout).train()
    texts = TextCache(pipeline.tokenizer, pipeline.text_encoder, pipeline.text_pathway)
    sampler = sampler_of(texts)
    optimizer = torch.optim.AdamW(trainee.groups(), betas=(0.9, 0.99), fused=True)
    mean = RunningMean(trainee, settings.ema) if settings.ema else None
    step, before = 0, 0.0
    if (folder / FILE).exists():
        told = load_state(folder, trainee, optimizer, mean, rng)
        step, before = int(told["step"]), float(told["seconds"])
        if accelerator.process_index:  # only the first process's draws are in the checkpoint
            rng = np.random.default_rng([settings.seed, accelerator.process_index, step])
    wrapped, prepared = accelerator.prepare(trainee, optimizer)
    log = _Log(folder, settings, resume=step) if accelerator.is_main_process else None

    began, saved, pictures = time.monotonic(), time.monotonic(), 0
    while True:
        seconds = before + time.monotonic() - began
        share = step / settings.steps
        if settings.minutes:
            share = max(share, seconds / 60 / settings.minutes)
        if accelerator.num_processes > 1:  # one clock, or the processes would end apart
            share = float(broadcast(torch.tensor(share, device=accelerator.device)))
        if share >= 1 or (stop_at is not None and step >= stop_at):
            break
        factor = factor_of(step, share, settings)
        for group in prepared.param_groups:
            group["lr"] = group["initial_lr"] * factor
        # Alike in all processes, which wait for each other: kinds take unlike times.
        kind = kind_of(settings, np.random.default_rng([settings.seed, step]))
        count = {"match": 0, "mask": settings.batch, "diffusion": settings.batch}[kind]
        count += 0 if kind == "diffusion" else settings.match_batch
        batch = collate([sampler.draw(rng) for _ in range(count)], texts, accelerator.device)
        loss, told = wrapped(batch, kind)
        _need_finite(loss.item(), step, folder)
        prepared.zero_grad(set_to_none=True)
        accelerator.backward(loss)
        norm = accelerator.clip_grad_norm_(trainee.parameters(), settings.clip)
        if accelerator.scaler is None:  # which would leave such a step out, and try smaller ones
            _need_finite(float(norm), step, folder)
        prepared.step()
        trainee.track()
        if mean is not None:
            mean.update(trainee)
        step += 1
        pictures += len(batch.pixels) * accelerator.num_processes
        if log is not None:
            log.add({"loss": loss.item(), **told})
            if step % settings.log_every == 0:
                rate = pictures / max(1e-9, time.monotonic() - began)
                done = Progress(step, seconds, rate, settings.rate * factor, share, log.means())
                log.write(done)
                if listen is not None:
                    listen(done)
        if time.monotonic() - saved > settings.checkpoint_minutes * 60:
            saved = time.monotonic()
            if accelerator.is_main_process:
                _save(folder, pipeline, trainee, optimizer, mean, rng, step, before + saved - began)
    if accelerator.is_main_process:
        spent = before + time.monotonic() - began
        _save(folder, pipeline, trainee, optimizer, mean, rng, step, spent)
        if log is not None:
            log.close()
    if mean is not None:
        mean.swap(trainee)
    return pipeline


def _need_finite(value: float, step: int, folder: Path) -> None:
    """Stop before a step that would turn all weights into nothing."""
    if math.isfinite(value):
        return
    kept = read_checkpoint(folder)
    left = f"the checkpoint of step {kept.step} stays" if kept else "no checkpoint was written yet"
    raise UsageError(
        f"The loss is no number any more at step {step + 1} ({left}): train anew with a lower "
        "learning rate (--lr), or look for broken pictures."
    )


def _save(
    folder: Path,
    pipeline: DiGSegPipeline,
    trainee: Trainee,
    optimizer: torch.optim.Optimizer,
    mean: RunningMean | None,
    rng: np.random.Generator,
    step: int,
    seconds: float,
) -> None:
    """Checkpoint, and the pipeline as it would be used now."""
    save_state(folder, trainee, optimizer, mean, rng, {"step": step, "seconds": seconds})
    if trainee.settings.lora_rank:
        return  # no reader takes a U-Net with adapters; `train.job` folds them in at the end
    if mean is not None:
        mean.swap(trainee)
    pipeline.save_pretrained(folder / "pipeline", safe_serialization=True)
    if mean is not None:
        mean.swap(trainee)


class _Log:
    """``loss.csv`` and, where wanted, TensorBoard events."""

    def __init__(self, folder: Path, settings: TrainSettings, resume: int) -> None:
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        file = folder / "loss.csv"
        kept = []
        if resume and file.exists():  # drop what was logged after the checkpoint
            with file.open(newline="") as opened:
                kept = [row for row in csv.DictReader(opened) if int(row["step"]) <= resume]
        self.file = file
        self._write_rows("w", kept)
        self.board: Any = None
        if settings.tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise MissingExtraError(
                    "TensorBoard is not installed: pip install tensorboard."
                ) from None
            self.board = SummaryWriter(folder / "tensorboard")

    def add(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        """Means since the last call."""
        means = {name: total / self.counts[name] for name, total in self.sums.items()}
        self.sums, self.counts = {}, {}
        return means

    def write(self, done: Progress) -> None:
        row: dict[str, Any] = {
            "step": done.step,
            "seconds": f"{done.seconds:.1f}",
            "pictures_per_second": f"{done.pictures_per_second:.3f}",
            "rate": f"{done.rate:.3e}",
        }
        row |= {name: f"{value:.5f}" for name, value in done.losses.items()}
        self._write_rows("a", [row])
        if self.board is not None:
            for name, value in done.losses.items():
                self.board.add_scalar(name, value, done.step)

    def _write_rows(self, mode: Literal["w", "a"], rows: Sequence[Mapping[str, Any]]) -> None:
        # Opened for each line, so that a run that stops half-way leaves nothing open.
        with self.file.open(mode, newline="") as opened:
            writer = csv.DictWriter(opened, COLUMNS)
            if mode == "w":
                writer.writeheader()
            writer.writerows(rows)

    def close(self) -> None:
        if self.board is not None:
            self.board.close()
