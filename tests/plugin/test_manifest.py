"""The manifest: found, whole, the same in every place, and free to read."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari_digseg._preferences import Preferences, preferences
from napari_digseg._reader import get_reader
from npe2 import PluginManifest

from digseg import samples

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def manifest() -> PluginManifest:
    return PluginManifest.from_file(ROOT / "napari.yaml")


def test_the_manifest_that_is_installed_is_the_one_at_the_top() -> None:
    (found,) = entry_points(group="napari.manifest", name="napari-digseg")
    module, _, name = found.value.partition(":")
    installed = files(module).joinpath(name).read_text(encoding="utf-8")
    assert installed == (ROOT / "napari.yaml").read_text(encoding="utf-8"), (
        "napari.yaml was changed: install the project again"
    )


def test_every_command_is_there(manifest: PluginManifest) -> None:
    for command in manifest.contributions.commands or ():
        module, _, name = str(command.python_name).partition(":")
        assert callable(getattr(import_module(module), name)), command.id


def test_defaults_of_the_settings_are_those_of_the_code(manifest: PluginManifest) -> None:
    properties = manifest.contributions.configurations["digseg"].properties
    default = Preferences()
    assert {key: item.default for key, item in properties.items()} == {
        key: getattr(default, key) for key in Preferences.__dataclass_fields__
    }


def test_settings_of_the_person_are_heard(plugin_settings: Any, npe2pm: Any) -> None:
    npe2pm.register(PluginManifest.from_file(ROOT / "napari.yaml"))
    from napari.settings import get_plugin_settings

    assert preferences() == Preferences()
    get_plugin_settings("napari-digseg").digseg.composite = False
    assert not preferences().composite


def test_looking_at_the_manifest_loads_nothing_heavy() -> None:
    code = (
        "import sys, napari_digseg, napari_digseg._reader, napari_digseg._writer\n"
        "from napari_digseg._reader import get_reader\n"
        f"get_reader({str(samples.scene())!r})\n"
        "heavy = {'torch', 'rasterio', 'qtpy', 'PyQt6', 'napari', 'SimpleITK', 'zarr'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert told.stdout.strip() == "[]"


def test_the_engine_knows_neither_napari_nor_qt() -> None:
    code = (
        "import sys, napari_digseg._engine, napari_digseg._preview\n"
        "print(sorted({'napari', 'qtpy', 'PyQt6'} & set(sys.modules)))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert told.stdout.strip() == "[]"


def test_a_folder_of_something_else_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing to see")
    assert get_reader(str(tmp_path)) is None


@pytest.mark.parametrize(("sample", "axes"), [("scene", ("y", "x")), ("volume", ("z", "y", "x"))])
def test_samples_open_in_their_place(sample: str, axes: tuple[str, ...]) -> None:
    from napari_digseg import _sample_data

    ((data, meta, kind),) = getattr(_sample_data, sample)()
    assert kind == "image"
    assert meta["axis_labels"] == axes
    assert np.asarray(data[tuple(slice(0, 8) for _ in axes)]).size > 0


@pytest.mark.parametrize("side", [16_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_a_sparse_gigapixel_raster_opens_at_once(tmp_path: Path, side: int) -> None:
    import time

    import rasterio

    path = tmp_path / "huge.tif"
    profile = {
        "driver": "GTiff", "width": side, "height": side, "count": 3, "dtype": "uint8",
        "tiled": True, "blockxsize": 512, "blockysize": 512, "SPARSE_OK": True,
        "BIGTIFF": "YES", "compress": "deflate", "crs": "EPSG:32631",
        "transform": rasterio.Affine(1, 0, 500_000, 0, -1, 4_100_000),
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.build_overviews([2, 4, 8, 16, 32, 64, 128, 256], rasterio.enums.Resampling.nearest)
    begun = time.perf_counter()
    ((levels, meta, _),) = get_reader(str(path))(str(path))  # type: ignore[misc]
    corner = levels[0][8_000:8_800, 8_000:9_200]
    overview = levels[-1][...]
    assert time.perf_counter() - begun < 3.0
    assert meta["multiscale"]
    assert len(levels) == 9
    assert corner.shape == (800, 1200, 3)
    assert overview.shape[0] == -(-side // 256)
