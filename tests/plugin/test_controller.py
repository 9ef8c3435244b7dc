"""From the form to layers without Qt: run, stop, resume, crash, extend, threshold, save."""

from __future__ import annotations

import os
import shlex
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from napari_digseg._controller import Controller
from napari_digseg._layers import KEY
from napari_digseg._reader import read_layers
from tests.models import Brightness

from digseg.cli.main import main
from digseg.run.job import Job, read_recipe

Make = Callable[..., Controller]
Until = Callable[..., None]


def opened(control: Controller, path: Path, *prompts: str) -> Controller:
    from napari.layers import Layer

    for data, meta, kind in read_layers(str(path)):
        control.viewer.add_layer(Layer.create(data, meta, kind))
    state = replace(control.state, layer=control.viewer.layers[0].name)
    state = replace(state, settings=state.settings.with_(tile=128, overlap=32))
    for prompt in prompts:
        state = state.add(prompt)
    control.set(state)
    return control


def finished(control: Controller) -> bool:
    return control.status.phase == "finished" and not control.run.busy  # type: ignore[union-attr]


def shown(control: Controller) -> np.ndarray:
    run = control.run
    assert run is not None
    assert run.live is not None
    assert run.live.settle()
    data = run.labels.data[0] if run.labels.multiscale else run.labels.data
    return np.asarray(data[...])


def expected() -> np.ndarray:
    labels = np.ones((300, 420), np.uint8)
    labels[:, 210:] = 2
    return labels


def test_a_run_gives_labels_in_place_with_names(
    scene: Path, controller: Make, until: Until
) -> None:
    control = opened(controller(), scene, "red", "blue")
    control.runs.start()
    until(control, lambda: finished(control))
    run = control.run
    assert run is not None
    np.testing.assert_array_equal(shown(control), expected())
    image, labels = control.viewer.layers[0], run.labels
    for name in ("scale", "translate", "shear"):
        np.testing.assert_allclose(getattr(labels, name), getattr(image, name))
    np.testing.assert_allclose(labels.affine.affine_matrix, image.affine.affine_matrix)
    assert labels.units == image.units
    assert labels.axis_labels == image.axis_labels
    assert "32631" in labels.metadata[KEY]["crs"]
    assert list(labels.features["name"]) == ["background", "red", "blue"]
    assert run.histograms["red"].sum() == 300 * 420


def test_thresholds_move_without_a_run_and_undo_goes_back(
    scene: Path, controller: Make, until: Until
) -> None:
    control = opened(controller(), scene, "red", "blue")
    control.runs.start()
    until(control, lambda: finished(control))
    np.testing.assert_array_equal(shown(control), expected())
    number = control.run.number  # type: ignore[union-attr]
    for value in (0.9, 0.95, 0.97):  # one drag
        control.change(control.state.edit("red", threshold=value))
    assert not (shown(control) == 1).any()
    assert (shown(control) == 2).any()
    control.change(control.state.edit("blue", shown=False))
    assert not shown(control).any()
    control.undo()
    assert (shown(control) == 2).sum() == 300 * 210
    control.undo()
    np.testing.assert_array_equal(shown(control), expected())
    assert not control.can_undo
    assert control.run.number == number  # type: ignore[union-attr]


def test_a_run_stops_within_a_second_and_resumes(
    scene: Path, controller: Make, until: Until
) -> None:
    control = opened(controller(), scene, "slow=red", "blue")
    control.runs.start()
    until(control, lambda: control.run.blocks > 0)  # type: ignore[union-attr]
    begun = time.monotonic()
    control.runs.cancel()
    until(control, lambda: control.status.phase == "stopped", 5)
    assert time.monotonic() - begun < 1.0
    control.runs.resume()
    until(control, lambda: finished(control))
    np.testing.assert_array_equal(shown(control), expected())


def test_an_engine_that_hangs_is_ended_within_a_second(
    scene: Path, controller: Make, until: Until
) -> None:
    control = opened(controller(), scene, "hang=red")
    control.runs.start()
    until(control, lambda: control.run.blocks > 0)  # type: ignore[union-attr]
    time.sleep(0.5)  # let it walk into the trap
    begun = time.monotonic()
    control.runs.cancel()
    until(control, lambda: control.status.phase == "stopped", 5)
    assert time.monotonic() - begun < 1.0
    assert not control.engine.alive


def test_a_crash_of_the_engine_is_a_message_and_the_next_run_works(
    scene: Path, controller: Make, until: Until
) -> None:
    control = opened(controller(), scene, "crash=red")
    control.runs.start()
    until(control, lambda: control.status.phase == "stopped")
    assert control.status.problem
    assert "Resume" in control.status.message
    control.set(control.state.remove("crash").add("blue").add("red"))
    control.runs.start()
    until(control, lambda: finished(control))
    assert set(np.unique(shown(control))) == {1, 2}


def test_a_prompt_is_added_to_a_finished_run(scene: Path, controller: Make, until: Until) -> None:
    control = opened(controller(), scene, "red")
    control.runs.start()
    until(control, lambda: finished(control))
    assert not control.runs.can_extend
    control.set(control.state.add("blue"))
    assert control.runs.can_extend
    before = control.run
    control.runs.start()
    until(control, lambda: finished(control) and "blue" in control.run.histograms)  # type: ignore[union-attr]
    assert control.run is before
    np.testing.assert_array_equal(shown(control), expected())
    names = [layer.name for layer in control.viewer.layers]
    assert names == ["scene", "scene: red, blue"]


def test_only_the_added_prompt_is_computed(scene: Path, controller: Make, until: Until) -> None:
    # "once" ends the engine when it is asked for twice, "cached" when a tile is read again.
    control = opened(controller(), scene, "once=red")
    control.runs.start()
    until(control, lambda: finished(control))
    control.set(control.state.add("cached=blue"))
    control.runs.start()
    until(control, lambda: finished(control) and "cached" in control.run.histograms)  # type: ignore[union-attr]
    np.testing.assert_array_equal(shown(control), expected())


def test_bands_that_the_model_chooses_are_told_and_a_prompt_can_still_be_added(
    tmp_path: Path, controller: Make, until: Until
) -> None:
    path = tmp_path / "multispectral.tif"
    profile = {"driver": "GTiff", "count": 4, "height": 300, "width": 420, "dtype": "uint8"}
    place = rasterio.Affine(10, 0, 500_000, 0, -10, 4_100_000)
    with rasterio.open(path, "w", **profile, crs="EPSG:32631", transform=place) as dataset:
        pixels = np.full((4, 300, 420), 20, np.uint8)
        pixels[3, :, :210] = 240  # near infrared: what the model sees as red
        pixels[1, :, 210:] = 240  # green, seen as blue
        dataset.write(pixels)
        dataset.descriptions = ("red", "green", "blue", "nir")
    control = opened(controller(), path, "red")
    control.runs.start()
    until(control, lambda: finished(control))
    assert control.run is not None
    assert (shown(control)[:, :210] == 1).all()
    assert not shown(control)[:, 210:].any()
    assert "--bands=4,1,2" in control.run.told(control.state).command_line()
    control.set(control.state.add("blue"))
    assert control.runs.can_extend
    control.runs.start()
    until(control, lambda: finished(control) and "blue" in control.run.histograms)  # type: ignore[union-attr]
    np.testing.assert_array_equal(shown(control), expected())


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """1500 x 1500 pixels, red."""
    path = tmp_path / "large.tif"
    profile = {"driver": "GTiff", "count": 3, "height": 1500, "width": 1500, "dtype": "uint8"}
    pixels = np.zeros((3, 1500, 1500), np.uint8)
    pixels[0] = 250
    with rasterio.open(
        path, "w", **profile, crs="EPSG:32631", transform=rasterio.Affine(1, 0, 9, 0, -1, 9)
    ) as dataset:
        dataset.write(pixels)
    return path


def test_a_scene_fills_piece_by_piece_and_the_view_first(
    large: Path, controller: Make, until: Until, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    gate.mkdir()
    control = opened(controller(), large, f"gated=red,{gate}")
    settings = control.state.settings.with_(tile=512, overlap=64)
    control.set(replace(control.state, settings=settings))
    image = control.viewer.layers[0]
    image.corner_pixels = np.array([[1250, 1250], [1499, 1499]])
    control.runs.start()
    filled: list[float] = []
    first: list[Any] = []
    looks: list[float] = []

    def look() -> bool:
        run = control.run
        if run is not None and run.labels is not None and control.running:
            data = run.labels.data[-1] if run.labels.multiscale else run.labels.data
            step = 1500 // data.shape[0]
            found = np.asarray(data[...]) == 1
            if found.any() and (not filled or found.mean() > filled[-1]):
                filled.append(float(found.mean()))
                first.append([int(corner.min()) * step for corner in np.nonzero(found)])
                # Look somewhere else as soon as something came.
                image.corner_pixels = np.array([[0, 0], [200, 200]])
        # The next tile when the last was drawn and the engine was told where the viewer looks: both
        # wait a moment for more to come, and several turns of this loop on a busy machine.
        looks.append(time.monotonic())
        if len(looks) > 5 and looks[-1] - looks[0] > 0.4:
            for asked in gate.glob("* asked"):
                asked.rename(asked.with_name(asked.name.replace("asked", "granted")))
                looks.clear()
        return finished(control)

    until(control, look)
    assert len(filled) >= 5, filled
    assert filled == sorted(filled)
    assert min(first[0]) >= 1000, first[0]  # the corner that was on screen
    assert min(min(corner) for corner in first[: len(first) // 2 + 1]) < 300  # then the other one
    assert (shown(control) == 1).all()


def test_a_killed_engine_leaves_the_viewer_alone_and_the_run_goes_on(
    large: Path, controller: Make, until: Until
) -> None:
    control = opened(controller(), large, "tardy=red")
    control.runs.start()
    until(control, lambda: control.run.blocks_done > 2)  # type: ignore[union-attr]
    pid = control.engine.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(control, lambda: control.status.phase == "stopped", 10)
    assert control.status.problem
    assert "memory" in control.status.message
    assert (shown(control) == 1).any()
    control.runs.resume()
    until(control, lambda: finished(control))
    assert control.engine.pid != pid
    run = control.run
    assert run is not None
    assert run.blocks_kept > 0  # what was done was not done again
    assert (run.blocks_done, run.blocks) == (36, 36)  # and counts
    assert (shown(control) == 1).all()


def test_what_is_saved_is_what_is_shown_and_its_recipe_gives_the_same_bytes(
    scene: Path, controller: Make, until: Until, tmp_path: Path
) -> None:
    from digseg.run.execute import execute

    control = opened(controller(), scene, "red", "blue")
    control.runs.start()
    until(control, lambda: finished(control))
    control.change(control.state.edit("red", threshold=0.93))
    control.change(control.state.edit("blue", shown=False))
    out = tmp_path / "out.tif"
    control.review.save(out)
    until(control, lambda: bool(control.review.saved))
    with rasterio.open(out) as dataset:
        np.testing.assert_array_equal(dataset.read(1), shown(control))
        assert dataset.crs == rasterio.CRS.from_epsg(32631)
    assert "--suppress blue" in control.review.command_line
    assert "--threshold red=0.93" in control.review.command_line
    assert str(out) in control.review.command_line
    recipe = read_recipe(Path(f"{out}.recipe.json"))
    again = tmp_path / "again"
    again.mkdir()
    job = Job.from_recipe(recipe)
    outputs = replace(job.outputs, labels=again / "out.tif")
    execute(replace(job, outputs=outputs), model=Brightness())
    with rasterio.open(out) as first, rasterio.open(again / "out.tif") as second:
        np.testing.assert_array_equal(first.read(), second.read())
        assert first.profile == second.profile


def test_statistics_are_in_square_metres(scene: Path, controller: Make, until: Until) -> None:
    control = opened(controller(), scene, "red", "blue")
    control.runs.start()
    until(control, lambda: finished(control))
    control.review.measure()
    until(control, lambda: bool(control.review.statistics))
    rows = {row["name"]: row for row in control.review.statistics}
    assert rows["red"]["pixels"] == 300 * 210
    areas = [value for key, value in rows["red"].items() if "m2" in key]
    assert areas == [pytest.approx(300 * 210 * 100, rel=2e-3)]


def draw(control: Controller, corners: Any, kind: str = "polygon") -> None:
    """Corners in pixels of the image, whose first one reaches from 0 to 1."""
    image = control.viewer.layers[0]
    placed = [image.data_to_world(np.asarray(corner) - 0.5) for corner in corners]
    control.viewer.add_shapes([np.asarray(placed)], shape_type=kind)
    control.set(replace(control.state, region="drawn shape"))


def test_a_drawn_rectangle_is_segmented_alone_and_in_its_place(
    scene: Path, controller: Make, until: Until
) -> None:
    control = opened(controller(), scene, "red", "blue")
    draw(control, ((40, 150), (140, 150), (140, 270), (40, 270)), "rectangle")
    control.runs.start()
    until(control, lambda: finished(control))
    image, labels = control.viewer.layers[0], control.run.labels  # type: ignore[union-attr]
    np.testing.assert_array_equal(shown(control), expected()[40:140, 150:270])
    np.testing.assert_allclose(labels.data_to_world((0, 0)), image.data_to_world((40, 150)))
    assert "--region 40:140,150:270" in control.review.command_line
    assert "--outline" not in control.review.command_line


@pytest.mark.parametrize("kind", ["polygon", "ellipse", "path"])
def test_a_drawn_shape_limits_the_labels_and_its_command_gives_the_same_bytes(
    kind: str,
    scene: Path,
    controller: Make,
    until: Until,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from skimage.draw import polygon2mask

    control = opened(controller(), scene, "red", "blue")
    corners = np.array([(40.3, 150.2), (60.1, 260.7), (200.4, 250.0), (180.2, 120.9)])
    if kind == "ellipse":
        corners = np.array([(40, 150), (40, 270), (200, 270), (200, 150)], float)
    draw(control, corners, kind)
    control.runs.start()
    until(control, lambda: finished(control))
    run = control.run
    assert run is not None
    assert run.bounds is not None
    (top, bottom), (left, right) = run.bounds
    rows, columns = np.mgrid[top:bottom, left:right] + 0.5
    if kind == "ellipse":
        inside = ((rows - 120) / 80) ** 2 + ((columns - 210) / 60) ** 2 <= 1
    else:
        # Shifted, since that function takes whole numbers for centres.
        inside = polygon2mask((300, 420), corners - 0.5)[top:bottom, left:right]
    wanted = np.where(inside, expected()[top:bottom, left:right], 0)
    assert (shown(control) != wanted).mean() < 0.004  # pixels on the very line
    assert (shown(control) > 0).sum() == pytest.approx(inside.sum(), rel=0.01)

    out = tmp_path / "out.tif"
    control.review.save(out)
    until(control, lambda: bool(control.review.saved))
    monkeypatch.setattr("digseg.run.execute.load_model", lambda settings: Brightness())
    words = shlex.split(control.review.command_line)
    again = tmp_path / "again.tif"
    words[words.index("-o") + 1] = str(again)
    assert main([*words[1:], "-q"]) == 0
    replayed = tmp_path / "replayed.tif"
    assert main(["replay", f"{out}.recipe.json", "-o", str(replayed), "-q"]) == 0
    assert out.read_bytes() == again.read_bytes() == replayed.read_bytes()


def test_a_drawing_lies_on_the_image_as_it_does(
    scene: Path, controller: Make, until: Until
) -> None:
    control = opened(controller(), scene, "red", "blue")
    drawing = control.add_drawing()
    image = control.viewer.layers[0]
    assert drawing.mode == "add_polygon"
    assert drawing.units == image.units
    np.testing.assert_allclose(drawing.data_to_world((3, 5)), image.data_to_world((3, 5)))
    drawing.add_polygons([np.array([(9.5, 19.5), (9.5, 299.5), (109.5, 19.5)])])
    control.set(replace(control.state, region="drawn shape"))
    control.runs.start()
    until(control, lambda: finished(control))
    labels = shown(control)
    assert labels.shape == (100, 280)
    assert (labels > 0).sum() == pytest.approx(100 * 280 / 2, rel=0.02)
    assert labels[0, 0] == 1
    assert labels[-1, -1] == 0


def test_a_line_is_no_region(scene: Path, controller: Make) -> None:
    control = opened(controller(), scene, "red")
    draw(control, ((40, 150), (100, 260)), "line")
    control.runs.start()
    assert control.status.problem
    assert "draw" in control.status.message


def test_a_preview_lies_over_what_is_on_screen(scene: Path, controller: Make, until: Until) -> None:
    control = opened(controller(), scene, "red", "blue")
    control.viewer.layers[0].corner_pixels = np.array([[0, 0], [299, 419]])
    control.previews.ask()
    until(control, lambda: "preview" in [layer.name for layer in control.viewer.layers])
    preview, image = control.viewer.layers["preview"], control.viewer.layers[0]
    np.testing.assert_array_equal(np.unique(preview.data), [1, 2])
    np.testing.assert_allclose(preview.extent.world, image.extent.world)
    control.runs.start()
    assert "preview" not in [layer.name for layer in control.viewer.layers]
    until(control, lambda: finished(control))


def test_close_calls_are_visited(scene: Path, controller: Make, until: Until) -> None:
    control = opened(controller(), scene, "green")
    control.set(control.state.edit("green", threshold=0.12))
    control.runs.start()
    until(control, lambda: finished(control))
    places = set()
    (top, left), (bottom, right) = control.viewer.layers[0].extent.world
    for _ in range(2):
        before = control.status.message
        control.review.next_uncertain()
        until(control, lambda before=before: control.status.message != before)  # type: ignore[misc]
        assert "threshold" in control.status.message
        center = control.viewer.scene.camera.center
        assert top <= center[1] <= bottom
        assert left <= center[2] <= right
        places.add(center)
    assert len(places) == 2
    doubts = [place.doubt for place in control.review.places]
    assert doubts == sorted(doubts, reverse=True)


def test_where_an_ensemble_disagrees_comes_before_close_calls(
    scene: Path, controller: Make, until: Until
) -> None:
    with rasterio.open(scene, "r+") as dataset:
        pixels = dataset.read()
        pixels[1, 240:, 360:] = 250
        dataset.write(pixels)
    control = opened(controller(), scene, "red")
    settings = control.state.settings.with_(ensemble=2)
    control.set(replace(control.state, settings=settings, uncertainty=True))
    control.runs.start()
    until(control, lambda: finished(control))
    assert control.review.has_spread
    np.testing.assert_array_equal(shown(control)[:, :210], 1)
    control.set(control.state.add("blue"))
    assert not control.runs.can_extend  # what is new would have no spread
    control.review.next_uncertain()
    until(control, lambda: "ensemble" in control.status.message)
    # The test model is unsure in one corner alone, and says how much.
    place = control.review.places[0]
    assert place.doubt == pytest.approx(0.5, abs=0.01)
    assert place.index[0] >= 240
    assert place.index[1] >= 360
    assert "--uncertainty" in control.review.command_line


def test_coverage_shows_what_is_done(scene: Path, controller: Make, until: Until) -> None:
    control = opened(controller(), scene, "red")
    control.runs.start()
    until(control, lambda: finished(control))
    control.run.show_coverage(control.viewer, True)  # type: ignore[union-attr]
    layer = control.viewer.layers["coverage"]
    assert (np.asarray(layer.data) == 1).all()
    np.testing.assert_allclose(layer.extent.world, control.viewer.layers[0].extent.world)


def test_an_array_without_a_file_is_segmented(
    controller: Make, until: Until, rng: np.random.Generator
) -> None:
    control = controller()
    picture = np.zeros((200, 260, 3), np.uint8)
    picture[:, :130, 0] = 250
    picture[:, 130:, 2] = 250
    control.viewer.add_image(picture, name="photo", scale=(0.5, 2.0), translate=(3, 4), rotate=10)
    state = replace(control.state, layer="photo").add("red").add("blue")
    control.set(replace(state, settings=state.settings.with_(tile=128, overlap=32)))
    control.runs.start()
    until(control, lambda: finished(control))
    labels = control.run.labels  # type: ignore[union-attr]
    assert (shown(control)[:, :130] == 1).all()
    assert (shown(control)[:, 130:] == 2).all()
    for index in ((0, 0), (199, 7), (50, 259)):
        expected_place = control.viewer.layers["photo"].data_to_world(index)
        np.testing.assert_allclose(labels.data_to_world(index), expected_place)


@pytest.mark.parametrize("prompt", ["", "   ", "red=,"])
def test_nothing_begins_without_a_prompt(scene: Path, controller: Make, prompt: str) -> None:
    control = opened(controller(), scene)
    control.runs.start()
    assert control.status.problem
    assert "what to find" in control.status.message
    assert control.run is None


def test_a_missing_file_is_one_sentence(scene: Path, controller: Make, until: Until) -> None:
    control = opened(controller(), scene, "red")
    scene.unlink()
    control.runs.start()
    until(control, lambda: control.status.phase == "failed")
    assert str(scene) in control.status.message
    assert control.engine.alive


def test_a_layer_gets_no_file_of_one_that_is_gone(controller: Make, tmp_path: Path) -> None:
    control = controller()
    written = set()
    for _ in range(8):  # memory, and with it an id, is used again at once
        layer = control.viewer.add_image(np.zeros((64, 64), np.float32))
        written.add(control.targets.of(layer, control.point(layer)).result(60).path)
        first = layer.data
        layer.data = np.ones((64, 64), np.float32)
        del first
        written.add(control.targets.of(layer, control.point(layer)).result(60).path)
        again = control.targets.of(layer, control.point(layer)).result(60).path
        assert again in written
        control.viewer.layers.remove(layer)
        del layer
    assert len(written) == 16


def test_a_store_that_is_being_made_is_not_opened(
    scene: Path, controller: Make, until: Until
) -> None:
    control = opened(controller(), scene, "red")
    control.runs.start()
    until(control, lambda: control.status.phase == "finished")
    run = control.run
    assert run is not None
    whole = run.store_path / "coverage" / "zarr.json"
    aside = whole.rename(whole.with_name("aside"))
    assert run.live is not None
    run.live.close()
    run.live = None
    assert not run.attach(control.viewer, control.state)
    aside.rename(whole)
    assert run.attach(control.viewer, control.state)


def _dask(pixels: np.ndarray, folder: Path) -> Any:
    return pytest.importorskip("dask.array").from_array(pixels, chunks=(64, 64, 3))


def _zarr(pixels: np.ndarray, folder: Path) -> Any:
    import zarr

    array = zarr.create_array(
        folder / "photo.zarr", shape=pixels.shape, chunks=(64, 64, 3), dtype=pixels.dtype
    )
    array[...] = pixels
    return array


def _levels(pixels: np.ndarray, folder: Path) -> Any:
    return [pixels, pixels[::2, ::2], pixels[::4, ::4]]


@pytest.mark.parametrize("make", [_dask, _zarr, _levels])
def test_lazy_and_multiscale_layers_are_segmented_where_they_lie(
    make: Any, controller: Make, until: Until, tmp_path: Path
) -> None:
    control = controller()
    pixels = np.zeros((200, 260, 3), np.uint8)
    pixels[:, :130, 0] = 250
    pixels[:, 130:, 2] = 250
    shear = np.array([[1, 0.25], [0, 1]])
    affine = np.array([[0.0, 1.5, 7.0], [-1.5, 0.2, 9.0], [0, 0, 1]])
    layer = control.viewer.add_image(
        make(pixels, tmp_path),
        rgb=True,
        scale=(0.5, 2.0),
        translate=(3, 4),
        rotate=20,
        shear=shear,
        affine=affine,
        units=("micrometer", "micrometer"),
        axis_labels=("down", "right"),
    )
    state = replace(control.state, layer=layer.name).add("red").add("blue")
    control.set(replace(state, settings=state.settings.with_(tile=128, overlap=32)))
    control.runs.start()
    until(control, lambda: finished(control))
    labels = control.run.labels  # type: ignore[union-attr]
    assert (shown(control)[:, :130] == 1).all()
    assert (shown(control)[:, 130:] == 2).all()
    for index in ((0, 0), (199, 7), (50, 259)):
        np.testing.assert_allclose(labels.data_to_world(index), layer.data_to_world(index))
    assert labels.units == layer.units
    assert labels.axis_labels == layer.axis_labels
