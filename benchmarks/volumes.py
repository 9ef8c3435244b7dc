"""Plain slices, context, three fused planes and propagation, side by side on labelled volumes.

    python -m benchmarks volumes --data FOLDER [--sets NAME ...] [--limit 2] [--ensemble 4]
        [--json OUT] [--write docs/volumes.md]

With ``--json`` what was measured before with the same model and limits is kept, so a run that was
stopped goes on. With ``--write`` the tables replace what stands between the markers of a page.
Each way is a run of the library as people start it. For every class: Dice, surface Dice (share of
both surfaces within one voxel of each other), and jitter (the symmetric difference between
successive axial slices over that of the truth: 1 is as smooth as the truth). With ``--ensemble N``
also the share of the errors inside the most uncertain 10 % of the voxels.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks._shared import machine, read_json, write_json
from benchmarks._volume_scores import Tally, change, dice, share_inside, surface_dice

from digseg import io
from digseg.evaluate.dataset import LabelledSet, read_set
from digseg.lazy import box
from digseg.orientation import canonical
from digseg.prompts import PromptSet
from digseg.raster import Volume
from digseg.resample import Rescale, rescale
from digseg.run import passes
from digseg.run.execute import execute, load_model
from digseg.run.job import Job, Outputs
from digseg.settings import CT_WINDOWS, SegmentSettings
from digseg.types import BoolArray, SegmentationModel

MARKERS = ("<!-- volumes: tables -->", "<!-- volumes: end -->")
SETS = ("hippocampus_mr", "ct_totalsegmentator", "mr_totalsegmentator")
#: Sets of many classes are judged by the large ones; a group is one class of several.
PROMPTS: dict[str, dict[str, tuple[str, ...]]] = {
    "ct_totalsegmentator": {
        "liver": ("liver",),
        "spleen": ("spleen",),
        "stomach": ("stomach",),
        "aorta": ("aorta",),
        "vertebrae": ("T11 vertebra", "T12 vertebra", "L1 vertebra"),
    },
    "mr_totalsegmentator": {
        "liver": ("liver",),
        "spleen": ("spleen",),
        "left kidney": ("left kidney",),
        "right kidney": ("right kidney",),
        "aorta": ("aorta",),
        "vertebrae": ("vertebrae",),
    },
}


@dataclass(frozen=True)
class Way:
    """One way of doing a volume."""

    name: str
    settings: dict[str, Any]
    strength: float | None = None


WAYS = (
    Way("slices", {"context": False}),
    Way("context", {}),
    Way("three planes", {"planes": "zyx"}),
    Way("propagation 0.3", {"propagate": True}, 0.3),
    Way("propagation 0.5", {"propagate": True}, 0.5),
    Way("propagation 0.7", {"propagate": True}, 0.7),
)


def volumes(
    labelled: LabelledSet, split: str, limit: int, longest: int
) -> Iterator[tuple[str, Volume, dict[str, BoolArray]]]:
    """Volumes of a split with the truth of each prompt, both in canonical order."""
    by_name = {item.name: item.id for item in labelled.classes}
    wanted = PROMPTS.get(labelled.name) or {name: (name,) for name in by_name}
    pairs = labelled.pairs(split)[:limit]
    for image, mask in pairs:
        volume, labels = io.read(image), io.read(mask)
        assert isinstance(volume, Volume)
        assert isinstance(labels, Volume)
        ids = np.asarray(canonical(labels.grid).lazy(labels.data)[...])
        truth = {
            prompt: np.isin(ids, [by_name[name] for name in names])
            for prompt, names in wanted.items()
        }
        yield image.name, *_reduced(volume, truth, longest)


def _reduced(
    volume: Volume, truth: dict[str, BoolArray], longest: int
) -> tuple[Volume, dict[str, BoolArray]]:
    """Canonical, and with planes of at most ``longest`` pixels: side views cost as many planes."""
    turn = canonical(volume.grid)
    data, grid = np.asarray(turn.lazy(volume.data)[...]), turn.grid(volume.grid)
    factor = -(-max(data.shape[1:]) // longest)
    if factor > 1:
        rows, columns = data.shape[1] // factor, data.shape[2] // factor
        scales = Rescale(data.shape[1], rows), Rescale(data.shape[2], columns)
        window = (0, rows, 0, columns)
        data = rescale(data, *scales, window)
        truth = {
            name: rescale(mask.astype(np.float32), *scales, window) >= 0.5
            for name, mask in truth.items()
        }
        grid = grid.scaled(data.shape)
    return replace(volume, data=data, grid=grid, source=None), truth


def run_way(
    way: Way,
    volume: Volume,
    truth: dict[str, BoolArray],
    base: SegmentSettings,
    model: SegmentationModel,
    tally: Tally,
) -> None:
    """Segment one volume one way and add its scores."""
    job = Job("benchmark", PromptSet.parse(list(truth)), base.with_(**way.settings))
    before = passes.STRENGTH
    passes.STRENGTH = way.strength or before
    begun = time.perf_counter()
    try:
        with execute(job, image=volume, model=model) as result:
            labels = result.labels
    finally:
        passes.STRENGTH = before
    tally.seconds += time.perf_counter() - begun
    for index, mask in enumerate(truth.values(), start=1):
        if not mask.any():
            continue
        found = labels == index
        tally.dice.append(dice(found, mask))
        tally.surface.append(surface_dice(found, mask))
        tally.jitter.append(change(found) / max(1, change(mask)))


def uncertain_errors(
    volume: Volume,
    truth: dict[str, BoolArray],
    base: SegmentSettings,
    model: SegmentationModel,
) -> dict[str, float]:
    """Share of the wrong voxels inside the most uncertain 10 %, by two measures of doubt."""
    with tempfile.TemporaryDirectory() as folder:
        spread_file = Path(folder) / "spread.nii.gz"
        outputs = Outputs(uncertainty=spread_file)
        job = Job("benchmark", PromptSet.parse(list(truth)), base, outputs)
        with execute(job, image=volume, model=model) as result:
            labels, maps = result.labels, result.probabilities.astype(np.float32) / 255
        whole = tuple((0, side) for side in labels.shape)
        written = io.read(spread_file)
        spread = box(written.data, whole)
    right = np.zeros(labels.shape, labels.dtype)
    for index, mask in enumerate(truth.values(), start=1):
        right[mask] = index
    wrong = labels != right
    # Doubt of a single answer: how close the likeliest prompt is to one half.
    margin = 0.5 - np.abs(maps.max(axis=0) - 0.5)
    return {
        "spread": share_inside(wrong, spread.astype(np.float32)),
        "margin": share_inside(wrong, margin),
        "errors": float(wrong.mean()),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the labelled sets")
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--split", default="val")
    parser.add_argument("--model", default=SegmentSettings().model)
    parser.add_argument("--limit", type=int, default=2, help="volumes of each set")
    parser.add_argument("--longest", type=int, default=256, help="planes are reduced to this side")
    parser.add_argument("--ways", nargs="+", default=[way.name for way in WAYS])
    parser.add_argument(
        "--ensemble", type=int, default=0, help="measure uncertainty with this many"
    )
    parser.add_argument("--json", type=Path, default=None, help="figures, to go on from")
    parser.add_argument("--write", type=Path, default=None, help="page with markers to fill")
    args = parser.parse_args()
    chosen = [way for way in WAYS if way.name in args.ways]
    base = SegmentSettings(model=args.model, propagate=False)
    model = load_model(base)
    asked = f"{model.identity} {args.split} {args.limit} {args.longest} {args.ensemble}"
    found = _kept(args.json, asked)
    for name in args.sets:
        labelled = read_set(args.data / name)
        ct = labelled.domain == "ct"
        window = (labelled.window or CT_WINDOWS["soft-tissue"]) if ct else None
        base = base.with_(window=window)
        entry = found.setdefault(name, {"ways": {}})
        cases = list(volumes(labelled, args.split, args.limit, args.longest))
        entry["volumes"] = len(cases)
        for way in (way for way in chosen if way.name not in entry["ways"]):
            tally = Tally()
            for case, volume, truth in cases:
                run_way(way, volume, truth, base, model, tally)
                print(f"{name} {case} {way.name} {tally.seconds:.0f} s", file=sys.stderr)
            entry["ways"][way.name] = tally.row()
            _keep(args.json, asked, found)
        if args.ensemble and "uncertainty" not in entry:
            entry["uncertainty"] = _uncertainty(cases, base, args.ensemble)
            _keep(args.json, asked, found)
    report = f"{table(found)}\n\n{machine()}:\n\n```\n{told(sys.argv[1:])}\n```"
    print(report)
    if args.write is not None:
        text = args.write.read_text(encoding="utf-8")
        args.write.write_text(filled(text, report), encoding="utf-8")


def told(words: Sequence[str]) -> str:
    """The command line for the page: without the places of this machine."""
    shown: list[str] = []
    rest = iter(words)
    for word in rest:
        if word in ("--json", "--write"):
            next(rest, None)
        elif word == "--data":
            next(rest, None)
            shown += [word, "FOLDER"]
        else:
            shown.append(word)
    return f"python -m benchmarks volumes {shlex.join(shown)}"


def _kept(path: Path | None, asked: str) -> dict[str, Any]:
    """What an earlier run measured of the same."""
    before = read_json(path) if path is not None else {}
    return dict(before["sets"]) if before.get("asked") == asked else {}


def _keep(path: Path | None, asked: str, found: dict[str, Any]) -> None:
    if path is not None:
        write_json(path, {"asked": asked, "sets": found})


def filled(page: str, report: str) -> str:
    """The page with ``report`` between its markers."""
    first, last = MARKERS
    if first not in page or last not in page.partition(first)[2]:
        raise SystemExit(f"The page has no {first} followed by {last}: put them where tables go.")
    head, _, rest = page.partition(first)
    return f"{head}{first}\n{report}\n{last}{rest.partition(last)[2]}"


def _uncertainty(cases: list[Any], base: SegmentSettings, ensemble: int) -> dict[str, float]:
    chosen = base.with_(ensemble=ensemble)
    model = load_model(chosen)
    rows = [uncertain_errors(volume, truth, chosen, model) for _, volume, truth in cases]
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


def table(found: dict[str, Any]) -> str:
    """Markdown."""
    number: Callable[[float], str] = "{:.3f}".format
    lines = [
        "| set (volumes) | way | Dice | surface Dice (1 voxel) | jitter | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for name, entry in found.items():
        for way, row in entry["ways"].items():
            cells = [number(row[key]) for key in ("dice", "surface_dice", "jitter")]
            place = f"{name} ({entry['volumes']})"
            lines.append(f"| {place} | {way} | {' | '.join(cells)} | {row['seconds']:.0f} |")
    doubts = {name: entry["uncertainty"] for name, entry in found.items() if "uncertainty" in entry}
    if doubts:
        lines += ["", "| set | wrong voxels | of them in the 10 % of largest spread | margin |"]
        lines += ["|---|---|---|---|"]
        for name, row in doubts.items():
            cells = [f"{100 * row[key]:.1f} %" for key in ("errors", "spread", "margin")]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
