"""Twenty pictures over all domains: image, truth and result side by side, to be looked at.

    python -m benchmarks scan --data FOLDER                      # docs/images/scan.png
    python -m benchmarks scan --data FOLDER --all FILE.png       # every set, for one's own eyes

Which picture of a set's ``val`` is shown is settled by the hash of its name and ``--seed``, never
by how well it went (one whose mask is empty is passed over); of a volume it is the middle plane.
The picture in the docs holds only sets whose licence as stated allows derived pieces; ``--all``
takes the others too and is not for the docs. IoU is the mean over the classes that are in the
picture, asked by name, arg-max over the set's vocabulary.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from digseg.evaluate import EvaluateSettings, LabelledSet, evaluate_set, open_sets
from digseg.evaluate.gallery import Shown
from digseg.model.registry import DEFAULT
from digseg.prompts import color_of
from digseg.types import SegmentationModel, UInt8Array

ROOT = Path(__file__).resolve().parents[1]
#: Twenty sets over all domains, each under a stated licence that allows derived pieces.
SHOWN = (
    "aerial_buildings_banepa", "aerial_road_gsi", "aerial_solar_gsi", "aerial_landslide_sichuan",
    "sentinel2_india", "satellite_dynamicworld", "landsat_zion", "sat_forest_amazon",
    "crops_peanut", "leaf_coffee",
    "nuclei_dsb2018", "tissue_glomeruli", "tissue_prostate_glands",
    "ct_liver_msd", "ct_totalsegmentator", "ct_heart_chd", "ct_pancreas_nih",
    "mr_spine_spider", "hippocampus_mr", "mr_kidney_t2",
)  # fmt: skip
_SIDE, _GAP, _LINE, _COLUMNS = 190, 6, 15, 2


def order(labelled: LabelledSet, split: str, seed: int) -> list[str]:
    """The names of a split, by hash."""
    names = labelled.split(split)
    return sorted(names, key=lambda n: sha256(f"{seed}/{labelled.name}/{n}".encode()).digest())


def show(labelled: LabelledSet, model: SegmentationModel, split: str, seed: int) -> Shown | None:
    """Ask a model of the first picture whose mask holds something; `None` where none does."""
    settings = EvaluateSettings(split=split, planes=1, synonyms=0, absent=0)
    for name in order(labelled, split, seed):
        one = replace(labelled, splits={**labelled.splits, split: (name,)})
        found = evaluate_set(one, model, settings, pictures=1).gallery.best
        if found:
            return found[0]
    return None


def page(rows: Sequence[tuple[LabelledSet, Shown]]) -> Image.Image:
    """The cells in two columns: caption, three panels, the class names in their colours."""
    width = 3 * _SIDE + 2 * _GAP
    height = _SIDE + 2 * _LINE + _GAP
    lines = -(-len(rows) // _COLUMNS)
    size = (_COLUMNS * (width + 2 * _GAP), lines * (height + _GAP))
    sheet = Image.new("RGB", size, (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    for place, (labelled, shown) in enumerate(rows):
        left = _GAP + (place % _COLUMNS) * (width + 2 * _GAP)
        top = (place // _COLUMNS) * (height + _GAP)
        caption = f"{labelled.name}: {shown.name}, IoU {shown.score:.2f}"
        draw.text((left, top + 1), caption, fill=(0, 0, 0))
        for index, panel in enumerate((shown.picture, shown.truth, shown.result)):
            spot = (left + index * (_SIDE + _GAP), top + _LINE)
            sheet.paste(_fitted(panel, smooth=index == 0), spot)
        _legend(draw, _present(labelled, shown), (left, top + _LINE + _SIDE + 2), width)
    return sheet


def _fitted(panel: UInt8Array, smooth: bool) -> Image.Image:
    """A panel in a square of `_SIDE`, black around it."""
    picture = Image.fromarray(np.ascontiguousarray(panel))
    factor = _SIDE / max(picture.size)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    how = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    cell = Image.new("RGB", (_SIDE, _SIDE), (235, 235, 235))
    cell.paste(picture.resize(size, how), ((_SIDE - size[0]) // 2, (_SIDE - size[1]) // 2))
    return cell


def _present(labelled: LabelledSet, shown: Shown) -> list[tuple[str, tuple[int, ...]]]:
    """Names and colours of the classes that truth or result hold."""
    pixels = np.concatenate([shown.truth.reshape(-1, 3), shown.result.reshape(-1, 3)])
    there = {tuple(int(value) for value in row) for row in np.unique(pixels, axis=0)}
    every = [(name, tuple(color_of(name, i))) for i, name in enumerate(labelled.names)]
    return [item for item in every if item[1] in there]


def _legend(
    draw: ImageDraw.ImageDraw,
    classes: Sequence[tuple[str, tuple[int, ...]]],
    spot: tuple[int, int],
    width: int,
) -> None:
    """Names of classes behind a square of their colour, as many as fit."""
    x, top = spot
    for place, (name, color) in enumerate(classes, start=1):
        length = int(draw.textlength(name)) + 18
        if x + length > spot[0] + width - (0 if place == len(classes) else 16):
            draw.text((x, top), "...", fill=(90, 90, 90))
            return
        draw.rectangle((x, top + 2, x + 8, top + 10), fill=color)
        draw.text((x + 11, top), name, fill=(60, 60, 60))
        x += length


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="scan", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--model", default=DEFAULT, metavar="NAME|DIR")
    parser.add_argument("--split", default="val")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sets", nargs="*", default=None, help="in place of the twenty")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs" / "images" / "scan.png")
    parser.add_argument("--all", type=Path, default=None, metavar="FILE", help="every set, there")
    args = parser.parse_args()
    from digseg.model import load

    sets = {item.name: item for item in open_sets(args.data) if item.splits.get(args.split)}
    names = [name for name in args.sets or SHOWN if name in sets]
    output = args.output
    if args.all is not None:
        names, output = [n for n, item in sets.items() if item.use == "train-and-ship"], args.all
    model = load(args.model, device="cpu")
    rows = []
    for name in names:
        found = show(sets[name], model, args.split, args.seed)
        if found is not None:
            rows.append((sets[name], found))
            print(f"{name:28} {found.name:28} {found.score:.3f}", flush=True)
    if not rows:
        print(f"There is no picture of these sets in {args.data}.")
        return 1
    output.parent.mkdir(parents=True, exist_ok=True)
    page(rows).quantize(256).save(output, optimize=True)
    print(f"{len(rows)} pictures, {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
