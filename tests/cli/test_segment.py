"""``napari-digseg segment`` with the model that ships, as people call it."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import rasterio

from digseg import samples
from digseg.cli.main import main

SCENE = str(samples.scene())
VOLUME = str(samples.volume())


def run(*words: object) -> int:
    return main([str(word) for word in words])


def test_scene_to_mask(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, table = tmp_path / "mask.tif", tmp_path / "areas.csv"
    code = run(
        "segment", SCENE, "-p", "water", "-p", "trees=forest", "-o", out, "--stats", table, "--json"
    )
    assert code == 0
    told = json.loads(capsys.readouterr().out)
    assert told["status"] == "done"
    assert [row["name"] for row in told["labels"]] == ["water", "trees"]
    with rasterio.open(out) as mask, rasterio.open(SCENE) as scene:
        assert (mask.crs, mask.transform, mask.shape) == (scene.crs, scene.transform, scene.shape)
        labels = mask.read(1)
        assert mask.profile["tiled"]
        assert mask.profile["compress"] is not None
        assert mask.colormap(1)[1][:3] == (38, 120, 214)
    assert [row["pixels"] for row in told["labels"]] == [int((labels == i).sum()) for i in (1, 2)]
    lines = table.read_text().splitlines()
    assert len(lines) == 3
    assert "water" in lines[1]


def test_volume_to_mask(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "organs.nii.gz"
    words = ("-p", "liver", "-p", "left kidney", "--no-propagate")  # one pass: twice as fast
    assert run("segment", VOLUME, *words, "-o", out) == 0
    assert capsys.readouterr().out == ""
    mask, volume = nibabel.load(out), nibabel.load(VOLUME)
    assert np.array_equal(mask.affine, volume.affine)
    assert np.array_equal(mask.header.get_qform(), volume.header.get_qform())
    assert mask.header["sform_code"] == volume.header["sform_code"]
    assert len(mask.header.extensions) >= 1
    sidecars = [path for path in tmp_path.glob("*.json") if "recipe" not in path.name]
    assert "left kidney" in sidecars[0].read_text()


def test_replay_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "a.tif", tmp_path / "b.tif"
    assert run("segment", SCENE, "-p", "water", "-o", first, "--tile", "128") == 0
    assert run("replay", tmp_path / "a.tif.recipe.json", "-o", second) == 0
    assert first.read_bytes() == second.read_bytes()


def test_polygons_of_a_replay_are_simplified_alike(tmp_path: Path) -> None:
    import geopandas

    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        folder.mkdir()
    words = ["-p", "water", "--tile", "128", "--threshold", "0.3", "--simplify", "50m"]
    assert run("segment", SCENE, *words, "--vector", first / "x.gpkg") == 0
    recipe = json.loads((first / "x.gpkg.recipe.json").read_text())
    assert recipe["settings"]["simplify"] == "50m"
    recipe["outputs"]["vector"] = str(second / "x.gpkg")
    (second / "recipe.json").write_text(json.dumps(recipe))
    assert run("replay", second / "recipe.json") == 0
    a, b = (geopandas.read_file(folder / "x.gpkg") for folder in (first, second))
    assert len(a) > 0
    assert a.equals(b)
    assert a.is_valid.all()


def test_dry_run_computes_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mask.tif"
    assert run("segment", SCENE, "-p", "water", "-o", out, "--dry-run", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["tiles"] == 1
    assert told["memory_bytes"] > 0
    assert list(tmp_path.iterdir()) == []


def test_dry_run_counts_every_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = {}
    ways = (
        ("--no-propagate",),
        ("--propagate",),
        ("--planes", "zyx"),
        ("--planes", "x", "--no-propagate"),
    )
    for way in ways:
        words = (VOLUME, "-p", "liver", "-o", tmp_path / "mask.nii.gz", *way)
        assert run("segment", *words, "--dry-run", "--json") == 0
        told[way] = json.loads(capsys.readouterr().out)
    plain, again, three, side = (told[way] for way in ways)
    assert [found["passes"] for found in (plain, again, three, side)] == [1, 2, 3, 1]
    assert again["tiles"] == 2 * plain["tiles"]
    assert again["disk_bytes"] == 2 * plain["disk_bytes"]
    assert three["tiles"] > plain["tiles"] + side["tiles"]
    assert three["disk_bytes"] > 3 * plain["disk_bytes"]  # and the fused maps
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "code", "hint"),
    [
        ((SCENE, "-o", "OUT"), 2, "prompt"),
        ((SCENE, "-p", "", "-o", "OUT"), 2, "empty"),
        ((SCENE, "-p", "water", "-p", "Water", "-o", "OUT"), 2, "twice"),
        ((SCENE, "-p", "water", "--bands", "1,2,9", "-o", "OUT"), 2, "band 9"),
        ((SCENE, "-p", "water", "--scales", "0.7,9", "-o", "OUT"), 2, "between 0.25 and 4"),
        ((SCENE, "-p", "water", "--scales", "large", "-o", "OUT"), 2, "numbers such as 0.7,1"),
        ((SCENE, "-p", "water"), 2, "-o"),
        ((SCENE, "-p", "water", "--vector", "a.gpkg", "--simplify", "wide"), 2, "no tolerance"),
        ((SCENE, "-p", "water", "-o", "mask.nii.gz"), 2, "volume"),
        ((VOLUME, "-p", "liver", "-o", "mask.tif"), 2, "one plane"),
        ((VOLUME, "-p", "liver", "-o", "mask.dcm"), 2, "DICOM series"),
        ((VOLUME, "-p", "liver", "--vector", "mask.gpkg"), 2, "volume has none"),
        ((SCENE, "-p", "water", "-o", "no/folder/mask.tif"), 2, "folder"),
        ((SCENE, "-p", "water", "-o", "taken.tif"), 2, "overwrite"),
        ((SCENE, "-p", "water", "-o", "mask.xyz"), 2, "mask.xyz"),
        ((SCENE, "-p", "water", "--threshold", "wet=0.4", "-o", "OUT"), 2, "wet"),
        ((SCENE, "-p", "water", "--memory", "lots", "-o", "OUT"), 2, "lots"),
        ((SCENE, "-p", "water", "--model", "no-such-model", "-o", "OUT"), 3, "no-such-model"),
        (("missing.tif", "-p", "water", "-o", "OUT"), 3, "missing.tif"),
        (("notes.tif", "-p", "water", "-o", "OUT"), 3, "notes.tif"),
        ((SCENE, "-p", "water", "--memory", "1MiB", "-o", "OUT"), 4, "memory"),
    ],
)
def test_bad_requests(
    words: tuple[str, ...],
    code: int,
    hint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.tif").write_bytes(b"somebody's work")
    (tmp_path / "notes.tif").write_text("milk, bread")
    before = sorted(tmp_path.iterdir())
    assert run("segment", *[word.replace("OUT", "mask.tif") for word in words]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert hint.lower() in captured.err.lower()
    assert captured.err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "taken.tif").read_bytes() == b"somebody's work"


def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("demo", "--output", tmp_path / "demo", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["runs"]) == 2
    names = {path.name for path in (tmp_path / "demo").iterdir()}
    assert {"scene_mask.tif", "ct_mask.nii.gz", "scene_mask.png", "ct_mask.png"} <= names


@pytest.mark.parametrize("how", ["itself", "symlink", "hard link", "link as input", "its folder"])
def test_the_input_is_never_replaced(
    tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store.zarr"  # a folder may be the name of an output, too
    store.mkdir()
    scene, other = store / "scene.tif", tmp_path / "other.tif"
    scene.write_bytes(Path(SCENE).read_bytes())
    if "link" in how:
        (other.hardlink_to if how == "hard link" else other.symlink_to)(scene)
    source = other if how == "link as input" else scene
    out = {"itself": scene, "link as input": scene, "its folder": store}.get(how, other)
    assert run("segment", source, "-p", "water", "-o", out, "--overwrite") == 2
    assert "is the input itself" in capsys.readouterr().err
    assert scene.read_bytes() == Path(SCENE).read_bytes()


@pytest.mark.parametrize(
    ("flag", "path", "said"),
    [
        ("-o", "https://example.org/mask.tif", "is remote"),
        ("--probabilities", "maps.npy", "written as .zarr"),
    ],
)
def test_outputs_that_are_none(
    flag: str, path: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("segment", SCENE, "-p", "water", flag, path) == 2
    assert said in capsys.readouterr().err
