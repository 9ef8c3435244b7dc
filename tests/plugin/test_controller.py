"""From the form to layers without Qt: run, stop, resume, crash, extend, threshold, save."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from napari_digseg._controller import Controller
from napari_digseg._layers import KEY
from napari_digseg._reader import read_layers

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
    control.start()
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
    control.start()
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
    control.start()
    until(control, lambda: control.run.blocks > 0)  # type: ignore[union-attr]
    begun = time.monotonic()
    control.cancel()
    until(control, lambda: control.status.phase == "stopped", 5)
    assert time.monotonic() - begun < 1.0
    control.resume()
    until(control, lambda: finished(control))
    np.testing.assert_array_equal(shown(control), expected())


def test_an_engine_that_hangs_is_ended_within_a_second(
    scene: Path, controller: Make, until: Until
) -> None:
    control = opened(controller(), scene, "hang=red")
    control.start()
    until(control, lambda: control.run.blocks > 0)  # type: ignore[union-attr]
    time.sleep(0.5)  # let it walk into the trap
    begun = time.monotonic()
    control.cancel()
    until(control, lambda: control.status.phase == "stopped", 5)
    assert time.monotonic() - begun < 1.0
    assert not control.engine.alive


def test_a_crash_of_the_engine_is_a_message_and_the_next_run_works(
    scene: Path, controller: Make, until: Until
) -> None:
    control = opened(controller(), scene, "crash=red")
    control.start()
    until(control, lambda: control.status.phase == "stopped")
    assert control.status.problem
    assert "Resume" in control.status.message
    control.set(control.state.remove("crash").add("blue").add("red"))
    control.start()
    until(control, lambda: finished(control))
    assert set(np.unique(shown(control))) == {1, 2}


def test_a_prompt_is_added_to_a_finished_run(scene: Path, controller: Make, until: Until) -> None:
    control = opened(controller(), scene, "red")
    control.start()
    until(control, lambda: finished(control))
    assert not control.can_extend
    control.set(control.state.add("blue"))
    assert control.can_extend
    before = control.run
    control.start()
    until(control, lambda: finished(control) and "blue" in control.run.histograms)  # type: ignore[union-attr]
    assert control.run is before
    np.testing.assert_array_equal(shown(control), expected())
    names = [layer.name for layer in control.viewer.layers]
    assert names == ["scene", "scene: red, blue"]


def test_what_is_saved_is_what_is_shown_and_its_recipe_gives_the_same_bytes(
    scene: Path, controller: Make, until: Until, tmp_path: Path
) -> None:
    from tests.models import Brightness

    from digseg.run.execute import execute

    control = opened(controller(), scene, "red", "blue")
    control.start()
    until(control, lambda: finished(control))
    control.change(control.state.edit("red", threshold=0.97))
    out = tmp_path / "out.tif"
    control.save(out)
    until(control, lambda: bool(control.saved))
    with rasterio.open(out) as dataset:
        np.testing.assert_array_equal(dataset.read(1), shown(control))
        assert dataset.crs == rasterio.CRS.from_epsg(32631)
    assert "--threshold red=0.97" in control.command_line
    assert str(out) in control.command_line
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
    control.start()
    until(control, lambda: finished(control))
    control.measure()
    until(control, lambda: bool(control.statistics))
    rows = {row["name"]: row for row in control.statistics}
    assert rows["red"]["pixels"] == 300 * 210
    areas = [value for key, value in rows["red"].items() if "m2" in key]
    assert areas == [pytest.approx(300 * 210 * 100, rel=2e-3)]


def test_a_drawn_shape_is_segmented_alone_and_in_its_place(
    scene: Path, controller: Make, until: Until
) -> None:
    control = opened(controller(), scene, "red", "blue")
    image = control.viewer.layers[0]
    corners = [
        image.data_to_world(index) for index in ((40, 150), (139, 150), (139, 269), (40, 269))
    ]
    control.viewer.add_shapes([np.asarray(corners)], shape_type="polygon")
    control.set(replace(control.state, region="drawn shape"))
    control.start()
    until(control, lambda: finished(control))
    labels = control.run.labels  # type: ignore[union-attr]
    np.testing.assert_array_equal(shown(control), expected()[40:140, 150:270])
    np.testing.assert_allclose(labels.data_to_world((0, 0)), image.data_to_world((40, 150)))
    assert "--region 40:140,150:270" in control.command_line


def test_a_preview_lies_over_what_is_on_screen(scene: Path, controller: Make, until: Until) -> None:
    control = opened(controller(), scene, "red", "blue")
    control.viewer.layers[0].corner_pixels = np.array([[0, 0], [299, 419]])
    control.preview()
    until(control, lambda: "preview" in [layer.name for layer in control.viewer.layers])
    preview, image = control.viewer.layers["preview"], control.viewer.layers[0]
    np.testing.assert_array_equal(np.unique(preview.data), [1, 2])
    np.testing.assert_allclose(preview.extent.world, image.extent.world)
    control.start()
    assert "preview" not in [layer.name for layer in control.viewer.layers]
    until(control, lambda: finished(control))


def test_doubtful_places_are_visited(scene: Path, controller: Make, until: Until) -> None:
    control = opened(controller(), scene, "green")
    control.set(control.state.edit("green", threshold=0.12))
    control.start()
    until(control, lambda: finished(control))
    assert control.next_uncertain()
    first = control.viewer.scene.camera.center
    assert control.next_uncertain()
    assert control.viewer.scene.camera.center != first
    (top, left), (bottom, right) = control.viewer.layers[0].extent.world
    assert top <= first[1] <= bottom
    assert left <= first[2] <= right


def test_coverage_shows_what_is_done(scene: Path, controller: Make, until: Until) -> None:
    control = opened(controller(), scene, "red")
    control.start()
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
    control.start()
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
    control.start()
    assert control.status.problem
    assert "prompt" in control.status.message
    assert control.run is None


def test_a_missing_file_is_one_sentence(scene: Path, controller: Make, until: Until) -> None:
    control = opened(controller(), scene, "red")
    scene.unlink()
    control.start()
    until(control, lambda: control.status.phase == "failed")
    assert str(scene) in control.status.message
    assert control.engine.alive
