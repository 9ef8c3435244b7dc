"""A small convolution network with fixed weights: the yardstick of the engine's benchmarks.

It knows no language. It is a model whose cost is plain and whose receptive field is small, so
that engines can be compared on the same work and the same answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from digseg.memory import large_pages
from digseg.prompts import Prompt
from digseg.types import Float32Array


class ConvNet(nn.Module):
    """Four 3 x 3 convolutions, ReLU between them, a sigmoid at the end.

    ``[N, 3, H, W]`` to ``[N, classes, H, W]``. Weights are drawn from seed 0.
    """

    def __init__(self, classes: int, width: int = 32) -> None:
        super().__init__()
        sizes = [3, width, width, width, classes]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            convolutions = [
                nn.Conv2d(before, after, 3, padding=1) for before, after in pairwise(sizes)
            ]
        layers: list[nn.Module] = []
        for convolution in convolutions:
            layers += [convolution, nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1], nn.Sigmoid())

    def forward(self, tiles: Tensor) -> Tensor:
        answer: Tensor = self.layers(tiles)
        return answer


class ConvNetModel:
    """A `SegmentationModel` around `ConvNet`; the prompts count but are not read."""

    multiple = 1

    def __init__(self, classes: int, width: int = 32, device: str = "cpu") -> None:
        self.classes, self.width, self.device = classes, width, device
        self.net = ConvNet(classes, width).eval().to(device)

    @property
    def identity(self) -> str:
        return f"convnet-{self.classes}-{self.width}"

    def __call__(self, tiles: Float32Array, prompts: Sequence[Prompt]) -> Float32Array:
        with torch.inference_mode():
            answer = self.net(torch.from_numpy(tiles).to(self.device))  # [N,K,H,W]
            found: Float32Array = answer.cpu().numpy().astype(np.float32, copy=False)
        return found


def set_threads(count: int) -> None:
    """Threads of each operation; benchmarks of the engine use one. Large pages, as in a run."""
    large_pages()
    torch.set_num_threads(count)
