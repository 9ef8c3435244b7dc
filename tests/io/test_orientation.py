"""Turning volumes: all 48 orientations, back to the bit, judged by nibabel and SimpleITK."""

from __future__ import annotations

from collections.abc import Callable

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from hypothesis import given
from hypothesis import strategies as st

from digseg.errors import UsageError
from digseg.grid import Grid
from digseg.io import orientation
from digseg.orientation import Turn, canonical
from digseg.prompts import PromptSet
from digseg.raster import ClassTable, Mask, Volume
from digseg.types import AnyArray

SHAPE = (4, 5, 6)  # z, y, x: no two alike, so that a wrong permutation can't hide


def affine_of(codes: str, angle: float = 0.0) -> AnyArray:
    """An affine with voxels of 1 x 2 x 3 mm whose axes point to ``codes``, turned by an angle."""
    start = nib.orientations.axcodes2ornt(codes)
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    directions = np.zeros((3, 3))
    for axis, (world, sign) in enumerate(start):
        directions[int(world), axis] = sign
    cos, sin = np.cos(angle), np.sin(angle)
    oblique = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]])
    affine[:3, :3] = oblique @ directions @ affine[:3, :3]
    affine[:3, 3] = -10.0, 20.0, 30.5
    return affine


def volume_of(codes: str, angle: float = 0.0) -> Volume:
    data = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    grid = Grid.of(SHAPE, affine_of(codes, angle), space="patient", unit="millimetre")
    return Volume(data, grid)


def world_values(volume: Volume) -> dict[tuple[float, ...], int]:
    """Value at each place in the patient."""
    index = np.argwhere(np.ones(volume.shape, dtype=bool))
    places = np.round(volume.grid.world(index), 6) + 0.0
    values = np.asarray(volume.data[:]).ravel()
    return {tuple(map(float, place)): int(v) for place, v in zip(places, values, strict=True)}


@pytest.mark.parametrize("codes", orientation.ORIENTATIONS)
@pytest.mark.parametrize("angle", [0.0, 0.3])
def test_every_voxel_keeps_its_place_in_the_patient(codes: str, angle: float) -> None:
    volume = volume_of(codes, angle)
    turned = orientation.to_canonical(volume, "LPS")
    assert nib.aff2axcodes(turned.grid.matrix) == ("L", "P", "S")
    assert world_values(turned) == world_values(volume)


@pytest.mark.parametrize("codes", orientation.ORIENTATIONS)
@pytest.mark.parametrize("angle", [0.0, 0.5])
def test_nibabel_and_the_model_s_turn_agree(codes: str, angle: float) -> None:
    grid = volume_of(codes, angle).grid
    assert orientation.turn_to(grid, "LPS") == canonical(grid)


@pytest.mark.parametrize("codes", orientation.ORIENTATIONS)
def test_nibabel_turns_alike(codes: str) -> None:
    volume = volume_of(codes, 0.2)
    image = nib.Nifti1Image(np.asarray(volume.data).T, volume.grid.matrix)
    expected = nib.as_closest_canonical(image)
    turned = orientation.to_canonical(volume, "RAS")
    np.testing.assert_array_equal(np.asarray(turned.data[:]).T, np.asarray(expected.dataobj))
    np.testing.assert_allclose(turned.grid.matrix, expected.affine, atol=1e-12)


@pytest.mark.parametrize(
    "codes", [c for c in orientation.ORIENTATIONS if np.linalg.det(affine_of(c)[:3, :3]) > 0]
)
def test_simpleitk_turns_alike(codes: str) -> None:
    # SimpleITK's DICOMOrient takes right-handed directions only.
    volume = volume_of(codes)
    image = SimpleITK.GetImageFromArray(np.asarray(volume.data))
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.grid.matrix
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    expected = SimpleITK.DICOMOrient(image, "LPS")
    turned = orientation.to_canonical(volume, "LPS")
    np.testing.assert_array_equal(np.asarray(turned.data[:]), SimpleITK.GetArrayFromImage(expected))


def test_a_plane_is_shown_radiologically() -> None:
    # A bright voxel at the patient's right, front and top, in a file stored as RAS.
    data = np.zeros(SHAPE, dtype=np.uint8)
    data[-1, -1, -1] = 1  # k, j, i at their ends: superior, anterior, right
    volume = Volume(data, Grid.of(SHAPE, affine_of("RAS"), space="patient"))
    turned = np.asarray(orientation.to_canonical(volume).data[:])
    assert turned[-1, 0, 0] == 1  # top plane; row 0 is anterior; column 0 the patient's right


@given(
    codes=st.sampled_from(orientation.ORIENTATIONS),
    target=st.sampled_from(orientation.ORIENTATIONS),
    angle=st.floats(-0.6, 0.6),
)
def test_labels_come_back_to_the_bit(codes: str, target: str, angle: float) -> None:
    volume = volume_of(codes, angle)
    turned = orientation.to_canonical(volume, target)
    labels = np.asarray(turned.data[:]).astype(np.uint8)
    mask = Mask(labels, turned.grid, ClassTable.of(PromptSet.parse(["liver"])))
    back = orientation.from_canonical(mask, volume.grid, target)
    assert back.grid == volume.grid
    np.testing.assert_array_equal(np.asarray(back.labels[:]), volume.data)


@given(st.data())
def test_lazy_slices_equal_numpy_s(data: st.DataObject) -> None:
    turn = orientation.turn_to(
        volume_of(data.draw(st.sampled_from(orientation.ORIENTATIONS))).grid, "LPS"
    )
    array = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    whole, lazy = turn.apply(array), turn.lazy(array)
    key = tuple(
        data.draw(st.one_of(st.integers(-side, side - 1), st.slices(side))) for side in whole.shape
    )
    np.testing.assert_array_equal(np.asarray(lazy[key]), whole[key])
    np.testing.assert_array_equal(np.asarray(lazy[..., 0]), whole[..., 0])


def test_a_slice_reads_only_itself(asymmetric: Callable[..., AnyArray]) -> None:
    asked: list[tuple[slice, ...]] = []

    class Watching:
        shape = SHAPE
        dtype = np.dtype("float32")

        def __getitem__(self, key: tuple[slice, ...]) -> AnyArray:
            asked.append(key)
            part: AnyArray = asymmetric(*SHAPE)[key]
            return part

    turn = Turn((0, 1, 2), (True, True, False))
    np.testing.assert_array_equal(
        np.asarray(turn.lazy(Watching())[1, 0:2]), asymmetric(*SHAPE)[::-1, ::-1][1, 0:2]
    )
    assert asked == [(slice(2, 3), slice(3, 5), slice(0, 6))]


def test_orientations_are_all_48_and_others_are_refused() -> None:
    assert len(set(orientation.ORIENTATIONS)) == 48
    with pytest.raises(UsageError, match="no orientation"):
        orientation.turn_to(volume_of("RAS").grid, "RAX")


def test_labels_of_another_shape_are_refused() -> None:
    volume = volume_of("LPS")
    other = Mask(
        np.zeros((2, 2, 2), dtype=np.uint8),
        Grid.of((2, 2, 2), space="patient"),
        ClassTable.of(PromptSet.parse(["liver"])),
    )
    with pytest.raises(UsageError, match="did not come from"):
        orientation.from_canonical(other, volume.grid)
