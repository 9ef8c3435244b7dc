"""Write a trained pipeline as the default model: half precision, safetensors, no local paths.

Usage::

    python tools/build_default/export.py TRAINED/pipeline -o FOLDER --propagate CT --canvas 256 \
        --plane 320
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch

from digseg.model.pipeline import DiGSegPipeline
from digseg.model.registry import PAPERS

#: The package with its weights stays below this.
LARGEST = 40_000_000


def export(trained: Path, folder: Path, recommended: dict[str, Any]) -> int:
    """Write ``folder`` anew from a trained pipeline; model cards that stand there stay.

    Parameters
    ----------
    recommended
        What runs do with this model unless they are told otherwise.

    Returns
    -------
    Bytes of the folder.
    """
    pipeline = DiGSegPipeline.from_pretrained(trained)
    pipeline.register_to_config(recommended=recommended)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.half()
    partial = folder.with_name(folder.name + ".part")
    shutil.rmtree(partial, ignore_errors=True)
    pipeline.save_pretrained(partial)
    for file in partial.rglob("*.json"):
        _tidy(file)
    for name in PAPERS:
        if (folder / name).exists():
            shutil.copy2(folder / name, partial / name)
    size = sum(file.stat().st_size for file in partial.rglob("*") if file.is_file())
    if size > LARGEST:
        raise SystemExit(f"The model takes {size} bytes, more than {LARGEST}.")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return size


def _tidy(file: Path) -> None:
    """Drop where parts were on the machine that trained them, and what no part expects to read."""
    text = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(text, dict):
        return
    dropped = ["_name_or_path"]
    if text.get("_class_name") == "AutoencoderTiny":
        dropped.append("block_out_channels")  # it writes this itself, and warns when it reads it
    kept = {key: value for key, value in text.items() if key not in dropped}
    if kept != text:
        file.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("trained", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument(
        "--propagate",
        nargs="*",
        choices=("CT", "MR", "other"),
        metavar="MODALITY",
        help="recommend the second pass over volumes: `benchmarks volumes` says whether it helps",
    )
    parser.add_argument(
        "--canvas", type=int, default=0, help="side of the crops in training, black where empty"
    )
    parser.add_argument("--plane", type=int, default=0, help="longer side of a scan's planes")
    parser.add_argument(
        "--near-infrared",
        type=float,
        default=0,
        help="show near infrared, red and green from pixels of this size on, metres",
    )
    parser.add_argument(
        "--scales", type=float, nargs="*", default=[], help="sizes at which pictures are seen"
    )
    args = parser.parse_args()
    told: dict[str, Any] = {}
    if args.propagate is not None:  # named, for all volumes or for these
        told["propagate"] = args.propagate or True
    if args.canvas:
        told["canvas"] = args.canvas
    if args.plane:
        told["plane"] = args.plane
    if args.near_infrared:
        told["near_infrared"] = args.near_infrared
    if args.scales:
        told["scales"] = args.scales
    args.output.parent.mkdir(parents=True, exist_ok=True)
    size = export(args.trained, args.output, told)
    print(f"{size / 1e6:.1f} MB in {args.output}")


if __name__ == "__main__":
    main()
