"""Files behind a web server: read by byte ranges, not downloaded. The server is local."""

from __future__ import annotations

import re
import threading
import urllib.parse
from collections.abc import Iterator
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

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
    """Serves a folder, answers ranges and listings as S3 does, and counts bytes; the first part of
    a path is a bucket.
    """

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
        path, _, query = self.path.partition("?")
        path = urllib.parse.unquote(path)
        if "list-type=2" in query:
            self._say(200, self._listing(path, urllib.parse.parse_qs(query)), body=body)
            return
        file = self.server.folder / path.lstrip("/")
        if not file.is_file():
            self._say(404, "<Error><Code>NoSuchKey</Code></Error>", body=body)
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

    def _listing(self, path: str, query: dict[str, list[str]]) -> str:
        """S3's answer to ListObjectsV2."""
        bucket, prefix = self.server.folder / path.strip("/"), query.get("prefix", [""])[0]
        names = sorted(str(p.relative_to(bucket)) for p in bucket.rglob("*") if p.is_file())
        names = [name for name in names if name.startswith(prefix)]
        folders = set()
        if "delimiter" in query:
            folders = {
                prefix + n[len(prefix) :].split("/")[0] + "/"
                for n in names
                if "/" in n[len(prefix) :]
            }
            names = [name for name in names if "/" not in name[len(prefix) :]]
        keys = "".join(
            f"<Contents><Key>{escape(name)}</Key><Size>{(bucket / name).stat().st_size}</Size>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
            for name in names[:1000]
        )
        shared = "".join(
            f"<CommonPrefixes><Prefix>{escape(f)}</Prefix></CommonPrefixes>"
            for f in sorted(folders)
        )
        return (
            f"<ListBucketResult><IsTruncated>false</IsTruncated>{keys}{shared}</ListBucketResult>"
        )

    def _say(self, status: int, text: str, *, body: bool) -> None:
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
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


@pytest.fixture
def s3(server: RangeServer, monkeypatch: pytest.MonkeyPatch) -> RangeServer:
    """The server where s3:// leads to, for GDAL and for Zarr."""
    monkeypatch.setenv("AWS_S3_ENDPOINT", f"127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_HTTPS", "NO")
    monkeypatch.setenv("AWS_VIRTUAL_HOSTING", "FALSE")
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "YES")
    return server


def test_window_over_s3(s3: RangeServer, scene: Path) -> None:
    image = io.read("s3://bucket/scene.tif")
    local = io.read(scene)
    np.testing.assert_array_equal(
        np.asarray(image.data[:, 300:340, 500:560]), np.asarray(local.data[:, 300:340, 500:560])
    )
    assert 0 < s3.sent < scene.stat().st_size / 4
    facts = io.info("s3://bucket/scene.tif")
    assert facts == io.info(scene) == io.info("/vsis3/bucket/scene.tif")


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


def make_zarr(path: Path, zarr_format: Literal[2, 3]) -> zarr.Array[Any]:
    """An OME-Zarr of 2 channels in chunks of 64 x 64, noise, 2 MB."""
    group = zarr.create_group(str(path), zarr_format=zarr_format)
    pixels = np.random.default_rng(1).integers(0, 60_000, (2, 512, 1024)).astype(np.uint16)
    array = group.create_array("0", shape=pixels.shape, chunks=(1, 64, 64), dtype="uint16")
    array[:] = pixels
    scales = [{"axes": [{"name": n} for n in "cyx"], "datasets": [{"path": "0"}]}]
    if zarr_format == 3:
        group.attrs["ome"] = {"version": "0.5", "multiscales": scales}
    else:
        group.attrs["multiscales"] = [{"version": "0.4", **scales[0]}]
    return array


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("scheme", ["http", "s3"])
def test_window_of_zarr(
    s3: RangeServer, tmp_path: Path, scheme: str, zarr_format: Literal[2, 3]
) -> None:
    """Only the chunks of the window travel; labels have their place as in a local store."""
    pytest.importorskip("aiohttp" if scheme == "http" else "s3fs")
    (tmp_path / "bucket").mkdir()
    array = make_zarr(tmp_path / "bucket" / "a.zarr", zarr_format)
    base = {"http": f"http://127.0.0.1:{s3.server_port}", "s3": "s3:/"}[scheme]
    url = f"{base}/bucket/a.zarr"
    image = io.read(url)
    assert isinstance(image, Raster)
    before = s3.sent
    found = np.asarray(image.data[:, 100:140, 500:560])
    np.testing.assert_array_equal(found, np.asarray(array[:, 100:140, 500:560]))
    # Two channels of two by two chunks of 8 KiB.
    assert 0 < s3.sent - before < 2 * 4 * 9000
    facts, local = io.info(url), io.info(tmp_path / "bucket" / "a.zarr")
    # A server is not asked for the names of its folders.
    assert {**facts, "images": []} == {**local, "images": []}


def test_zarr_that_is_not_there(s3: RangeServer, tmp_path: Path) -> None:
    pytest.importorskip("s3fs")
    (tmp_path / "bucket").mkdir()
    for url in ("s3://bucket/absent.zarr", f"http://127.0.0.1:{s3.server_port}/bucket/absent.zarr"):
        with pytest.raises(InputError):
            io.info(url)
