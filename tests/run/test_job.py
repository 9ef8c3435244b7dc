"""Jobs and recipes: the recipe and the command line say the same job."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from digseg.cli.main import build_parser
from digseg.cli.segment import job_of
from digseg.errors import CorruptInputError, InputNotFoundError, UnsupportedInputError
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
        ({"prompts": None}, "incomplete"),
    ],
)
def test_strange_recipes_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(CorruptInputError, match=message):
        Job.from_recipe({**JOB.recipe(), **change})


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    with pytest.raises(InputNotFoundError):
        read_recipe(tmp_path / "none.json")
    for index, text in enumerate(["no json", "[]", "{}"]):
        path = tmp_path / f"{index}.json"
        path.write_text(text)
        with pytest.raises(UnsupportedInputError):
            read_recipe(path)
