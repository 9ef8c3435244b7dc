"""Files behind image layers; a layer without one is written in a thread. No Qt."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from napari_digseg._export import export_layer, target_of
from napari_digseg._inputs import Target, own_target


class Targets:
    """What the engine opens for each layer.

    Parameters
    ----------
    folder
        Where layers without a file are written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="digseg layer")

    def of(self, layer: Any, point: Sequence[float]) -> Future[Target]:
        """The file behind a layer, now or when it is written; its errors are `DigsegError`."""
        known = self.known(layer, point)
        if known is None:
            return self._pool.submit(target_of, layer, tuple(point), self._folder)
        future: Future[Target] = Future()
        future.set_result(known)
        return future

    def known(self, layer: Any, point: Sequence[float]) -> Target | None:
        """The file behind a layer, if there is one already.

        Raises
        ------
        UsageError
            The layer has axes that are neither bands, time nor space.
        """
        own = own_target(layer, point)
        return own or export_layer(layer, point, self._folder, write=False)

    def close(self) -> None:
        """Write no more."""
        self._pool.shutdown(wait=True, cancel_futures=True)
