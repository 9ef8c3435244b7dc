"""Other engines on the same file with the same network, each as its documentation shows it."""

from __future__ import annotations

import hashlib
import importlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from digseg.metering import PeakMeter

TILE, OVERLAP = 512, 64


class Counted:
    """The network as every engine gets it, with its calls, pixels and seconds counted."""

    def __init__(self, classes: int) -> None:
        from digseg.model.convnet import ConvNet, set_threads

        set_threads(1)
        self.net = ConvNet(classes).eval()
        self.seconds, self.pixels = 0.0, 0

    def __call__(self, tiles: Any) -> Any:
        import torch

        begin = time.perf_counter()
        with torch.no_grad():  # MONAI scales the answer in place, which inference mode forbids
            answer = self.net(tiles)
        self.seconds += time.perf_counter() - begin
        self.pixels += tiles.shape[0] * tiles.shape[2] * tiles.shape[3]
        return answer


def run_peer(name: str, scene: Path, folder: Path, classes: int) -> dict[str, Any]:
    """Run one engine in this process and tell the figures of the table."""
    import rasterio

    model = Counted(classes)
    out = folder / f"{name}.tif"
    store = folder / f"{name}.zarr"
    shutil.rmtree(store, ignore_errors=True)
    for library in _LIBRARIES[name]:  # loaded before the clock runs, as ours are
        importlib.import_module(library)
    before = psutil.Process().io_counters().write_chars
    with PeakMeter() as meter:
        begin = time.perf_counter()
        PEERS[name](model, scene, out, store, classes)
        seconds = time.perf_counter() - begin
    written = psutil.Process().io_counters().write_chars - before
    kept = out.stat().st_size + sum(p.stat().st_size for p in store.rglob("*") if p.is_file())
    with rasterio.open(out) as file:
        labels = file.read(1)
    pixels = labels.size
    return {
        "engine": name,
        "fwd_over_wall": model.seconds / seconds,
        "bytes_per_pixel": meter.grown / pixels,
        "redundancy": model.pixels / pixels,
        "megapixels_per_second": pixels / seconds / 1e6,
        "write_amplification": written / kept,
        "output_sha256": hashlib.sha256(labels.tobytes()).hexdigest(),
        "seconds": seconds,
    }


def _read(scene: Path) -> Any:
    import rasterio
    import torch

    with rasterio.open(scene) as file:
        return torch.from_numpy(file.read().astype(np.float32) / 255)[None]


def _labels(probabilities: Any) -> Any:
    """``[K, y, x]`` to labels, threshold 0.5."""
    best = probabilities.argmax(axis=0)
    return np.where(np.max(probabilities, axis=0) >= 0.5, best + 1, 0).astype(np.uint8)


def _write(labels: Any, scene: Path, out: Path) -> None:
    import rasterio

    with rasterio.open(scene) as file:
        profile = {**file.profile, "count": 1, "photometric": None, "nodata": None}
    profile.pop("photometric")
    with rasterio.open(out, "w", **profile) as file:
        file.write(labels, 1)


def monai_sliding_window(model: Counted, scene: Path, out: Path, store: Path, classes: int) -> None:
    from monai.inferers import sliding_window_inference

    answer = sliding_window_inference(
        _read(scene), (TILE, TILE), 1, model, overlap=OVERLAP / TILE, mode="gaussian"
    )
    _write(_labels(answer[0].numpy()), scene, out)


def monai_zarr_merger(model: Counted, scene: Path, out: Path, store: Path, classes: int) -> None:
    from monai.inferers import PatchInferer, SlidingWindowSplitter, ZarrAvgMerger

    splitter = SlidingWindowSplitter((TILE, TILE), overlap=OVERLAP)
    inferer = PatchInferer(
        splitter=splitter,
        merger_cls=ZarrAvgMerger,
        batch_size=1,
        store=str(store),
        value_store=str(store) + ".values",
        count_store=str(store) + ".counts",
        chunks=(1, classes, TILE, TILE),
    )
    answer = inferer(_read(scene), model)
    _write(_labels(np.asarray(answer)[0]), scene, out)
    for part in (".values", ".counts"):
        shutil.rmtree(str(store) + part, ignore_errors=True)


def dask_map_overlap(model: Counted, scene: Path, out: Path, store: Path, classes: int) -> None:
    import dask
    import dask.array as da
    import rasterio
    import torch
    from rasterio.windows import Window

    step, depth = TILE - OVERLAP, OVERLAP // 2
    with rasterio.open(scene) as file:
        rows, columns = file.shape

    def read(block_info: Any = None) -> Any:
        (_, _), (top, bottom), (left, right) = block_info[None]["array-location"]
        with rasterio.open(scene) as file:
            window = Window(left, top, right - left, bottom - top)
            return file.read(window=window).astype(np.float32) / 255

    def infer(tile: Any) -> Any:
        return model(torch.from_numpy(np.ascontiguousarray(tile))[None])[0].numpy()

    chunks = ((3,), _steps(rows, step), _steps(columns, step))
    image = da.map_blocks(read, chunks=chunks, dtype=np.float32, meta=np.zeros((0, 0, 0), "f4"))
    overlapped = da.overlap.overlap(image, depth={0: 0, 1: depth, 2: depth}, boundary="reflect")
    answer = overlapped.map_blocks(
        infer, chunks=((classes,), *overlapped.chunks[1:]), dtype=np.float32
    )
    answer = da.overlap.trim_overlap(answer, {0: 0, 1: depth, 2: depth}, boundary="reflect")
    labels = da.map_blocks(_labels, answer, drop_axis=0, dtype=np.uint8)
    with dask.config.set(scheduler="threads", num_workers=1):
        _write(labels.compute(), scene, out)


def _steps(length: int, step: int) -> tuple[int, ...]:
    """Chunks of ``step``; a last one too narrow to overlap joins its neighbour."""
    sizes = [min(step, length - start) for start in range(0, length, step)]
    if len(sizes) > 1 and sizes[-1] < OVERLAP // 2:
        sizes[-2:] = [sum(sizes[-2:])]
    return tuple(sizes)


Engine = Callable[[Counted, Path, Path, Path, int], None]
PEERS: dict[str, Engine] = {
    "monai-sliding-window": monai_sliding_window,
    "monai-zarr-merger": monai_zarr_merger,
    "dask-map-overlap": dask_map_overlap,
}
_LIBRARIES = {
    "monai-sliding-window": ("torch", "monai.inferers"),
    "monai-zarr-merger": ("torch", "zarr", "monai.inferers"),
    "dask-map-overlap": ("torch", "dask.array"),
}
