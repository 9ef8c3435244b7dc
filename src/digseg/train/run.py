"""From folders of data to a trained pipeline: what the command ``train`` calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from digseg.errors import DatasetError
from digseg.model.pipeline import DiGSegPipeline
from digseg.train.batch import TextCache
from digseg.train.loop import Progress, train
from digseg.train.mix import read_mix, shares
from digseg.train.pack import Picture, SetInfo, find_sets, load_split
from digseg.train.sampler import Sampler
from digseg.train.settings import TrainSettings

#: Longest side of a 2-D training picture: larger ones are reduced when they are read. It is well
#: above common sizes, since a network trained on reduced pictures is used on pictures as they are.
LONGEST = 2200

Prepared = tuple[Sequence[SetInfo], Mapping[str, Sequence[Picture]]]


def prepare(
    data: str | Path | Sequence[str | Path],
    use: str | None = None,
    split: str = "train",
    longest: int | None = LONGEST,
) -> Prepared:
    """Read every picture of one split of the sets under `data`.

    Raises
    ------
    DatasetError
        No set has that split, or a picture is broken.
    """
    infos = tuple(info for info in find_sets(data, use) if info.splits.get(split))
    if not infos:
        raise DatasetError(f"No data set in {data} has the split {split!r}.")
    return infos, {info.name: load_split(info, split, longest) for info in infos}


def train_sets(
    pipeline: DiGSegPipeline,
    prepared: Prepared,
    settings: TrainSettings,
    folder: str | Path,
    mix: str | Path | None = None,
    listen: Callable[[Progress], None] | None = None,
) -> DiGSegPipeline:
    """Train on prepared pictures (of `prepare`, or of a cache file), see `loop.train`.

    Parameters
    ----------
    mix
        Mix file; `None` takes that of the default model, in which unknown sets have share 1.
    """
    infos, pictures = prepared
    recommend_what_is_seen(pipeline, pictures)
    taken = shares(infos, read_mix(mix))

    def sampler_of(texts: TextCache) -> Sampler:
        return Sampler(infos, pictures, taken, texts.aligned)

    return train(pipeline, sampler_of, settings, folder, listen)


def recommend_what_is_seen(
    pipeline: DiGSegPipeline, pictures: Mapping[str, Sequence[Picture]]
) -> None:
    """Let a model that is trained on natural colour alone no longer recommend near infrared."""
    channels = {p.pixels.shape[-1] for some in pictures.values() for p in some}
    told = dict(pipeline.config.get("recommended") or {})
    if max(channels, default=0) < 4 and told.pop("near_infrared", None) is not None:
        pipeline.register_to_config(recommended=told)


def describe(done: Progress) -> str:
    """One line for people."""
    parts = "  ".join(f"{name} {value:.3f}" for name, value in done.losses.items())
    return (
        f"step {done.step}  {done.seconds / 60:.1f} min  "
        f"{done.pictures_per_second:.2f} pictures/s  rate {done.rate:.1e}  {parts}"
    )
