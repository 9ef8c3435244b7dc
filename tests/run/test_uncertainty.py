"""The spread over an ensemble, and what is measured of a volume's labels."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import rasterio
from tests.run.test_passes import SETTINGS, TURNS, Brightness, turned, upright

import digseg
from digseg.errors import UsageError
from digseg.grid import Grid
from digseg.orientation import Turn
from digseg.prompts import PromptSet
from digseg.raster import ClassTable, Mask, Raster
from digseg.run.execute import execute
from digseg.run.job import Job, Outputs
from digseg.run.measures import measure
from digseg.run.passes import parts_path
from digseg.settings import SegmentSettings
from digseg.types import AnyArray


def job(output: Path, **settings: object) -> Job:
    chosen = SegmentSettings(**{**SETTINGS, "ensemble": 4, **settings})  # type: ignore[arg-type]
    outputs = Outputs(
        labels=output, uncertainty=output.with_name(f"spread{''.join(output.suffixes)}")
    )
    return Job("made", PromptSet.parse(["a", "b"]), chosen, outputs)


@pytest.mark.parametrize("planes", ["z", "zyx"])
def test_the_spread_lies_where_the_volume_lies(
    planes: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    body = rng.random((7, 9, 11), dtype=np.float32)
    volume = turned(upright(body), TURNS[29])
    todo = job(tmp_path / "mask.nii.gz", planes=planes)
    with execute(todo, image=volume, model=Brightness()) as result:
        assert len(result.store.prompts) == 2
        assert result.store.probabilities.shape[0] == 2
        labels = result.labels
    scaled = (body - body.min()) / (body.max() - body.min())
    spread = nib.load(tmp_path / "spread.nii.gz")
    np.testing.assert_allclose(spread.affine, volume.grid.matrix)
    found = np.asarray(spread.dataobj).T
    np.testing.assert_allclose(found, TURNS[29].apply(2 * scaled * (1 - scaled)) * 255, atol=1.01)
    assert set(np.unique(labels)) == {0, 1}
    assert not list(tmp_path.glob(".*")), "no work is left behind"
    assert not parts_path(result.store.path).exists()


def test_a_raster_has_one_too(tmp_path: Path, rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (3, 40, 50)).astype(np.uint8)
    todo = job(tmp_path / "mask.tif", percentiles=(2.0, 98.0), spacing=None)
    place = Grid.from_transform((40, 50), (10.0, 0.0, 5e5, 0.0, -10.0, 4e6), crs="EPSG:32631")
    with execute(todo, image=Raster(pixels, place), model=Brightness()):
        pass
    with rasterio.open(tmp_path / "spread.tif") as dataset:
        found = dataset.read(1)
    own = pixels[1] / 255
    np.testing.assert_allclose(found, 2 * own * (1 - own) * 255, atol=1.01)


def test_a_spread_needs_an_ensemble(tmp_path: Path, rng: np.random.Generator) -> None:
    volume = upright(rng.random((7, 9, 11), dtype=np.float32))
    with pytest.raises(UsageError, match="--ensemble"):
        execute(job(tmp_path / "mask.nii.gz", ensemble=1), image=volume, model=Brightness())


def labelled() -> AnyArray:
    labels = np.zeros((6, 10, 12), np.uint8)
    labels[1:4, 2:7, 3:11] = 1
    labels[1, 2, 3] = 2
    return labels


@pytest.mark.parametrize("turn", TURNS[::5], ids=str)
def test_extents_and_mean_are_the_patients(turn: Turn, rng: np.random.Generator) -> None:
    body = rng.normal(40, 10, (6, 10, 12)).astype(np.float32)
    volume = turned(upright(body), turn)
    table = ClassTable.of(PromptSet.parse(["liver", "spot", "nothing"]))
    mask = Mask(turn.apply(labelled()), volume.grid, table)
    liver, spot, nothing = measure(volume, mask)
    assert liver["mean_value"] == pytest.approx(body[labelled() == 1].mean(), rel=1e-5)
    assert liver["std_value"] == pytest.approx(body[labelled() == 1].std(), rel=1e-3)
    assert liver["extent_head_foot_mm"] == pytest.approx(6.0)
    assert liver["extent_front_back_mm"] == pytest.approx(10.0)
    assert liver["extent_left_right_mm"] == pytest.approx(16.0)
    assert spot["mean_value"] == pytest.approx(body[1, 2, 3])
    assert nothing["mean_value"] is None
    assert nothing["extent_left_right_mm"] is None


def test_statistics_of_a_run_hold_them(rng: np.random.Generator) -> None:
    volume = upright(rng.random((7, 9, 11), dtype=np.float32))
    with digseg.segment(volume, ["a"], model=Brightness(), **SETTINGS) as result:
        (row,) = result.stats()
    assert row["volume_ml"] == pytest.approx(row["pixels"] * 0.008)
    assert row["mean_value"] > 0.5
