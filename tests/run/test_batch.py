"""Many files: found, segmented, and the bad ones named and passed over."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import Affine
from tests.models import Brightness

from digseg.cli.main import main
from digseg.prompts import PromptSet
from digseg.run import execute
from digseg.run.batch import BatchJob, run_batch
from digseg.run.found import find
from digseg.run.table import Table
from digseg.settings import SegmentSettings


def volume(path: Path, value: int = 200) -> Path:
    data = np.zeros((20, 22, 8), np.uint8)
    data[4:12, 5:15, 2:6] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, np.diag([2.0, 2.0, 5.0, 1.0])), path)
    return path


def scene(path: Path) -> Path:
    pixels = np.full((3, 70, 80), 10, np.uint8)
    pixels[0, 20:40, 30:60] = 250
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "count": 3, "height": 70, "width": 80, "dtype": "uint8"}
    transform = Affine(10, 0, 500_000, 0, -10, 4_100_000)
    with rasterio.open(path, "w", **profile, crs="EPSG:32631", transform=transform) as dataset:
        dataset.write(pixels)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two good volumes, a scene, a broken volume, and things that are no images."""
    volume(tmp_path / "cases" / "a.nii.gz")
    volume(tmp_path / "cases" / "second" / "a.nii.gz")
    scene(tmp_path / "cases" / "scene.tif")
    whole = (tmp_path / "cases" / "a.nii.gz").read_bytes()
    (tmp_path / "cases" / "broken.nii.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cases" / "readme.txt").write_text("about these")
    (tmp_path / "cases" / "a.json").write_text("{}")
    (tmp_path / "cases" / ".hidden.tif").write_bytes(b"II*\0")
    return tmp_path / "cases"


def job(folder: Path, **more: Any) -> BatchJob:
    return BatchJob(PromptSet.parse(["bright"]), SegmentSettings(), folder, **more)


def test_a_bad_file_stops_nothing(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    cases = list(run_batch(job(out, pictures=True), find([str(folder)]), model=Brightness()))
    assert [case.status for case in cases] == ["done", "failed", "done", "done"]
    assert "broken.nii.gz" in cases[1].error
    written = {str(path.relative_to(out)) for path in out.rglob("*_mask*")}
    for name in ("a_mask.nii.gz", "a_mask.png", "scene_mask.tif", "second/a_mask.nii.gz"):
        assert name in written
    assert not any("broken" in name or name.startswith(".") for name in written)
    mask = np.asarray(nib.load(out / "a_mask.nii.gz").dataobj)
    assert mask[6, 8, 3] == 1
    assert mask[0, 0, 0] == 0
    Table.open(tmp_path / "all.csv").write(cases)
    with (tmp_path / "all.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [Path(row["file"]).name for row in rows] == ["a.nii.gz", "scene.tif", "a.nii.gz"]
    assert rows[0]["volume_ml"]
    assert rows[1]["area_ha"]


def test_resume_skips_what_is_done(folder: Path, tmp_path: Path) -> None:
    out, model = tmp_path / "out", Brightness()
    found = find([str(folder)])
    first = list(run_batch(job(out), found, model=model))
    before = (out / "a_mask.nii.gz").stat().st_mtime_ns
    again = list(run_batch(job(out), found, model=model))
    assert [case.status for case in again] == ["failed"] * 4
    assert "exists already" in again[0].error
    resumed = list(run_batch(job(out, resume=True), found, model=model))
    assert [case.status for case in resumed] == ["skipped", "failed", "skipped", "skipped"]
    assert (out / "a_mask.nii.gz").stat().st_mtime_ns == before
    replaced = list(run_batch(job(out, overwrite=True), found, model=model))
    assert [case.status for case in replaced] == [case.status for case in first]
    assert (out / "a_mask.nii.gz").stat().st_mtime_ns != before


def test_two_files_of_one_stem_get_two_masks(tmp_path: Path) -> None:
    volume(tmp_path / "in" / "a.nii.gz")
    volume(tmp_path / "in" / "a.nii")
    cases = list(run_batch(job(tmp_path / "out"), find([str(tmp_path / "in")]), model=Brightness()))
    assert [case.status for case in cases] == ["done", "done"]
    assert len({case.output for case in cases}) == 2


def test_the_command_says_what_failed(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(execute, "load_model", lambda settings: Brightness())
    words = ["batch", str(folder), "-p", "bright", "-o", str(tmp_path / "out"), "--json"]
    assert main([*words, "--stats", str(tmp_path / "all.csv")]) == 5
    told = capsys.readouterr()
    summary = json.loads(told.out)
    assert summary["status"] == "incomplete"
    assert (summary["files"], summary["done"], summary["failed"]) == (4, 3, 1)
    assert [case["status"] for case in summary["cases"]] == ["done", "failed", "done", "done"]
    assert len([line for line in told.err.splitlines() if line.startswith("[")]) == 4
    assert (tmp_path / "all.csv").exists()
    good = str(folder / "scene.tif")
    assert main(["batch", good, "-p", "bright", "-o", str(tmp_path / "more"), "-q"]) == 0
    assert capsys.readouterr().out == ""
    assert main(["batch", str(tmp_path / "gone"), "-p", "x", "-o", str(tmp_path / "o")]) == 3
    assert main(["batch", good, "-o", str(tmp_path / "o")]) == 2
    assert main(["batch", good, "-p", "x", "-o", str(tmp_path / "o"), "--suffix", ".xyz"]) == 2


def test_no_two_files_share_a_mask_or_a_picture(tmp_path: Path) -> None:
    """Three of one name from a list, and a picture whose mask is named like another's picture."""
    listed = [scene(tmp_path / part / "a.tif") for part in ("one", "two", "three")]
    listed.append(tmp_path / "a.png")
    Image.fromarray(np.full((70, 80, 3), 10, np.uint8)).save(listed[-1])
    (tmp_path / "all.txt").write_text("\n".join(map(str, listed)))
    found = find([str(tmp_path / "all.txt")])
    first = list(run_batch(job(tmp_path / "out"), found, model=Brightness()))
    assert [case.status for case in first] == ["done"] * 4
    assert len({case.output for case in first}) == 4
    drawn = list(run_batch(job(tmp_path / "drawn", pictures=True), found[:3], model=Brightness()))
    assert [case.status for case in drawn] == ["done"] * 3
    assert len(list((tmp_path / "drawn").glob("*.png"))) == 3
    mixed = job(tmp_path / "mixed", pictures=True, overwrite=True)
    cases = list(run_batch(mixed, [found[0], found[3]], model=Brightness()))
    assert [case.status for case in cases] == ["done", "failed"]
    assert "have one name" in cases[1].error


def test_no_mask_takes_the_place_of_an_input(tmp_path: Path) -> None:
    scene(tmp_path / "a.tif")
    other = scene(tmp_path / "a_mask.tif")
    before = other.read_bytes()
    again = job(tmp_path, overwrite=True)
    cases = list(run_batch(again, find([str(tmp_path / "*.tif")]), model=Brightness()))
    assert [case.status for case in cases] == ["failed", "done"]
    assert "would replace" in cases[0].error
    assert other.read_bytes() == before


@pytest.mark.parametrize(
    ("table", "said"),
    [("no/such/all.csv", "does not exist"), ("all.xls", "written as .csv")],
)
def test_a_table_that_cannot_be_written_is_refused_before_the_work(
    folder: Path, tmp_path: Path, table: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["batch", str(folder), "-p", "bright", "-o", str(tmp_path / "out")]
    assert main([*words, "--stats", str(tmp_path / table)]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# dask's own processes leave sockets to the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_workers_that_are_asked_for_serve_all_files(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from digseg.engine import cluster

    begin, started = cluster._local, []

    def counted(*words: Any) -> Any:
        started.append(begin(*words))
        return started[-1]

    monkeypatch.setattr(cluster, "_local", counted)
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    several = replace(
        job(tmp_path / "several"), settings=SegmentSettings().with_(workers=2, tile=64, overlap=16)
    )
    cases = list(run_batch(several, find([str(folder)]), model=Brightness()))
    assert [case.status for case in cases] == ["done", "failed", "done", "done"]
    assert len(started) == 1
    assert not started[0].workers, "they end with the batch"
    again = list(run_batch(replace(several, resume=True), find([str(folder)]), model=Brightness()))
    assert [case.status for case in again] == ["skipped", "failed", "skipped", "skipped"]
    assert len(started) == 1, "none start for files that are done"
    alone = replace(several, folder=tmp_path / "alone", settings=several.settings.with_(workers=0))
    for case in run_batch(alone, find([str(folder)]), model=Brightness()):
        if case.output is not None:
            other = tmp_path / "several" / case.output.relative_to(tmp_path / "alone")
            assert other.read_bytes() == case.output.read_bytes()
