"""What a training is of: ``training.json``, and whether a run that is taken up again is the same.

The record is written before the first step and again at the end, so that a run that was killed
has one, too. Folders of older versions may have none, or one that says less: only what is there is
compared.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digseg.errors import ResumeError
from digseg.model.adapter import digest
from digseg.model.registry import find_model
from digseg.train.mix import read_mix
from digseg.train.plot import read_log
from digseg.train.run import Prepared
from digseg.train.settings import FREE_ON_RESUME, TrainSettings
from digseg.train.state import read_checkpoint
from digseg.wording import format_count

if TYPE_CHECKING:
    from digseg.train.job import TrainJob

#: Name of the record in the output folder.
RECORD = "training.json"

#: Differences that a message names; of folders of many sets there may be dozens.
_NAMED = 6

#: Folder and settings of each stage, see `TrainJob.stages`.
Stages = list[tuple[Path, TrainSettings]]


def taken_up(job: TrainJob, stages: Stages) -> Stages:
    """The stages as they go on: one that another has followed is over, and stays as it was.

    Raises
    ------
    ResumeError
        What lies in the output folder was learned in another way, or from another model.
    """
    if not job.resume:
        return stages
    asked = {settings.stage: settings for _, settings in stages}
    there = {n: found for n in (1, 2) if (found := read_checkpoint(job.output / f"stage{n}"))}
    if not there:
        return stages  # nothing was learned yet, so nothing can be mixed up
    unlike: list[str] = []
    kept: Stages = []
    for number in (1, 2):
        found, wanted = there.get(number), asked.get(number)
        if found is None and wanted is not None and number < max(there):
            unlike.append(f"stage {number}: none, now {wanted.steps} steps")
        elif found is not None and wanted is None:
            unlike.append(f"stage {number}: {found.steps_asked} steps, now none")
        elif found is not None and wanted is not None:
            unlike += _unlike_settings(found.settings, wanted)
            if number < max(there):
                if found.steps_asked != wanted.steps:
                    before = f"stage {number}, which is over: {found.steps_asked} steps"
                    unlike.append(f"{before}, now {wanted.steps}")
                wanted = replace(
                    wanted, steps=found.steps_asked, minutes=found.settings.get("minutes", 0.0)
                )
        if wanted is not None:
            kept.append((job.output / f"stage{number}", wanted))
    _refuse(job.output, unlike + _unlike_start(job, _read(job.output)))
    return kept


def check_pictures(job: TrainJob, prepared: Prepared) -> None:
    """Compare sets and counts of pictures with those of the run that is taken up.

    Raises
    ------
    ResumeError
        They differ.
    """
    if not job.resume or not _begun(job.output):
        return
    told = _read(job.output).get("sets")
    if told is None:
        return
    before = {item["name"]: item["pictures"] for item in told}
    now = {item["name"]: item["pictures"] for item in _sets(prepared)}
    unlike = [
        f"{name}: {_pictures(before.get(name))}, now {_pictures(now.get(name))}"
        for name in dict.fromkeys([*before, *now])
        if before.get(name) != now.get(name)
    ]
    _refuse(job.output, unlike)


def begin(job: TrainJob, stages: Stages, prepared: Prepared) -> dict[str, Any]:
    """The record of a run before its first step."""
    before = _read(job.output) if job.resume else {}
    mix = {"file": None if job.mix is None else str(job.mix), "mix": dict(read_mix(job.mix))}
    told: dict[str, Any] = {
        "finished": False,
        "model": str(job.output / "model"),
        "begun_with": job.model,
        "begun_with_sha256": digest(find_model(job.model)),
        "fresh": job.fresh,
        "sets": _sets(prepared),
        "stages": {},
    }
    for folder, settings in stages:
        step = found.step if job.resume and (found := read_checkpoint(folder)) else 0
        earlier = before.get("stages", {}).get(folder.name, {}).get("mixes")
        told["stages"][folder.name] = {
            "settings": settings.to_dict(),
            "mixes": _mixes(earlier, mix, step),
        }
    return told


def end(told: Mapping[str, Any], stages: Stages) -> dict[str, Any]:
    """The same after the last step: what each stage did, by its checkpoint and its log."""
    done = {}
    for folder, settings in stages:
        rows, found = read_log(folder), read_checkpoint(folder)
        step = found.step if found is not None else settings.steps
        last: Mapping[str, Any] = rows[-1] if rows else {}
        given = told["stages"][folder.name]
        # A mix under which no step was made has taught nothing.
        used = [m for m in given["mixes"] if m["from_step"] < step or m["from_step"] == 0]
        done[folder.name] = {
            "settings": given["settings"],
            "steps": step,
            "seconds": found.seconds if found is not None else last.get("seconds"),
            "pictures_per_second": last.get("pictures_per_second"),
            "loss": last.get("loss"),
            "mixes": used,
        }
    return {**told, "finished": True, "stages": done}


def write(told: Mapping[str, Any], folder: Path) -> None:
    """Write the record, in one go."""
    partial = folder / f".{RECORD}.partial"
    partial.write_text(json.dumps(told, indent=1), encoding="utf-8")
    os.replace(partial, folder / RECORD)


def _mixes(
    earlier: Sequence[Mapping[str, Any]] | None, mix: Mapping[str, Any], step: int
) -> list[Mapping[str, Any]]:
    """Which mix was in use from which step on; that of older versions is not known (`None`)."""
    if not step:
        return [{"from_step": 0, **mix}]
    if earlier is None:
        earlier = [{"from_step": 0, "file": None, "mix": None}]
    kept = [item for item in earlier if item["from_step"] < step]
    if kept and kept[-1]["mix"] == mix["mix"]:
        return kept
    return [*kept, {"from_step": step, **mix}]


def _unlike_settings(before: Mapping[str, Any], now: TrainSettings) -> list[str]:
    return [
        f"{name}: {before[name]}, now {value}"
        for name, value in now.to_dict().items()
        if name in before and name not in FREE_ON_RESUME and before[name] != value
    ]


def _unlike_start(job: TrainJob, before: Mapping[str, Any]) -> list[str]:
    unlike = []
    if before.get("fresh", job.fresh) != job.fresh:
        unlike.append(f"fresh: {before['fresh']}, now {job.fresh}")
    known = before.get("begun_with_sha256")
    if known is not None:
        # By contents: a folder may have been moved, or written in another way.
        same = digest(find_model(job.model)) == known
    else:
        same = before.get("begun_with", job.model) == job.model
    if not same:
        other = " with other weights" if before["begun_with"] == job.model else ""
        unlike.append(f"model: {before['begun_with']}, now {job.model}{other}")
    return unlike


def _refuse(folder: Path, unlike: Sequence[str]) -> None:
    if unlike:
        told = list(dict.fromkeys(unlike))
        more = [f"and {len(told) - _NAMED} more"] if len(told) > _NAMED else []
        listed = "; ".join(told[:_NAMED] + more)
        raise ResumeError(
            f"The training in {folder} is another one ({listed}): give what it was begun with, or "
            "begin a new one in another folder or with --overwrite."
        )


def _read(folder: Path) -> Mapping[str, Any]:
    """The record of an earlier run; empty where there is none."""
    file = folder / RECORD
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(told, dict):
            raise ValueError("it holds no object")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise ResumeError(
            f"The record {file} can't be read ({error}): mend it, or remove it to go on without."
        ) from error
    return told


def _begun(folder: Path) -> bool:
    return any(read_checkpoint(folder / f"stage{number}") for number in (1, 2))


def _sets(prepared: Prepared) -> list[dict[str, Any]]:
    infos, pictures = prepared
    return [
        {"name": info.name, "pictures": len(pictures[info.name]), "licence": info.licence}
        for info in infos
    ]


def _pictures(count: int | None) -> str:
    return "none" if count is None else format_count(count, "picture")
