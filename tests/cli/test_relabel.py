"""``relabel`` on a store of a real run, and ``benchmark engine``: as people call them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.models import Brightness

from digseg.cli.main import main
from digseg.io.synthetic import write_scene
from digseg.prompts import PromptSet
from digseg.run.execute import execute
from digseg.run.job import Job, Outputs
from digseg.settings import SegmentSettings


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder with ``scene.tif`` (sparse), ``labels.tif`` and ``store.zarr``."""
    scene = write_scene(tmp_path / "scene.tif", (600, 700), share=0.6, seed=1)
    job = Job(
        str(scene),
        PromptSet.parse(["red", "green"]),
        SegmentSettings(tile=128, overlap=16, threshold=0.5),
        Outputs(labels=tmp_path / "labels.tif", probabilities=tmp_path / "store.zarr"),
    )
    execute(job, model=Brightness())
    return tmp_path


def read(path: Path) -> np.ndarray:
    import rasterio

    with rasterio.open(path) as file:
        found: np.ndarray = file.read(1)
        return found


def test_new_thresholds_without_inference(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run / "again.tif"
    words = ["relabel", str(run / "store.zarr"), "--threshold", "green=0.9", "-o", str(out)]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert str(out) in told["files"]
    import rasterio

    with rasterio.open(run / "scene.tif") as file:
        red, green, blue = file.read().astype(int)
    empty = (red == 0) & (green == 0) & (blue == 0)
    expected = np.where((red >= 128) & ((red >= green) | (green < 230)), 1, 0)
    expected = np.where((green >= 230) & (green > red), 2, expected)
    expected[empty] = 255
    assert np.array_equal(read(out), expected)
    assert not np.array_equal(read(out), read(run / "labels.tif"))


def test_the_same_thresholds_give_the_same_labels(run: Path) -> None:
    assert main(["relabel", str(run / "store.zarr"), "-o", str(run / "same.tif")]) == 0
    assert np.array_equal(read(run / "same.tif"), read(run / "labels.tif"))


def test_a_negative_class_leaves_the_ids_of_the_others(run: Path) -> None:
    out = run / "n.tif"
    assert main(["relabel", str(run / "store.zarr"), "-n", "red", "-o", str(out)]) == 0
    before, after = read(run / "labels.tif"), read(out)
    assert set(np.unique(after)) == {0, 2, 255}
    assert np.array_equal(after == 2, before == 2)


def test_simplified_polygons(run: Path) -> None:
    import geopandas

    store, counts = str(run / "store.zarr"), []
    for name, more in (
        ("all.gpkg", []),
        ("none.gpkg", ["--simplify", "0"]),
        ("px.gpkg", ["--simplify", "2"]),
    ):
        assert main(["relabel", store, "--vector", str(run / name), *more]) == 0
        found = geopandas.read_file(run / name)
        assert found.is_valid.all()
        counts.append((len(found), int(found.count_coordinates().sum()), found.area_m2.sum()))
    assert counts[0] == counts[1]
    assert counts[2][0] == counts[0][0]
    assert counts[2][1] < counts[0][1] / 2
    assert counts[2][2] == counts[0][2]
    recipe = json.loads((run / "px.gpkg.recipe.json").read_text())
    assert recipe["settings"]["simplify"] == "2px"
    assert "--simplify 2px" in recipe["command"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["store.zarr", "--vector", "x.gpkg", "--simplify", "lots"], 2, "no tolerance"),
        (["store.zarr", "--vector", "x.gpkg", "--simplify=-1px"], 2, "no tolerance"),
        (["nothing.zarr", "-o", "x.tif"], 3, "no probability store"),
        (["store.zarr"], 2, "-o OUT"),
        (["store.zarr", "--threshold", "tree=0.4", "-o", "x.tif"], 2, "no prompt 'tree'"),
        (["store.zarr", "-n", "red", "-n", "green", "-o", "x.tif"], 2, "leave at least one"),
        (["store.zarr", "-o", "labels.tif"], 2, "exists already"),
    ],
)
def test_what_can_not_be_done_is_said(
    run: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(run)
    assert main(["relabel", *words]) == code
    assert said in capsys.readouterr().err


def test_the_benchmark_tells_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["benchmark", "engine", "--size", "300x500", "--tile", "128", "--overlap", "16"]
    assert main([*words, "--model", "cheap", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert {
        *("fwd_over_wall", "bytes_per_pixel", "redundancy", "megapixels_per_second"),
        "output_sha256",
    } <= set(figures)
    assert 0 < figures["fwd_over_wall"] <= 1
    assert figures["redundancy"] == pytest.approx(3 * 5 * 128 * 128 / (300 * 500), abs=1e-4)
    assert main([*words, "--model", "cheap", "--json", "--batch", "3"]) == 0
    assert json.loads(capsys.readouterr().out)["output_sha256"] == figures["output_sha256"]


@pytest.mark.parametrize(
    "words", [["--size", "0"], ["--size", "1x2x3"], ["--classes", "0"], ["--in-one-piece"]]
)
def test_a_benchmark_of_nothing_is_refused(words: list[str]) -> None:
    assert main(["benchmark", "engine", *words]) == 2


def test_a_path_is_told_on_one_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run / f"{'long ' * 20}.tif"
    assert main(["relabel", str(run / "store.zarr"), "-o", str(out)]) == 0
    assert f"wrote {out}" in capsys.readouterr().err.splitlines()
