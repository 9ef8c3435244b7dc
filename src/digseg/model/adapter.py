"""What the engine is handed: a pipeline behind NumPy arrays and prompts."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from digseg.errors import UsageError
from digseg.memory import large_pages
from digseg.model import network
from digseg.model.pipeline import DiGSegPipeline
from digseg.model.registry import DEFAULT, PAPERS, ModelInfo, find_model
from digseg.model.text_pathway import MATCHED
from digseg.model.unet_split import DownState, needs_text_down
from digseg.prompts import Prompt
from digseg.types import AnyArray, Encoded, Float32Array

_SKIP = "skip"


class LoadedModel:
    """An `EncodingModel`: reads tiles once, then answers any number of prompts.

    Parameters
    ----------
    pipeline
        In evaluation mode, on its device.
    weights
        Hex digest of the files it came from.
    steps, ensemble, seed
        Denoising steps; members started from different noise; its seed.
    """

    def __init__(
        self,
        pipeline: DiGSegPipeline,
        weights: str,
        steps: int = 1,
        ensemble: int = 1,
        seed: int = 0,
        info: ModelInfo | None = None,
    ) -> None:
        if steps < 1 or ensemble < 1:
            raise UsageError("At least one step and one ensemble member are needed.")
        self.pipeline = pipeline
        self.steps, self.ensemble, self.seed = steps, ensemble, seed
        self.info = info
        self._weights = weights
        self._texts: dict[tuple[tuple[str, ...], ...], network.Text] = {}
        # The one-step way down holds no text in the default layout, so it is part of the encoding.
        self._keeps_down = steps == 1 and ensemble == 1 and not needs_text_down(pipeline.unet)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as a name: a worker process loads the weights from the folder itself."""
        if self.info is None:
            raise TypeError("a model that was not loaded from a folder can't travel to a worker")
        device = self.pipeline.unet.device.type
        return _reload, (str(self.info.folder), device, self.steps, self.ensemble, self.seed)

    def vram_bytes(self, tile: tuple[int, int], prompts: int, batch: int) -> int:
        """Peak on the GPU for a batch, from the calls done so far; 0 on the CPU.

        The part beyond the weights grows with the batch.
        """
        if self.pipeline.unet.device.type != "cuda":
            return 0
        weights = sum(
            tensor.numel() * tensor.element_size()
            for part in self.pipeline.components.values()
            if isinstance(part, torch.nn.Module)
            for tensor in part.parameters()
        )
        return weights + batch * max(0, torch.cuda.max_memory_allocated() - weights)

    @property
    def preferred_batch(self) -> int:
        """Tiles at once where the run may choose: one fills a CPU, a GPU wants more."""
        return 8 if self.pipeline.unet.device.type == "cuda" else 1

    @property
    def identity(self) -> str:
        """SHA-256 over weights, configurations and every option that changes an answer."""
        options: dict[str, Any] = {"steps": self.steps, "ensemble": self.ensemble}
        if self.ensemble > 1:
            options["seed"] = self.seed
        text = self._weights + json.dumps(options, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def multiple(self) -> int:
        """Both sides of a tile are multiples of this many pixels."""
        return self.pipeline.multiple

    @property
    def recommended(self) -> Mapping[str, Any]:
        """What a run does unless it is told otherwise: ``propagate`` in volumes."""
        return dict(self.pipeline.config.get("recommended") or {})

    def __call__(self, tiles: Float32Array, prompts: Sequence[Prompt]) -> Float32Array:
        """Tiles ``[N, 3, H, W]`` in [0, 1] and K prompts to ``float32 [N, K, H, W]``."""
        return self.decode(self.encode(tiles), prompts)

    def encode(self, tiles: Float32Array) -> Encoded:
        """What a later prompt needs of tiles ``[N, 3, H, W]``: ``float32 [N, ...]`` each."""
        with torch.inference_mode():
            pixels = torch.from_numpy(np.ascontiguousarray(tiles, dtype=np.float32))
            pixels = _laid_out(pixels.to(self.pipeline.unet.device, self.pipeline.unet.dtype))
            self.pipeline.check_inputs(pixels, [["anything"]], self.steps, self.ensemble)
            encoded = dict(self.pipeline.encode_image(pixels))
            if self._keeps_down:
                timestep = network.last_timestep(self.pipeline.scheduler)
                down = network.way_down(self.pipeline.parts, encoded, timestep)
                encoded = {k: encoded[k] for k in MATCHED if k in encoded}
                encoded |= {"sample": down.sample, "time": down.time.expand(len(tiles), -1)}
                encoded |= {f"{_SKIP}{i}": skip for i, skip in enumerate(down.skips)}
            return {k: v.float().cpu().contiguous().numpy() for k, v in encoded.items()}

    def decode(self, encoded: Encoded, prompts: Sequence[Prompt]) -> Float32Array:
        """Soft maps ``float32 [N, K, H, W]`` from what `encode` gave."""
        return self._decode(encoded, prompts)[0]

    def spread(self, tiles: Float32Array, prompts: Sequence[Prompt]) -> AnyArray:
        """Mean and standard deviation over the ensemble, ``float32 [2, N, K, H, W]``.

        Raises
        ------
        UsageError
            The model was loaded with a single ensemble member, which has no spread.
        """
        if self.ensemble < 2:
            raise UsageError("A spread needs an ensemble: load the model with ensemble=2 or more.")
        mean, spread = self._decode(self.encode(tiles), prompts)
        return np.stack([mean, cast(Float32Array, spread)])

    def continue_from(
        self,
        tiles: Float32Array,
        prompts: Sequence[Prompt],
        previous: Float32Array,
        strength: float,
    ) -> Float32Array:
        """Soft maps started from other maps, see `digseg.types.PropagatingModel`."""
        from digseg.model.propagate import continued

        with torch.inference_mode():
            text = self._text(prompts)
        pixels = np.ascontiguousarray(tiles, dtype=np.float32)
        start = np.ascontiguousarray(previous, dtype=np.float32)
        return continued(self.pipeline, pixels, text, start, strength, self.seed)

    def _decode(
        self, encoded: Encoded, prompts: Sequence[Prompt]
    ) -> tuple[Float32Array, Float32Array | None]:
        if not prompts:
            raise UsageError("No prompt was given: name at least one thing to segment.")
        unet = self.pipeline.unet
        with torch.inference_mode():
            given = {
                k: _laid_out(torch.from_numpy(np.asarray(v)).to(unet.device, unet.dtype))
                for k, v in encoded.items()
            }
            text = self._text(prompts)
            if self._keeps_down:
                masks = self.pipeline.masks_from(given, text, down=_down(given))
                return _float32(masks), None
            members = []
            for member in range(self.ensemble):
                noise = self.pipeline.noise(given, self.seed, member) if self.ensemble > 1 else None
                members.append(self.pipeline.masks_from(given, text, self.steps, noise))
            stacked = torch.stack(members)  # [E,N,K,H,W]
            spread = _float32(stacked.std(0, correction=0)) if self.ensemble > 1 else None
            return _float32(stacked.mean(0)), spread

    def _text(self, prompts: Sequence[Prompt]) -> network.Text:
        key = tuple(prompt.texts for prompt in prompts)
        if key not in self._texts:
            if len(self._texts) > 64:
                self._texts.clear()
            self._texts[key] = self.pipeline.encode_prompts(key)
        return self._texts[key]


def load(
    name_or_folder: str | os.PathLike[str] = DEFAULT,
    *,
    device: str = "auto",
    steps: int = 1,
    ensemble: int = 1,
    seed: int = 0,
    threads: int | None = None,
) -> LoadedModel:
    """Load a model by its name or folder; safetensors only, no network.

    Parameters
    ----------
    device
        ``"auto"`` takes a GPU where there is one.
    steps, ensemble, seed
        See `LoadedModel`.
    threads
        torch threads of this process; `None` leaves them.

    Raises
    ------
    ModelNotFoundError
        There is no such model.
    ModelError
        The folder is incomplete, unsafe or of another kind.
    UsageError
        The device is not there.
    """
    info = find_model(name_or_folder)
    place = find_device(device)
    large_pages()
    if threads:
        torch.set_num_threads(threads)
    with quiet():
        pipeline = DiGSegPipeline.from_pretrained(info.folder)
        # Stored in half precision; every half float is a float exactly.
        pipeline.to(place, torch.float32)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.requires_grad_(False).eval()
            # Encoding a picture takes 0.7 of the time on a CPU.
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return LoadedModel(pipeline, digest(info), steps, ensemble, seed, info)


def _reload(folder: str, device: str, steps: int, ensemble: int, seed: int) -> LoadedModel:
    """A `LoadedModel` that travelled to another process."""
    return load(folder, device=device, steps=steps, ensemble=ensemble, seed=seed)


def find_device(name: str) -> torch.device:
    """The torch device for ``auto``, ``cpu``, ``cuda`` or ``mps``.

    Raises
    ------
    UsageError
        The device is unknown or not there.
    """
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(kind for kind, is_there in there.items() if is_there)
    kind = name.split(":")[0]
    if kind not in there:
        raise UsageError(f"{name!r} is no device: use auto, cpu, cuda or mps.")
    if not there[kind]:
        raise UsageError(f"There is no {kind} device on this machine: use --device cpu.")
    return torch.device(name)


def digest(info: ModelInfo) -> str:
    """SHA-256 over names and contents of every file that can change an answer."""
    hasher = hashlib.sha256()
    for file in sorted(f for f in info.folder.rglob("*") if f.is_file()):
        if file.name in PAPERS:
            continue
        hasher.update(file.relative_to(info.folder).as_posix().encode())
        hasher.update(hashlib.sha256(file.read_bytes()).digest())
    return hasher.hexdigest()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars of diffusers and transformers while a folder is read."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    loggers = (diffusers_logging, transformers_logging)
    shown = [logger.is_progress_bar_enabled() for logger in loggers]
    levels = [logger.get_verbosity() for logger in loggers]
    for logger in loggers:
        logger.disable_progress_bar()
        logger.set_verbosity_error()
    try:
        yield
    finally:
        for logger, was, level in zip(loggers, shown, levels, strict=True):
            logger.set_verbosity(level)
            if was:
                logger.enable_progress_bar()


def _down(given: Mapping[str, Tensor]) -> DownState:
    count = sum(1 for key in given if key.startswith(_SKIP))
    skips = tuple(given[f"{_SKIP}{i}"] for i in range(count))
    return DownState(given["sample"], skips, given["time"])


def _laid_out(tensor: Tensor) -> Tensor:
    """Pictures and features with their channels last, however they came; others as they are."""
    if tensor.ndim != 4:
        return tensor
    return tensor.contiguous(memory_format=torch.channels_last)


def _float32(tensor: Tensor) -> Float32Array:
    return tensor.float().cpu().contiguous().numpy()
