"""The state of a run in one safetensors file: weights, optimizer, running mean, random states.

No pickle: a checkpoint that came from elsewhere can't run code. The file is written under a
temporary name and renamed, so a kill leaves the last whole one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from digseg.errors import ResumeError
from digseg.train.settings import TrainSettings
from digseg.train.stages import Trainee

FILE = "checkpoint.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint tells of itself, without its tensors.

    Parameters
    ----------
    settings
        As they were written, perhaps by another version: values of `TrainSettings`.
    step, seconds
        Optimizer steps done, and how long they took.
    """

    settings: Mapping[str, Any]
    step: int
    seconds: float

    @property
    def steps_asked(self) -> int:
        """Steps after which its stage was to end."""
        return int(self.settings.get("steps", self.step))


class RunningMean:
    """Exponential mean of what changes; early on the decay grows as (1 + n) / (10 + n)."""

    def __init__(self, trainee: Trainee, decay: float) -> None:
        self.decay = decay
        self.count = 0
        self.mean = {name: p.detach().clone() for name, p in trainee.changing()}

    @torch.no_grad()
    def update(self, trainee: Trainee) -> None:
        """Take the present weights in."""
        self.count += 1
        keep = min(self.decay, (1 + self.count) / (10 + self.count))
        for name, parameter in trainee.changing():
            self.mean[name].lerp_(parameter.detach(), 1 - keep)

    @torch.no_grad()
    def swap(self, trainee: Trainee) -> None:
        """Exchange weights and mean: before an export, and again after it."""
        for name, parameter in trainee.changing():
            held = parameter.detach().clone()
            parameter.copy_(self.mean[name])
            self.mean[name] = held


def save_state(
    folder: Path,
    trainee: Trainee,
    optimizer: torch.optim.Optimizer,
    mean: RunningMean | None,
    rng: np.random.Generator,
    told: dict[str, Any],
) -> None:
    """Write everything that a resumed run needs to go on bit for bit."""
    tensors: dict[str, torch.Tensor] = {"torch": torch.get_rng_state()}
    for name, parameter in trainee.changing():
        tensors[f"model/{name}"] = parameter.detach().cpu()
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer/{key}/{name}"] = torch.as_tensor(value).detach().cpu()
        if mean is not None:
            tensors[f"mean/{name}"] = mean.mean[name].cpu()
    notes = {
        "told": json.dumps({**told, "mean_count": mean.count if mean else 0}),
        "numpy": json.dumps(rng.bit_generator.state),
        "settings": trainee.settings.to_json(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / (FILE + ".part")
    save_file({k: v.contiguous().clone() for k, v in tensors.items()}, part, metadata=notes)
    os.replace(part, folder / FILE)


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """What the checkpoint in `folder` tells of itself; `None` where there is none.

    Raises
    ------
    ResumeError
        It is damaged.
    """
    file = folder / FILE
    if not file.exists():
        return None
    try:
        with safe_open(file, framework="pt") as opened:
            notes = opened.metadata()
        told = json.loads(notes["told"])
        settings = json.loads(notes["settings"])
        return Checkpoint(settings, int(told["step"]), float(told["seconds"]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ResumeError(
            f"The checkpoint {file} can't be read ({error}): remove it to begin that stage anew."
        ) from error


def _laid_out(value: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """A moment in its parameter's memory order, which the fused optimizer takes for granted."""
    if value.shape != parameter.shape:
        return value  # the count of steps stays on the CPU
    return torch.empty_like(parameter).copy_(value)


def load_state(
    folder: Path,
    trainee: Trainee,
    optimizer: torch.optim.Optimizer,
    mean: RunningMean | None,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Take a run up again; returns what was told to `save_state`.

    Raises
    ------
    ResumeError
        The checkpoint is damaged or belongs to other networks.
    """
    file = folder / FILE
    try:
        with safe_open(file, framework="pt") as opened:
            notes = opened.metadata()
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ResumeError(f"The checkpoint {file} can't be read ({error}).") from error
    before = TrainSettings.from_dict(json.loads(notes["settings"]))
    if before.stage != trainee.settings.stage:
        raise ResumeError(
            f"The checkpoint {file} is of stage {before.stage}, not of {trainee.settings.stage}."
        )
    changing = dict(trainee.changing())
    wanted, given = set(changing), {k[6:] for k in tensors if k.startswith("model/")}
    if wanted != given:
        raise ResumeError(
            f"The checkpoint {file} is of another network: "
            f"{sorted(wanted ^ given)[0]} is not in both."
        )
    with torch.no_grad():
        for name, parameter in changing.items():
            parameter.copy_(tensors[f"model/{name}"])
            state = {
                key.split("/", 2)[1]: _laid_out(value, parameter)
                for key, value in tensors.items()
                if key.startswith("optimizer/") and key.split("/", 2)[2] == name
            }
            if state:
                optimizer.state[parameter] = state
            if mean is not None and f"mean/{name}" in tensors:
                mean.mean[name].copy_(tensors[f"mean/{name}"])
    torch.set_rng_state(tensors["torch"])
    rng.bit_generator.state = json.loads(notes["numpy"])
    told: dict[str, Any] = json.loads(notes["told"])
    if mean is not None:
        mean.count = int(told["mean_count"])
    return told
