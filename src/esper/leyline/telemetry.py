"""The contract: what one line of telemetry may say.

Eleven frozen, slotted dataclasses, one for each event type, and the event that carries one of them.
The classes are written out in full because they are the one source of truth: codecs, schema, SQL views,
documentation and test strategies are all derived from these fields and the docstrings below them.

A docstring's ``Unit:`` sentence reads ``Unit: <unit>; <range>.``, is shown by the schema and the views, and is what
`esper.leyline.doubtful` holds values against. A range begins with ``0 or more``, ``0 or less``, ``0 to 1``,
``above 0``, ``at most 1`` or ``any …``. Accuracies are fractions (0 to 1), never percent. *Global* identifiers stay
unique over all ranks of a run.

Some required fields have no honest value for every trainer. A count that says so is 0 where it is unknown, and an
accuracy is NaN where it was not measured; if the same event's loss is not finite either, NaN means a diverged host.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar, TypeAlias, cast, final, get_args

from esper.leyline._payload.event import compile_event
from esper.leyline.event_ids import new_event_id
from esper.leyline.event_types import Severity, TelemetryEventType
from esper.leyline.payload import Payload, compile_payloads

__all__ = [
    "EVENT_TYPES",
    "SCHEMA_VERSION",
    "AnalyticsSnapshotPayload",
    "BatchEpochCompletedPayload",
    "CounterfactualMatrixPayload",
    "Emit",
    "EpochCompletedPayload",
    "PPOUpdatePayload",
    "RewardComputedPayload",
    "SeedFossilizedPayload",
    "SeedGerminatedPayload",
    "SeedPrunedPayload",
    "SeedStageChangedPayload",
    "TelemetryEvent",
    "TelemetryEventType",
    "TelemetryPayload",
    "TrainingStartedPayload",
]


@final
@dataclass(slots=True, frozen=True)
class TrainingStartedPayload(Payload):
    """Configuration of a run, emitted once by every rank before its first episode."""

    n_envs: int
    """Environments stepped side by side, over all ranks. Unit: environments; 1 or more."""
    max_epochs: int
    """Host epochs in an episode, which is also the number of actions.
    Unit: epochs; 0 or more, 0 when unknown because episodes end when they like."""
    task: str
    """Name of the task the host network learns: a built-in name or ``module:attribute``."""
    host_params: int
    """Trainable parameters of the bare host, counted after lazy modules have materialised.
    Unit: parameters; 0 or more, 0 when unknown because there is no host."""
    slot_ids: tuple[str, ...]
    """Every slot of the host, from input to output."""
    seed: int
    """Seed from which initialisation, shuffling and sampling derive their own generators. Unit: 1; any integer."""
    n_episodes: int
    """Episodes planned for the run, over all environments.
    Unit: episodes; 0 or more, 0 when unknown because none were planned."""
    lr: float
    """Initial learning rate of the policy's optimizer. Unit: 1; above 0."""
    clip_ratio: float
    """PPO's epsilon: the probability ratio is clipped to 1 - epsilon .. 1 + epsilon.
    Unit: 1; above 0. Source: Schulman et al. 2017, equation 7."""
    entropy_coef: float
    """Initial weight of the entropy bonus in the loss. Unit: 1; 0 or more."""
    param_budget: int
    """Parameters that the seeds of one environment may hold together; germination beyond it is masked.
    Unit: parameters; 0 or more, 0 when unknown because nothing grows."""
    policy_device: str
    """Device of the policy, in torch's notation (``cpu``, ``cuda:0``)."""
    env_devices: tuple[str, ...]
    """Device of every environment, by global env_id; empty when unknown because another's environments say nothing."""

    episode_id: str = ""
    """Identifier shared by all ranks and by nothing else; empty when the run has none."""
    resume_path: str = ""
    """Checkpoint that the run continues from; empty for a fresh run."""
    reward_mode: str = ""
    """Name of the reward function, for ``esper train`` ``shaped``, ``sparse`` or ``simplified``; empty where there is
    only one."""
    start_episode: int = 0
    """First episode of this run: above 0 after a resume, and then it supersedes what an interrupted run emitted
    about later ones. Unit: episodes; 0 or more."""
    entropy_anneal: dict[str, float] | None = None
    """Schedule of the entropy coefficient: ``start``, ``end`` and ``episodes`` (over which it runs linearly)."""

    world_size: int = 1
    """Processes that train together. Unit: processes; 1 or more."""
    rank: int = 0
    """Global index of the process that speaks. Unit: index; 0 to world_size - 1."""
    local_rank: int = 0
    """Index of the process on its own machine. Unit: index; 0 or more."""

    amp_enabled: bool = False
    """Whether the policy update runs under automatic mixed precision."""
    amp_dtype: str | None = None
    """Reduced precision in use, ``float16`` or ``bfloat16``; None without mixed precision."""

    compile_enabled: bool = False
    """Whether the policy runs through ``torch.compile``."""
    compile_backend: str | None = None
    """Backend given to ``torch.compile``; None when not compiled."""
    compile_mode: str | None = None
    """Mode given to ``torch.compile``; None when not compiled or left at its default."""


@final
@dataclass(slots=True, frozen=True)
class EpochCompletedPayload(Payload):
    """Validation result of one environment after one host epoch."""

    env_id: int
    """Global index of the environment. Unit: index; 0 or more."""
    val_accuracy: float
    """Share of the validation split classified correctly with the seeds at their present alpha.
    Unit: fraction; 0 to 1, NaN when not measured."""
    val_loss: float
    """Mean cross-entropy over the validation split. Unit: nats; 0 or more, not finite once a host diverged."""
    inner_epoch: int
    """Host epoch within the episode, the first being 1. Unit: epochs; 1 to max_epochs."""

    seeds: dict[str, dict[str, Any]] | None = None
    """The occupied slots after this epoch: slot id to ``stage``, ``blueprint_id``, ``alpha``, ``epochs_in_stage``,
    ``params`` and, where it was measured, ``grad_ratio``."""


@final
@dataclass(slots=True, frozen=True)
class BatchEpochCompletedPayload(Payload):
    """End of a batch: every environment has finished one episode, or at least one has. The log's commit barrier.

    The latter where episodes end when they like: then the batch is what was collected for one update.
    """

    episodes_completed: int
    """Episodes finished since the start of training, over all ranks and resumes. Unit: episodes; 1 or more."""
    batch_idx: int
    """Index of the batch, the first being 0. Unit: index; 0 or more."""
    avg_accuracy: float
    """Mean over environments of the final validation accuracy. Unit: fraction; 0 to 1, NaN when not measured."""
    avg_reward: float
    """Mean over environments of the undiscounted episode return. Unit: reward; any real, higher is better."""
    total_episodes: int
    """Episodes planned for the run. Unit: episodes; 0 or more, 0 when unknown because none were planned."""
    n_envs: int
    """Environments that the means are taken over, with one episode each; where episodes end when they like, episodes.
    Unit: environments; 1 or more."""

    rolling_accuracy: float = 0.0
    """Mean of ``avg_accuracy`` over the newest ten batches, or all when there are fewer. Unit: fraction; 0 to 1."""
    env_accuracies: tuple[float, ...] | None = None
    """Final validation accuracy of each environment, by global env_id. Unit: fraction; 0 to 1."""


@final
@dataclass(slots=True, frozen=True)
class PPOUpdatePayload(Payload):
    """Health of one PPO update. Means are over the minibatches of every executed epoch unless stated."""

    policy_loss: float
    """Mean clipped surrogate loss, entropy not included. Unit: 1; any real, lower is better.
    Source: Schulman et al. 2017, equation 7, negated."""
    value_loss: float
    """Mean squared error of the value estimates against scaled returns, before the value coefficient.
    Unit: 1; 0 or more. Source: Schulman et al. 2017, equation 9."""
    entropy: float
    """Mean exact entropy of the factored joint policy, H(op) + sum over op of p(op) times the entropy of the
    heads which that op uses. Unit: nats; any real, not below 0 where actions are discrete.
    Source: the chain rule of entropy, Cover and Thomas 2006, theorem 2.2.1."""
    grad_norm: float
    """L2 norm over all gradients after unscaling and before clipping, mean over optimizer steps. NaN while
    ``nan_grad_count`` is 0 when the KL limit ended the update before its first step: there was no gradient.
    Unit: 1; 0 or more, ``inf`` when mixed precision overflowed. Source: Pascanu et al. 2013, section 3.2."""
    kl_divergence: float
    """KL divergence of the old from the new policy, k3 estimator mean((r - 1) - log r), mean over the minibatches of
    the last executed epoch. Unit: nats; 0 or more. Source: http://joschu.net/blog/kl-approx.html"""
    clip_fraction: float
    """Share of samples whose ratio left 1 - epsilon .. 1 + epsilon. Unit: fraction; 0 to 1.
    Source: Schulman et al. 2017, equation 7: the samples that its clip touches."""
    nan_grad_count: int
    """Gradient elements that were NaN, after unscaling and before clipping, summed over optimizer steps.
    Unit: elements; 0 or more."""

    explained_variance: float | None = None
    """1 - Var(returns - values) / Var(returns) over the batch before the update.
    Unit: 1; at most 1, higher is better, NaN when Var(returns) is below 1e-8.
    Source: the coefficient of determination, as in OpenAI Baselines, common/math_util.py."""

    entropy_loss: float = 0.0
    """The negated mean entropy, as it stands in the loss before its coefficient.
    Unit: nats; any real, not above 0 where actions are discrete.
    Source: Schulman et al. 2017, equation 9, negated."""
    advantage_mean: float = 0.0
    """Mean of the advantages before they are normalised. Unit: reward; any real.
    Source: Schulman et al. 2016, equation 16."""
    advantage_std: float = 0.0
    """Standard deviation of the advantages before they are normalised. Unit: reward; 0 or more.
    Source: Schulman et al. 2016, equation 16."""
    ratio_mean: float = 1.0
    """Mean probability ratio of new to old policy in the last executed epoch. Unit: 1; 0 or more.
    Source: Schulman et al. 2017, equation 6."""
    ratio_min: float = 1.0
    """Smallest probability ratio in the last executed epoch. Unit: 1; 0 or more."""
    ratio_max: float = 1.0
    """Largest probability ratio in the last executed epoch. Unit: 1; 0 or more."""
    ratio_std: float = 0.0
    """Standard deviation of the probability ratio in the last executed epoch. Unit: 1; 0 or more."""
    lr: float | None = None
    """Learning rate this update was made with. Unit: 1; 0 or more."""
    entropy_coef: float | None = None
    """Entropy coefficient this update was made with. Unit: 1; 0 or more."""

    inf_grad_count: int = 0
    """Gradient elements that were infinite, after unscaling and before clipping, summed over optimizer steps.
    Unit: elements; 0 or more."""
    dead_layers: int = 0
    """Linear layers of which at least 90 % of the weight's gradient was zero in the last optimizer step.
    Unit: layers; 0 or more."""
    exploding_layers: int = 0
    """Linear layers whose weight's gradient norm in the last optimizer step exceeded 100 times the weight's norm or was
    not finite. Unit: layers; 0 or more."""
    layer_gradient_health: dict[str, float] | None = None
    """Norm of the weight's gradient over that of the weight, of each linear layer in the last optimizer step, by module
    name, biases apart.
    Unit: 1; 0 or more. Source: You et al. 2017, equation 6, inverted."""
    entropy_collapsed: bool = False
    """Whether the mean entropy fell below 1 % of its maximum under the masks of the batch."""

    loss_scale: float | None = None
    """Gradient scaler's factor after the update; None without one. Unit: 1; above 0.
    Source: Micikevicius et al. 2018, section 3.2."""
    amp_overflow_detected: bool = False
    """Whether the gradient scaler found a gradient that was not finite and lowered its factor."""
    update_skipped: bool = False
    """Whether an optimizer step was skipped because of an overflow."""

    update_time_ms: float = 0.0
    """Wall time of the whole update. Unit: ms; 0 or more."""
    early_stop_epoch: int | None = None
    """PPO epoch after which the KL limit ended the update, the first being 0; None when none did.
    Unit: index; 0 or more. Source: the early stopping of OpenAI Spinning Up's PPO."""

    head_slot_entropy: dict[str, float] | None = None
    """Entropy of the slot head under its masks: ``all``, mean over the steps where it mattered.
    Unit: nats; 0 or more."""
    head_blueprint_entropy: dict[str, float] | None = None
    """Entropy of the blueprint head under its masks: ``all`` and by the slot chosen, mean over the steps where
    it mattered. Unit: nats; 0 or more."""
    head_slot_grad_norm: dict[str, float] | None = None
    """Gradient norm of the slot head's weight row in the last optimizer step, by slot id. Unit: 1; 0 or more."""
    head_blueprint_grad_norm: dict[str, float] | None = None
    """Gradient norm of the blueprint head's weight row in the last optimizer step, by blueprint.
    Unit: 1; 0 or more."""
    head_style_entropy: dict[str, float] | None = None
    """Entropy of the style head, as for the blueprint head. Unit: nats; 0 or more."""
    head_tempo_entropy: dict[str, float] | None = None
    """Entropy of the tempo head, as for the blueprint head. Unit: nats; 0 or more."""
    head_alpha_target_entropy: dict[str, float] | None = None
    """Entropy of the alpha target head, as for the blueprint head. Unit: nats; 0 or more."""
    head_alpha_speed_entropy: dict[str, float] | None = None
    """Entropy of the alpha speed head, as for the blueprint head. Unit: nats; 0 or more."""
    head_alpha_curve_entropy: dict[str, float] | None = None
    """Entropy of the alpha curve head, as for the blueprint head. Unit: nats; 0 or more."""
    head_op_entropy: dict[str, float] | None = None
    """Entropy of the op head under its masks: ``all``, mean over all steps. Unit: nats; 0 or more."""

    inner_epoch: int = 0
    """PPO epochs executed in this update. Unit: epochs; 0 or more."""
    batch: int = 0
    """Index of the batch the update learnt from, the first being 0. Unit: index; 0 or more."""

    skipped: bool = False
    """Whether no update was attempted, for want of usable data; the measured values then mean nothing."""


@final
@dataclass(slots=True, frozen=True)
class RewardComputedPayload(Payload):
    """One step of one environment: the decision, its reward and what the reward is made of.

    The components are signed contributions: ``base_acc_delta``, ``bounded_attribution``, ``compute_rent``,
    ``alpha_shock``, ``ratio_penalty``, ``stage_bonus``, ``fossilize_terminal_bonus``, ``blending_warning`` and
    ``holding_warning`` add up to ``total_reward``. ``seed_contribution`` is evidence behind one of them, and adds
    nothing.
    """

    env_id: int
    """Global index of the environment. Unit: index; 0 or more."""
    total_reward: float
    """Reward of the step. Unit: reward; any real, higher is better."""
    action_name: str
    """The op that was carried out, by name."""
    value_estimate: float
    """Critic's estimate of the return from the state the decision was made in, in units of reward.
    Unit: reward; any real."""
    action_confidence: float
    """Joint probability of the whole factored choice under the policy that sampled it.
    Unit: probability; 0 to 1, NaN when unknown because actions are continuous: a density is no probability."""

    base_acc_delta: float = 0.0
    """Contribution of the change in validation accuracy over the step; under the reward mode ``sparse`` over the
    episode, at its last step. Unit: reward; any real."""
    bounded_attribution: float = 0.0
    """Contribution credited to the seeds: bounded by the accuracy gained over the do-nothing control.
    Unit: reward; any real."""
    seed_contribution: float = 0.0
    """Accuracy lost when the seed of the slot acted on is ablated; not supplied where no ablation was run.
    Unit: fraction; -1 to 1."""
    compute_rent: float = 0.0
    """Contribution of the parameters that the seeds occupy. Unit: reward; 0 or less."""
    alpha_shock: float = 0.0
    """Contribution of abrupt changes of alpha. Unit: reward; 0 or less."""
    ratio_penalty: float = 0.0
    """Contribution of lifecycle costs: germinations, prunes and seeds lost at the episode's end.
    Unit: reward; 0 or less."""
    stage_bonus: float = 0.0
    """Contribution of progress through the stages, as a difference of potentials. Unit: reward; any real."""
    fossilize_terminal_bonus: float = 0.0
    """Contribution of fossilizing: a bonus for a seed that helps, a penalty for one that does not.
    Unit: reward; any real."""
    blending_warning: float = 0.0
    """Contribution of seeds that hurt while they blend. Unit: reward; 0 or less."""
    holding_warning: float = 0.0
    """Contribution of seeds that are left in HOLDING for too long. Unit: reward; 0 or less."""
    val_acc: float = 0.0
    """Validation accuracy after the step. Unit: fraction; 0 to 1."""

    slot_states: dict[str, dict[str, Any]] | None = None
    """The slots as the decision saw them: slot id to ``stage`` and, when occupied, ``blueprint_id``, ``alpha`` and
    ``epochs_in_stage``."""
    host_accuracy: float = 0.0
    """Validation accuracy after the step with every seed ablated. Unit: fraction; 0 to 1."""
    alternatives: list[dict[str, Any]] | None = None
    """The most probable other (op, slot) pairs, best first: ``action``, ``slot`` (None for an op without one) and
    ``probability``."""
    decision_entropy: float = 0.0
    """Exact entropy of the factored joint policy at this decision. Unit: nats; 0 or more."""
    ab_group: str | None = None
    """Arm of an A/B comparison; None outside one."""
    action_slot: str | None = None
    """Slot the op was applied to; None for an op without one."""


@final
@dataclass(slots=True, frozen=True)
class SeedGerminatedPayload(Payload):
    """A seed was planted in a slot."""

    slot_id: str
    """Slot of the seed."""
    env_id: int
    """Global index of the environment. Unit: index; 0 or more."""
    blueprint_id: str
    """Blueprint the seed was built from."""
    params: int
    """Trainable parameters of the seed. Unit: parameters; 0 or more."""

    alpha: float = 0.0
    """Weight of the seed in its slot's output. Unit: 1; 0 to 1."""
    grad_ratio: float = 0.0
    """Gradient norm of the seed over that of the host in the last training batch; not supplied before there was one.
    Unit: 1; 0 or more."""
    has_vanishing: bool = False
    """Whether the seed's gradient norm was below 1e-2 in the last training batch."""
    has_exploding: bool = False
    """Whether the seed's gradient norm was above 5 or not finite in the last training batch."""
    epochs_in_stage: int = 0
    """Host epochs since the stage was entered. Unit: epochs; 0 or more."""
    blend_tempo_epochs: int = 5
    """Host epochs that the blending of this seed takes at normal speed. Unit: epochs; 1 or more."""


@final
@dataclass(slots=True, frozen=True)
class SeedStageChangedPayload(Payload):
    """A seed went from one lifecycle stage to another."""

    slot_id: str
    """Slot of the seed."""
    env_id: int
    """Global index of the environment. Unit: index; 0 or more."""
    from_stage: str
    """Name of the stage that was left."""
    to_stage: str
    """Name of the stage that was entered."""

    alpha: float | None = None
    """Weight of the seed in its slot's output at the transition. Unit: 1; 0 to 1."""
    accuracy_delta: float = 0.0
    """Change in validation accuracy while the seed was in the stage it left; not supplied before there were two
    validations. Unit: fraction; -1 to 1."""
    epochs_in_stage: int = 0
    """Host epochs spent in the stage that was left. Unit: epochs; 0 or more."""
    grad_ratio: float = 0.0
    """Gradient norm of the seed over that of the host in the last training batch; not supplied before there was one.
    Unit: 1; 0 or more."""
    has_vanishing: bool = False
    """Whether the seed's gradient norm was below 1e-2 in the last training batch."""
    has_exploding: bool = False
    """Whether the seed's gradient norm was above 5 or not finite in the last training batch."""


@final
@dataclass(slots=True, frozen=True)
class SeedFossilizedPayload(Payload):
    """A seed was kept for good."""

    slot_id: str
    """Slot of the seed."""
    env_id: int
    """Global index of the environment. Unit: index; 0 or more."""
    blueprint_id: str
    """Blueprint the seed was built from."""
    improvement: float
    """Change in validation accuracy since the seed germinated. Unit: fraction; -1 to 1."""
    params_added: int
    """Trainable parameters the seed adds to the network for good. Unit: parameters; 0 or more."""

    alpha: float = 1.0
    """Weight at which the seed was fixed. Unit: 1; 0 to 1."""
    epochs_total: int = 0
    """Host epochs since the seed germinated. Unit: epochs; 0 or more."""
    counterfactual: float = 0.0
    """Accuracy lost when this seed alone is ablated; not supplied where no ablation was run.
    Unit: fraction; -1 to 1."""


@final
@dataclass(slots=True, frozen=True)
class SeedPrunedPayload(Payload):
    """A seed was removed."""

    slot_id: str
    """Slot of the seed."""
    env_id: int
    """Global index of the environment. Unit: index; 0 or more."""
    reason: str
    """Why it was removed: ``policy`` when the policy chose to, else the rule that did."""

    blueprint_id: str | None = None
    """Blueprint the seed was built from."""
    improvement: float = 0.0
    """Change in validation accuracy since the seed germinated; not supplied before there was a validation.
    Unit: fraction; -1 to 1."""
    auto_pruned: bool = False
    """Whether a rule removed it rather than the policy."""
    epochs_total: int = 0
    """Host epochs since the seed germinated. Unit: epochs; 0 or more."""
    counterfactual: float = 0.0
    """Accuracy lost when this seed alone is ablated; not supplied where no ablation was run.
    Unit: fraction; -1 to 1."""


@final
@dataclass(slots=True, frozen=True)
class CounterfactualMatrixPayload(Payload):
    """What the network would score with some of its seeds ablated."""

    env_id: int
    """Global index of the environment. Unit: index; 0 or more."""
    slot_ids: tuple[str, ...]
    """The slots that were switched, in the order of each configuration's ``seed_mask``."""
    configs: tuple[dict[str, Any], ...]
    """One entry a configuration: ``seed_mask``, a list of bool by slot, and ``accuracy``, a fraction from 0 to 1."""

    strategy: str = "unavailable"
    """How configurations were chosen: ``full_factorial`` for all subsets."""
    compute_time_ms: float = 0.0
    """Wall time of the whole ablation. Unit: ms; 0 or more."""


@final
@dataclass(slots=True, frozen=True)
class AnalyticsSnapshotPayload(Payload):
    """A summary for dashboards; ``kind`` says which of the optional fields it fills."""

    kind: str
    """``action_distribution`` (fills action_counts), ``last_action`` (fills the others), or ``training_failed`` (fills
    none: the event, of severity critical, says in its message why the run ended)."""

    action_counts: dict[str, int] | None = None
    """How often each op was carried out in the batch, over all environments. Unit: actions; 0 or more."""
    env_id: int | None = None
    """Global index of the environment. Unit: index; 0 or more."""
    total_reward: float | None = None
    """Reward of the last step of the batch. Unit: reward; any real."""
    action_name: str | None = None
    """The op carried out in the last step of the batch."""
    action_confidence: float | None = None
    """Joint probability of the last choice under the policy that sampled it. Unit: probability; 0 to 1."""
    value_estimate: float | None = None
    """Critic's estimate in the last state of the batch. Unit: reward; any real."""


TelemetryPayload: TypeAlias = (
    TrainingStartedPayload
    | EpochCompletedPayload
    | BatchEpochCompletedPayload
    | PPOUpdatePayload
    | RewardComputedPayload
    | SeedGerminatedPayload
    | SeedStageChangedPayload
    | SeedFossilizedPayload
    | SeedPrunedPayload
    | CounterfactualMatrixPayload
    | AnalyticsSnapshotPayload
)
"""Any of the eleven payloads; ``isinstance`` narrows it and ``assert_never`` closes it."""
compile_payloads(*get_args(TelemetryPayload))

EVENT_TYPES: dict[type[TelemetryPayload], TelemetryEventType] = {
    TrainingStartedPayload: TelemetryEventType.TRAINING_STARTED,
    EpochCompletedPayload: TelemetryEventType.EPOCH_COMPLETED,
    BatchEpochCompletedPayload: TelemetryEventType.BATCH_EPOCH_COMPLETED,
    PPOUpdatePayload: TelemetryEventType.PPO_UPDATE_COMPLETED,
    RewardComputedPayload: TelemetryEventType.REWARD_COMPUTED,
    SeedGerminatedPayload: TelemetryEventType.SEED_GERMINATED,
    SeedStageChangedPayload: TelemetryEventType.SEED_STAGE_CHANGED,
    SeedFossilizedPayload: TelemetryEventType.SEED_FOSSILIZED,
    SeedPrunedPayload: TelemetryEventType.SEED_PRUNED,
    CounterfactualMatrixPayload: TelemetryEventType.COUNTERFACTUAL_MATRIX_COMPUTED,
    AnalyticsSnapshotPayload: TelemetryEventType.ANALYTICS_SNAPSHOT,
}
"""The event type that each payload belongs to; one-to-one, checked below."""

if {*EVENT_TYPES} != {*get_args(TelemetryPayload)} or {*EVENT_TYPES.values()} != {*TelemetryEventType}:
    raise AssertionError("payload classes and event types must correspond one-to-one")


def _utc_now() -> datetime:
    return datetime.now(UTC)


class _Numbers:
    """What an event's id and time are made of when somebody asks for them; None of what its maker gave."""

    __slots__ = ("_nanoseconds", "_number")


@final
@dataclass(slots=True, frozen=True, kw_only=True)
class TelemetryEvent(_Numbers):
    """One thing that happened, at one time: a payload in its envelope.

    Raises:
        TypeError: ``data`` is none of the eleven payloads.
        ValueError: ``event_type`` is given and is not the payload's, or ``timestamp`` has no time zone.
    """

    event_id: str = field(default_factory=new_event_id)
    """Identifier, unique over threads, forks and machines. Nothing is de-duplicated by it."""
    event_type: TelemetryEventType = cast("TelemetryEventType", None)  # noqa: RUF009 - a constant, for the checkers
    """What the event is about. It follows from the payload; when given it must agree."""
    timestamp: datetime = field(default_factory=_utc_now)
    """When the event was built, in UTC."""

    seed_id: str | None = None
    """Seed the event is about, unique within a run."""
    slot_id: str | None = None
    """Slot the event is about."""
    epoch: int | None = None
    """Host epoch within the episode, the first being 1. Unit: epochs; 0 or more."""
    group_id: str = "default"
    """Arm of an A/B comparison; readers keep groups apart."""

    data: TelemetryPayload
    """What happened: one of the eleven payloads."""

    message: str = ""
    """The event in a sentence, for people."""
    severity: Severity = "info"
    """How urgently somebody should look: debug, info, warning, error or critical."""

    _codec: ClassVar[Any]

    @classmethod
    def from_dict(cls, mapping: Mapping[str, object]) -> TelemetryEvent:
        """Make an event of what `to_dict` returns: event type by name, timestamp in ISO 8601, payload as a mapping.

        Raises:
            PayloadError: a field of the envelope or of the payload is missing, unknown or of another type.
        """
        event: TelemetryEvent = cls._codec.from_dict(mapping)
        return event

    def to_dict(self) -> dict[str, object]:
        """Return the event as plain Python values, ready for `from_dict`."""
        fields: dict[str, object] = self._codec.to_dict(self)
        return fields


Emit: TypeAlias = Callable[[TelemetryEvent], None]
"""What domain code is given to emit events. It does not raise for a reader's sake."""

SCHEMA_VERSION = 1
"""Version of the payloads' fields and of the log's format; every later version reads this one."""

compile_event(TelemetryEvent, EVENT_TYPES, SCHEMA_VERSION)
