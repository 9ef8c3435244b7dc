"""A run and a training take turns at the engine; stopping one leaves the other alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from napari_digseg._controller import Controller
from napari_digseg._jobs import job_of
from napari_digseg._status import Training
from napari_digseg._training import Wish
from napari_digseg._worker import EngineProcess
from tests.plugin.gui import Wait, segment_widget, typed
from tests.plugin.test_controller import finished, opened

from digseg.run.job import Outputs

Make = Callable[..., Controller]
Until = Callable[..., None]


def test_nothing_else_begins_while_a_training_goes_on(
    trainer: Any, viewer: Any, wait: Wait
) -> None:
    control = trainer.controller
    segment = segment_widget(viewer)
    typed(segment, "red")
    assert segment.run.isEnabled()
    trainer.steps.setValue(100_000)
    trainer.start.click()
    for button in (segment.run, segment.preview):
        assert not button.isEnabled()
        assert "A training is going on" in button.toolTip()
    wait(lambda: len(trainer.curve.losses) >= 2, 300)
    for begin in (control.runs.start, control.previews.ask):
        begin()  # as a key does
        assert "A training is going on" in control.status.message
        assert control.status.problem
        assert not control.running
    assert control.run is None
    assert control.trainer.now.active
    control.runs.cancel()
    trainer.stop.click()
    wait(lambda: not control.trainer.now.active, 60)
    assert trainer.status.text() == "Stopped."
    assert trainer.start.isEnabled()
    assert segment.run.isEnabled()
    assert segment.run.toolTip() == "Segment (Ctrl+Alt+R)."


def test_no_run_goes_on_while_a_training_does(scene: Path, controller: Make, until: Until) -> None:
    control = opened(controller(), scene, "slow=red")
    control.runs.start()
    until(control, lambda: control.run is not None and control.run.blocks > 0)
    control.runs.cancel()
    until(control, lambda: control.status.phase == "stopped", 5)
    control.trainer.now = Training(active=True)
    control.runs.resume()
    assert control.status.phase == "stopped"
    assert "A training is going on" in control.status.message
    control.set(control.state.add("blue"))
    control.runs.start()
    assert control.status.phase == "stopped"
    control.trainer.now = Training()
    control.set(control.state.remove("blue"))
    control.runs.resume()
    until(control, lambda: finished(control))


def test_no_training_begins_while_a_run_goes(
    trainer: Any, viewer: Any, wait: Wait, tmp_path: Path
) -> None:
    control = trainer.controller
    segment = segment_widget(viewer)
    typed(segment, "slow=red")
    segment.run.click()
    assert not trainer.start.isEnabled()
    assert "A run is going on" in trainer.start.toolTip()
    control.trainer.start(Wish("painted", {}, tmp_path / "own"))
    assert "A run is going on" in trainer.status.text()
    assert not control.trainer.now.active
    wait(lambda: control.run is not None and control.run.blocks > 0)
    segment.cancel.click()
    wait(lambda: control.status.phase == "stopped", 5)
    assert trainer.start.isEnabled()


def test_a_cancellation_is_for_the_job_that_it_names(
    scene: Path, controller: Make, engine: EngineProcess, tmp_path: Path
) -> None:
    control = opened(controller(), scene, "slow=red")
    layer = control.layer()
    job, _ = job_of(control, layer, control.targets.of(layer, (0, 0)).result())
    for number in (71, 72):
        named = replace(job, outputs=Outputs(probabilities=tmp_path / f"{number}.zarr"))
        engine.send({"do": "run", "id": number, "recipe": named.recipe(), "resume": False})
    engine.send({"do": "cancel", "id": 71})
    ends: dict[int, str] = {}
    end = time.monotonic() + 60
    while len(ends) < 2 and time.monotonic() < end:
        for message in engine.poll():
            if message["say"] in ("finished", "error"):
                ends[message["id"]] = message.get("kind", "finished")
        time.sleep(0.01)
    assert ends == {71: "Cancelled", 72: "finished"}


def test_everybody_hears_that_the_engine_was_ended(
    scene: Path, controller: Make, until: Until
) -> None:
    control = opened(controller(), scene, "hang=red")
    control.runs.start()
    until(control, lambda: control.run is not None and control.run.blocks > 0)
    control.shelf.bring(folder="/nowhere")
    control.shelf.load()
    control.trainer.now = Training(active=True)
    time.sleep(0.5)  # let it walk into the trap
    control.runs.cancel()
    until(control, lambda: control.status.phase == "stopped", 5)
    assert not control.trainer.now.active
    assert "engine stopped" in control.trainer.now.message
    assert "engine stopped" in control.shelf.message
    assert control.shelf.problem
    assert not control.shelf.loading


def test_labels_that_went_are_named(controller: Make, tmp_path: Path) -> None:
    control = controller()
    image = control.viewer.add_image(np.zeros((64, 64), np.uint8), name="picture")
    control.set(replace(control.state, layer=image.name))
    for name in ("mine", "picture"):
        control.trainer.start(Wish(name, {}, tmp_path / "own"))
        told = f"The Labels layer '{name}' is gone: choose another one."
        assert control.trainer.now == Training(message=told, problem=True)
