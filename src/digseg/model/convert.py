"""A pipeline made of a Stable Diffusion checkpoint (1.5, 2.1, Turbo; diffusers layout).

Four steps, none of which changes what the checkpoint computes:

1. ``conv_in`` is widened to image and mask latents: its weights are repeated and halved and its
   bias is kept (Marigold), so on a doubled latent, ``concat(z, z)``, the widened U-Net gives what
   the original gives on ``z``.
2. A text pathway is added whose every contribution starts at zero.
3. The noise schedule keeps its betas, rescaled to zero terminal SNR, with trailing timesteps, so
   that one deterministic step from zeros is what training sees too.
4. An eps-prediction says nothing at zero SNR, so such a checkpoint goes on as a v-prediction (the
   mask is learned in fine-tuning either way); ``prediction="keep"`` keeps eps, on its own betas.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from digseg.errors import ModelError, ModelNotFoundError, UsageError
from digseg.model.pipeline import DiGSegPipeline
from digseg.model.text_pathway import TextPathway

Prediction = Literal["v_prediction", "keep"]

#: Folders of a checkpoint that are read; a safety checker and the like are left alone.
PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")

_WEIGHTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

# Settings of a U-Net that ask for inputs beside latents, time and text (SDXL, unCLIP, LCM ...).
_FOREIGN = (
    "addition_embed_type",
    "class_embed_type",
    "encoder_hid_dim",
    "time_cond_proj_dim",
    "num_class_embeds",
)


def from_stable_diffusion(
    folder: str | os.PathLike[str],
    *,
    prediction: Prediction = "v_prediction",
    hidden: int = 512,
    heads: int = 8,
    dtype: str = "float32",
    seed: int = 0,
) -> DiGSegPipeline:
    """Build a `DiGSegPipeline` from a Stable Diffusion checkpoint.

    Parameters
    ----------
    folder
        A folder in the diffusers layout, or a hub id (``owner/name``), safetensors only.
    prediction
        ``"v_prediction"``, or ``"keep"`` for the checkpoint's own.
    hidden, heads
        Width and number of similarity heads of the text pathway.
    dtype
        ``"float32"``, ``"float16"`` or ``"bfloat16"``: of all weights.
    seed
        Of the text pathway's layers that don't start at zero.

    Raises
    ------
    ModelNotFoundError
        There is no such folder, and the hub can't be reached or has no such checkpoint.
    ModelError
        Something is missing, pickled, or of another kind than Stable Diffusion 1.5, 2.1, Turbo.
    """
    if dtype not in _DTYPES:
        raise UsageError(f"{dtype!r} is no kind of number: use {', '.join(_DTYPES)}.")
    if prediction not in ("v_prediction", "keep"):
        raise UsageError(f"{prediction!r} is no choice: use v_prediction or keep.")
    path = find_checkpoint(folder)
    _check_folder(path)
    parts = _load(path, _DTYPES[dtype])
    unet, vae = parts["unet"], parts["vae"]
    _check_kind(path, unet, vae)
    widen_conv_in(unet)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pathway: Any = new_pathway(unet, parts["text_encoder"], hidden, heads)
    pathway.to(_DTYPES[dtype])
    pipeline = DiGSegPipeline(
        vae=vae,
        unet=unet,
        text_encoder=parts["text_encoder"],
        tokenizer=parts["tokenizer"],
        scheduler=trailing_scheduler(path, prediction),
        text_pathway=pathway,
    )
    for part in (unet, vae, parts["text_encoder"], pathway):
        part.eval()
    return pipeline


def widen_conv_in(unet: Any) -> None:
    """Double the input channels of ``unet.conv_in``, in place: weights repeated and halved.

    On ``concat(z, z)`` the sum of the halves is the original convolution of ``z``; the bias is
    added once, so it is kept.
    """
    old: nn.Conv2d = unet.conv_in
    new = nn.Conv2d(
        2 * old.in_channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]
        stride=old.stride,  # type: ignore[arg-type]
        padding=old.padding,  # type: ignore[arg-type]
        bias=old.bias is not None,
    ).to(device=old.weight.device, dtype=old.weight.dtype)
    with torch.no_grad():
        new.weight.copy_(old.weight.repeat(1, 2, 1, 1) / 2)
        if old.bias is not None and new.bias is not None:
            new.bias.copy_(old.bias)
    unet.conv_in = new
    unet.register_to_config(in_channels=new.in_channels)


def new_pathway(unet: Any, text_encoder: Any, hidden: int = 512, heads: int = 8) -> TextPathway:
    """A text pathway for every scale of ``unet`` whose contribution is zero.

    The pooled text state is the aligned space itself to begin with (the projection is the
    identity), since a checkpoint carries no CLIP projection.
    """
    size = int(text_encoder.config.hidden_size)
    channels = tuple(reversed(unet.config.block_out_channels))
    pathway: TextPathway = TextPathway(
        text_dim=size,
        embed_dim=size,
        channels=(channels[0], *channels),
        hidden=hidden,
        heads=heads,
        detail_channels=(),
        detail_heads=(),
        mask_padding=False,
    )
    with torch.no_grad():
        nn.init.eye_(pathway.projection.weight)
        nn.init.zeros_(pathway.projection.bias)
    return pathway


def trailing_scheduler(folder: Path, prediction: Prediction = "v_prediction") -> Any:
    """DDIM on the checkpoint's betas: trailing, zero terminal SNR unless eps is kept."""
    from diffusers import DDIMScheduler

    file = folder / "scheduler" / "scheduler_config.json"
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(f"The schedule {file} can't be read: {error}.") from error
    kept = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas")
    own = str(told.get("prediction_type", "epsilon"))
    if own not in ("epsilon", "v_prediction", "sample"):
        raise ModelError(f"{file}: the prediction type {own!r} is not known.")
    kind = "v_prediction" if prediction == "v_prediction" else own
    return DDIMScheduler(
        **{key: told[key] for key in kept if key in told},
        clip_sample=False,
        set_alpha_to_one=True,
        prediction_type=kind,
        rescale_betas_zero_snr=kind != "epsilon",
        timestep_spacing="trailing",
    )


def find_checkpoint(folder: str | os.PathLike[str]) -> Path:
    """The folder itself, or the snapshot of a hub id, downloaded without pickles and code.

    Raises
    ------
    ModelNotFoundError
        There is no such folder and no hub id of that name can be reached.
    """
    path = Path(folder)
    if path.is_dir():
        return path
    text = os.fspath(folder)
    if path.exists() or text.count("/") != 1 or text.startswith((".", "/", "~")):
        raise ModelNotFoundError(
            f"There is no folder {text!r}: give a checkpoint in the diffusers layout, or a hub id "
            "(owner/name)."
        )
    return download(text)


def download(hub_id: str) -> Path:
    """Snapshot of a checkpoint on the hub: JSON, text and safetensors only.

    Raises
    ------
    ModelNotFoundError
        The hub can't be reached, or has no such checkpoint.
    """
    from diffusers import DiffusionPipeline

    try:
        # diffusers turns what goes wrong on the way into OSError (no network, no such
        # repository) and ValueError (no safetensors, a malformed id).
        return Path(DiffusionPipeline.download(hub_id, use_safetensors=True, safety_checker=None))
    except (OSError, ValueError) as error:
        deepest = error.__cause__ or error
        reason = str(deepest).strip().splitlines()[0] if str(deepest).strip() else repr(deepest)
        raise ModelNotFoundError(
            f"There is no folder {hub_id!r}, and the hub gives no such checkpoint "
            f"({reason.rstrip('.')}): connect to the network, or download it elsewhere and give "
            "its folder."
        ) from error


def _check_folder(path: Path) -> None:
    if not (path / "model_index.json").is_file() and not (path / "unet").is_dir():
        raise ModelError(f"{path} is no checkpoint in the diffusers layout (no model_index.json).")
    for name in PARTS:
        part = path / name
        if not part.is_dir():
            raise ModelError(f"The checkpoint {path} lacks the folder {name!r}.")
        if any(part.glob("*.py")):
            raise ModelError(f"{part} holds code; a checkpoint may hold weights and JSON only.")
        if name not in (*_WEIGHTS, "text_encoder"):
            continue
        if not any(part.glob("*.safetensors")):
            pickled = sorted(f.name for f in part.iterdir() if f.suffix in _PICKLES)
            if pickled:
                raise ModelError(
                    f"{part / pickled[0]} is a pickle, which can run code when it is opened: "
                    "convert the weights to safetensors first."
                )
            raise ModelError(f"{part} holds no safetensors file.")


def _load(path: Path, dtype: torch.dtype) -> dict[str, Any]:
    from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    def options(name: str) -> dict[str, Any]:
        files = [file.name for file in (path / name).glob("*.safetensors")]
        plain = any(".fp16." not in file for file in files)
        return {
            "use_safetensors": True,
            "local_files_only": True,
            "variant": None if plain else "fp16",
        }

    load: dict[str, Any] = {"unet": UNet2DConditionModel, "text_encoder": CLIPTextModel}
    try:
        vae_kind = json.loads((path / "vae" / "config.json").read_text())["_class_name"]
        load["vae"] = AutoencoderTiny if vae_kind == "AutoencoderTiny" else AutoencoderKL
        parts = {n: kind.from_pretrained(path / n, **options(n)) for n, kind in load.items()}
        tokenizer = CLIPTokenizer.from_pretrained(path / "tokenizer", local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise ModelError(f"The checkpoint {path} can't be loaded: {reason}") from error
    if tokenizer.model_max_length > 10_000:  # saved without a limit: the encoder's own holds
        tokenizer.model_max_length = int(parts["text_encoder"].config.max_position_embeddings)
    return {name: part.to(dtype) for name, part in parts.items()} | {"tokenizer": tokenizer}


def _check_kind(path: Path, unet: Any, vae: Any) -> None:
    config = unet.config
    for name in _FOREIGN:
        if config.get(name) is not None:
            raise ModelError(
                f"The U-Net of {path} needs more than latents, time and text ({name}): only "
                "Stable Diffusion 1.5, 2.1 and Turbo of that size can be converted, not SDXL."
            )
    latents = int(vae.config.latent_channels)
    if int(config.in_channels) != latents or int(config.out_channels) != latents:
        raise ModelError(
            f"The U-Net of {path} reads {config.in_channels} and gives {config.out_channels} "
            f"channels where the VAE has {latents}: give a text-to-image checkpoint, no "
            "inpainting or depth one, and none that was converted already."
        )
