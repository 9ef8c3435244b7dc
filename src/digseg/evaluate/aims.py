"""What a model card tells in figures: what was aimed at, and what was measured, as plain values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from digseg.evaluate.core import EvaluateSettings, SetResult, evaluate
from digseg.evaluate.dataset import LabelledSet
from digseg.events import Callback, ignore
from digseg.types import SegmentationModel

#: Values of an evaluation that a card keeps.
_KEPT = (
    "n", "planes", "exhaustive", "miou", "mdice", "iou", "dice", "boundary_f", "groups",
    "absent_area", "synonym_iou", "synonym_reference", "synonym_ratio",
)  # fmt: skip

#: What was aimed at, by set: a sentence for the table, the value, the floor.
Aim = tuple[str, Callable[[Mapping[str, Any]], float | None], float]

AIMS: dict[str, tuple[Aim, ...]] = {
    "aerial_dubai": (("mIoU", lambda v: v["miou"], 0.62),),
    "sentinel2_india": (("mIoU", lambda v: v["miou"], 0.68),),
    "landsat_zion": (("mIoU", lambda v: v["miou"], 0.40),),
    "landsat_nc": (("mIoU", lambda v: v["miou"], 0.40),),
    "crops_peanut": (("mIoU", lambda v: v["miou"], 0.70),),
    "nuclei_dsb2018": (("IoU", lambda v: v["miou"], 0.80),),
    "em_isbi2012": (("membrane IoU", lambda v: v["iou"]["membrane"], 0.70),),
    "hippocampus_mr": (("mean Dice of both parts", lambda v: v["mdice"], 0.75),),
    "ct_liver_msd": (("IoU", lambda v: v["miou"], 0.80),),
    "mr_spine_spider": (
        ("mIoU of vertebra, disc and canal as wholes", lambda v: v["groups"].get("miou"), 0.60),
    ),
    "ct_totalsegmentator": (
        ("liver Dice", lambda v: v["dice"]["liver"], 0.60),
        ("spleen Dice", lambda v: v["dice"]["spleen"], 0.60),
        ("aorta Dice", lambda v: v["dice"]["aorta"], 0.60),
        (
            "vertebrae Dice (as a whole)",
            lambda v: v["groups"].get("dice", {}).get("vertebrae"),
            0.60,
        ),
    ),
}


def measure(
    sets: Sequence[LabelledSet],
    model: SegmentationModel,
    settings: EvaluateSettings,
    *,
    pictures: int = 64,
    callback: Callback = ignore,
) -> list[SetResult]:
    """Evaluate the sets that have the split."""
    found: list[SetResult] = []
    for item in sets:
        if not item.splits.get(settings.split):
            continue
        found += evaluate([item], model, settings, pictures=pictures, callback=callback).sets
    return found


def figures(results: Iterable[SetResult], sets: Sequence[LabelledSet]) -> dict[str, Any]:
    """Plain values of a card: by set what was measured, and what the set says of itself."""
    by_name = {item.name: item for item in sets}
    told: dict[str, Any] = {}
    for result in results:
        item = by_name[result.name]
        told[result.name] = {key: result.values[key] for key in _KEPT} | {
            "domain": item.domain,
            "modality": item.modality,
            "licence": item.licence,
            "source": item.source,
            "use": item.use,
            "classes": list(item.names),
        }
    return told
