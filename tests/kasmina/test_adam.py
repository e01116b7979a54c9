from __future__ import annotations

import torch
from torch import nn

from esper.kasmina.adam import Adam


def modules() -> list[nn.Module]:
    torch.manual_seed(0)
    return [nn.Linear(8, 12), nn.LayerNorm(12), nn.Linear(12, 33)]


def test_modules_that_come_and_go_learn_as_with_a_fused_optimizer_of_torchs_each() -> None:
    ours, theirs = modules(), modules()
    adam = Adam(2e-2)
    optimizers: dict[int, torch.optim.Optimizer] = {}
    gradients = torch.Generator().manual_seed(1)
    for present in [(0,), (0, 1), (0, 1, 2), (0, 2), (0, 1, 2)]:
        adam.keep([tuple(ours[index].parameters()) for index in present])
        optimizers = {
            index: optimizers.get(index) or torch.optim.Adam(theirs[index].parameters(), lr=2e-2, fused=True)
            for index in present
        }
        for _ in range(3):
            for index in present:
                for our, their in zip(ours[index].parameters(), theirs[index].parameters(), strict=True):
                    our.grad = their.grad = torch.randn(our.shape, generator=gradients)
            adam.step()
            for optimizer in optimizers.values():
                optimizer.step()
        for mine, other in zip(ours, theirs, strict=True):
            assert all(map(torch.equal, mine.parameters(), other.parameters()))
