"""Which files a batch is of, and the names that their masks get."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.run.test_batch import folder, scene, volume

from digseg.errors import InputNotFoundError, UsageError
from digseg.run.found import Found, find, names_of

__all__ = ["folder"]


def names(found: list[Found]) -> list[str]:
    return [f"{item.place}/{Path(item.path).name}" for item in found]


def test_a_folder_gives_its_images_in_order(folder: Path) -> None:
    expected = ["./a.nii.gz", "./broken.nii.gz", "./scene.tif", "second/a.nii.gz"]
    assert names(find([str(folder)])) == expected
    volume(folder / "out" / "a_mask.nii.gz")
    assert names(find([str(folder)], leave_out=folder / "out")) == expected


def test_patterns_lists_and_paths(folder: Path, tmp_path: Path) -> None:
    assert names(find([str(folder / "*.nii.gz")])) == ["./a.nii.gz", "./broken.nii.gz"]
    text = tmp_path / "some.txt"
    text.write_text("# mine\ncases/scene.tif\n\ncases/gone.tif\n")
    assert [Path(f.path).name for f in find([str(text)])] == ["scene.tif", "gone.tif"]
    table = tmp_path / "some.csv"
    table.write_text('"cases/scene.tif",1\ncases/a.nii.gz,2\n')
    assert [Path(f.path).name for f in find([str(table)])] == ["scene.tif", "a.nii.gz"]
    twice = find([str(folder / "scene.tif"), str(folder / "scene.tif")])
    assert len(twice) == 1
    for nothing in (tmp_path / "gone", tmp_path / "*.mha"):
        with pytest.raises(InputNotFoundError, match="no image"):
            find([str(nothing)])


def test_a_dicom_series_is_one_case(shared: Any) -> None:
    series = shared("data/ct_totalsegmentator/dicom")
    assert [item.path for item in find([str(series)])] == [str(series)]


def test_a_pattern_keeps_the_folders_below_what_is_fixed(tmp_path: Path) -> None:
    for part in ("x", "y"):
        scene(tmp_path / "in" / part / "a.tif")
    found = find([str(tmp_path / "in" / "*" / "a.tif")])
    assert names(found) == ["x/a.tif", "y/a.tif"]
    assert names_of(found) == [Path("x/a"), Path("y/a")]
    around = find([str(tmp_path / "in" / "*" / ".." / "x" / "a.tif")])
    assert {item.place for item in around} == {Path()}, "no mask leaves the output folder"


def test_names_follow_from_the_list_alone() -> None:
    listed = ["one/a.tif", "two/a.tif", "two/a.nii.gz", "three/a.tif", "b.tif"]
    chosen = [str(name) for name in names_of([Found(path) for path in listed])]
    assert chosen == ["a", "a_tif", "a_nii_gz", "a_tif_2", "b"]
    (here,) = names_of([Found(".")])
    assert here == Path(Path.cwd().name)


def test_a_link_back_leads_to_no_file_twice(tmp_path: Path) -> None:
    scene(tmp_path / "in" / "sub" / "a.tif")
    scene(tmp_path / "in" / "z.tif")
    (tmp_path / "in" / "l").symlink_to(".")
    (tmp_path / "in" / "sub" / "up").symlink_to("..")
    expected = ["sub/a.tif", "./z.tif"]
    assert names(find([str(tmp_path / "in")])) == expected
    assert names(find([str(tmp_path / "in" / "**" / "*.tif")])) == expected
    # A link to elsewhere is followed.
    scene(tmp_path / "other" / "b.tif")
    (tmp_path / "in" / "m").symlink_to(tmp_path / "other")
    assert names(find([str(tmp_path / "in")])) == ["m/b.tif", *expected]


def test_outputs_of_earlier_runs_are_no_inputs(tmp_path: Path) -> None:
    mask = scene(tmp_path / "a_mask.tif")
    for name in ("a.tif", "a_mask.png.tif", "a_mask.tif.coverage.tif", "b.tif"):
        scene(tmp_path / name)
    recipe = {"recipe": 1, "outputs": {"labels": "was/a_mask.tif", "picture": "was/a_mask.png.tif"}}
    beside = tmp_path / "a_mask.tif.recipe.json"
    beside.write_text(json.dumps(recipe))
    assert names(find([str(tmp_path / "*.tif")])) == ["./a.tif", "./b.tif"]
    assert names(find([str(tmp_path)])) == ["./a.tif", "./b.tif"]
    assert names(find([str(mask)])) == ["./a_mask.tif"], "what is named itself is meant"
    # A picture in another folder is not the one here.
    recipe["outputs"] = {"labels": "was/a_mask.tif", "picture": "elsewhere/b.tif"}
    beside.write_text(json.dumps(recipe))
    assert "./b.tif" in names(find([str(tmp_path)]))
    for strange in ("{}", "[]", '{"recipe": 1, "outputs": ["a_mask.tif"]}', "no JSON"):
        beside.write_text(strange)
        assert "./a_mask.tif" in names(find([str(tmp_path)]))


def test_the_folder_of_the_masks_is_no_input(tmp_path: Path) -> None:
    scene(tmp_path / "same" / "a.tif")
    with pytest.raises(UsageError, match="is the folder of the masks itself"):
        find([str(tmp_path / "same")], leave_out=tmp_path / "same")
