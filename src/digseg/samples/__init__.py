"""Two small real pictures that ship with the package; their licences stand in LICENSES.md.

``scene.tif`` is a Sentinel-2 chip (224 x 224 pixels of 10 m, bands red, green, blue, nir,
reflectance x 10000, EPSG:32718). ``ct.nii.gz`` is an abdomen CT (50 slices of 84 x 114 voxels of
3 mm, Hounsfield units rounded to 10).
"""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent

_PROMPTS = {
    "scene": ("water=river", "trees=forest", "crops=fields,farmland", "built-up area=buildings"),
    "volume": ("liver", "spleen", "left kidney", "right kidney", "vertebrae=spine"),
}


def scene() -> Path:
    """Path of the satellite scene, a georeferenced GeoTIFF."""
    return _FOLDER / "scene.tif"


def volume() -> Path:
    """Path of the CT volume, a NIfTI file."""
    return _FOLDER / "ct.nii.gz"


def prompts_for(name: str) -> tuple[str, ...]:
    """Prompts, as a person would type them, for ``"scene"`` or ``"volume"``.

    Raises
    ------
    KeyError
        There is no such sample.
    """
    return _PROMPTS[name]
