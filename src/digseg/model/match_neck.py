"""Features made for being matched with words: fine, wide, and computed once a picture.

What depends on the words costs once for each prompt; what depends on the picture alone costs once.
So the picture's side is where convolutions at 1/4 and 1/2 are cheap: this neck goes on from the
image encoder's, with more channels, and the text pathway weighs its features with one linear map
for each prompt and scale. Most of its weights are at 1/32 and 1/16, where they cost little: they
are meant to learn what a trunk that stays as ImageNet left it can't tell apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Names of the neck's features, coarse to fine, at 1/32 to 1/2; fewer scales have the last ones.
MATCH_FEATURES = (
    "match_thirtysecond",
    "match_sixteenth",
    "match_eighth",
    "match_quarter",
    "match_half",
)
#: Residual blocks at each of these scales: convolutions at 1/2 are the costly ones.
REPEATS = (2, 2, 2, 2, 1)


class Residual(nn.Module):
    """Two convolutions beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8 if channels % 8 == 0 else 1, channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` to the same shape."""
        return torch.add(x, self.second(functional.silu(self.first(functional.silu(self.norm(x))))))


class MatchNeck(nn.Module):
    """From coarse to fine, with residual blocks at each scale.

    Parameters
    ----------
    given
        Channels that come in at each scale, coarse to fine, the last at 1/2.
    channels
        Channels that go out.
    """

    def __init__(self, given: Sequence[int], channels: Sequence[int]) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(
            nn.Conv2d(inner, outer, 1) for inner, outer in zip(given, channels, strict=True)
        )
        self.down = nn.ModuleList(nn.Conv2d(wide, narrow, 1) for wide, narrow in pairwise(channels))
        self.blocks = nn.ModuleList(
            nn.Sequential(*(Residual(width) for _ in range(count)))
            for width, count in zip(channels, REPEATS[-len(channels) :], strict=True)
        )

    def forward(self, features: Sequence[Tensor]) -> dict[str, Tensor]:
        """Features coarse to fine, ``[N, C, h, w]`` each, to those of `MATCH_FEATURES`."""
        found: dict[str, Tensor] = {}
        context: Tensor | None = None
        for index, name in enumerate(MATCH_FEATURES[-len(self.lateral) :]):
            x = self.lateral[index](features[index])
            if context is not None:
                wider = self.down[index - 1](context)
                x = x + functional.interpolate(wider, scale_factor=2.0, mode="nearest")
            context = self.blocks[index](x)
            found[name] = context
        return found
