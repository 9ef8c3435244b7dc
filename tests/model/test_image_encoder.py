"""Norms that answer by what they have stored, and follow the weights before them if told to."""

from __future__ import annotations

import torch
from torch import nn

from digseg.model.image_encoder import FrozenNorm


def batches(count: int) -> list[torch.Tensor]:
    """Two kinds of picture, one of a kind in each batch, as small batches of a mix are."""
    drawn = torch.Generator().manual_seed(0)
    middles = torch.tensor([[-1.0, 5.0], [3.0, 5.0]])
    return [
        torch.randn(1, 2, 16, 16, generator=drawn) * torch.tensor([1.0, 2.0])[:, None, None]
        + middles[i % 2][None, :, None, None]
        for i in range(count)
    ]


def test_it_answers_by_what_is_stored_in_training_too() -> None:
    norm = FrozenNorm(2).train()
    norm.running_mean.copy_(torch.tensor([1.0, 2.0]))
    norm.running_var.copy_(torch.tensor([4.0, 9.0]))
    norm.tracking = True
    x = batches(1)[0]
    expected = (x - torch.tensor([1.0, 2.0])[:, None, None]) / torch.tensor([4.0, 9.0]).add(
        1e-3
    ).sqrt()[:, None, None]
    assert torch.allclose(norm(x), expected, atol=1e-6)


def test_tracking_ends_at_the_statistics_of_all_pictures() -> None:
    norm = FrozenNorm(2)
    norm.tracking = True
    given = batches(600)
    for x in given:
        norm(x)
        norm.track(0.02)
    everything = torch.cat(given)
    assert torch.allclose(norm.running_mean, everything.mean((0, 2, 3)), atol=0.1)
    # The first channel's pictures differ by 4 in their middle: that is in its variance.
    assert torch.allclose(norm.running_var, everything.var((0, 2, 3)), rtol=0.1)
    assert norm.running_var[0] > 4


def test_only_what_went_through_in_training_is_tracked() -> None:
    norm = FrozenNorm(2)
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    x = batches(1)[0]
    norm(x)  # not tracking
    norm.track(0.5)
    norm.tracking = True
    with torch.no_grad():
        norm(x)
    norm.track(0.5)
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())
    norm(x)
    norm.track(0.5)
    moved = norm.running_mean.clone()
    assert not torch.equal(moved, before["running_mean"])
    norm.track(0.5)  # nothing new since
    assert torch.equal(norm.running_mean, moved)


def test_tracking_undoes_a_drift_of_the_weights() -> None:
    torch.manual_seed(0)
    layer, norm = nn.Conv2d(4, 3, 1, bias=False), FrozenNorm(3)
    norm.tracking = True
    x = torch.rand(4, 4, 8, 8) + 1  # as after a ReLU: all of one sign
    for step in range(500):
        if step < 200:
            with torch.no_grad():
                layer.weight.add_(0.01)  # every weight by the rate, as a step of Adam does
        found = norm(layer(x))
        norm.track(0.05)
    assert found.mean((0, 2, 3)).abs().max() < 1e-2
    assert torch.allclose(found.std((0, 2, 3)), torch.ones(3), atol=0.15)
