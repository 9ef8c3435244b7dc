"""Planes of a lazy array, read in slabs of neighbours."""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np

from digseg.types import AnyArray, LazyArray, Window


class Slabs:
    """Windows of single planes ``[..., plane, row, column]``, read some planes at a time.

    Context asks for each plane three times, and planes across a file's fast axes touch the whole
    file: a slab of neighbours is read once and the last few are kept, the newest included. A slab
    takes at most ``limit`` bytes and ``thickest`` planes, but never less than one plane. Safe from
    several threads.
    """

    def __init__(
        self, data: LazyArray, limit: int = 16 << 20, kept: int = 3, thickest: int | None = None
    ) -> None:
        self._data = data
        shape = tuple(int(side) for side in data.shape)
        self._lead, self._count = shape[:-3], shape[-3]
        plane_bytes = (
            int(np.prod(self._lead)) * shape[-2] * shape[-1] * np.dtype(data.dtype).itemsize
        )
        most = min(self._count, thickest or self._count)
        #: Planes of a slab.
        self.thick = max(1, min(most, limit // max(1, plane_bytes)))
        self._most = kept
        #: The most that is held: what is kept, and what a slow reader still looks at.
        self.most_bytes = (kept + 1) * self.thick * plane_bytes
        self._kept: OrderedDict[int, AnyArray] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, plane: int, window: Window) -> AnyArray:
        """``[..., h, w]`` of a window of a plane."""
        top, bottom, left, right = window
        index, inside = divmod(plane, self.thick)
        return self._slab(index)[..., inside, top:bottom, left:right]

    def _slab(self, index: int) -> AnyArray:
        with self._lock:
            slab = self._kept.get(index)
            if slab is None:
                while len(self._kept) >= self._most:  # room before the next is read
                    self._kept.popitem(last=False)
                start = index * self.thick
                planes = slice(start, min(self._count, start + self.thick))
                slab = np.asarray(self._data[(*(slice(None) for _ in self._lead), planes)])
                self._kept[index] = slab
            else:
                self._kept.move_to_end(index)
            return slab
