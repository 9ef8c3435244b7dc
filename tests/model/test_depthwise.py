"""The depthwise convolution with its own backward pass equals PyTorch's."""

import pytest
import torch
from torch.nn import functional

from digseg.model.depthwise import depthwise
from digseg.model.image_encoder import SameConv


@pytest.mark.parametrize(("stride", "padding", "size"), [(1, 2, 9), (2, 0, 19), (1, 1, 8)])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_gradients_are_those_of_pytorch(
    stride: int, padding: int, size: int, layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 12, size, size + 2, dtype=torch.float64).to(memory_format=layout)
    weight = torch.randn(12, 1, 5, 5, dtype=torch.float64)
    x.requires_grad_()
    weight.requires_grad_()
    expected = functional.conv2d(x, weight, None, stride, padding, 1, 12)
    found = depthwise(x, weight, stride, padding)
    upper = torch.randn_like(expected)
    assert torch.equal(found, expected)
    for mine, theirs in zip(
        torch.autograd.grad(found, (x, weight), upper),
        torch.autograd.grad(expected, (x, weight), upper),
        strict=True,
    ):
        # The sum over shifted copies is taken in single precision.
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


def test_training_and_use_give_the_same_answer() -> None:
    torch.manual_seed(0)
    layer = SameConv(8, 8, 5, 2, groups=8, bias=False)
    x = torch.randn(1, 8, 16, 16)
    with torch.no_grad():
        used = layer(x)
    assert torch.equal(layer(x).detach(), used)


def test_autocast_reads_half_precision() -> None:
    layer = SameConv(8, 8, 5, 1, groups=8, bias=False)
    x = torch.randn(1, 8, 16, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        given = layer(x)
    assert given.dtype == torch.bfloat16
    given.float().sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32
