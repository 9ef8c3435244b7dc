"""Whole runs on volumes: every orientation, every choice of planes, killed and resumed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

import digseg
from digseg.errors import UsageError
from digseg.events import BlockWritten, Callback, Event
from digseg.grid import Grid
from digseg.orientation import Turn
from digseg.prompts import Prompt
from digseg.raster import Volume
from digseg.run.passes import parts_path
from digseg.run.region import crop
from digseg.types import AnyArray, Float32Array

TURNS = [
    Turn(order, flips)  # type: ignore[arg-type]
    for order in itertools.permutations(range(3))
    for flips in itertools.product((False, True), repeat=3)
]


@dataclass
class Anatomist:
    """Knows left from right by the column of an axial plane alone, as a trained network does.

    Bright tissue in the right half of the picture is the patient's left kidney, in the left half
    the right one.
    """

    identity: str = "anatomist"
    multiple: int = 1
    calls: int = 0

    def __call__(self, tiles: Float32Array, prompts: Sequence[Prompt]) -> Float32Array:
        self.calls += 1
        bright = tiles[:, 1]
        left = np.zeros_like(bright)
        left[..., 10:] = 1.0  # the middle of the planes; their tile is padded
        maps = {"left kidney": bright * left, "right kidney": bright * (1 - left)}
        return np.stack([maps[prompt.name] for prompt in prompts], axis=1)


@dataclass
class Brightness:
    """The picture itself; as an ensemble it is unsure where things are dim."""

    identity: str = "brightness"
    multiple: int = 1

    def __call__(self, tiles: Float32Array, prompts: Sequence[Prompt]) -> Float32Array:
        return np.repeat(tiles[:, 1:2], len(prompts), axis=1)

    def continue_from(
        self,
        tiles: Float32Array,
        prompts: Sequence[Prompt],
        previous: Float32Array,
        strength: float,
    ) -> Float32Array:
        own = self(tiles, prompts)
        return strength * own + (1 - strength) * previous

    def spread(self, tiles: Float32Array, prompts: Sequence[Prompt]) -> AnyArray:
        own = self(tiles, prompts)
        return np.stack([own, own * (1 - own)])


def upright(kidneys: AnyArray) -> Volume:
    """An LPS volume at 2 mm in patient space."""
    affine = np.diag([-2.0, -2.0, 2.0, 1.0])
    affine[:3, 3] = (40.0, 30.0, -20.0)
    return Volume(kidneys, Grid.of(kidneys.shape, affine, space="patient", unit="millimetre"), "MR")


def two_kidneys() -> AnyArray:
    body = np.zeros((10, 16, 20), dtype=np.float32)
    body[2:7, 4:9, 12:17] = 100.0  # the patient's left
    body[3:9, 6:12, 3:8] = 100.0  # and right, of another size
    return body


def turned(volume: Volume, turn: Turn) -> Volume:
    return Volume(turn.apply(np.asarray(volume.data)), turn.grid(volume.grid), volume.modality)


SETTINGS = {"percentiles": (0.0, 100.0), "spacing": 0.0, "context": False}


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_left_is_left_in_every_orientation(turn: Turn) -> None:
    """The same labels at the same places of the world, however the file stores its voxels."""
    straight = upright(two_kidneys())
    body = turned(straight, turn)
    prompts = ["left kidney", "right kidney"]
    with digseg.segment(body, prompts, model=Anatomist(), **SETTINGS) as result:
        labels, grid = result.labels, result.mask.grid
    assert grid.affine == body.grid.affine
    expected = np.zeros(straight.shape, np.uint8)
    expected[2:7, 4:9, 12:17] = 1
    expected[3:9, 6:12, 3:8] = 2
    np.testing.assert_array_equal(labels, turn.apply(expected))
    # In world millimetres, RAS+: left is where x is negative.
    left, right = (grid.world(np.argwhere(labels == label)) for label in (1, 2))
    assert left[:, 0].mean() < right[:, 0].mean()
    straight_left = straight.grid.world(np.argwhere(expected == 1))
    assert sorted(map(tuple, left.round(6))) == sorted(map(tuple, straight_left.round(6)))


@pytest.mark.parametrize("planes", ["z", "y", "x", "zyx"])
@pytest.mark.parametrize("turn", TURNS[::7], ids=str)
def test_all_planes_find_each_voxel_where_it_is(
    planes: str, turn: Turn, rng: np.random.Generator
) -> None:
    body = rng.random((7, 9, 11), dtype=np.float32)
    volume = turned(upright(body), turn)
    with digseg.segment(volume, ["tissue"], model=Brightness(), planes=planes, **SETTINGS) as got:
        found = got.probabilities[0]
    scaled = (body - body.min()) / (body.max() - body.min())
    np.testing.assert_allclose(found, turn.apply(scaled) * 255, atol=0.51)


def test_fusion_is_the_mean_of_the_three(tmp_path: Path, rng: np.random.Generator) -> None:
    """A model that is sure of another thing across each axis: the mean of the three, rounded."""

    class ByShape(Brightness):
        def __call__(self, tiles: Float32Array, prompts: Sequence[Prompt]) -> Float32Array:
            # Planes are padded to a tile, but the tile of each axis has its own shape.
            seen.add(tiles.shape[-2:])
            return np.full((len(tiles), 1, *tiles.shape[-2:]), answers[len(seen)], np.float32)

    seen: set[tuple[int, int]] = set()
    answers = {1: 0.9, 2: 0.3, 3: 0.6}
    volume = upright(rng.random((70, 80, 90), dtype=np.float32))
    with digseg.segment(
        volume, ["it"], model=ByShape(), planes="zyx", spacing=0.0,
        probabilities=tmp_path / "fused.zarr",
    ) as result:  # fmt: skip
        assert len(seen) == 3
        np.testing.assert_array_equal(np.unique(result.probabilities), [153])
        assert result.probabilities.shape == (1, 70, 80, 90)
    assert not parts_path(tmp_path / "fused.zarr").exists()


class CrashError(Exception):
    """The program dies here."""


@pytest.mark.parametrize("extra", [{"planes": "zyx"}, {"propagate": True}], ids=str)
def test_a_run_that_died_resumes_to_the_same(
    extra: dict[str, object], tmp_path: Path, rng: np.random.Generator
) -> None:
    volume = upright(rng.random((40, 9, 11), dtype=np.float32))

    def run(name: str, **more: object) -> digseg.Result:
        chosen = {**SETTINGS, **extra, **more}
        return digseg.segment(
            volume, ["a"], model=Brightness(), probabilities=tmp_path / name, **chosen
        )

    def dying_after(count: int) -> Callback:
        planes = iter(range(count))

        def listen(event: Event) -> None:
            if isinstance(event, BlockWritten) and next(planes, None) is None:
                raise CrashError

        return listen

    with run("whole.zarr") as first:
        expected = first.probabilities
    # In the first pass; and, after going on, in the last.
    for count in (17, 30):
        with pytest.raises(CrashError):
            run("stopped.zarr", callback=dying_after(count), resume=True)
    with run("stopped.zarr", resume=True) as last:
        np.testing.assert_array_equal(last.probabilities, expected)
    assert not parts_path(tmp_path / "stopped.zarr").exists()
    # Finished: nothing is left to do.
    events: list[Event] = []
    with run("stopped.zarr", resume=True, callback=events.append) as again:
        np.testing.assert_array_equal(again.probabilities, expected)
    assert not any(isinstance(event, BlockWritten) for event in events)


def test_propagation_starts_from_the_neighbours() -> None:
    """A slice that the model misses is found from the slices beside it."""
    body = np.zeros((9, 8, 8), dtype=np.float32)
    body[:, 2:6, 2:6] = 100.0
    body[4] = 0.0
    volume = upright(body)
    with digseg.segment(volume, ["organ"], model=Brightness(), threshold=0.4, **SETTINGS) as plain:
        assert not plain.labels[4].any()
    with digseg.segment(
        volume, ["organ"], model=Brightness(), threshold=0.4, propagate=True, **SETTINGS
    ) as joined:
        assert joined.labels[4, 2:6, 2:6].all()
        assert joined.labels[4].sum() == 16


@dataclass
class Recommending(Brightness):
    """Says itself that a second pass helps it."""

    recommended = {"propagate": True}  # noqa: RUF012 - as a model's configuration gives it


@dataclass
class ForSome(Brightness):
    """Says so of some kinds of scan."""

    helped: str = "CT"

    @property
    def recommended(self) -> dict[str, list[str]]:
        return {"propagate": [self.helped]}


@pytest.mark.parametrize(
    ("model", "asked", "settled"),
    [
        (Recommending(), {}, True),
        (Recommending(), {"propagate": False}, False),
        (ForSome(helped="MR"), {}, True),
        (ForSome(helped="CT"), {}, False),
        (Recommending(), {"planes": "zyx"}, False),
        (Recommending(), {"ensemble": 2}, False),
        (Brightness(), {}, False),
        (Brightness(), {"propagate": True}, True),
    ],
    ids=str,
)
def test_a_second_pass_is_taken_where_the_model_recommends_it(
    model: Brightness, asked: dict[str, object], settled: bool
) -> None:
    body = np.zeros((9, 8, 8), dtype=np.float32)
    body[:, 2:6, 2:6] = 100.0
    body[4] = 0.0
    with digseg.segment(
        replace(upright(body), modality="MR"),
        ["organ"],
        model=model,
        threshold=0.4,
        **{**SETTINGS, **asked},
    ) as result:
        # The recipe says what was done, whatever a later version would choose.
        assert result.recipe["settings"]["propagate"] is settled
        flag = "--propagate" if settled else "--no-propagate"
        assert flag in result.recipe["command"].split()
        if asked.get("planes") != "zyx":
            assert bool(result.labels[4].any()) is settled


def test_a_picture_has_no_second_pass() -> None:
    raster = digseg.Raster(np.zeros((1, 8, 8), np.uint8), Grid.of((8, 8)))
    with digseg.segment(raster, ["it"], model=Recommending()) as result:
        assert result.recipe["settings"]["propagate"] is None
        assert "propagate" not in result.recipe["command"]


def test_what_a_model_cannot_do_is_said_before_it_starts() -> None:
    volume = upright(two_kidneys())
    with pytest.raises(UsageError, match="can't start from"):
        digseg.segment(volume, ["left kidney"], model=Anatomist(), propagate=True, **SETTINGS)


def test_voxels_without_data_are_background() -> None:
    body = two_kidneys()
    body[:, :, :2] = np.nan
    with digseg.segment(upright(body), ["it"], model=Brightness(), **SETTINGS) as result:
        assert result.mask.nodata is None
        assert not result.labels[:, :, :2].any()
        assert result.labels[3, 5, 13] == 1


def test_a_part_looks_as_it_does_in_the_whole(rng: np.random.Generator) -> None:
    body = rng.random((8, 12, 14), dtype=np.float32)
    volume = upright(body)
    chosen = {**SETTINGS, "context": True}
    with digseg.segment(volume, ["it"], model=Brightness(), **chosen) as whole:
        expected = whole.probabilities[:, 2:5, 3:9, 4:12]
    part_of = crop(volume, ((2, 5), (3, 9), (4, 12)))
    with digseg.segment(part_of, ["it"], model=Brightness(), **chosen) as part:
        np.testing.assert_array_equal(part.probabilities, expected)
