"""A prompt added to a finished run gives what all prompts together give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.models import Brightness

from digseg.errors import PromptError, UsageError
from digseg.grid import Grid
from digseg.prompts import Prompt, PromptSet
from digseg.raster import Raster
from digseg.run.execute import execute
from digseg.run.extend import extend
from digseg.run.job import Job, Outputs
from digseg.settings import SegmentSettings
from digseg.types import AnyArray, Float32Array


class Noting(Brightness):
    """Writes down what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        object.__setattr__(self, "asked", [])

    def __call__(self, tiles: Float32Array, prompts: Sequence[Prompt]) -> Float32Array:
        self.asked.append([prompt.name for prompt in prompts])  # type: ignore[attr-defined]
        return super().__call__(tiles, prompts)


@pytest.fixture
def image(rng: np.random.Generator) -> Raster:
    pixels = rng.integers(0, 255, (3, 300, 500)).astype(np.uint8)
    return Raster(pixels, Grid.of((300, 500)))


def job_in(folder: Path, *prompts: str, negatives: Sequence[str] = ()) -> Job:
    return Job(
        "array",
        PromptSet.parse(prompts, negatives),
        SegmentSettings(tile=128, overlap=32),
        Outputs(probabilities=folder / "store.zarr"),
    )


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "c" in path.relative_to(folder).parts
    }


def test_only_the_new_prompt_is_computed_and_the_store_equals_a_joint_run(
    image: Raster, tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    job = job_in(tmp_path / "a", "red", negatives=["dark"])
    execute(job, image=image, model=Noting())
    model = Noting()
    result = extend(job, PromptSet.parse(["blue"]), image=image, model=model)
    assert {name for names in model.asked for name in names} == {"blue"}  # type: ignore[attr-defined]

    joint = job_in(tmp_path / "b", "red", "blue", negatives=["dark"])
    expected = execute(joint, image=image, model=Brightness())
    assert result.names == expected.names == {0: "background", 1: "red", 2: "blue"}
    np.testing.assert_array_equal(result.labels, expected.labels)
    np.testing.assert_array_equal(result.probabilities, expected.probabilities)
    # As good as a joint run to whoever resumes or relabels it.
    again = execute(replace(joint, outputs=job.outputs, resume=True), image=image, model=Noting())
    np.testing.assert_array_equal(again.labels, expected.labels)
    assert [path.name for path in (tmp_path / "a").iterdir() if path.name != "store.zarr"] == [
        "store.zarr.recipe.json"
    ]


def test_colours_of_the_old_prompts_stay(image: Raster, tmp_path: Path) -> None:
    job = job_in(tmp_path, "red", "green")
    before = execute(job, image=image, model=Brightness()).classes.entries
    after = extend(job, PromptSet.parse(["blue"]), image=image, model=Brightness()).classes.entries
    assert after[:2] == before


@pytest.mark.parametrize(
    ("change", "added", "error", "words"),
    [
        (lambda job: job, PromptSet.parse(["red"]), PromptError, "twice"),
        (lambda job: job, PromptSet.parse(["blue"], ["green"]), PromptError, "negative"),
        (
            lambda job: replace(job, outputs=Outputs()),
            PromptSet.parse(["blue"]),
            UsageError,
            "kept",
        ),
        (
            lambda job: replace(job, settings=job.settings.with_(planes="zyx")),
            PromptSet.parse(["blue"]),
            UsageError,
            "several passes",
        ),
    ],
)
def test_what_can_not_be_added_is_refused(
    image: Raster,
    tmp_path: Path,
    change: Callable[[Job], Job],
    added: PromptSet,
    error: type[Exception],
    words: str,
) -> None:
    job = job_in(tmp_path, "red")
    execute(job, image=image, model=Brightness())
    before: AnyArray | dict[str, bytes] = tree(tmp_path / "store.zarr")
    with pytest.raises(error, match=words):
        extend(change(job), added, image=image, model=Brightness())
    assert tree(tmp_path / "store.zarr") == before
