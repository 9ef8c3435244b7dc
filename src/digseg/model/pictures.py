"""Pictures in the forms that people have them, as the network reads them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from digseg.errors import UsageError
from digseg.types import AnyArray


def to_pixels(image: Any) -> Tensor:
    """Pictures as ``[N, 3, H, W]`` in [0, 1].

    Parameters
    ----------
    image
        A PIL picture, several of one size, bytes ``[H, W]``, ``[H, W, 3]`` or ``[N, H, W, 3]``
        (NumPy), or pixels ``[3, H, W]`` or ``[N, 3, H, W]`` in [0, 1] (NumPy or torch).

    Raises
    ------
    UsageError
        Bytes have another shape.
    """
    if isinstance(image, Tensor):
        return image if image.ndim == 4 else image[None]
    if isinstance(image, Image.Image):
        image = [image]
    if isinstance(image, (list, tuple)) and image and isinstance(image[0], Image.Image):
        stack = np.stack([np.asarray(i.convert("RGB"), np.float32) / 255 for i in image])
        return torch.from_numpy(stack).permute(0, 3, 1, 2).contiguous()
    array = np.asarray(image)
    if array.dtype == np.uint8:
        return _of_bytes(array)
    array = np.ascontiguousarray(array, dtype=np.float32)
    return torch.from_numpy(array if array.ndim == 4 else array[None])


def _of_bytes(array: AnyArray) -> Tensor:
    """Bytes, channels last or none, as ``[N, 3, H, W]`` in [0, 1]."""
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, -1)
    stack = array if array.ndim == 4 else array[None]
    if stack.ndim != 4 or stack.shape[-1] != 3:
        raise UsageError(
            "Bytes of a picture have the shape [H, W], [H, W, 3] or [N, H, W, 3], "
            f"not {list(array.shape)}."
        )
    pixels = stack.astype(np.float32) / np.float32(255)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
