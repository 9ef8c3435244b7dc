"""Grids: the affine's numbers are kept, and geometry holds for any affine."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from digseg.grid import Grid

number = st.floats(-1e4, 1e4, allow_nan=False).filter(lambda value: value == 0 or abs(value) > 1e-3)


@st.composite
def grids(draw: st.DrawFn, axes: int) -> Grid:
    linear = np.array([[draw(number) for _ in range(axes)] for _ in range(axes)])
    # A singular affine has no inverse and no meaning; keep well away from it.
    linear += np.eye(axes) * 3e4
    matrix = np.eye(axes + 1)
    matrix[:axes, :axes] = linear
    matrix[:axes, axes] = [draw(number) for _ in range(axes)]
    shape = tuple(draw(st.integers(1, 50)) for _ in range(axes))
    space = draw(st.sampled_from(["map", "patient"])) if axes == 2 else "patient"
    return Grid.of(shape, matrix, space=space)


@given(st.integers(2, 3).flatmap(grids), st.data())
def test_index_is_the_inverse_of_world(grid: Grid, data: st.DataObject) -> None:
    index = [data.draw(st.integers(0, side - 1)) for side in grid.shape]
    np.testing.assert_allclose(grid.index(grid.world(index)), index, atol=1e-6)


@given(st.integers(2, 3).flatmap(grids), st.data())
def test_a_crop_stays_in_place(grid: Grid, data: st.DataObject) -> None:
    start = tuple(data.draw(st.integers(0, side - 1)) for side in grid.shape)
    shape = tuple(side - first for side, first in zip(grid.shape, start, strict=True))
    cropped = grid.crop(start, shape)
    np.testing.assert_allclose(cropped.world([0] * grid.ndim), grid.world(start), rtol=1e-9)


def test_a_transform_is_kept_to_the_bit() -> None:
    transform = (0.49999345509841014, 0.0, 593270.2919143771, 0.0, -0.4999934550984101, 5747657.4)
    grid = Grid.from_transform((600, 500), transform, crs="EPSG:32631")
    assert grid.transform == transform
    assert grid.spacing == (0.4999934550984101, 0.49999345509841014)


def test_corners_of_an_overview_stay() -> None:
    grid = Grid.from_transform((100, 60), (2.0, 0.0, 10.0, 0.0, -2.0, 20.0))
    assert grid.scaled((50, 30)).transform == (4.0, 0.0, 10.0, 0.0, -4.0, 20.0)


def test_voxel_centres_move_when_a_volume_is_scaled() -> None:
    grid = Grid.of((4, 4, 4), np.diag([1.0, 1.0, 1.0, 1.0]), space="patient")
    # Two voxels become one: its centre lies half a step further.
    assert grid.scaled((2, 2, 2)).world((0, 0, 0)).tolist() == [0.5, 0.5, 0.5]


def test_index_matrix_speaks_in_array_order() -> None:
    grid = Grid.of((2, 3, 4), np.diag([1.0, 2.0, 3.0, 1.0]), space="patient")
    assert grid.index_matrix.diagonal().tolist() == [3.0, 2.0, 1.0, 1.0]
    assert grid.cell_size == pytest.approx(6.0)


@pytest.mark.parametrize(
    ("shape", "affine", "message"),
    [
        ((2,), np.eye(2), "2 or 3 axes"),
        ((2, 0), np.eye(3), "at least one pixel"),
        ((2, 2), np.eye(4), "3 x 3"),
        ((2, 2), np.full((3, 3), np.nan), "not finite"),
    ],
)
def test_nonsense_is_refused(shape: tuple[int, ...], affine: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Grid.of(shape, affine)
