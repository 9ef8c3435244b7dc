"""What every format owes its users; a new one inherits the suite (nibabel's ``ValidateAPI``).

A test module makes one class for its format::

    class TestPng(ValidateReader, ValidateWriter):
        suffix = ".png"
        def make(self, path): ...   # writes a file with an *independent* library

`ValidateReader` needs ``suffix``, ``make`` and ``expected``; `ValidateWriter` needs ``suffix`` and
``grids``, and reads back with `digseg.io.read` as well as with what ``independent`` gives.
"""

from __future__ import annotations

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from digseg import io
from digseg.errors import (
    CorruptInputError,
    InputError,
    InputNotFoundError,
    OutputError,
    OutputExistsError,
    UnsupportedInputError,
)
from digseg.grid import Grid
from digseg.prompts import PromptSet
from digseg.raster import ClassTable, Mask, Raster, Volume
from digseg.types import AnyArray

CLASSES = ClassTable.of(PromptSet.parse(["water", "built-up area=roof,house", "Straße <1 & 2>"]))


def open_array(image: Raster | Volume) -> AnyArray:
    """All pixels of an image."""
    return np.asarray(image.data[...])


class ValidateReader:
    """Subclasses say how a file is made and what must come out."""

    suffix: ClassVar[str]
    #: ``kind`` that `info` prints.
    kind: ClassVar[str]
    #: Whether a file cut in half can be told by `info` (a folder of chunks can't).
    refuses_half: ClassVar[bool] = True

    def make(self, path: Path) -> AnyArray:
        """Write an asymmetric image with an independent library; returns ``data`` as expected."""
        raise NotImplementedError

    @pytest.fixture
    def made(self, tmp_path: Path) -> tuple[Path, AnyArray]:
        path = tmp_path / f"made{self.suffix}"
        return path, self.make(path)

    def test_pixels_and_type(self, made: tuple[Path, AnyArray]) -> None:
        path, expected = made
        image = io.read(path)
        assert image.data.shape == expected.shape
        assert image.data.dtype == expected.dtype
        np.testing.assert_array_equal(open_array(image), expected)

    def test_slices_are_numpys(self, made: tuple[Path, AnyArray]) -> None:
        path, expected = made
        data = io.read(path).data
        last = expected.shape[0] - 1
        for key in (
            (0,),
            (slice(None), 1),
            (-1, slice(2, 5), slice(-4, -1)),
            (slice(None), slice(None, None, 2), slice(1, None, 3)),
            (..., slice(None, None, -1)),
            (last, 3, 4),
            (slice(None), slice(4, 4), slice(None)),
        ):
            np.testing.assert_array_equal(np.asarray(data[key]), expected[key])

    def test_index_outside_is_an_error(self, made: tuple[Path, AnyArray]) -> None:
        path, expected = made
        with pytest.raises(IndexError):
            io.read(path).data[expected.shape[0]]

    def test_pickles_to_another_process(self, made: tuple[Path, AnyArray]) -> None:
        path, expected = made
        image = pickle.loads(pickle.dumps(io.read(path)))
        np.testing.assert_array_equal(open_array(image), expected)

    def test_threads_read_right_pixels(self, made: tuple[Path, AnyArray]) -> None:
        path, expected = made
        image = io.read(path)
        rows = range(expected.shape[1] - 1)
        with ThreadPoolExecutor(6) as pool:
            found = list(
                pool.map(lambda row: np.asarray(image.data[:, row : row + 2]), [*rows] * 4)
            )
        for row, part in zip([*rows] * 4, found, strict=True):
            np.testing.assert_array_equal(part, expected[:, row : row + 2])

    def test_info_is_json_and_agrees(self, made: tuple[Path, AnyArray]) -> None:
        path, expected = made
        facts = json.loads(json.dumps(io.info(path), allow_nan=False))
        assert facts["kind"] == self.kind
        assert facts["dtype"] == expected.dtype.name
        assert sorted(side for side in facts["shape"] if side > 1) == sorted(
            side for side in expected.shape if side > 1
        )

    def test_source_tells_content_apart(self, made: tuple[Path, AnyArray], tmp_path: Path) -> None:
        path, _ = made
        first = io.read(path).source
        again = io.read(path).source
        assert first is not None
        assert again is not None
        assert first.identity == again.identity
        assert first.path == str(path)
        assert first.format

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(InputNotFoundError, match="absent"):
            io.read(tmp_path / f"absent{self.suffix}")

    def test_empty_file(self, tmp_path: Path) -> None:
        path = tmp_path / f"empty{self.suffix}"
        path.write_bytes(b"")
        with pytest.raises(InputError, match="empty"):
            io.info(path)

    def test_wrong_content(self, tmp_path: Path) -> None:
        path = tmp_path / f"text{self.suffix}"
        path.write_bytes(b"These are words and no pixels.\n" * 40)
        with pytest.raises(InputError):
            io.info(path)

    def test_cut_short(self, made: tuple[Path, AnyArray]) -> None:
        path, _ = made
        if not self.refuses_half or path.is_dir():
            return
        content = path.read_bytes()
        for share in (0.02, 0.5, 0.95):
            path.write_bytes(content[: int(len(content) * share)])
            with pytest.raises((CorruptInputError, UnsupportedInputError)):
                io.info(path)


class ValidateWriter:
    """Labels out, and in again by an independent library."""

    suffix: ClassVar[str]
    #: Whether labels above 255 fit.
    wide: ClassVar[bool] = True
    #: Whether the format has a value for nodata.
    has_nodata: ClassVar[bool] = True

    def grid(self) -> Grid:
        """An asymmetric grid as the format holds it."""
        raise NotImplementedError

    def independent(self, path: Path) -> AnyArray:
        """Labels ``[y, x]`` or ``[z, y, x]`` read by another library."""
        raise NotImplementedError

    def mask(self, *, dtype: str = "uint8", nodata: int | None = None) -> Mask:
        """Labels in which every row, column and slice differs."""
        grid = self.grid()
        count = int(np.prod(grid.shape))
        place = np.arange(count, dtype=np.int64).reshape(grid.shape)
        labels = ((place * place + place // 7) % 4).astype(dtype)
        if nodata is not None:
            labels[..., :2] = nodata
        return Mask(labels, grid, CLASSES, nodata)

    def test_round_trip(self, tmp_path: Path) -> None:
        mask, path = self.mask(), tmp_path / f"labels{self.suffix}"
        files = io.write_mask(mask, path)
        assert files[0] == path
        assert all(file.exists() for file in files)
        np.testing.assert_array_equal(self.independent(path), np.asarray(mask.labels))
        back = io.read(path)
        assert back.grid.shape == mask.grid.shape
        assert back.grid.affine == mask.grid.affine

    def test_names_and_colors_come_back(self, tmp_path: Path) -> None:
        from digseg.io import registry

        path = tmp_path / f"labels{self.suffix}"
        io.write_mask(self.mask(), path)
        item, probe = registry.find_reader(path)
        back: Any = item.code.read_mask(probe.path)  # type: ignore[attr-defined]
        assert back.classes.names == CLASSES.names
        assert back.classes.colors == CLASSES.colors

    def test_verify_finds_no_difference_with_itself(self, tmp_path: Path) -> None:
        path = tmp_path / f"labels{self.suffix}"
        io.write_mask(self.mask(), path)
        assert io.verify(path, path) == []

    def test_wide_labels(self, tmp_path: Path) -> None:
        if not self.wide:
            return
        mask, path = self.mask(dtype="uint16"), tmp_path / f"wide{self.suffix}"
        io.write_mask(mask, path)
        np.testing.assert_array_equal(self.independent(path), np.asarray(mask.labels))

    def test_nodata_is_declared(self, tmp_path: Path) -> None:
        if not self.has_nodata:
            return
        path = tmp_path / f"nodata{self.suffix}"
        io.write_mask(self.mask(nodata=255), path)
        back = io.read(path)
        assert isinstance(back, Raster)
        assert back.nodata == 255

    def test_existing_file_is_kept(self, tmp_path: Path) -> None:
        path = tmp_path / f"labels{self.suffix}"
        path.write_bytes(b"precious")
        with pytest.raises(OutputExistsError):
            io.write_mask(self.mask(), path)
        assert path.read_bytes() == b"precious"

    def test_overwrite_replaces(self, tmp_path: Path) -> None:
        mask, path = self.mask(), tmp_path / f"labels{self.suffix}"
        io.write_mask(mask, path)
        io.write_mask(mask, path, overwrite=True)
        np.testing.assert_array_equal(self.independent(path), np.asarray(mask.labels))

    def test_missing_folder(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match="does not exist"):
            io.write_mask(self.mask(), tmp_path / "nowhere" / f"labels{self.suffix}")

    def test_nothing_half_written_stays(self, tmp_path: Path) -> None:
        mask = self.mask()
        broken = Mask(_Failing(mask.labels), mask.grid, mask.classes, mask.nodata)
        with pytest.raises(RuntimeError, match="model fell over"):
            io.write_mask(broken, tmp_path / f"labels{self.suffix}")
        assert list(tmp_path.iterdir()) == []


class _Failing:
    """Labels whose computation fails when they are asked for."""

    def __init__(self, labels: Any) -> None:
        self.shape, self.dtype = tuple(labels.shape), labels.dtype

    def __getitem__(self, key: Any) -> Any:
        raise RuntimeError("the model fell over")
