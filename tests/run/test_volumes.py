"""Planes of volumes in every orientation, and the way back to the file's own voxels."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from digseg import io
from digseg.grid import Grid
from digseg.lazy import WindowArray, box
from digseg.metering import PeakMeter
from digseg.normalize import looks_like_hounsfield
from digseg.orientation import Turn, canonical, planes_across
from digseg.raster import Volume
from digseg.run.volumes import plane_turn, to_file_order, volume_source, volume_stretch
from digseg.settings import CT_WINDOWS, SegmentSettings
from digseg.types import AnyArray


def all_turns() -> Iterator[Turn]:
    """The 48 ways in which a file can store the same body."""
    for order in itertools.permutations(range(3)):
        for flips in itertools.product((False, True), repeat=3):
            yield Turn(order, flips)


def body(shape: tuple[int, int, int], spacing: tuple[float, float, float] = (3, 2, 2)) -> Volume:
    """An LPS volume whose every voxel tells its place."""
    data = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    affine = np.diag([-spacing[2], -spacing[1], spacing[0], 1.0])
    affine[:3, 3] = (11.0, -7.0, 5.0)
    return Volume(data, Grid.of(shape, affine, space="patient", unit="millimetre"))


def turned(volume: Volume, turn: Turn) -> Volume:
    return Volume(
        turn.apply(np.asarray(volume.data[:, :, :])), turn.grid(volume.grid), volume.modality
    )


@pytest.mark.parametrize("turn", list(all_turns()), ids=str)
def test_every_orientation_gives_the_same_planes(turn: Turn) -> None:
    upright = body((4, 5, 6))
    other = turned(upright, turn)
    for axis in ("z", "y", "x"):
        chosen = SegmentSettings(planes=axis)
        one, two = volume_source(upright, chosen), volume_source(other, chosen)
        assert one.shape == two.shape
        np.testing.assert_allclose(one.grid.matrix, two.grid.matrix)
        window = (0, one.shape[1], 0, one.shape[2])
        for plane in range(one.shape[0]):
            np.testing.assert_array_equal(one.read(plane, window)[0], two.read(plane, window)[0])


@given(
    st.permutations(range(3)),
    st.tuples(*[st.booleans()] * 3),
    st.sampled_from("zyx"),
    st.floats(-0.5, 0.5),
)
def test_there_and_back_is_the_file_to_the_bit(
    order: list[int], flips: tuple[bool, bool, bool], axis: str, tilt: float
) -> None:
    data = np.arange(2 * 4 * 5 * 6).reshape(2, 4, 5, 6)
    turn = Turn(tuple(order), flips)  # type: ignore[arg-type]
    rotation = np.eye(4)
    rotation[:2, :2] = [[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]]
    grid = turn.grid(Grid.of((4, 5, 6), rotation, space="patient"))
    chosen = SegmentSettings(planes=axis)  # type: ignore[arg-type]
    volume = Volume(turn.apply(data)[0], grid)
    planes = plane_turn(grid, chosen).lazy(turn.apply(data))
    back = to_file_order(planes, volume, chosen)
    np.testing.assert_array_equal(back[...], turn.apply(data))
    np.testing.assert_array_equal(back[1, 1:3, ::-1, 2], turn.apply(data)[1, 1:3, ::-1, 2])


def test_canonical_agrees_with_nibabel() -> None:
    for turn in all_turns():
        grid = turn.grid(body((4, 5, 6)).grid)
        straight = canonical(grid).grid(grid)
        assert nib.aff2axcodes(straight.matrix) == ("L", "P", "S")
        assert straight.world([3, 4, 5]) == pytest.approx(body((4, 5, 6)).grid.world([3, 4, 5]))


def test_a_stack_without_a_patient_stays_as_it_is() -> None:
    grid = Grid.of((4, 5, 6))
    assert canonical(grid) == Turn()


def test_coronal_and_sagittal_planes_have_the_head_on_top() -> None:
    upright = body((4, 5, 6))
    for axis in ("y", "x"):
        grid = planes_across(axis).grid(upright.grid)
        top, bottom = grid.world([0, 0, 0]), grid.world([0, grid.shape[1] - 1, 0])
        assert top[2] > bottom[2]


def test_context_is_the_neighbours_and_the_border_its_own() -> None:
    volume = body((4, 5, 6))
    source = volume_source(volume, SegmentSettings(percentiles=(0.0, 100.0)))
    middle, _ = source.read(1, (0, 5, 0, 6))
    scaled = np.asarray(volume.data) / 119.0
    np.testing.assert_allclose(middle, scaled[0:3], atol=1e-6)
    first, _ = source.read(0, (0, 5, 0, 6))
    np.testing.assert_allclose(first, scaled[[0, 0, 1]], atol=1e-6)
    alone = volume_source(volume, SegmentSettings(context=False, percentiles=(0.0, 100.0)))
    np.testing.assert_allclose(alone.read(1, (1, 3, 2, 6))[0], scaled[[1] * 3, 1:3, 2:6], atol=1e-6)


def test_windows_read_alike_in_any_cut() -> None:
    source = volume_source(body((3, 17, 23)), SegmentSettings())
    whole, _ = source.read(1, (0, 17, 0, 23))
    for top, bottom, left, right in ((0, 9, 0, 11), (4, 17, 20, 23), (8, 9, 22, 23)):
        part, _ = source.read(1, (top, bottom, left, right))
        np.testing.assert_array_equal(part, whole[:, top:bottom, left:right])


def test_ct_by_window_and_mr_by_percentiles_of_the_volume(rng: np.random.Generator) -> None:
    hounsfield = rng.normal(40, 30, (6, 20, 20)).astype(np.int16)
    hounsfield[:, :6] = -1000
    grid = Grid.of((6, 20, 20), space="patient")
    by_name = volume_stretch(Volume(hounsfield, grid, "CT"), SegmentSettings())
    assert (by_name.low[0], by_name.high[0]) == CT_WINDOWS["soft-tissue"]
    unnamed = volume_stretch(Volume(hounsfield, grid), SegmentSettings())
    assert unnamed == by_name
    lung = SegmentSettings(window=CT_WINDOWS["lung"])
    assert volume_stretch(Volume(hounsfield, grid, "CT"), lung).low == (-1350.0,)
    mr = rng.gamma(2.0, 100.0, (6, 20, 20)).astype(np.float32)
    measured = volume_stretch(Volume(mr, grid, "MR"), SegmentSettings())
    assert measured.low[0] == pytest.approx(np.percentile(mr, 2))
    assert measured.high[0] == pytest.approx(np.percentile(mr, 98))
    # By volume, not by slice: a dark slice stays dark.
    mr[3] *= 0.1
    source = volume_source(Volume(mr, grid, "MR"), SegmentSettings(context=False))
    window = (0, 20, 0, 20)
    assert source.read(3, window)[0].mean() < 0.2 * source.read(2, window)[0].mean()


def test_hounsfield_units_are_told_from_other_values(rng: np.random.Generator) -> None:
    assert not looks_like_hounsfield(rng.integers(0, 4096, 1000).astype(np.int16))
    phase = np.linspace(-3141, 3141, 1000).astype(np.int16)
    assert not looks_like_hounsfield(phase)
    assert not looks_like_hounsfield(np.array([np.nan, np.nan]))


def test_nan_voxels_are_no_data() -> None:
    data = np.ones((3, 6, 6), dtype=np.float32)
    data[1, 2:4, 2:4] = np.nan
    data[:, 0, 0] = 2.0
    volume = Volume(data, Grid.of(data.shape))
    tile, valid = volume_source(volume, SegmentSettings()).read(1, (0, 6, 0, 6))
    assert not valid[2:4, 2:4].any()
    assert valid.sum() == 32
    assert np.isfinite(tile).all()


def test_few_planes_are_read_once_each() -> None:
    """Context asks for each plane three times; the file is asked once."""
    reads = []
    data = np.zeros((40, 64, 64), dtype=np.int16)
    data[0] = -1000

    def read(bounds: tuple[tuple[int, int], ...]) -> AnyArray:
        reads.append(bounds)
        return box(data, bounds)

    lazy = WindowArray(data.shape, data.dtype, read)
    volume = Volume(lazy, Grid.of(data.shape), "CT")
    source = volume_source(volume, SegmentSettings())
    for plane in range(40):
        source.read(plane, (0, 64, 0, 64))
    assert len(reads) == 1
    copy = pickle.loads(
        pickle.dumps(volume_source(Volume(data, volume.grid, "CT"), SegmentSettings()))
    )
    np.testing.assert_array_equal(copy.read(3, (0, 9, 0, 9))[0], source.read(3, (0, 9, 0, 9))[0])


def test_memory_stays_flat_for_a_long_volume() -> None:
    """2,000 slices of 512 x 512 (1 GiB of int16) are never held: some 50 MiB are."""
    import tracemalloc

    shape = (2000, 512, 512)
    lazy = WindowArray(
        shape,
        np.int16,
        lambda bounds: np.full([stop - start for start, stop in bounds], bounds[0][0], np.int16),
    )
    source = volume_source(Volume(lazy, Grid.of(shape), "CT"), SegmentSettings())
    tracemalloc.start()
    for plane in range(0, 2000, 7):
        source.read(plane, (0, 512, 0, 512))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 96 << 20


def test_a_real_ct_lies_as_a_radiologist_expects(shared: Callable[[str], Path]) -> None:
    """The liver is on the patient's right, which is the left of the picture."""
    folder = shared("data/ct_totalsegmentator")
    image = nib.load(folder / "masks" / "ct_abdomen_3mm.nii.gz")
    data = np.asarray(image.dataobj).T
    grid = Grid.of(data.shape, image.affine, space="patient")
    liver = canonical(grid).apply(data) == 5
    spleen = canonical(grid).apply(data) == 1
    assert np.nonzero(liver)[2].mean() < np.nonzero(spleen)[2].mean()


def test_lazy_arrays_index_as_numpy_does(asymmetric: Callable[..., AnyArray]) -> None:
    data = asymmetric(4, 5, 6)
    lazy = WindowArray(data.shape, data.dtype, lambda bounds: box(data, bounds))
    keys = (
        np.s_[...],
        np.s_[1],
        np.s_[-1, 2],
        np.s_[:, ::2, 4:1:-1],
        np.s_[..., 3],
        np.s_[2:2],
        np.s_[::-1],
        np.s_[1, ..., 2:4],
        np.s_[5:9, 0],
    )
    for key in keys:
        np.testing.assert_array_equal(lazy[key], data[key])
    with pytest.raises(IndexError):
        lazy[4]
    with pytest.raises(IndexError):
        lazy[0, 0, 0, 0]
    assert len(lazy) == 4
    np.testing.assert_array_equal(np.asarray(lazy), data)


def test_a_mapped_file_does_not_stay_in_memory(tmp_path: Path) -> None:
    """A plain file read slice by slice, along any axis, leaves few of its pages with us."""
    psutil = pytest.importorskip("psutil")
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape((512, 512, 256))  # 128 MiB, a hole on the disk
    header.set_sform(np.eye(4), code=1)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    path = tmp_path / "long.nii"
    with path.open("wb") as file:
        file.write(header.binaryblock + b"\0" * 4)
        file.truncate(352 + 512 * 512 * 256 * 2)
    volume = io.read(path)
    process = psutil.Process()
    before = process.memory_info().rss
    for plane in range(256):
        assert not volume.data[plane, ::64, ::64].any()
    assert process.memory_info().rss - before < 64 << 20
    assert not volume.data[:, 7].any()
    assert process.memory_info().rss - before < 64 << 20
    # A few columns lie on every page of the file; not all pages are here at once.
    assert volume.data[::-3, :, 5:9].shape == (86, 512, 4)
    with PeakMeter(0.001) as meter:
        assert not volume.data[:, :, 5:9].any()
    assert meter.grown < 72 << 20


@pytest.mark.parametrize("scaled", [False, True])
def test_any_part_of_a_mapped_file_is_right(
    scaled: bool, tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts that are read some slices at a time, with every kind of step, are what NumPy gives."""
    monkeypatch.setattr("digseg.io._voxels._RESIDENT", 3 * 6 * 7 * 2)
    values = rng.integers(-99, 99, (20, 6, 7)).astype(np.int16)
    image = nib.Nifti1Image(values.T, np.eye(4))
    if scaled:
        image.header.set_slope_inter(0.5, 3)
    nib.save(image, tmp_path / "v.nii")
    stored = nib.load(tmp_path / "v.nii")
    expected = np.asarray(stored.dataobj).T
    data = io.read(tmp_path / "v.nii").data
    keys = (
        np.s_[...],
        np.s_[:],
        np.s_[::-1, :, 2:4],
        np.s_[17:2:-5, 3],
        np.s_[1::4, ::2, -3],
        np.s_[4:19],
        np.s_[5, 2],
        np.s_[3:3],
        np.s_[..., 1],
    )
    for key in keys:
        np.testing.assert_array_equal(data[key], expected[key])
