"""A one-channel mask decoder that answers as a pipeline's full decoder does, at a fraction of it.

The full decoder of a Stable Diffusion VAE is most of the work of one step (57 % of it, and again
for every prompt), though a mask needs one channel of its three. The student sees latents of masks
as they are, with noise, and between two masks, so that it also answers as the full decoder does
on the imperfect latents that a U-Net gives. It learns the full decoder's soft answer, not the
mask: what the pipeline says is to stay the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from digseg.errors import UsageError
from digseg.model import network
from digseg.model.mask_decoder import MaskDecoder
from digseg.model.pipeline import DiGSegPipeline
from digseg.train.shapes import DrawMasks, draw_shapes

#: Largest noise on latents, and on latents between two masks, in standard deviations.
NOISE = 0.5

#: Steps for each batch of new masks, and how many masks are kept to draw from.
REUSED, LARGEST = 6, 4096


@dataclass(frozen=True)
class DistilSettings:
    """How long, and how large.

    Parameters
    ----------
    minutes
        Of fitting.
    steps
        In place of minutes, where it is above 0.
    batch, size
        Masks that are decoded at once (a step takes twice as many), and their side in pixels.
    channels
        Width of the student at 1/4 and at 1/2.
    rate
        Peak learning rate; it warms up and falls to zero.
    seed
        Of weights and of what is drawn.
    half
        Let the full decoder compute in bfloat16: two to four times as fast where the processor
        knows it.
    """

    minutes: float = 10.0
    steps: int = 0
    batch: int = 8
    size: int = 128
    channels: tuple[int, int] = (64, 32)
    rate: float = 2e-3
    seed: int = 0
    half: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.minutes < inf and self.steps < 1:
            raise UsageError("Distilling needs some time: give --minutes above 0.")
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"The seed lies between 0 and 2^63 - 1, not {self.seed}.")
        if self.size < 32 or self.size % 8:
            raise UsageError(f"Masks to distil with have sides of 32, 40, 48 ..., not {self.size}.")


def distil_mask_decoder(
    vae: Any,
    draw: DrawMasks = draw_shapes,
    settings: DistilSettings | None = None,
    listen: Callable[[str], None] | None = None,
) -> tuple[MaskDecoder, dict[str, float]]:
    """Fit a `MaskDecoder` to the decoder of `vae`.

    Parameters
    ----------
    vae
        ``AutoencoderKL``, ``AutoencoderTiny`` or anything with their ``encode``, ``decode`` and
        ``config``; it is left as it is.
    draw
        Where masks come from: made-up shapes unless given.
    listen
        Told a line now and then.

    Returns
    -------
    The decoder, and figures on masks that it was not fitted to: see `compare`.
    """
    settings = settings or DistilSettings()
    teacher = network.Parts(unet=None, vae=vae)
    was_training, learning = vae.training, [p.requires_grad for p in vae.parameters()]
    vae.requires_grad_(False).eval()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            student, steps = _fit(teacher, draw, settings, listen)
        rng = np.random.default_rng([settings.seed, 1])
        found = compare(teacher, student, _as_masks(draw(rng, 32, settings.size), teacher))
    finally:
        vae.train(was_training)
        for parameter, learns in zip(vae.parameters(), learning, strict=True):
            parameter.requires_grad_(learns)
    return student, found | {"steps": float(steps)}


def distil_pipeline(
    pipeline: DiGSegPipeline,
    draw: DrawMasks = draw_shapes,
    settings: DistilSettings | None = None,
    listen: Callable[[str], None] | None = None,
) -> dict[str, float]:
    """Give a pipeline without a mask decoder one that answers as its VAE does, in place.

    Returns
    -------
    The figures of `distil_mask_decoder`.

    Raises
    ------
    UsageError
        The pipeline has a mask decoder.
    """
    if pipeline.mask_decoder is not None:
        raise UsageError(
            "This model has a mask decoder already: only one that still decodes masks with its "
            "VAE, as `models convert` leaves it, has something to distil."
        )
    student, found = distil_mask_decoder(pipeline.vae, draw, settings, listen)
    student.to(device=pipeline.unet.device, dtype=pipeline.unet.dtype)
    pipeline.register_modules(mask_decoder=student)
    return found


@torch.no_grad()
def compare(
    teacher: network.Parts, student: MaskDecoder, masks: Tensor, at_once: int = 4
) -> dict[str, float]:
    """Encode masks, decode them by both decoders, and compare.

    Parameters
    ----------
    masks
        ``[B, 1, H, W]``, 0 or 1, H and W multiples of 8.

    Returns
    -------
    ``full_iou`` and ``distilled_iou`` with the masks (pooled over them, cut at one half), and
    ``agreement``, the IoU of the two answers with each other.
    """
    counts = np.zeros((3, 2))
    for part in torch.split(masks, at_once):
        latents = network.encode_mask(teacher, part)
        full = _soft(teacher, latents) > 0.5
        quick = student(latents.float(), {}, torch.arange(len(part))) > 0
        truth = part > 0.5
        for row, (one, other) in enumerate(((full, truth), (quick, truth), (quick, full))):
            counts[row] += int((one & other).sum()), int((one | other).sum())
    full_iou, distilled_iou, agreement = (float(a / b) if b else 1.0 for a, b in counts)
    return {"full_iou": full_iou, "distilled_iou": distilled_iou, "agreement": agreement}


def _fit(
    teacher: network.Parts,
    draw: DrawMasks,
    settings: DistilSettings,
    listen: Callable[[str], None] | None,
) -> tuple[MaskDecoder, int]:
    lessons = _Lessons(teacher, draw, settings)
    lessons.add()
    student: MaskDecoder = MaskDecoder(
        latent_channels=lessons.channels, channels=settings.channels, detail_channels=(0, 0)
    )
    with torch.no_grad():  # latents of any scale enter at about unit variance
        student.enter.weight /= lessons.deviation
    student.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(student.parameters(), lr=settings.rate, weight_decay=1e-4)
    began, step, told = time.monotonic(), 0, time.monotonic()
    while True:
        spent = time.monotonic() - began
        share = step / settings.steps if settings.steps else spent / 60 / settings.minutes
        if share >= 1 and step:
            break
        for group in optimizer.param_groups:
            group["lr"] = settings.rate * min(1.0, (step + 1) / 20) * min(1.0, 2 * (1 - share))
        if step % REUSED == 0:
            lessons.add()
        latents, wanted = lessons.some()
        logits = student(latents, {}, torch.arange(len(latents)))  # [B,1,H,W]
        loss = functional.binary_cross_entropy_with_logits(logits, wanted)
        loss = loss + functional.mse_loss(logits.sigmoid(), wanted)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        step += 1
        if listen is not None and time.monotonic() - told > 10:
            told = time.monotonic()
            listen(
                f"mask decoder: {spent:.0f} s, step {step}, loss {loss.item():.4f}, "
                f"{lessons.drawn} masks"
            )
    return student.eval(), step


class _Lessons:
    """Latents with the full decoder's answers, kept: it costs a hundred times the student."""

    def __init__(self, teacher: network.Parts, draw: DrawMasks, settings: DistilSettings) -> None:
        self.teacher, self.draw, self.settings = teacher, draw, settings
        self.rng = np.random.default_rng([settings.seed, 0])
        self.kept: list[tuple[Tensor, Tensor]] = []
        self.drawn = 0
        self.deviation = 0.0

    @property
    def channels(self) -> int:
        return int(self.kept[0][0].shape[0])

    @torch.no_grad()
    def add(self) -> None:
        """Some masks more: encoded, disturbed and decoded."""
        settings, device = self.settings, next(self.teacher.vae.parameters()).device
        masks = _as_masks(self.draw(self.rng, settings.batch, settings.size), self.teacher)
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.half):
            latents = network.encode_mask(self.teacher, masks)  # [B,L,h,w]
            self.deviation = self.deviation or float(latents.float().std().clamp(min=1e-6))
            latents = _disturbed(latents, self.deviation)
            wanted = _soft(self.teacher, latents)  # [B,1,H,W]
        for pair in zip(latents.float().cpu(), wanted.float().cpu(), strict=True):
            place = self.drawn % LARGEST
            self.kept[place : place + 1] = [pair]
            self.drawn += 1

    def some(self) -> tuple[Tensor, Tensor]:
        """A batch of what is kept: latents ``[B, L, h, w]`` and soft masks ``[B, 1, H, W]``."""
        chosen = self.rng.integers(len(self.kept), size=2 * self.settings.batch)
        latents, wanted = zip(*(self.kept[int(i)] for i in chosen), strict=True)
        return torch.stack(latents), torch.stack(wanted)


def _disturbed(latents: Tensor, deviation: float) -> Tensor:
    """A third as they are, a third with noise, a third between two masks with a little noise."""
    thirds = torch.arange(len(latents)) % 3
    strength = torch.rand(len(latents), 1, 1, 1) * NOISE * deviation
    share = torch.rand(len(latents), 1, 1, 1)
    noisy = latents + strength.to(latents) * torch.randn(latents.shape).to(latents)
    mixed = torch.lerp(latents.roll(1, 0), noisy, share.to(latents))
    kinds = thirds[:, None, None, None].to(latents.device)
    return torch.where(kinds == 0, latents, torch.where(kinds == 1, noisy, mixed))


def _soft(teacher: network.Parts, latents: Tensor) -> Tensor:
    """The full decoder's soft mask ``[B, 1, H, W]`` in [0, 1] (of `network.decode_mask`)."""
    rows = torch.arange(len(latents))
    text = network.Text(latents.new_zeros(len(latents), 1, 1), None, None)
    return network.decode_mask(teacher, latents, {}, rows, text).sigmoid()


def _as_masks(drawn: np.ndarray, teacher: network.Parts) -> Tensor:
    """Drawn masks as ``[B, 1, H, W]`` of the VAE's device and kind of number."""
    like = next(teacher.vae.parameters())
    return torch.from_numpy(drawn[:, None]).to(like)
