"""What kind of scan an array is whose format doesn't say: a CT is known by its values."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from digseg import io
from digseg.raster import Volume
from digseg.types import AnyArray


def ct(dtype: str = "int16") -> AnyArray:
    """Air around a body of water, Hounsfield units."""
    values = np.full((6, 40, 48), -1000)
    values[:, 10:30, 8:40] = np.arange(32) * 4 - 60
    return values.astype(dtype)


def write(path: Path, values: AnyArray) -> None:
    """As another program would: nothing but axes is said."""
    if path.suffix == ".zarr":
        group = zarr.create_group(str(path), zarr_format=3)
        coarse = values[:, ::2, ::2]
        for name, level in (("0", values), ("1", coarse)):
            array = group.create_array(
                name, shape=level.shape, chunks=(2, 16, 16), dtype=level.dtype
            )
            array[:] = level
        axes = [{"name": name} for name in "zyx"]
        scales = [{"path": name} for name in ("0", "1")]
        group.attrs["ome"] = {
            "version": "0.5", "multiscales": [{"axes": axes, "datasets": scales}],
        }  # fmt: skip
    else:
        tifffile.imwrite(path, values, ome=True, metadata={"axes": "ZYX"})


@pytest.mark.parametrize("name", ["a.ome.zarr", "a.ome.tif"])
def test_a_ct_is_known_by_its_values(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, ct())
    volume = io.read(tmp_path / name)
    assert isinstance(volume, Volume)
    assert volume.modality == "CT"
    assert "CT by its values" in volume.meta["notes"][0]


@pytest.mark.parametrize("name", ["a.ome.zarr", "a.ome.tif"])
@pytest.mark.parametrize(
    "values",
    [
        (ct("int32") + 1024).astype("uint16"),  # stored values of a scanner: no HU
        np.linspace(0, 900, 6 * 40 * 48).reshape(6, 40, 48).astype("int16"),  # a microscope's
        np.zeros((6, 40, 48), "float32"),
    ],
    ids=["unsigned", "positive", "empty"],
)
def test_nothing_else_is_taken_for_a_scan(tmp_path: Path, name: str, values: AnyArray) -> None:
    write(tmp_path / name, values)
    volume = io.read(tmp_path / name)
    assert isinstance(volume, Volume)
    assert volume.modality == "other"


def test_a_sidecar_counts_first(tmp_path: Path) -> None:
    write(tmp_path / "a.ome.tif", (ct("int32") + 1024).astype("uint16"))
    (tmp_path / "a.ome.json").write_text(json.dumps({"Modality": "MR"}))
    volume = io.read(tmp_path / "a.ome.tif")
    assert isinstance(volume, Volume)
    assert volume.modality == "MR"
