"""Prompt lists to start from, as a person would type them. Values only."""

from __future__ import annotations

#: Name on the button to prompts and negative prompts.
PRESETS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Land cover": (
        (
            "water=river,lake,sea",
            "trees=forest,woodland",
            "crops=fields,farmland",
            "built-up area=buildings,city",
            "bare land=bare soil,sand",
        ),
        (),
    ),
    "Aerial": (
        ("building=roof,house", "road=street,pavement", "vegetation=trees,grass", "water"),
        (),
    ),
    "CT organs": (
        ("liver", "spleen", "left kidney", "right kidney", "aorta", "vertebrae=spine"),
        (),
    ),
    "Crops": (("crop=plant", "weed"), ("bare soil",)),
}
