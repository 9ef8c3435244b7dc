"""Mean of the weights of trained pipelines of one layout, as another place to begin from.

Usage::

    python tools/build_default/mean.py RUN1/stage2/pipeline RUN2/stage2/pipeline -o averaged
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from digseg.model.pipeline import DiGSegPipeline


def average(folders: list[Path]) -> DiGSegPipeline:
    """The first pipeline with the mean of all their floating-point weights.

    Raises
    ------
    SystemExit
        Their layouts differ.
    """
    first, *others = (
        DiGSegPipeline.from_pretrained(folder).to(torch.float32) for folder in folders
    )
    for name, part in first.components.items():
        if not isinstance(part, torch.nn.Module):
            continue
        states = [getattr(other, name).state_dict() for other in others]
        for key, value in part.state_dict().items():
            if not value.is_floating_point():
                continue
            if any(key not in state or state[key].shape != value.shape for state in states):
                raise SystemExit(f"{name}.{key} is not of one shape in all of them.")
            value.copy_(torch.stack([value, *(state[key] for state in states)]).mean(0))
    return first


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("trained", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    average(args.trained).save_pretrained(args.output)


if __name__ == "__main__":
    main()
