"""The model card: what a model was made of, and what it reaches, as Markdown.

`render` turns the plain values of `digseg.evaluate.aims` into text, so that the card can be written
again without measuring again.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from digseg.evaluate.aims import AIMS
from digseg.evaluate.dataset import LabelledSet
from digseg.evaluate.metrics import mean
from digseg.evaluate.report import figure, percent, table
from digseg.train.drawn.hearts import PARTS
from digseg.wording import format_size

_DOMAINS = {
    "aerial": "Aerial photos",
    "satellite": "Satellite images",
    "agriculture": "Field and leaf photos",
    "microscopy": "Microscopy",
    "ct": "CT",
    "mr": "MR",
}


def render(
    name: str,
    folder: Path,
    measured: Mapping[str, Any],
    sets: Sequence[LabelledSet],
    *,
    specialists: Mapping[str, float] | None = None,
    picture: str | None = None,
) -> str:
    """The card.

    Parameters
    ----------
    name, folder
        Of the model.
    measured
        ``date``, ``machine``, ``command``, ``split`` and ``sets`` (from `figures`); perhaps
        ``elsewhere``, the same of sets that nothing was learned from.
    sets
        All sets that the model was trained on, for the table of data.
    specialists
        mIoU of a network trained on one set alone, by set.
    picture
        Path of the sheet of examples, relative to the card.
    """
    values: Mapping[str, Any] = measured["sets"]
    lines = [
        "---",
        "license: CC-BY-SA-4.0 (weights, since some training sets are; the code is BSD-3-Clause)",
        f"summary: {_summary(folder)}",
        "---",
        "",
        f"# Model card: {name}",
        "",
        *_about(folder),
        "",
        "## Figures",
        "",
        f"On the `{measured['split']}` split of every set, which training never saw "
        "(its figures, and pictures of some sets, were looked at while the shares of the sets, "
        "the bands of satellite scenes, the scales of pictures and what is drawn into pictures of "
        "`train` were chosen). "
        f"Machine: {measured['machine']}; {measured['date']}; command: `{measured['command']}`.",
        "",
        "Prompts are the class names. mIoU is the mean over the classes that the split holds, by "
        "arg-max over the set's vocabulary (the threshold 0.5 where there is one class, or where "
        "all maps are below it and the set has background); pixels are summed over the set before "
        "a ratio is taken. Volumes are judged on evenly spaced planes. Bands, scales and sizes "
        "are those that the model recommends.",
        "",
        *_aims(values),
        "",
        *_by_domain(values, specialists or {}),
        *_beside_specialists(values, specialists or {}),
        *_absent_and_synonyms(values),
        *_elsewhere(measured.get("elsewhere", {})),
        *([f"\n![Picture, truth and result over all domains]({picture})"] if picture else []),
        "",
        "## Prompts it knows",
        "",
        *_prompts(sets),
        "",
        "A word that was never trained is placed near its synonyms by the text tower, which was "
        "distilled from a sentence model; the table above says how much that costs.",
        "",
        "## What it can't do",
        "",
        *_limits(values),
        "",
        "## Data",
        "",
        *_data(sets),
        "",
        "## Use",
        "",
        "```sh",
        f"napari-digseg segment scene.tif -p water -p forest --model {name} -o mask.tif",
        f"napari-digseg evaluate SET --split val --model {name} --json",
        f"napari-digseg train SET --model {name} -o DIR     # fine-tune on data of one's own",
        "```",
    ]
    return "\n".join(lines) + "\n"


def parameters(folder: Path) -> dict[str, int]:
    """Number of weights of each part, from the headers of its safetensors files."""
    counts: dict[str, int] = {}
    for file in sorted(folder.glob("*/*.safetensors")):
        with file.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            header = json.loads(opened.read(length))
        total = 0
        for key, entry in header.items():
            if key != "__metadata__":
                size = 1
                for side in entry["shape"]:
                    size *= int(side)
                total += size
        counts[file.parent.name] = counts.get(file.parent.name, 0) + total
    return counts


def _summary(folder: Path) -> str:
    millions = sum(parameters(folder).values()) / 1e6
    return (
        f"a generalist of {millions:.1f} M weights for satellite, aerial, crops, CT, MR and "
        "microscopy; runs offline on a CPU"
    )


def _about(folder: Path) -> list[str]:
    counts = parameters(folder)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    parts = {
        "image_encoder": "EfficientNet-Lite0 trained on ImageNet (Apache-2.0), with a neck of ours",
        "unet": "denoising U-Net on image and mask latents, ours",
        "text_encoder": "CLIP text model distilled from all-MiniLM-L6-v2 (Apache-2.0)",
        "text_pathway": "text features for every scale, ours",
        "mask_decoder": "one-channel mask decoder, ours",
        "vae": "autoencoder of masks, ours",
    }
    rows = [
        [f"`{part}`", f"{counts[part] / 1e6:.2f} M", words]
        for part, words in parts.items()
        if part in counts
    ]
    return [
        "Text in, soft masks out: a latent diffusion model repurposed for segmentation after "
        "DiGSeg (arXiv 2604.24575), in one deterministic step. A picture is read once and can "
        f"then be asked for any number of phrases. {format_size(size)} on disk.",
        "",
        *table(("part", "weights", "what it is"), rows),
    ]


def _aims(values: Mapping[str, Any]) -> list[str]:
    rows = []
    for name, aims in AIMS.items():
        for what, read, floor in aims:
            if name not in values:
                continue
            reached = read(values[name])
            mark = "–" if reached is None else ("yes" if reached >= floor else "no")
            rows.append([name, what, figure(reached), f"{floor:.2f}", mark])
    if not rows:
        return []
    return ["Aims set beforehand:", "", *table(("set", "what", "reached", "aim", "met"), rows)]


def _by_domain(values: Mapping[str, Any], specialists: Mapping[str, float]) -> list[str]:
    lines: list[str] = []
    for domain, title in _DOMAINS.items():
        own = {name: v for name, v in values.items() if v["domain"] == domain}
        if not own:
            continue
        rows = []
        for name, v in own.items():
            best = max(v["iou"].items(), key=lambda item: item[1] if item[1] is not None else -1)
            known = [(word, iou) for word, iou in v["iou"].items() if iou is not None]
            worst = min(known, key=lambda item: item[1]) if known else best
            spread = f"{best[0]} {figure(best[1], 2)}, {worst[0]} {figure(worst[1], 2)}"
            if len(known) < 2:
                spread = f"{best[0]} {figure(best[1], 2)}"
            rows.append(
                [
                    name,
                    str(v["planes"]),
                    figure(v["miou"]),
                    figure(v["mdice"]),
                    figure(v["groups"].get("miou") if v["groups"] else None),
                    figure(v["boundary_f"]),
                    figure(specialists.get(name)),
                    spread,
                ]
            )
        middle = mean(v["miou"] for v in own.values())
        head = (
            "set",
            "planes",
            "mIoU",
            "Dice",
            "groups",
            "boundary F",
            "specialist",
            "best, worst",
        )
        lines += [f"### {title}: mean {figure(middle)}", "", *table(head, rows), ""]
    return lines


def _beside_specialists(values: Mapping[str, Any], specialists: Mapping[str, float]) -> list[str]:
    """What the column of specialists says in all; nothing where none was measured."""
    pairs = [
        (v["miou"], specialists[name])
        for name, v in values.items()
        if v["miou"] is not None and specialists.get(name)
    ]
    if not pairs:
        return []
    own, other = (mean(pair[index] for pair in pairs) for index in (0, 1))
    ratio = mean(a / b for a, b in pairs)
    return [
        "**Specialists.** A closed-vocabulary U-Net on the same pretrained encoder, trained on one "
        "set alone with a small budget (`python -m benchmarks specialists`; "
        "`benchmarks/specialists.json` tells the budget), reaches a mean of "
        f"{figure(other)} on the {len(pairs)} sets that have a figure above 0 in that column, this "
        f"model {figure(own)}. The mean of the ratios is {figure(ratio, 2)}; 0.95 was the aim.",
        "",
    ]


def _absent_and_synonyms(values: Mapping[str, Any]) -> list[str]:
    absent = mean(v["absent_area"] for v in values.values())
    ratio = mean(v["synonym_ratio"] for v in values.values())
    worst = max(values.items(), key=lambda item: item[1]["absent_area"] or 0.0, default=None)
    return [
        f"**Absent things.** Asked for something that is not in the picture, it marks "
        f"{percent(absent)} of the pixels on average over the sets"
        + (f" (most in {worst[0]}: {percent(worst[1]['absent_area'])})." if worst else "."),
        "",
        f"**Synonyms.** Asked by another word, it keeps {percent(ratio)} of the IoU of the class's "
        "own name, on average over the sets.",
    ]


def _elsewhere(values: Mapping[str, Any]) -> list[str]:
    """Sets that nothing was learned from, by class: what to expect of pictures of one's own."""
    if not values:
        return []
    rows = []
    for name, v in values.items():
        known = [(word, iou) for word, iou in v["iou"].items() if iou is not None]
        classes = ", ".join(f"{word} {figure(iou, 2)}" for word, iou in known)
        rows.append([name, v["modality"] or v["domain"], str(v["n"]), figure(v["miou"]), classes])
    return [
        "",
        "### Elsewhere",
        "",
        "Sets of other makers, none of whose pictures training saw, asked by their class names, "
        "some of which it was never taught: what to expect of pictures from another place.",
        "",
        *table(("set", "pictures of", "images", "mIoU", "IoU by class"), rows),
    ]


def _prompts(sets: Sequence[LabelledSet]) -> list[str]:
    lines = []
    for domain, title in _DOMAINS.items():
        named = [word for s in sets if s.domain == domain for word in (*s.names, *s.groups)]
        words = dict.fromkeys([*named, *(PARTS if domain == "mr" and named else ())])
        if words:
            lines.append(f"- **{title}:** {', '.join(words)}")
    return lines


def _limits(values: Mapping[str, Any]) -> list[str]:
    weak = [
        f"{name} ({figure(v['miou'])})"
        for name, v in sorted(values.items(), key=lambda item: item[1]["miou"] or 0.0)
        if v["miou"] is not None and v["miou"] < 0.4
    ]
    lines = [
        "- It is small and was trained on about 1,700 pictures: look at its masks before using "
        "them. It is no medical device and no basis for a diagnosis.",
        "- Many sets come from one place, one scanner or one laboratory, and their splits share "
        "it: expect less on pictures from elsewhere.",
        "- Left and right, and numbered vertebrae, are told apart by little more than their place "
        "in the slice.",
        "- It sees single planes with their neighbours, no volumes; and three channels, no more: "
        "of multispectral scenes natural colour, or near infrared, red and green (`formats.md`).",
    ]
    if weak:
        lines.append(f"- Weak so far (mIoU below 0.4): {', '.join(weak)}.")
    return lines


def _data(sets: Sequence[LabelledSet]) -> list[str]:
    rows = []
    for item in sets:
        counts = " / ".join(str(len(item.splits.get(split, ()))) for split in ("train", "val"))
        rows.append([item.name, counts, item.licence, item.source])
    return table(("set", "train / val", "licence, as stated", "source"), rows)
