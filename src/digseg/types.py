"""Aliases and protocols that every room shares. Level 0: imports nothing of the project."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from digseg.prompts import Prompt

AnyArray: TypeAlias = NDArray[Any]
Float32Array: TypeAlias = NDArray[np.float32]
UInt8Array: TypeAlias = NDArray[np.uint8]
BoolArray: TypeAlias = NDArray[np.bool_]
LabelArray: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16]

#: Half-open pixel window of a plane: ``(row_start, row_stop, column_start, column_stop)``.
Window: TypeAlias = tuple[int, int, int, int]

#: What a model's encoder leaves of a batch of tiles, by name; every array is ``[N, ...]``.
Encoded: TypeAlias = Mapping[str, AnyArray]


@runtime_checkable
class LazyArray(Protocol):
    """An array read by slices: NumPy, dask, zarr and the readers' own windows all fit."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def __getitem__(self, key: Any, /) -> Any: ...


@runtime_checkable
class SegmentationModel(Protocol):
    """A model as the engine sees it: tiles and prompts in, one soft map for each prompt out.

    Calls are deterministic: equal tiles and prompts give equal maps.
    """

    @property
    def identity(self) -> str:
        """Hex digest of the weights and of every option that changes an answer."""
        ...

    @property
    def multiple(self) -> int:
        """Both sides of a tile are multiples of this many pixels."""
        ...

    def __call__(self, tiles: Float32Array, prompts: Sequence[Prompt]) -> Float32Array:
        """Segment tiles.

        Parameters
        ----------
        tiles
            ``float32 [N, 3, H, W]`` in [0, 1].
        prompts
            K prompts, negative ones included.

        Returns
        -------
        ``float32 [N, K, H, W]`` in [0, 1].
        """
        ...


@runtime_checkable
class EncodingModel(SegmentationModel, Protocol):
    """A model that reads a tile once and can then be asked for more prompts."""

    def encode(self, tiles: Float32Array) -> Encoded:
        """Tiles ``float32 [N, 3, H, W]`` in [0, 1] to arrays ``[N, ...]`` worth keeping."""
        ...

    def decode(self, encoded: Encoded, prompts: Sequence[Prompt]) -> Float32Array:
        """Soft maps ``float32 [N, K, H, W]`` from what `encode` gave; equal to a whole call."""
        ...


@runtime_checkable
class PropagatingModel(SegmentationModel, Protocol):
    """A model that can start from an answer in place of noise, as a diffusion segmenter can."""

    def continue_from(
        self,
        tiles: Float32Array,
        prompts: Sequence[Prompt],
        previous: Float32Array,
        strength: float,
    ) -> Float32Array:
        """Segment tiles, starting from the mask latents of other maps.

        Parameters
        ----------
        tiles
            ``float32 [N, 3, H, W]`` in [0, 1].
        previous
            ``float32 [N, K, H, W]`` in [0, 1], the neighbouring slices' maps.
        strength
            How far they are noised: 0 keeps them, 1 is pure noise.

        Returns
        -------
        ``float32 [N, K, H, W]`` in [0, 1].
        """
        ...


@runtime_checkable
class EnsembleModel(SegmentationModel, Protocol):
    """A model that answers with the mean of several runs, and can tell their spread."""

    def spread(self, tiles: Float32Array, prompts: Sequence[Prompt]) -> AnyArray:
        """Mean and standard deviation over the runs, ``float32 [2, N, K, H, W]`` in [0, 1]."""
        ...


@runtime_checkable
class TileSource(Protocol):
    """What the engine reads: planes already in the model's channels and range.

    A raster is one plane; a volume has one plane for each slice of the chosen axis.
    """

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(planes, rows, columns)``."""
        ...

    @property
    def identity(self) -> str:
        """Cheap content identity (size, header, sampled bytes), never a hash of all pixels."""
        ...

    def read(self, plane: int, window: Window) -> tuple[Float32Array, BoolArray]:
        """Pixels ``float32 [3, h, w]`` in [0, 1] and validity ``bool [h, w]`` (False = nodata).

        Safe to call from several threads. A window may not reach outside the plane.
        """
        ...
