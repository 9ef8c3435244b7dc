"""Set the norms of the trunk's coarse stages anew from training pictures.

The trunk's batch norms keep their stored statistics while the weights before them learn. Over many
thousand steps the weights drifted so far that the last stage answered the same for every picture.
This takes the statistics of the norms from `--first` on again, layer by layer; what the neck reads
of the coarsest features stays the same on average (its weights there are drawn anew with
`--afresh`).

Usage::

    python tools/build_default/recalibrate.py --data DATA --model MODEL -o OUT
"""

from __future__ import annotations

import argparse
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from digseg.model.image_encoder import FrozenNorm, ImageEncoder, InvertedBottleneck
from digseg.model.pipeline import DiGSegPipeline
from digseg.train.mix import read_mix, shares
from digseg.train.run import prepare
from digseg.train.sampler import Sampler


def spread(x: Tensor) -> float:
    """How far a channel's mean differs between pictures, as a share of its size."""
    means = x.mean((2, 3))
    return (means.std(0).mean() / means.abs().mean()).item()


@torch.no_grad()
def entering(encoder: ImageEncoder, pixels: Tensor, first: int) -> Tensor:
    """What enters stage `first` for pixels ``[N, 3, H, W]`` in [0, 1]."""
    x = functional.relu6(encoder.stem_norm(encoder.stem(pixels * 2 - 1)))
    for stage in cast(Any, encoder.stages[:first]):
        x = stage(x)
    return x


@torch.no_grad()
def recalibrate(encoder: ImageEncoder, x: Tensor, first: int) -> Tensor:
    """Set the norms from stage `first` on by what enters it, ``[N, C, h, w]``; the last output."""

    def take(norm: Any, module: Any) -> None:
        (given,) = module
        norm.running_mean.copy_(given.mean((0, 2, 3)))
        norm.running_var.copy_(given.var((0, 2, 3)))

    hooks = [
        norm.register_forward_pre_hook(take)
        for norm in cast(Any, encoder.stages[first:]).modules()
        if isinstance(norm, FrozenNorm)
    ]
    for stage in cast(Any, encoder.stages[first:]):
        for block in stage:
            assert isinstance(block, InvertedBottleneck)
            x = block(x)
    for hook in hooks:
        hook.remove()
    return x


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--first", type=int, default=5, help="first stage, 0 to 6")
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--afresh", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    infos, pictures = prepare(args.data, "train-and-ship")
    sampler = Sampler(infos, pictures, shares(infos, read_mix(None)))
    pipeline = DiGSegPipeline.from_pretrained(args.model).to(torch.float32)
    encoder = pipeline.image_encoder.eval()
    rng = np.random.default_rng(5)
    drawn = []
    for _ in range(args.pictures // 10):
        pixels = torch.from_numpy(np.stack([sampler.draw(rng).image for _ in range(10)]))
        drawn.append(entering(encoder, pixels, args.first))
    x = torch.cat(drawn)
    with torch.no_grad():
        before = x
        for stage in encoder.stages[args.first :]:
            before = stage(before)
        after = recalibrate(encoder, x, args.first)
        lateral = encoder.lateral[-1]
        mean = lateral(before).mean((0, 2, 3))  # [C]
        if args.afresh:
            torch.manual_seed(0)
            lateral.weight.normal_(0, 0.02)
        lateral.bias.copy_(mean - lateral.weight[:, :, 0, 0] @ after.mean((0, 2, 3)))
    print(f"between pictures the last stage's answers differ by {spread(before):.1%} of their size")
    print(f"before, and by {spread(after):.1%} now")
    pipeline.save_pretrained(args.output)


if __name__ == "__main__":
    main()
