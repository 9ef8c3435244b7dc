"""Memory of a run over long volumes: 512 x 512 x 250 against 512 x 512 x 2,000, a cheap model.

    python -m benchmarks long_volume [--slices 250 2000] [--planes z] [--propagate] [--prompts 2]
                                     [--memory 1GiB]

Each length runs in a process of its own on a NIfTI file made for it; the growth of peak memory
over the idle process, time and tiles are printed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from digseg.prompts import Prompt, PromptSet
from digseg.settings import Planes
from digseg.types import Float32Array

SIDE = 512


@dataclass(frozen=True)
class Cheap:
    """Answers with the picture, darkened a little more for each prompt."""

    identity: str = "cheap"
    multiple: int = 1

    def __call__(self, tiles: Float32Array, prompts: Sequence[Prompt]) -> Float32Array:
        return np.stack([tiles[:, 1] * (1 - 0.01 * k) for k in range(len(prompts))], axis=1)

    def continue_from(
        self,
        tiles: Float32Array,
        prompts: Sequence[Prompt],
        previous: Float32Array,
        strength: float,
    ) -> Float32Array:
        """The mean of its own answer and the neighbours', weighted by the noise."""
        found: Float32Array = strength * self(tiles, prompts) + (1 - strength) * previous
        return found


def make(path: Path, slices: int) -> None:
    """A CT-like NIfTI of air with a bright rod through all slices, written slice by slice."""
    import nibabel as nib

    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape((SIDE, SIDE, slices))
    header.set_sform(np.diag([0.8, 0.8, 1.0, 1.0]), code=1)
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    plane = np.full((SIDE, SIDE), -1000, np.int16)
    plane[100:300, 200:400] = 60
    noise = np.random.default_rng(0).integers(-20, 20, (8, SIDE, SIDE)).astype(np.int16)
    with path.open("wb") as file:
        file.write(header.binaryblock + b"\0" * 4)
        for index in range(slices):
            file.write((plane + noise[index % 8]).tobytes())


def child(path: str, planes: Planes, prompts: int, memory: str, propagate: bool) -> None:
    """One run; prints JSON."""
    from digseg.metering import PeakMeter
    from digseg.run.execute import execute
    from digseg.run.job import Job, Outputs
    from digseg.settings import SegmentSettings, parse_size

    names = [f"rod {index}" for index in range(prompts)]
    target = Path(path).with_name("mask.nii")
    settings = SegmentSettings(planes=planes, memory=parse_size(memory), propagate=propagate)
    job = Job(path, PromptSet.parse(names), settings, Outputs(labels=target))
    begun = time.perf_counter()
    with PeakMeter() as meter, execute(job, model=Cheap()) as result:
        tiles = result.tiles
    seconds = time.perf_counter() - begun
    told = {"growth": meter.grown, "peak": meter.peak, "seconds": seconds, "tiles": tiles}
    print(json.dumps(told))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--slices", nargs="+", type=int, default=[250, 2000])
    parser.add_argument("--planes", default="z", choices=("z", "y", "x", "zyx"))
    parser.add_argument("--propagate", action="store_true", help="with the second pass")
    parser.add_argument("--prompts", type=int, default=2)
    parser.add_argument("--memory", default="1GiB", help="what the run may use")
    parser.add_argument("--child", default=None, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child, args.planes, args.prompts, args.memory, args.propagate)
        return
    print("| slices | voxels | growth of memory | peak | tiles | seconds |")
    print("|---|---|---|---|---|---|")
    for slices in args.slices:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "long.nii"
            make(path, slices)
            words = [sys.executable, "-m", "benchmarks", "long_volume", "--child", str(path)]
            words += ["--planes", args.planes, "--prompts", str(args.prompts)]
            words += ["--memory", args.memory, *(["--propagate"] if args.propagate else [])]
            told = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
            row = json.loads(told.strip().splitlines()[-1])
        growth, peak = (f"{row[key] / 2**20:.0f} MiB" for key in ("growth", "peak"))
        voxels = f"{SIDE * SIDE * slices / 1e6:.0f} M"
        print(
            f"| {slices} | {voxels} | {growth} | {peak} | {row['tiles']} | {row['seconds']:.0f} |",
            flush=True,
        )
    print(
        f"\n{time.strftime('%Y-%m-%d')}, python -m benchmarks long_volume {' '.join(sys.argv[1:])}"
    )


if __name__ == "__main__":
    main()
