"""What the person chose, as one frozen value. No napari, no Qt."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from digseg.errors import PromptError, UsageError
from digseg.prompts import Color, Prompt, PromptSet, color_of, parse_prompt
from digseg.settings import SegmentSettings
from napari_digseg._presets import PRESETS

RegionKind = Literal["whole layer", "view", "drawn shape", "slice", "slab"]
REGIONS: tuple[RegionKind, ...] = ("whole layer", "view", "drawn shape", "slice", "slab")


@dataclass(frozen=True)
class PromptRow:
    """One line of the prompt list.

    Parameters
    ----------
    prompt
        What is asked for.
    threshold
        Probability from which a pixel belongs to it.
    shown
        Whether it gets a label; an unshown prompt still competes.
    """

    prompt: Prompt
    threshold: float = 0.5
    shown: bool = True


@dataclass(frozen=True)
class State:
    """The whole form.

    Parameters
    ----------
    layer
        Name of the image layer; empty for none.
    rows
        The prompt list.
    region
        Which part of the layer.
    slab
        First and last slice of a slab, from 0, the last one included.
    uncertainty
        Keep the spread of an ensemble of two or more.
    settings
        Model, device and everything folded away; thresholds are in the rows.
    """

    layer: str = ""
    rows: tuple[PromptRow, ...] = ()
    region: RegionKind = "whole layer"
    slab: tuple[int, int] = (0, 0)
    uncertainty: bool = False
    settings: SegmentSettings = field(default_factory=SegmentSettings)

    # -- prompts ---------------------------------------------------------------------------------

    def add(self, text: str, *, negative: bool = False) -> State:
        """A further prompt, from ``name`` or ``name=synonym,synonym``; ``-name`` is negative.

        Raises
        ------
        PromptError
            It is empty or there already.
        """
        text = text.strip()
        if text.startswith("-"):
            text, negative = text[1:], True
        typed = parse_prompt(text)
        color = _free_color(typed.name, [row.prompt.color for row in self.rows])
        row = PromptRow(replace(typed, negative=negative, color=color))
        PromptSet((*(r.prompt for r in self.rows), row.prompt, Prompt("\0anything")))
        return replace(self, rows=(*self.rows, row))

    def remove(self, name: str) -> State:
        return replace(self, rows=tuple(row for row in self.rows if row.prompt.name != name))

    def edit(
        self,
        name: str,
        *,
        text: str | None = None,
        color: Color | None = None,
        negative: bool | None = None,
        threshold: float | None = None,
        shown: bool | None = None,
    ) -> State:
        """One row with something changed.

        Raises
        ------
        PromptError
            The new text is empty or there already.
        """
        rows = []
        for row in self.rows:
            if row.prompt.name == name:
                prompt = row.prompt
                if text is not None:
                    typed = parse_prompt(text)
                    prompt = replace(prompt, name=typed.name, synonyms=typed.synonyms)
                prompt = replace(
                    prompt,
                    color=prompt.color if color is None else color,
                    negative=prompt.negative if negative is None else negative,
                )
                row = replace(
                    row,
                    prompt=prompt,
                    threshold=row.threshold if threshold is None else threshold,
                    shown=row.shown if shown is None else shown,
                )
            rows.append(row)
        changed = replace(self, rows=tuple(rows))
        PromptSet((*(row.prompt for row in changed.rows), Prompt("\0anything")))
        return changed

    def preset(self, name: str) -> State:
        """The prompt list of a preset in place of what is there."""
        positive, negative = PRESETS[name]
        return self.with_prompts(PromptSet.parse(positive, negative))

    def with_prompts(self, prompts: Iterable[Prompt]) -> State:
        return replace(self, rows=tuple(PromptRow(prompt) for prompt in prompts))

    def looking_like(self, other: State) -> State:
        """This form, with the thresholds, colours and visibility of another's rows of that name."""
        others = {row.prompt.name: row for row in other.rows}
        rows = []
        for row in self.rows:
            if (then := others.get(row.prompt.name)) is not None:
                prompt = replace(row.prompt, color=then.prompt.color)
                row = replace(row, prompt=prompt, threshold=then.threshold, shown=then.shown)
            rows.append(row)
        return replace(self, rows=tuple(rows))

    def row(self, name: str) -> PromptRow:
        return next(row for row in self.rows if row.prompt.name == name)

    # -- what a run needs ------------------------------------------------------------------------

    @property
    def prompts(self) -> PromptSet:
        """Raises `PromptError` when there is nothing to segment."""
        return PromptSet(tuple(row.prompt for row in self.rows))

    @property
    def run_settings(self) -> SegmentSettings:
        """Settings with the thresholds of the rows."""
        thresholds = {
            row.prompt.name: row.threshold
            for row in self.rows
            if not row.prompt.negative and row.threshold != self.settings.threshold
        }
        return self.settings.with_(thresholds=thresholds)

    @property
    def suppressed(self) -> tuple[str, ...]:
        return tuple(r.prompt.name for r in self.rows if not (r.shown or r.prompt.negative))

    @property
    def problem(self) -> str:
        """Why a run can't begin, as a sentence; empty when it can."""
        if not self.layer:
            return "Open an image first: drop a GeoTIFF, NIfTI or DICOM folder on the window."
        if not self.rows:
            return "Say what to find first: type it and press Enter, or take a preset."
        try:
            _ = self.prompts, self.run_settings
        except (PromptError, UsageError) as error:
            return str(error)
        return ""


def _free_color(name: str, used: list[Color]) -> Color:
    """The expected colour of a name, else the palette's first that no other row comes near."""
    for index in range(len(used), len(used) + 48):
        color = color_of(name, index)
        if all(sum((a - b) ** 2 for a, b in zip(color, c, strict=True)) > 60**2 for c in used):
            return color
    return color_of(name, len(used))
