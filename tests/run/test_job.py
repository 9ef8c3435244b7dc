"""Jobs and recipes: the recipe and the command line say the same job."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from digseg.cli.main import build_parser, main
from digseg.cli.segment import job_of
from digseg.errors import (
    CorruptInputError,
    InputNotFoundError,
    PromptError,
    UnsupportedInputError,
)
from digseg.prompts import PromptSet
from digseg.run.job import Job, Outputs, read_recipe
from digseg.settings import SegmentSettings

JOB = Job(
    "a folder/scene.tif",
    PromptSet.parse(["water=river,lake", "bare land"], ["cloud"]),
    SegmentSettings(
        tile=256,
        overlap=32,
        threshold=0.4,
        thresholds={"bare land": 0.6},
        bands=(4, 3, 2),
        window=(-160.0, 240.0),
        percentiles=(1.0, 99.0),
        memory=2**31,
        context=False,
        largest=True,
        planes="zyx",
        minimum_ml=0.5,
        ensemble=3,
    ),
    Outputs(Path("mask.tif"), Path("p.zarr"), Path("v.gpkg"), Path("s.csv")),
    series="1.2.3",
    region=((0, 100), (20, 80)),
)


def test_a_recipe_is_the_job() -> None:
    recipe = json.loads(json.dumps(JOB.recipe(model_identity="abc")))
    assert Job.from_recipe(recipe) == JOB


def test_the_command_line_is_the_job() -> None:
    words = shlex.split(JOB.command_line())
    assert words[0] == "napari-digseg"
    assert job_of(build_parser().parse_args(words[1:])) == JOB


def test_defaults_need_no_flags() -> None:
    job = Job("a.tif", PromptSet.parse("water"), outputs=Outputs(Path("b.tif")))
    assert job.command_line() == "napari-digseg segment a.tif -p water -o b.tif"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe": 99}, "version"),
        ({"prompts": None}, "'prompts' of the recipe makes no sense"),
        ({"prompts": ["water"]}, "'prompts' of the recipe makes no sense"),
        ({"prompts": [{"color": [1, 2, 3]}]}, "incomplete: 'name' is missing"),
        ({"settings": 5}, "'settings' of the recipe makes no sense"),
        ({"region": [["a", "b"]]}, "'region' of the recipe makes no sense"),
        ({"region": [[5, 2], [0, 1]]}, "'region' of the recipe makes no sense"),
        ({"outputs": ["a.tif"]}, "'outputs' of the recipe makes no sense"),
        ({"outputs": {"colour": "a.tif"}}, "no output named 'colour'"),
        ({"outputs": {"labels": 5}}, "'outputs' of the recipe makes no sense"),
        ({"outline": 5}, "'outline' of the recipe makes no sense"),
        ({"suppressed": "water"}, "'suppressed' of the recipe makes no sense"),
        ({"series": 5}, "'series' of the recipe makes no sense"),
    ],
)
def test_strange_recipes_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(CorruptInputError, match=message):
        Job.from_recipe({**JOB.recipe(), **change})


@pytest.mark.parametrize("missing", ["input", "prompts", "settings"])
def test_what_a_recipe_lacks_is_named(missing: str) -> None:
    recipe = JOB.recipe()
    del recipe[missing]
    with pytest.raises(CorruptInputError, match=f"incomplete: '{missing}' is missing"):
        Job.from_recipe(recipe)


@pytest.mark.parametrize("color", [[1, 2], [1, 2, 300], ["a", "b", "c"], [0.5, 1, 1]])
def test_a_colour_in_a_recipe_is_three_numbers(color: list[object]) -> None:
    prompts = [{"name": "water", "color": color}]
    with pytest.raises(PromptError, match="three whole numbers"):
        Job.from_recipe({**JOB.recipe(), "prompts": prompts})


def test_replay_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.tif").write_bytes(b"")
    recipe = json.loads(json.dumps(JOB.recipe()))
    (tmp_path / "r.json").write_text(json.dumps({**recipe, "outputs": [1]}))
    (tmp_path / "deep.json").write_text("[" * 100_000)
    for name in ("a.tif/x.json", "r.json", "deep.json"):
        assert main(["replay", str(tmp_path / name)]) == 3
        assert capsys.readouterr().err.count("\n") == 1


def test_a_lone_prompt_is_not_suppressed(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["segment", "a.tif", "-p", "water", "-n", "cloud", "-o", "b.tif"]
    assert main([*words, "--suppress", "water"]) == 2
    assert "leave at least one" in capsys.readouterr().err
    some = job_of(build_parser().parse_args([*words, "-p", "road", "--suppress", "water"]))
    assert some.suppress == ("water",)


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    with pytest.raises(InputNotFoundError):
        read_recipe(tmp_path / "none.json")
    for index, text in enumerate(["no json", "[]", "{}"]):
        path = tmp_path / f"{index}.json"
        path.write_text(text)
        with pytest.raises(UnsupportedInputError):
            read_recipe(path)
