"""What usually causes what a rule of health found, and what to try first: by the rule's name, with sources."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["ADVICE", "Advice"]


class Advice(NamedTuple):
    """For whoever reads a finding."""

    cause: str
    """The usual one; there are others."""
    remedy: str
    """What to try first."""
    source: str


_PPO: Final = "Schulman et al. 2017, Proximal Policy Optimization Algorithms"
_DETAILS: Final = "Huang et al. 2022, The 37 Implementation Details of PPO"
_DEBUGGING: Final = "Jones 2021, Debugging RL, Without the Agonizing Pain"
_SPINNING: Final = "OpenAI Spinning Up, PPO: early stopping by KL"
_MATTERS: Final = "Andrychowicz et al. 2021, What Matters in On-Policy Reinforcement Learning"
_AMP: Final = "Micikevicius et al. 2018, Mixed Precision Training, section 3.2"
_CLIPPING: Final = "Pascanu et al. 2013, On the difficulty of training recurrent neural networks"
_OURS: Final = "docs/modes.md"
_DELIVERY: Final = "docs/delivery.md"

ADVICE: Final = {
    "return_finite": Advice(
        "a reward is not finite, or a host diverged",
        "find the first step whose reward is not finite, and the loss of its host",
        _OURS,
    ),
    "return_fell": Advice(
        "steps too large for the policy, or a policy that went over a cliff it cannot climb back",
        "lower the learning rate or let it fall, set target_kl, and go on from the best checkpoint",
        _MATTERS,
    ),
    "return_learnt": Advice(
        "reward too sparse or badly scaled, too little exploration, or advantages that are noise",
        "try a probe environment that a single update solves; then reward scale, entropy coefficient, batch size",
        _DEBUGGING,
    ),
    "accuracy_fell": Advice(
        "the policy found reward that is not accuracy, or hosts that diverge",
        "compare the parts of the reward before and after",
        _OURS,
    ),
    "accuracy_learnt": Advice("what is rewarded does not improve accuracy", "compare the parts of the reward", _OURS),
    "kl": Advice(
        "steps too large: learning rate, or too many epochs on one batch",
        "halve the learning rate, or set target_kl so that updates stop early",
        _SPINNING,
    ),
    "still": Advice(
        "the learning rate is next to 0, or a shared gradient clip lets the value loss, with unscaled returns, drown "
        "the policy's gradient",
        "scale the returns; look at the gradient norm before clipping, and at the learning rate",
        _MATTERS,
    ),
    "clip_fraction": Advice(
        "steps too large: most samples are outside the clip and teach nothing",
        "fewer epochs on a batch, or a lower learning rate",
        _PPO,
    ),
    "entropy": Advice(
        "the policy became certain before it had explored",
        "raise the entropy coefficient or let it fall more slowly; lower the learning rate",
        _DEBUGGING,
    ),
    "explained_variance": Advice(
        "the critic does not follow the returns: their scale, its learning rate, or its share of the loss",
        "scale the returns, train the critic more, give it a network of its own",
        _DETAILS,
    ),
    "grad_norm": Advice(
        "a reward or an observation far out of range, or a loss that is no longer smooth",
        "clip gradients by norm; look at the largest reward of that batch",
        _CLIPPING,
    ),
    "nan_gradients": Advice(
        "a division by 0, a logarithm of 0, or a mask that forbids everything",
        "torch.autograd.set_detect_anomaly on that update",
        _OURS,
    ),
    "inf_gradients": Advice(
        "an overflow in the loss: an exponent of a large log-ratio, or half precision without a scaler",
        "clip the log-ratio; scale the loss",
        _AMP,
    ),
    "skipped": Advice(
        "a batch held rewards, observations or estimates that were not finite",
        "the update's message names the environment; look at its host",
        _OURS,
    ),
    "overflow": Advice("a loss scale that is too large for half precision", "bfloat16, or a lower scale", _AMP),
    "policy_loss": Advice("advantages or ratios that are not finite", "look at the rewards of that batch", _PPO),
    "value_loss": Advice(
        "returns of another scale than before, or a critic that diverged",
        "scale the returns; clip the critic's gradient",
        _DETAILS,
    ),
    "ratio": Advice(
        "log-probabilities that were not made by the policy that acted: masks, dropout, stale data",
        "check that the ratio is 1 in the first minibatch of an update",
        _DETAILS,
    ),
    "dead_layers": Advice(
        "saturated or dead units, or a layer that the loss does not reach",
        "look at the layer's inputs; a smaller initialisation",
        _DEBUGGING,
    ),
    "exploding_layers": Advice(
        "a loss that is too steep for this layer's weights",
        "clip gradients by norm; lower the learning rate",
        _CLIPPING,
    ),
    "hosts": Advice(
        "the host's learning rate is too large for what was grown into it",
        "look at the seeds of that environment in the epochs before",
        _OURS,
    ),
    "reward_finite": Advice(
        "a division by 0, or a quantity of a diverged host", "the event's message names the field", _OURS
    ),
    "seeds_die": Advice(
        "seeds cost more than they bring, or are pruned before they can help",
        "lower the rent; let seeds train longer before they may be pruned",
        _OURS,
    ),
    "slot_unused": Advice(
        "the policy never germinates there: a mask, or a habit formed early", "look at its mask; explore more", _OURS
    ),
    "ended": Advice("see the error", "the log holds everything up to it", "docs/runs.md"),
    "lost": Advice("a disk that is full or slow, or values that no log can hold", "esper validate RUN", _DELIVERY),
    "unreadable": Advice("another program wrote to the log, or a crash tore it", "esper validate RUN", _DELIVERY),
    "missing": Advice(
        "events were dropped, or lines cut out of the log", "look at the accounts in run.json", _DELIVERY
    ),
    "silence": Advice("a machine that was suspended, or a stalled disk or environment", "look at that time", _DELIVERY),
    "clocks": Advice("a clock was set back", "compare times within one batch only", _DELIVERY),
}
"""By the name of a rule."""
