"""The closed-vocabulary network of `benchmarks.specialists`, on the default model's encoder."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from benchmarks._shared import load_imagenet
from torch import Tensor, nn
from torch.nn import functional

from digseg.model.image_encoder import ImageEncoder
from digseg.prompts import Prompt
from digseg.types import Float32Array

_WIDTHS = (16, 32, 48, 96, 160)  # at 1/2, 1/4, 1/8, 1/16, 1/32
_FEATURES = ("half", "quarter", "eighth", "sixteenth", "deepest")


def _residual(channels: int) -> nn.Module:
    groups = 8 if channels % 8 == 0 else 1
    return nn.Sequential(
        nn.GroupNorm(groups, channels),
        nn.SiLU(),
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.SiLU(),
        nn.Conv2d(channels, channels, 3, padding=1),
    )


class Specialist(nn.Module):
    """Encoder, two residual blocks at each scale on the way up, one logit for each class.

    Parameters
    ----------
    classes
        Number of classes; background is one more.
    encoder
        Trunk and neck; its features come at five scales.
    """

    def __init__(self, classes: int, encoder: ImageEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        half, quarter = encoder.config.detail_channels
        low, _, deep = encoder.config.unet_channels
        self.enter = nn.ModuleList(
            nn.Conv2d(given, width, 1)
            for given, width in zip((half, quarter, low, low, deep), _WIDTHS, strict=True)
        )
        self.blocks = nn.ModuleList(
            nn.ModuleList([_residual(width), _residual(width)]) for width in _WIDTHS
        )
        self.down = nn.ModuleList(nn.Conv2d(wide, narrow, 1) for narrow, wide in pairwise(_WIDTHS))
        self.exit = nn.Conv2d(_WIDTHS[0], classes + 1, 3, padding=1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels ``[N, 3, H, W]`` in [0, 1] to logits ``[N, K + 1, H, W]``, background first."""
        features = self.encoder(pixels * 2 - 1)
        x: Tensor | None = None
        for scale in reversed(range(len(_FEATURES))):
            y = self.enter[scale](features[_FEATURES[scale]])
            if x is not None:
                y = y + functional.interpolate(self.down[scale](x), scale_factor=2.0)
            for block in self.blocks[scale]:  # type: ignore[union-attr]
                y = y + block(y)
            x = y
        assert x is not None
        return functional.interpolate(self.exit(x), scale_factor=2.0, mode="bilinear")


class SpecialistModel:
    """A `SegmentationModel` that knows the classes of one set, by name."""

    multiple = 32
    #: Volumes are shown as to the generalist.
    recommended: ClassVar[dict[str, int]] = {"canvas": 256, "plane": 320}

    def __init__(self, net: Specialist, names: Sequence[str]) -> None:
        self.net, self.names = net.eval(), list(names)
        self.identity = f"specialist-{len(self.names)}"

    def __call__(self, tiles: Float32Array, prompts: Sequence[Prompt]) -> Float32Array:
        with torch.inference_mode():
            logits = self.net(torch.from_numpy(tiles))
            chances = (logits[:, 1:] - logits[:, :1]).sigmoid().numpy()  # against background
        found = np.zeros((len(tiles), len(prompts), *tiles.shape[-2:]), np.float32)
        for index, prompt in enumerate(prompts):
            if prompt.name in self.names:
                found[:, index] = chances[:, self.names.index(prompt.name)]
        return found


def new_encoder(pretrained: bool = True, width: float = 1.0) -> ImageEncoder:
    """The default model's encoder, with ImageNet weights or without."""
    encoder = ImageEncoder(
        unet_channels=_WIDTHS[2:], detail_channels=_WIDTHS[:2], neck_channels=96, width=width
    )
    if pretrained:
        load_imagenet(encoder)
    return encoder
