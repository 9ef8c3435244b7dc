"""From the form to a run, and from what the engine says to its progress. No Qt."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from digseg.errors import DigsegError, UsageError
from digseg.events import BlockWritten, RunPlanned, StageStarted, TileFailed
from digseg.prompts import Prompt
from digseg.run.job import Job
from digseg.wording import format_duration
from napari_digseg import _protocol
from napari_digseg._inputs import Target
from napari_digseg._jobs import added_prompts, asks_for, job_of
from napari_digseg._protocol import Message
from napari_digseg._regions import visible_bounds
from napari_digseg._runs import Run

if TYPE_CHECKING:
    from napari_digseg._controller import Controller

#: Seconds that the engine gets to stop by itself; after that its process is ended.
PATIENCE = 0.7
_VIEW_EVERY = 0.25  # seconds between two messages about what is on screen
_STOPPED = "Stopped. What is done is kept: Resume goes on from there."
_BUSY = "A run is going on: wait for its end, or stop it in Segment by text."
_STAGES = {
    "open": "Opening the image.",
    "load model": "Loading the model.",
    "segment": "Segmenting.",
    "write": "Writing.",
}


class Runs:
    """Starts, stops and follows the run of a viewer."""

    commands = ("run", "extend")

    def __init__(self, desk: Controller) -> None:
        self._desk = desk
        self._waiting: tuple[Any, Future[Target]] | None = None
        self._cancelled_at: float | None = None
        self._view_sent = 0.0
        self._view_told: Message | None = None
        self.coverage_wanted = False

    @property
    def hears(self) -> Mapping[str, Callable[[Message], None]]:
        return {"event": self._hear_event, "finished": self._hear_finished}

    @property
    def hindrance(self) -> str:
        """Why nothing else can begin while a run goes on; empty when none does."""
        return _BUSY if self._desk.running else ""

    # -- what was clicked ------------------------------------------------------------------------

    def start(self) -> None:
        """Begin what the form asks for; only what is new of it is computed."""
        desk = self._desk
        if not self._may_begin():
            return
        try:
            if desk.state.problem:
                raise UsageError(desk.state.problem)
            added = added_prompts(desk)
            if added:
                self._extend(added)
                return
            layer = desk.layer()
            self._waiting = layer, desk.targets.of(layer, desk.point(layer))
            if not self._waiting[1].done():
                desk.say("running", "Writing the layer to a file that the engine can read.")
            self._begin_when_ready()
        except DigsegError as error:
            desk.say("failed", str(error), problem=True)

    def resume(self) -> None:
        """Go on with a run that was stopped, or try its failed tiles again."""
        desk, run = self._desk, self._desk.run
        if run is None or not self._may_begin():
            return
        run.begun = time.monotonic()
        self._cancelled_at = None
        desk.say("running", "Going on where the run stopped.")
        self._send_run(run, resume=True)

    def _may_begin(self) -> bool:
        """The engine does one thing after the other: behind a training a run would hang."""
        told = self._desk.trainer.hindrance
        if told and not self._desk.running:
            self._desk.say(self._desk.status.phase, told, problem=True)
        return not (told or self._desk.running)

    def cancel(self) -> None:
        """Stop the run within a second; what is done stays, and can be resumed."""
        desk, run = self._desk, self._desk.run
        if desk.status.phase != "running":
            return
        if self._waiting is not None:
            self._waiting = None  # the layer's file is finished, for the next time
            desk.say("idle", "Stopped.")
            return
        assert run is not None
        self._cancelled_at = time.monotonic()
        desk.engine.send({"do": "cancel", "id": run.number})
        desk.say("cancelling", "Stopping.")

    def want_coverage(self, wanted: bool) -> None:
        """Show or hide what is done, of this run and the next ones."""
        self.coverage_wanted = wanted
        if self._desk.run is not None:
            self._desk.run.show_coverage(self._desk.viewer, wanted)
        self._desk.tell()

    @property
    def can_extend(self) -> bool:
        """Whether the form asks for the finished run's prompts and some more."""
        return bool(added_prompts(self._desk))

    @property
    def answers_form(self) -> bool:
        """Whether the newest run is of the image, the prompts and the model of the form."""
        desk, run = self._desk, self._desk.run
        if run is None or run.asked.model != desk.state.settings.model:
            return False
        return asks_for(desk, run.image_layer, run.job.prompts)

    # -- beginning -------------------------------------------------------------------------------

    def _begin_when_ready(self) -> bool:
        if self._waiting is None or not self._waiting[1].done():
            return False
        layer, future = self._waiting
        self._waiting = None
        try:
            self._begin(layer, future.result())
        except DigsegError as error:
            self._desk.say("failed", str(error), problem=True)
        return True

    def _begin(self, layer: Any, target: Target) -> None:
        desk = self._desk
        job, region = job_of(desk, layer, target)
        if desk.run is not None:
            desk.run.close()
            if desk.run.coverage is not None:
                desk.run.coverage.remove(desk.viewer)
        desk.undo_steps.clear()
        desk.review.clear()
        desk.run = Run(next(desk.numbers), job, target, region.bounds, layer)
        self._cancelled_at = None
        desk.say("running", "Opening the image and the model.")
        self.tell_view(force=True)
        self._send_run(desk.run, resume=False)

    def _send_run(self, run: Run, *, resume: bool) -> None:
        self._desk.previews.clear()
        message = {"do": "run", "id": run.number, "recipe": run.job.recipe(), "resume": resume}
        self._desk.engine.send(message)

    def _extend(self, added: Sequence[Prompt]) -> None:
        desk, run = self._desk, self._desk.run
        assert run is not None
        self._cancelled_at = None
        desk.previews.clear()
        names = ", ".join(prompt.name for prompt in added)
        desk.say("running", f"Adding {names}: only what is new is computed.")
        run.begun = time.monotonic()
        run.blocks_done = 0
        desk.engine.send(
            {
                "do": "extend",
                "id": run.number,
                "recipe": run.job.recipe(),
                "added": [prompt.to_dict() for prompt in added],
            }
        )

    # -- what is on screen -----------------------------------------------------------------------

    def tell_view(self, *, force: bool = False) -> None:
        """Tell the engine what is on screen, so that it comes first."""
        desk, run = self._desk, self._desk.run
        now = time.monotonic()
        if run is None or not (desk.running or force):
            return
        if not force and now - self._view_sent < _VIEW_EVERY:
            return
        visible = list(visible_bounds(run.image_layer, run.target))
        if run.target.ndim == 3 and desk.viewer.dims.ndisplay == 2:
            index = round(desk.point(run.image_layer)[run.target.lead])
            visible[0] = (index, index + 1)
        message = run.view(tuple(visible)).message()
        self._view_sent = now
        if message != self._view_told or force:
            self._view_told = message
            desk.engine.send(message)

    # -- what the engine says --------------------------------------------------------------------

    def poll(self) -> bool:
        """Show what is new; whether anything was."""
        changed = self._begin_when_ready()
        self._mind_patience()
        if self._desk.run is not None:
            changed |= self._desk.run.refresh(running=self._desk.running)
            coverage = self._desk.run.coverage
            if self.coverage_wanted and coverage is not None and coverage.layer is None:
                coverage.show(self._desk.viewer, True)
            self.tell_view()
        return changed

    def _mind_patience(self) -> None:
        if self._cancelled_at is None or self._desk.status.phase != "cancelling":
            return
        if time.monotonic() - self._cancelled_at > PATIENCE:
            self._desk.end_engine()
            self._stopped(_STOPPED)

    def _hear_event(self, message: Message) -> None:
        desk, run = self._desk, self._desk.run
        if run is None or message["run"] != run.number:
            return
        event = _protocol.event_of(message)
        if isinstance(event, RunPlanned):
            run.tiles = event.tiles
            run.count_blocks(0, event.blocks)
            run.begun = time.monotonic()  # what came before was loading
            told = "Segmenting."
        elif isinstance(event, BlockWritten):
            if run.attach(desk.viewer, desk.state, lambda: desk.running):
                run.block_written(event)
            else:
                run.count_blocks(event.done, event.total)
            told = _progress(run)
        elif isinstance(event, StageStarted):
            told = _STAGES.get(event.stage, f"{event.stage.capitalize()}.")
        else:
            run.failed += isinstance(event, TileFailed)
            return
        if desk.status.phase == "running":
            desk.say("running", told)

    def _hear_finished(self, message: Message) -> None:
        desk, run = self._desk, self._desk.run
        if run is None or message["id"] != run.number:
            return
        run.recipe, run.failed = message["recipe"], message["failed"]
        run.seconds, run.tiles = message["seconds"], message["tiles"]
        finished = Job.from_recipe(message["recipe"])
        if finished.prompts.to_list() != run.job.prompts.to_list() and run.live is not None:
            run.live.close()
            run.live = None  # the store was replaced by one with more prompts
        run.job = replace(finished, outputs=run.job.outputs)
        run.attach(desk.viewer, desk.state, lambda: desk.running)
        desk.apply_rule()
        run.show_all()
        run.count()
        told = f"Done in {format_duration(run.seconds)}."
        if run.failed:
            told = f"{run.failed} of {run.tiles} tiles failed: see Coverage, or try them again."
        desk.say("finished", told, problem=bool(run.failed))

    def failed(self, message: Message) -> None:
        """Hear that a run was stopped or went wrong."""
        if message["kind"] == "Cancelled":
            self._stopped(_STOPPED)
        else:
            self._desk.say("failed", message["message"], problem=True)

    def engine_died(self) -> None:
        pass  # `hear_death` knows why

    def hear_death(self, message: Message) -> None:
        """Hear how the engine came to its end."""
        desk = self._desk
        if desk.status.phase == "cancelling":
            self._stopped(_STOPPED)
            return
        code = message["code"]
        why = "it ran out of memory, most likely" if code in (-9, 137) else f"exit code {code}"
        if desk.running:
            self._stopped(f"The engine stopped ({why}). Resume goes on from there.", problem=True)
        else:
            last = message["report"].splitlines()[-1:] or [""]
            desk.say("failed", f"The engine stopped ({why}). {last[0]}", problem=True)

    def _stopped(self, told: str, *, problem: bool = False) -> None:
        self._cancelled_at = None
        self._desk.say("stopped", told, problem=problem)
        if self._desk.run is not None:
            self._desk.run.count()


def _progress(run: Run) -> str:
    spent = time.monotonic() - run.begun
    new = run.blocks_done - run.blocks_kept
    if new <= 0 or run.blocks_done >= run.blocks:
        return "Segmenting."
    left = spent / new * (run.blocks - run.blocks_done)
    return (
        f"Segmenting: {run.blocks_done} of {run.blocks} parts, about {format_duration(left)} left."
    )
