"""Every choice of a training run in one frozen object; the defaults stand here and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from math import inf, isfinite
from typing import Any

from digseg.errors import UsageError

#: ``encoder_rate`` where the trunk is to learn, too: for runs of a few hundred steps.
TUNED_ENCODER_RATE = 2e-4

#: Numbers that have bounds alone: how a person names them, the smallest and the largest value.
_RANGES: Mapping[str, tuple[str, float, float]] = {
    "minutes": ("limit in minutes", 0, inf),
    "match_share": ("share of steps without the U-Net", 0, 1),
    "match_weight": ("weight of direct matches", 0, inf),
    "rate": ("learning rate", 0, inf),
    "encoder_rate": ("image encoder's learning rate", 0, inf),
    "encoder_from": ("image encoder's first stage that learns", 0, 7),
    "weight_decay": ("weight decay", 0, inf),
    "warmup": ("number of steps of warm-up", 0, inf),
    "decay": ("share of the run with a falling rate", 0, 1),
    "diffusion_share": ("share of steps that repeat stage 1", 0, 1),
    "latent_weight": ("weight of mask latents", 0, inf),
    "text_dropout": ("chance of an empty text", 0, 1),
    "clip": ("largest norm of the gradient", 0, inf),
    "checkpoint_minutes": ("number of minutes between checkpoints", 0, inf),
    "lora_rank": ("rank of low-rank updates", 0, inf),
    "threads": ("number of threads", 0, inf),
}

#: What may be another when a run is taken up again: it changes how long is trained and what is
#: seen of it, not what a step learns.
FREE_ON_RESUME = frozenset(
    ("steps", "minutes", "checkpoint_minutes", "log_every", "threads", "tensorboard",
     "gradient_checkpointing")
)  # fmt: skip


@dataclass(frozen=True)
class TrainSettings:
    """How a run is done.

    Parameters
    ----------
    stage
        1: v-prediction over all timesteps on mask latents; 2: one step, end to end.
    steps
        Optimizer steps of the whole run; the schedule ends there.
    minutes
        End after this long if it comes first (0: no such limit); the schedule follows the time.
    batch
        Pictures a step.
    match_batch
        Further pictures a step that are judged by their direct matches with the text alone,
        without the U-Net, at a fraction of the cost. Needs a pipeline that matches directly.
    match_share
        Share of the steps of stage 2 that hold pictures of that kind alone.
    match_weight
        Weight of the direct matches' own loss, over all pictures (0: none).
    rate
        Peak learning rate.
    encoder_rate
        That of the image encoder's trunk; 0: frozen. Where it learns, its norms' statistics
        follow the weights before them.
    encoder_from
        First of the trunk's seven stages that learns then: 4 and later are at 1/16 and 1/32,
        where the backward pass is cheap; 0 trains the stem too.
    warmup
        Steps of linear warm-up; after them the rate stays, and falls to zero as a cosine over
        the last ``decay`` share of the run.
    ema
        Decay of the running mean of the weights (0: none).
    diffusion_share
        Share of the steps of stage 2 that repeat stage 1's loss, so that several steps and
        ensembles keep working.
    latent_weight
        Weight of the mean squared error between predicted and true mask latents in stage 2; 0
        spares encoding the masks, a sixth of a step.
    text_dropout
        Chance that a picture is asked with an empty text in stage 1 (guidance-free pretraining).
    clip
        Largest norm of the gradient.
    checkpoint_minutes, log_every
        How often the state is written, and the loss.
    gradient_checkpointing
        Trade time for memory on full-size networks.
    lora_rank
        Train low-rank updates of the U-Net's attention alone (0: all weights).
    freeze_text_pathway
        Leave the text pathway at zero (the ablation of it).
    mixed_precision
        ``"no"``, ``"bf16"`` or ``"fp16"``, as accelerate names them.
    seed, threads
        Seed of everything random; torch threads (0: leave).
    tensorboard
        Also write TensorBoard events.
    """

    stage: int = 2
    steps: int = 20000
    minutes: float = 0.0
    batch: int = 4
    match_batch: int = 0
    match_share: float = 0.0
    match_weight: float = 0.0
    rate: float = 1e-3
    encoder_rate: float = 0.0
    encoder_from: int = 4
    weight_decay: float = 0.01
    warmup: int = 100
    decay: float = 0.35
    ema: float = 0.998
    diffusion_share: float = 0.08
    latent_weight: float = 0.0
    text_dropout: float = 0.0
    clip: float = 1.0
    checkpoint_minutes: float = 4.0
    log_every: int = 20
    gradient_checkpointing: bool = False
    lora_rank: int = 0
    freeze_text_pathway: bool = False
    mixed_precision: str = "no"
    seed: int = 0
    threads: int = 0
    tensorboard: bool = False

    def __post_init__(self) -> None:
        problems = {
            f"The stage is 1 or 2, not {self.stage}.": self.stage not in (1, 2),
            f"At least one step is needed, not {self.steps}.": self.steps < 1,
            f"The batch can't be {self.batch}.": self.batch < 1,
            "Further pictures to be matched need a weight of their loss above 0.": (
                self.match_batch < 0 or (self.match_batch > 0 and self.match_weight <= 0)
            ),
            "A share of steps without the U-Net needs pictures to be matched in them.": (
                self.match_share > 0 and not self.match_batch
            ),
            f"The EMA decay lies between 0 and 1, not {self.ema}.": not 0 <= self.ema < 1,
            f"{self.mixed_precision!r} is no precision: use no, bf16 or fp16.": (
                self.mixed_precision not in ("no", "bf16", "fp16")
            ),
            f"The loss is told every 1 or more steps, not {self.log_every}.": self.log_every < 1,
            f"The seed lies between 0 and 2^63 - 1, not {self.seed}.": (not 0 <= self.seed < 2**63),
        }
        for name, (words, least, most) in _RANGES.items():
            value = getattr(self, name)
            # Written so that NaN, which compares with nothing, is refused, too.
            good = least <= value <= most and isfinite(value)
            problems[f"The {words} can't be {value}."] = not good
        for name in ("rate", "clip"):
            problems[f"The {_RANGES[name][0]} has to be above 0."] = getattr(self, name) == 0
        for message, wrong in problems.items():
            if wrong:
                raise UsageError(message)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainSettings:
        """Inverse of `to_dict`; an unknown key is an error."""
        unknown = sorted(set(values) - {item.name for item in fields(cls)})
        if unknown:
            raise UsageError(f"There is no training setting named {unknown[0]!r}.")
        return cls(**values)

    def to_json(self) -> str:
        """The same as text."""
        return json.dumps(self.to_dict(), indent=1, sort_keys=True)
