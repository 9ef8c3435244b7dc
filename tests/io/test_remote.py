"""Files behind a web server: read by byte ranges, not downloaded. The server is local."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import rasterio
import zarr

from digseg import io
from digseg.errors import InputError, UsageError
from digseg.grid import Grid
from digseg.io import gdal
from digseg.prompts import PromptSet
from digseg.raster import ClassTable, Mask, Raster


class RangeServer(ThreadingHTTPServer):
    """Serves a folder, answers ranges, counts bytes; an S3 bucket is its first path part."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sent = 0
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: RangeServer

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        file = self.server.folder / self.path.split("?")[0].lstrip("/")
        if not file.is_file():
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = file.read_bytes()
        size = len(content)
        asked = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked:
            start, stop = int(asked[1]), min(int(asked[2] or size - 1), size - 1)
            content = content[start : stop + 1]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{stop}/{size}")
        else:
            self.send_response(200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.server.sent += len(content)
            self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RangeServer]:
    server = RangeServer(tmp_path)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    gdal.close_handles()
    server.shutdown()
    server.server_close()


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """Noise (which no compression makes small), 3 MB, tiled, with overviews."""
    pixels = np.random.default_rng(0).integers(0, 255, (3, 1024, 1024)).astype(np.uint8)
    (tmp_path / "bucket").mkdir()
    path = tmp_path / "bucket" / "scene.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=1024, height=1024, count=3, dtype="uint8",
        crs="EPSG:32633", transform=rasterio.Affine(10, 0, 6e5, 0, -10, 5e6),
        tiled=True, blockxsize=128, blockysize=128,
    ) as target:  # fmt: skip
        target.write(pixels)
    return path


def test_window_over_http(server: RangeServer, scene: Path) -> None:
    url = f"http://127.0.0.1:{server.server_port}/bucket/scene.tif"
    image = io.read(url)
    assert isinstance(image, Raster)
    local = io.read(scene)
    assert image.grid == local.grid
    np.testing.assert_array_equal(
        np.asarray(image.data[:, 300:340, 500:560]), np.asarray(local.data[:, 300:340, 500:560])
    )
    assert 0 < server.sent < scene.stat().st_size / 4
    facts, expected = io.info(url), io.info(scene)
    assert facts == expected
    assert image.source is not None
    assert image.source.identity == io.read(url).source.identity  # type: ignore[union-attr]


def test_window_over_s3(server: RangeServer, scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_S3_ENDPOINT", f"127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_HTTPS", "NO")
    monkeypatch.setenv("AWS_VIRTUAL_HOSTING", "FALSE")
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "YES")
    image = io.read("s3://bucket/scene.tif")
    local = io.read(scene)
    np.testing.assert_array_equal(
        np.asarray(image.data[:, 300:340, 500:560]), np.asarray(local.data[:, 300:340, 500:560])
    )
    assert 0 < server.sent < scene.stat().st_size / 4


def test_missing_and_unreachable(server: RangeServer) -> None:
    for url in (
        f"http://127.0.0.1:{server.server_port}/bucket/absent.tif",
        "http://127.0.0.1:9/nobody.tif",
    ):
        with pytest.raises(InputError, match="check the address"):
            io.info(url)


def test_outputs_are_local(tmp_path: Path) -> None:
    table = ClassTable.of(PromptSet.parse(["water"]))
    mask = Mask(np.zeros((3, 4), np.uint8), Grid.of((3, 4)), table)
    with pytest.raises(UsageError, match="remote"):
        io.write_mask(mask, "s3://bucket/out.tif")


def test_zarr_over_http(server: RangeServer, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    group = zarr.create_group(str(tmp_path / "a.zarr"), zarr_format=3)
    array = group.create_array("0", shape=(2, 64, 48), chunks=(1, 32, 32), dtype="uint16")
    array[:] = np.arange(2 * 64 * 48).reshape(2, 64, 48)
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [{"axes": [{"name": n} for n in "cyx"], "datasets": [{"path": "0"}]}],
    }
    image = io.read(f"http://127.0.0.1:{server.server_port}/a.zarr")
    np.testing.assert_array_equal(np.asarray(image.data[...]), array[:])
