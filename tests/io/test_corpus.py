"""Every odd file of the shared corpus: those that can be read give the facts that independent
libraries found, those that must be refused are refused in one sentence."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from digseg import io
from digseg.errors import DigsegError, InputError
from digseg.raster import Raster, Volume
from digseg.types import AnyArray

CORPUS = Path(os.environ.get("DIGSEG_SHARED", Path(__file__).parents[3] / "shared")) / "corpus"
ITEMS: list[dict[str, Any]] = (
    json.loads((CORPUS / "manifest.json").read_text(encoding="utf-8"))
    if (CORPUS / "manifest.json").exists()
    else []
)
if isinstance(ITEMS, dict):
    ITEMS = ITEMS["items"]

Shared = Callable[[str], Path]

# Judged by nibabel, which reads the pair that the manifest's library did not find.
COUNTS = Path(__file__).parents[2] / "docs" / "formats.md"


def items(*kinds: str, expected: str) -> list[Any]:
    found = [i for i in ITEMS if i["kind"] in kinds and i["expected"] == expected]
    return [pytest.param(item, id=item["file"]) for item in found]


def digest(array: AnyArray, dtype: Any = None) -> str:
    """Hash of the pixels as the manifest has it: C order, little-endian."""
    kind = np.dtype(array.dtype if dtype is None else dtype).newbyteorder("<")
    return hashlib.sha256(np.ascontiguousarray(array).astype(kind).tobytes()).hexdigest()


def refused(path: Path) -> DigsegError | None:
    """What `info` and a whole read say against a file; `None` where both succeed."""
    try:
        io.info(path)
        image = io.read(path)
        np.asarray(image.data[0])
    except DigsegError as error:
        return error
    return None


@pytest.mark.parametrize("item", items("geotiff", "nifti", "dicom", "other", expected="refuses"))
def test_refused(item: dict[str, Any], shared: Shared) -> None:
    error = refused(shared(f"corpus/{item['file']}"))
    if error is None:
        assert item.get("either_ok"), item.get("why", item["oddness"])
        return
    assert isinstance(error, InputError)
    assert error.exit_code == 3
    text = str(error)
    assert text.endswith(".")
    assert "\n" not in text
    assert len(text) < 400


@pytest.mark.parametrize("item", items("geotiff", expected="reads"))
def test_geotiff(item: dict[str, Any], shared: Shared) -> None:
    path, facts = shared(f"corpus/{item['file']}"), item["facts"]
    found = io.info(path)
    assert found["kind"] == "raster"
    assert found["format"] == facts["driver"]
    assert found["shape"] == [facts["bands"], facts["height"], facts["width"]]
    assert found["dtypes"] == facts["dtypes"]
    assert found["crs_epsg"] == facts["crs_epsg"]
    assert found["crs"] == facts["crs_wkt"]
    assert found["transform"] == (facts["transform"] if facts["georeferenced"] else None)
    assert found["nodata_per_band"] == facts["nodata"]
    assert found["nodata"] == facts["nodata"][0]
    assert found["overviews"] == facts["overviews"]
    assert found["gcps"] == facts["gcps"]
    assert found["gcps_crs_epsg"] == facts["gcps_crs_epsg"]
    assert found["rpcs"] == facts["rpcs"]
    assert found["colors"] == facts["colorinterp"]
    assert found["palette"] == facts["colormap"]
    assert found["compression"] == facts["compression"]
    assert found["pixel_is"] == facts["area_or_point"]
    image = io.read(path)
    assert isinstance(image, Raster)
    assert len(image.levels) == len(facts["overviews"])
    if "pixels_sha256" in facts:
        pixels = np.asarray(image.data[...])
        assert digest(pixels) == facts["pixels_sha256"]
        valid = image.validity((0, image.shape[0], 0, image.shape[1]), pixels)
        # Unlike GDAL's mask, NaN is never data here.
        hidden = int((~valid).sum())
        nans = facts["nan_count"]
        assert hidden in (
            facts["dataset_mask_zero_pixels"],
            facts["dataset_mask_zero_pixels"] + nans,
        )


@pytest.mark.parametrize("item", items("nifti", expected="reads"))
def test_nifti(item: dict[str, Any], shared: Shared) -> None:
    path, facts = shared(f"corpus/{item['file']}"), item["facts"]
    if item.get("either_ok") and refused(path) is not None:
        return
    found = io.info(path)
    assert found["kind"] == "volume"
    assert found["shape"] == facts["shape"]
    assert found["dtype"] == facts["dtype"]
    assert found["affine"] == facts["affine"]
    assert found["orientation"] == facts["axcodes"]
    stack = []
    for time in range(found["time_points"]):
        volume = io.read(path, time=time)
        assert isinstance(volume, Volume)
        assert [list(row) for row in volume.grid.affine] == facts["affine"]
        stack.append(np.asarray(volume.data[...]).T)
    voxels = np.stack(stack, axis=-1).reshape(facts["shape"])
    if (
        digest(voxels, facts["data_dtype_after_scaling"])
        != facts["data_sha256_C_order_little_endian"]
    ):
        # Scaled in float32 here where nibabel takes float64: equal to the last digit of float32.
        assert facts["scl_slope_used"] not in (None, 1.0)
        assert np.nanmin(voxels) == pytest.approx(facts["min"], rel=1e-6, abs=1e-30)
        assert np.nanmax(voxels) == pytest.approx(facts["max"], rel=1e-6, abs=1e-30)


@pytest.mark.parametrize("item", items("dicom", expected="reads"))
def test_dicom(item: dict[str, Any], shared: Shared) -> None:
    path, facts = shared(f"corpus/{item['file']}"), item["facts"]
    if item.get("either_ok") and refused(path) is not None:
        return
    found = io.info(path)
    assert found["kind"] == "volume"
    assert found["shape"][:2] == [int(facts["columns"][0]), int(facts["rows"][0])]
    if "affine_ras_columns_rows_slices" in facts:
        expected = np.array(facts["affine_ras_columns_rows_slices"])
        np.testing.assert_allclose(np.array(found["affine"]), expected, rtol=0, atol=2e-6)
    if found["shape"][2:3] == [facts.get("distinct_slice_positions")]:
        steps = facts["slice_steps"]
        if steps and not facts["sheared"]:
            assert found["spacing"][2] == pytest.approx(np.mean(steps), abs=1e-3)
    image = io.read(path)
    assert np.asarray(image.data[0]).size == np.prod(image.data.shape[1:])


@pytest.mark.parametrize("item", items("other", expected="reads"))
def test_other(item: dict[str, Any], shared: Shared) -> None:
    path, facts = shared(f"corpus/{item['file']}"), item["facts"]
    found, image = io.info(path), io.read(path)
    pixels = np.asarray(image.data[...])
    if "arrays" in facts:
        (array,) = facts["arrays"].values()
        assert found["kind"] == "array"
        assert found["zarr_format"] == facts["zarr_format"]
        for key in ("shape", "chunks", "dtype"):
            assert found[key] == array[key]
        assert digest(pixels) == array["sha256_C_order_little_endian"]
        return
    assert found["kind"] == "volume"
    assert found["shape"] == facts["size_xyz"]
    assert found["dtype"] == facts["dtype"]
    assert list(pixels.shape) == facts["array_shape_zyx"]
    assert digest(pixels) == facts["pixels_sha256_C_order_zyx_little_endian"]
    steps = np.array(facts["direction_lps_row_major"]).reshape(3, 3) @ np.diag(facts["spacing"])
    to_ras = np.diag([-1.0, -1.0, 1.0])
    affine = np.array(found["affine"])
    np.testing.assert_allclose(affine[:3, :3], to_ras @ steps, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(affine[:3, 3], to_ras @ facts["origin_lps"], rtol=1e-12, atol=1e-9)


@pytest.mark.skipif(not ITEMS, reason="the shared corpus is not on this machine")
def test_documented_counts_are_those_counted_here() -> None:
    """`docs/formats.md` says how many files of each kind are read and refused."""
    counted: Counter[tuple[str, str]] = Counter()
    for item in ITEMS:
        outcome = "reads" if refused(CORPUS / item["file"]) is None else "refuses"
        counted[item["kind"], outcome] += 1
    text = COUNTS.read_text(encoding="utf-8")
    for kind in ("geotiff", "nifti", "dicom", "other"):
        row = f"| {kind} | {counted[kind, 'reads']} | {counted[kind, 'refuses']} |"
        assert row in text, row
