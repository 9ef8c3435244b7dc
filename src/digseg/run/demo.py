"""The main job on the two samples that ship: a satellite scene and a CT volume, by text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from digseg import samples
from digseg.errors import OutputError
from digseg.events import Callback
from digseg.prompts import PromptSet
from digseg.run.execute import execute
from digseg.run.job import Job, Outputs
from digseg.run.picture import save_picture
from digseg.run.result import Result
from digseg.settings import SegmentSettings


@dataclass(frozen=True)
class Demo:
    """One finished part of the demo."""

    title: str
    job: Job
    result: Result
    picture: Path


def demo(
    folder: Path, settings: SegmentSettings, *, overwrite: bool, callback: Callback
) -> Iterator[Demo]:
    """Segment both samples into ``folder``; each result lives until the next is asked for."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} can't be made: {error.strerror}.") from error
    parts = (
        ("satellite scene", "scene", samples.scene(), "scene_mask.tif"),
        ("CT volume", "volume", samples.volume(), "ct_mask.nii.gz"),
    )
    for title, name, path, output in parts:
        target = folder / output
        stats = target.with_name(target.name.split(".")[0] + ".csv")
        job = Job(
            str(path),
            PromptSet.parse(samples.prompts_for(name)),
            settings,
            Outputs(labels=target, stats=stats),
            overwrite=overwrite,
        )
        with execute(job, callback=callback) as result:
            picture = folder / f"{stats.stem}.png"
            save_picture(result.image, result.mask, picture, settings)
            yield Demo(title, job, result, picture)
