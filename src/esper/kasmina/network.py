"""The network that grows: a host, the seeds in its slots, and how both learn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from esper.kasmina.adam import Adam
from esper.kasmina.blueprints import initialise
from esper.kasmina.evaluator import Evaluator
from esper.kasmina.host import Host
from esper.kasmina.passage import Passage, set_rectified_gradients
from esper.kasmina.seed import GradientHealth
from esper.kasmina.slot import SeedSlot
from esper.leyline.stages import SeedStage

__all__ = ["GrowingNetwork"]


class GrowingNetwork:
    """A host with its slots, and the optimizer of both.

    Attributes:
        host: what the seeds join.
        slots: from input to output.
        host_params: trainable parameters of the bare host.
        host_gradient_norm: L2 norm of the host's gradient in the last batch; 0 before the first.
    """

    def __init__(
        self,
        make_host: Callable[[], Host],
        slots: Sequence[SeedSlot],
        *,
        learning_rate: float,
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        """Initialise the host and its optimizer.

        Args:
            make_host: builds the host, with one block a slot.
            slots: the slots from input to output.
            learning_rate: of Adam, for the host and for every seed.
            generator: where the host's parameters are drawn from, on the CPU.
            device: where the host lives.
        """
        host = initialise(make_host, generator, device)
        assert isinstance(host, Host)
        self.host = host
        self.slots = tuple(slots)
        self.host_params = sum(parameter.numel() for parameter in host.parameters())
        self._host_parameters = tuple(host.parameters())
        self._optimizer = Adam(learning_rate)
        self.host_gradient_norm = 0.0

    def train_epoch(self, batches: Iterator[tuple[Tensor, Tensor]]) -> None:
        """Train host and seeds for one epoch, and record for each slot its seed's gradient in the last batch.

        Seeds that have joined learn together with the host. A seed in TRAINING learns behind it, from
        `isolated_gradients`.

        Args:
            batches: inputs (batch, tokens, features) and labels (batch); at least one batch.
        """
        # a seed's moments go when the seed goes
        self._optimizer.keep([self._host_parameters, *(slot.parameters for slot in self.slots if slot.seed)])
        for inputs, labels in batches:
            self.backward(inputs, labels)
            self._optimizer.step()
        self.host_gradient_norm = host_norm = _gradient_norm(self._host_parameters)
        for slot in self.slots:
            gradient = GradientHealth(_gradient_norm(slot.parameters), host_norm) if slot.seed else None
            slot.end_training(gradient)

    def backward(self, inputs: Tensor, labels: Tensor) -> None:
        """Set the gradients of host and seeds for one batch."""
        joins = [slot.join for slot in self.slots]
        with torch.no_grad():
            embedded = self.host.embed(inputs)
        passage = Passage(self.host, embedded, joins)
        joined = [slot.parameters if slot.alpha > 0 else () for slot in self.slots]
        gradient = passage.learn(labels, joined, host=True)
        set_rectified_gradients(self.host.lift, inputs, embedded, gradient)
        for index, slot in enumerate(self.slots):
            if slot.stage is SeedStage.TRAINING:
                # from detached features, and gradients of the seed's parameters only: the host does not feel it
                behind = joins[index + 1 :]
                isolated = Passage(self.host, passage.arrived[index], [slot.join_fully, *behind], index)
                isolated.learn(labels, [slot.parameters, *(() for _ in behind)], host=False)

    def evaluator(self, inputs: Tensor, labels: Tensor) -> Evaluator:
        """Return what evaluates the network as it is.

        Args:
            inputs: inputs (n, tokens, features).
            labels: labels (n).
        """
        return Evaluator(self.host, self.slots, inputs, labels)


@torch.no_grad()
def _gradient_norm(parameters: Iterable[nn.Parameter]) -> float:
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return float(torch.nn.utils.get_total_norm(gradients))
