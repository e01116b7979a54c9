"""Every number that a run emits, worked out a second time from weights, logits, actions and gradients.

`witness` trains with spies in place and keeps what went into the numbers; the other modules here work out, in NumPy and
without a function of esper's, what should have been emitted, event for event.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
import pytest
from tests.simic.differential.network import Array, Snapshot, cross_entropies, evaluate, logits
from tests.simic.differential.policy import forward
from tests.simic.differential.prediction import CLOCKS, Arm, arms
from tests.simic.differential.updates import planted
from tests.simic.differential.witness import Backward, snapshot, tiny, witness

from esper.leyline.actions import Action
from esper.leyline.telemetry import EVENT_TYPES, CounterfactualMatrixPayload, PPOUpdatePayload
from esper.simic.config import Fault
from esper.simic.control import do_nothing_control
from esper.simic.episode import Episode
from esper.simic.outcome import StepOutcome

MODES: dict[str, dict[str, Any]] = {
    "shaped": {"envs": 3, "episodes": 8, "max_epochs": 16},
    "simplified": {"reward_mode": "simplified"},
    "sparse": {"reward_mode": "sparse"},
    "arms": {"ab": ("shaped", "sparse"), "amp_dtype": "float16"},
    "bfloat16": {"amp_dtype": "bfloat16"},
    # steps enough for the loss scale to rise again
    "float16": {"amp_dtype": "float16", "episodes": 10, "max_epochs": 3, "target_kl": 1e9, "max_grad_norm": 0.05},
    **{f"inject {fault}": {"inject": fault} for fault in get_args(Fault)},
}
NOT_RECOMPUTED = {
    "TrainingStartedPayload.episode_id": "configuration, given to none of these runs",
    "TrainingStartedPayload.compile_backend": "configuration, given to none of these runs",
    "TrainingStartedPayload.compile_mode": "configuration, given to none of these runs",
    "TrainingStartedPayload.resume_path": "no run is resumed here",
    "TrainingStartedPayload.start_episode": "no run is resumed here",
    "TrainingStartedPayload.world_size": "one process",
    "TrainingStartedPayload.rank": "one process",
    "TrainingStartedPayload.local_rank": "one process",
    "PPOUpdatePayload.update_time_ms": "a clock's; bounded by another clock",
    "CounterfactualMatrixPayload.compute_time_ms": "a clock's; bounded by another clock",
    "SeedGerminatedPayload.grad_ratio": "a new seed has had no training batch",
    "SeedGerminatedPayload.has_vanishing": "a new seed has had no training batch",
    "SeedGerminatedPayload.has_exploding": "a new seed has had no training batch",
}
"""Fields that no test here works out, and why."""
RELATIVE, ABSOLUTE = 5e-5, 2e-6


def differences(expected: object, emitted: object, where: str) -> list[str]:
    """Say where two values differ by more than the last bits of float32."""
    if isinstance(expected, Mapping) and isinstance(emitted, Mapping):
        if expected.keys() != emitted.keys():
            return [f"{where}: {sorted(map(str, emitted))} instead of {sorted(map(str, expected))}"]
        return [found for key in expected for found in differences(expected[key], emitted[key], f"{where}.{key}")]
    if isinstance(expected, list | tuple) and isinstance(emitted, list | tuple):
        if len(expected) != len(emitted):
            return [f"{where}: {len(emitted)} instead of {len(expected)}"]
        pairs = enumerate(zip(expected, emitted, strict=True))
        return [found for i, pair in pairs for found in differences(*pair, f"{where}[{i}]")]
    if isinstance(expected, float | np.floating) and isinstance(emitted, float):
        same = math.isclose(expected, emitted, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
        lost = not math.isfinite(expected) and not math.isfinite(emitted)
        exact = where.rpartition(".")[2] == "grad_norm"  # inf is an overflow, NaN is not
        return [] if same or (lost and (not exact or math.isnan(expected) == math.isnan(emitted))) else [
            f"{where}: {emitted!r} instead of {expected!r}"
        ]  # fmt: skip
    return [] if expected == emitted else [f"{where}: {emitted!r} instead of {expected!r}"]


def configurations(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields with the configurations of an ablation in one order: it is no part of what is said."""
    if "configs" not in fields:
        return dict(fields)
    return {**fields, "configs": sorted(fields["configs"], key=lambda config: config["seed_mask"])}


def compare(arm: Arm) -> list[str]:
    """Hold an arm's events against what was expected."""
    found: list[str] = []
    for number, (event, expected) in enumerate(zip(arm.emitted, arm.expected, strict=True)):
        where = f"event {number}, {expected.payload}"
        if type(event.data).__name__ != expected.payload:
            return [*found, f"{where}: a {type(event.data).__name__}"]
        emitted = {name: value for name, value in event.data.to_dict().items() if name not in CLOCKS}
        found += differences(configurations(expected.fields), configurations(emitted), where)
        envelope = (event.epoch, event.slot_id, event.seed_id)
        if envelope != (expected.epoch, expected.slot_id, expected.seed_id):
            found.append(f"{where}: {envelope} instead of {expected[2:]}")
    return found


@pytest.fixture(scope="module", params=MODES)
def run(request: pytest.FixtureRequest) -> list[Arm]:
    """The arms of one mode; what asks for them is run mode by mode."""
    return arms(**MODES[request.param])


def test_every_event_says_what_was_worked_out_independently(run: list[Arm]) -> None:
    for arm in run:
        assert compare(arm)[:10] == []


def test_the_policy_answers_what_its_weights_say(run: list[Arm]) -> None:
    for arm in run:
        exact = arm.config.amp_dtype is None
        for batch in (batch for batch in arm.batches if batch.forwards):
            decided = [(step.decision, batch.forwards[0].weights) for each in batch.episodes for step in each.steps]
            for seen, weights in decided + [(each, each.weights) for each in batch.forwards]:
                scores, values, _ = forward(weights, seen.observations)
                largest = max(1.0, float(np.abs(values).max()))
                assert np.allclose(values, seen.values, atol=(1e-5 if exact else 0.03) * largest)
                for head, expected in scores.items():
                    assert np.allclose(expected, seen.logits[head], atol=1e-5 if exact else 0.03)


def test_every_gradient_is_the_one_worked_out_by_hand(run: list[Arm]) -> None:
    """The derivative of the loss by every weight, of every optimizer step, with the faults that were planted."""
    for arm in run:
        for index, update in enumerate(arm.updates):
            fault = arm.config.inject if index == arm.config.inject_at else None
            for by_hand, real in zip(update.minibatches, update.gradients, strict=True):
                largest = max(float(np.abs(each).max()) for each in by_hand.gradients.values())
                expected = planted(by_hand.gradients, fault)
                assert expected.keys() == real.keys()
                for name, gradient in expected.items():
                    if arm.config.amp_dtype is None:
                        same = np.allclose(gradient, real[name], rtol=2e-3, atol=2e-6 * largest, equal_nan=True)
                    else:
                        same = about_alike(gradient, real[name])
                    assert same, (index, name)


def about_alike(expected: Array, real: Array) -> bool:
    """Whether a gradient of reduced precision has the right direction and length, as far as it did not overflow."""
    distance, length = np.linalg.norm(expected - real), np.linalg.norm(expected)
    return not np.isfinite(real).all() or bool(distance <= 0.1 * length + 1e-3)


def test_weights_move_by_adam_at_the_emitted_rate_along_clipped_gradients_and_only_in_steps_taken(
    run: list[Arm],
) -> None:
    for arm in run:
        moments: dict[str, tuple[Array, Array]] = {}
        taken = 0
        for update in arm.updates:
            at = (update.fields["lr"], arm.config.max_grad_norm)
            weights = [each.weights for each in update.forwards] + [None]
            for before, after, gradients, stepped in zip(
                weights, weights[1:], update.gradients, update.taken, strict=False
            ):
                assert before is not None
                taken += stepped
                moved = adam(before, gradients, moments, (taken, *at)) if stepped else before
                for name, weight in (after or {}).items():
                    assert np.allclose(moved[name], weight, atol=3e-6, rtol=1e-5, equal_nan=True), name


def adam(
    weights: Mapping[str, Array],
    gradients: Mapping[str, Array],
    moments: dict[str, tuple[Array, Array]],
    at: tuple[int, float, float],
) -> dict[str, Array]:
    """Step number n of Adam (Kingma and Ba 2015) at some rate, along gradients that are scaled down to a norm."""
    n, lr, max_norm = at
    length = math.sqrt(sum(float((each.astype(np.float64) ** 2).sum()) for each in gradients.values()))
    moved_to = {}
    for name, gradient in gradients.items():
        clipped = gradient.astype(np.float64) * min(1.0, max_norm / (length + 1e-6))
        mean, square = moments.get(name, (np.zeros_like(clipped), np.zeros_like(clipped)))
        mean, square = 0.9 * mean + 0.1 * clipped, 0.999 * square + 0.001 * clipped**2
        moments[name] = mean, square
        moved_to[name] = weights[name] - lr * (mean / (1 - 0.9**n)) / (np.sqrt(square / (1 - 0.999**n)) + 1e-5)
    return moved_to


def test_clocks_are_bounded_by_another_clock(run: list[Arm]) -> None:
    for arm in run:
        updates = [event.data for event in arm.emitted if isinstance(event.data, PPOUpdatePayload)]
        for payload, batch in zip(updates, arm.batches, strict=True):
            assert payload.skipped or 0 < payload.update_time_ms <= batch.seconds * 1e3
        longest = max(step.seconds for batch in arm.batches for each in batch.episodes for step in each.steps)
        for event in arm.emitted:
            if isinstance(event.data, CounterfactualMatrixPayload):
                assert 0 < event.data.compute_time_ms <= longest * 1e3


def test_every_field_is_worked_out_or_has_a_reason_not_to_be() -> None:
    """Derived from the payloads: a new field must be recomputed here, or say why not."""
    supplied = {
        f"{expected.payload}.{name}"
        for arm in arms(**MODES["arms"])
        for expected in arm.expected
        for name in expected.fields
    }
    fields = {f"{cls.__name__}.{each.name}" for cls in EVENT_TYPES for each in dataclasses.fields(cls)}
    assert fields - supplied == NOT_RECOMPUTED.keys()


# ── the networks that grow ─────────────────────────────────────────────────────────────────────────────────────────


def test_host_and_seeds_learn_from_the_gradients_of_their_own_losses_alone() -> None:
    """Along a random direction, by finite differences in float64: no seed behind the host is in the host's loss."""
    seen = witness(episodes=6, max_epochs=12)
    kinds = Counter[str]()
    rng = np.random.default_rng(0)
    for each in seen.backwards:
        joined = {slot_id for slot_id, alpha in each.alphas.items() if alpha > 0}
        gradients = {"": each.host} | {slot_id: each.seeds[slot_id] for slot_id in joined}
        assert slope_along(each, gradients, each.alphas, rng)
        kinds["joined"] += bool(joined)
        for slot_id in each.training:
            assert slope_along(each, {slot_id: each.seeds[slot_id]}, each.alphas | {slot_id: 1.0}, rng)
            kinds["training beside a joined one" if joined else "training"] += 1
    assert min(kinds.values()) > 2
    assert len(kinds) == 3


def slope_along(
    each: Backward, gradients: Mapping[str, Mapping[str, Array]], alphas: Mapping[str, float], rng: np.random.Generator
) -> bool:
    """Whether gradients foretell how the loss changes along a direction in just these weights."""
    direction = {part: {name: rng.normal(size=g.shape) for name, g in of.items()} for part, of in gradients.items()}
    foretold = sum(
        float((gradient * direction[part][name]).sum())
        for part, of in gradients.items()
        for name, gradient in of.items()
    )
    size = math.sqrt(sum(float((g.astype(np.float64) ** 2).sum()) for of in gradients.values() for g in of.values()))
    step = 1e-6
    higher, lower = (
        cross_entropies(
            logits(moved(each, direction, sign * step), alphas, each.inputs.astype(np.float64)), each.labels
        )
        for sign in (1, -1)
    )
    slope = float((higher.mean() - lower.mean()) / (2 * step))
    return math.isclose(slope, foretold, rel_tol=1e-3, abs_tol=1e-4 * size + 1e-8)


def moved(each: Backward, direction: Mapping[str, Mapping[str, Array]], step: float) -> Snapshot:
    """Return the network with some weights moved, in float64."""

    def part(name: str, weights: Mapping[str, Array]) -> dict[str, Array]:
        along = direction.get(name, {})
        return {key: array.astype(np.float64) + step * along.get(key, np.zeros(1)) for key, array in weights.items()}

    network = each.network
    seeds = {slot_id: seed._replace(weights=part(slot_id, seed.weights)) for slot_id, seed in network.seeds.items()}
    return network._replace(host=part("", network.host), seeds=seeds)


@pytest.mark.parametrize("learning_rate", [2e-2, 1e30])
def test_the_control_is_the_mean_of_four_hosts_that_do_nothing(
    learning_rate: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = dataclasses.replace(tiny(), learning_rate=learning_rate)
    inputs, labels = (tensor.numpy() for tensor in task.validation)
    found = []
    step = Episode.step

    def spied(episode: Episode, action: Action) -> StepOutcome:
        outcome = step(episode, action)
        found.append(evaluate(snapshot(episode.network), {}, inputs, labels).accuracy)
        return outcome

    monkeypatch.setattr(Episode, "step", spied)
    control = do_nothing_control(task, n_slots=2, max_epochs=5, seed=1)
    assert np.allclose(control, np.reshape(found, (4, 5)).mean(axis=0), equal_nan=True)
    assert math.isnan(control[-1]) == (learning_rate > 1)
