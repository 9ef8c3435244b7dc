"""What the one-channel mask decoder costs and loses beside the full decoder of a VAE.

    python -m benchmarks mask_decoder --data FOLDER --taef2 FOLDER [--minutes 6]
    python -m benchmarks mask_decoder --data FOLDER --pipeline CONVERTED

Distils a mask decoder (as `napari-digseg models distil` does) from a frozen VAE: TAEF2 (the folder
holds its ``encoder.safetensors`` and ``decoder.safetensors``) or that of a converted pipeline. Then
masks of the sets' ``val`` splits, which the decoder never saw, go through both: IoU with the mask
and with each other, multiply-adds counted, seconds on one thread.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from benchmarks._shared import in_single, machine, write_json
from safetensors.torch import load_file
from torch import Tensor, nn

from digseg.model import network
from digseg.model.mask_decoder import MaskDecoder
from digseg.train.distil import DistilSettings, compare, distil_mask_decoder
from digseg.train.pack import load_split
from digseg.train.run import prepare
from digseg.train.shapes import draw_shapes, masks_of

FIGURES = ("full_iou", "distilled_iou", "agreement")


class Block(nn.Module):
    """TAESD's residual block, with TAEF2's second branch where it has one."""

    def __init__(self, channels: int, pool: bool) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        self.pool = None
        if pool:
            self.pool = nn.Sequential(
                nn.Conv2d(channels, 4 * channels, 1, bias=False),
                nn.GroupNorm(4, 4 * channels),
                nn.ReLU(),
                nn.Conv2d(4 * channels, channels, 1, bias=False),
            )

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` to the same shape."""
        if self.pool is not None:
            x = x + self.pool(x)
        return torch.relu(self.conv(x) + x)


class Clamp(nn.Module):
    """Latents into the range that TAESD was trained on."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same."""
        return torch.tanh(x / 3) * 3


class TAEF2(nn.Module):
    """The tiny autoencoder of FLUX.2's latents as a VAE of this project: [-1, 1] in and out."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        wide = 64
        down = lambda: nn.Conv2d(wide, wide, 3, stride=2, padding=1, bias=False)  # noqa: E731
        same = lambda: nn.Conv2d(wide, wide, 3, padding=1, bias=False)  # noqa: E731
        up = lambda: nn.Upsample(scale_factor=2)  # noqa: E731
        plain, pooled = (lambda: Block(wide, False)), (lambda: Block(wide, True))
        self.encoder = nn.Sequential(
            nn.Conv2d(3, wide, 3, padding=1), plain(),
            *(part() for _ in range(2) for part in (down, plain, plain, plain)),
            down(), pooled(), pooled(), pooled(), nn.Conv2d(wide, 32, 3, padding=1),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            Clamp(), nn.Conv2d(32, wide, 3, padding=1), nn.ReLU(), pooled(), pooled(), pooled(),
            *(part() for _ in range(2) for part in (up, same, plain, plain, plain)),
            up(), same(), plain(), nn.Conv2d(wide, 3, 3, padding=1),
        )  # fmt: skip
        for name in ("encoder", "decoder"):
            weights = load_file(folder / f"{name}.safetensors")
            getattr(self, name).load_state_dict({k: v.float() for k, v in weights.items()})
        self.config = SimpleNamespace(scaling_factor=1.0, shift_factor=None)

    def encode(self, pixels: Tensor) -> Any:
        """Pixels ``[B, 3, H, W]`` to ``.latents [B, 32, H/8, W/8]``."""
        return SimpleNamespace(latents=self.encoder(pixels / 2 + 0.5))

    def decode(self, latents: Tensor) -> Any:
        """Latents to ``.sample [B, 3, H, W]``."""
        return SimpleNamespace(sample=self.decoder(latents) * 2 - 1)


def val_masks(data: Path, size: int, each: int) -> dict[str, Tensor]:
    """One class of up to ``each`` crops ``[B, 1, size, size]`` of every set's ``val``, by set."""
    infos, pictures = prepare(data, "train-and-ship", "val")
    found = {}
    for info in infos:
        draw = masks_of(([info], pictures))
        rng = np.random.default_rng(0)
        drawn = [mask for mask in draw(rng, 4 * each, size) if mask.sum() > 50][:each]
        if drawn:
            found[info.name] = torch.from_numpy(np.stack(drawn)[:, None]).float()
    return found


def cost(vae: Any, student: MaskDecoder, latents: Tensor, repeat: int) -> dict[str, float]:
    """Multiply-adds and seconds (the median) of both decoders on latents of one mask."""
    from torch.utils.flop_counter import FlopCounterMode

    rows = torch.zeros(1, dtype=torch.long)
    runs: dict[str, Callable[[], object]] = {
        "full": lambda: vae.decode(latents).sample,
        "distilled": lambda: student(latents, {}, rows),
    }
    told: dict[str, float] = {}
    with torch.inference_mode():
        for name, run in runs.items():
            with FlopCounterMode(display=False) as counter:
                run()
            told[f"{name}_gmac"] = counter.get_total_flops() / 2e9
            times = []
            for _ in range(repeat):
                began = time.perf_counter()
                run()
                times.append(time.perf_counter() - began)
            told[f"{name}_seconds"] = float(np.median(times))
    return told


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="mask_decoder", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--data", required=True, type=Path)
    full = parser.add_mutually_exclusive_group(required=True)
    full.add_argument("--taef2", type=Path, help="folder of TAEF2's two files")
    full.add_argument("--pipeline", type=Path, help="a converted pipeline")
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--steps", type=int, default=0, help="in place of minutes")
    parser.add_argument("--size", type=int, default=128, help="of the crops")
    parser.add_argument("--each", type=int, default=4, help="val crops of each set")
    parser.add_argument(
        "--shapes", action="store_true", help="fit to made-up shapes, not to labels"
    )
    parser.add_argument("--tile", type=int, default=512, help="whose cost is measured")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path, default=None, metavar="OUT")
    args = parser.parse_args()
    torch.set_num_threads(1)
    vae = _vae(args)
    settings = DistilSettings(minutes=args.minutes, steps=args.steps, size=args.size, half=True)
    draw = draw_shapes
    if not args.shapes:
        infos, _ = prepare(args.data, "train-and-ship", "val", longest=256)
        kept = {i.name: load_split(i, "train", 720, 24) for i in infos if "train" in i.splits}
        draw = masks_of(([i for i in infos if i.name in kept], kept))
    say = lambda line: print(line, file=sys.stderr, flush=True)  # noqa: E731
    student, told = distil_mask_decoder(vae, draw, settings, say)
    teacher = network.Parts(unet=None, vae=vae)
    by_set = val_masks(args.data, args.size, args.each)
    rows = {name: compare(teacher, student, masks) for name, masks in by_set.items()}
    with torch.no_grad():
        latents = network.encode_mask(teacher, torch.zeros(1, 1, 64, 64))
    side = args.tile // 8
    latents = latents[:, :, :1, :1].expand(1, -1, side, side).contiguous()
    spent = cost(vae, student, latents, args.repeat)
    means = {key: float(np.mean([row[key] for row in rows.values()])) for key in FIGURES}
    report(rows, means, spent, told["steps"], args)
    if args.json is not None:
        write_json(args.json, {"sets": rows, "mean": means, "cost": spent, "steps": told["steps"]})
    return 0


def _vae(args: argparse.Namespace) -> Any:
    if args.taef2 is not None:
        return TAEF2(args.taef2).eval().to(memory_format=torch.channels_last)
    return in_single(args.pipeline).vae.eval()


def report(
    rows: dict[str, dict[str, float]],
    means: dict[str, float],
    spent: dict[str, float],
    steps: float,
    args: argparse.Namespace,
) -> None:
    """The tables, in Markdown."""
    print(f"Mask decoder, {steps:.0f} steps of 16 masks of {args.size} px ({machine()})\n")
    print("| masks of | full decoder IoU | distilled IoU | the two with each other |")
    print("| --- | --- | --- | --- |")
    for name, row in (*rows.items(), ("**mean**", means)):
        cells = (f"{row[key]:.4f}" for key in FIGURES)
        print(f"| {name} | {' | '.join(cells)} |")
    print(f"\n| decoder | GMAC, {args.tile} x {args.tile} | seconds, one thread |")
    print("| --- | --- | --- |")
    for name in ("full", "distilled"):
        print(f"| {name} | {spent[f'{name}_gmac']:.2f} | {spent[f'{name}_seconds']:.3f} |")
    ratios = [spent[f"full_{key}"] / spent[f"distilled_{key}"] for key in ("gmac", "seconds")]
    print(f"| ratio | {ratios[0]:.0f} | {ratios[1]:.0f} |")


if __name__ == "__main__":
    sys.exit(main())
