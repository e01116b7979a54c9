from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.effort import tries

from esper.kasmina.seed import GradientHealth
from esper.kasmina.slot import EMBARGO_EPOCHS, IllegalTransitionError, SeedSlot
from esper.leyline.actions import AlphaCurve, AlphaSpeed, BlendStyle
from esper.leyline.stages import NEXT_STAGES, SeedStage
from esper.leyline.telemetry import (
    SeedFossilizedPayload,
    SeedGerminatedPayload,
    SeedPrunedPayload,
    SeedStageChangedPayload,
    TelemetryEvent,
)

HEALTHY = GradientHealth(seed_norm=0.5, host_norm=2.0)


class Life:
    """A slot, the events it emitted, and a trainer's part played by hand."""

    def __init__(self) -> None:
        self.emitted: list[TelemetryEvent] = []
        self.slot = SeedSlot(
            "r1",
            env_id=3,
            tokens=2,
            width=4,
            generator=torch.Generator().manual_seed(0),
            device=torch.device("cpu"),
            serials=itertools.count(7),
            emit=self.emitted.append,
            group_id="B",
        )

    def germinate(self, tempo: int = 2, style: BlendStyle = BlendStyle.ADD) -> None:
        self.slot.germinate("mixer", style=style, tempo=tempo, val_accuracy=0.25)

    def advance(self, target: float = 0.75) -> None:
        self.slot.advance(target=target, speed=AlphaSpeed.NORMAL, curve=AlphaCurve.LINEAR)

    def epoch(
        self, accuracy: float = 0.5, contribution: float | None = None, gradient: GradientHealth = HEALTHY
    ) -> None:
        self.slot.begin_epoch()
        self.slot.end_training(gradient if self.slot.seed else None)
        self.slot.end_epoch(accuracy, contribution)

    def blend(self) -> None:
        while self.slot.stage is SeedStage.BLENDING:
            self.epoch()

    def reach(self, stage: SeedStage) -> None:
        steps: dict[SeedStage, Callable[[], None]] = {
            SeedStage.GERMINATED: self.germinate,
            SeedStage.TRAINING: self.epoch,
            SeedStage.BLENDING: self.advance,
            SeedStage.HOLDING: self.blend,
            SeedStage.FOSSILIZED: self.slot.fossilize,
        }
        if stage in {SeedStage.PRUNED, SeedStage.EMBARGOED}:
            self.germinate()
            self.slot.prune()
            if stage is SeedStage.EMBARGOED:
                self.epoch()
        elif stage is not SeedStage.DORMANT:
            for step in steps.values():
                step()
                if self.slot.stage is stage:
                    break
        assert self.slot.stage is stage

    def told_of(self, kind: type) -> list[TelemetryEvent]:
        return [event for event in self.emitted if isinstance(event.data, kind)]

    def route(self) -> list[tuple[str, str]]:
        changes = [event.data for event in self.emitted if isinstance(event.data, SeedStageChangedPayload)]
        return [(change.from_stage, change.to_stage) for change in changes]


ASKED: dict[SeedStage, Callable[[Life], None]] = {
    SeedStage.GERMINATED: lambda life: life.germinate(),
    SeedStage.BLENDING: lambda life: life.advance(),
    SeedStage.FOSSILIZED: lambda life: life.slot.fossilize(),
    SeedStage.PRUNED: lambda life: life.slot.prune(),
}


def test_a_kept_seed_goes_through_every_stage_and_each_is_emitted_once_with_the_stage_it_left() -> None:
    life = Life()
    life.reach(SeedStage.FOSSILIZED)
    assert life.route() == [
        ("DORMANT", "GERMINATED"),
        ("GERMINATED", "TRAINING"),
        ("TRAINING", "BLENDING"),
        ("BLENDING", "HOLDING"),
        ("HOLDING", "FOSSILIZED"),
    ]
    assert len(life.told_of(SeedFossilizedPayload)) == 1
    assert len(life.told_of(SeedGerminatedPayload)) == 1


def test_a_pruned_slot_rests_for_the_embargo_and_is_dormant_again() -> None:
    life = Life()
    life.reach(SeedStage.TRAINING)
    life.slot.prune()
    life.emitted.clear()
    for _ in range(EMBARGO_EPOCHS):
        assert life.slot.stage in {SeedStage.PRUNED, SeedStage.EMBARGOED}
        life.epoch()
    assert life.slot.stage is SeedStage.DORMANT
    assert life.route() == [("PRUNED", "EMBARGOED"), ("EMBARGOED", "DORMANT")]
    rest = life.emitted[-1].data
    assert isinstance(rest, SeedStageChangedPayload)
    assert rest.epochs_in_stage == EMBARGO_EPOCHS
    assert rest.supplied.isdisjoint({"alpha", "accuracy_delta", "grad_ratio"})
    assert {event.seed_id for event in life.emitted} == {None}


@pytest.mark.parametrize(
    ("stage", "asked"), [(stage, asked) for stage in SeedStage for asked in ASKED if asked not in NEXT_STAGES[stage]]
)
def test_an_illegal_transition_is_refused_and_changes_and_emits_nothing(stage: SeedStage, asked: SeedStage) -> None:
    life = Life()
    life.reach(stage)
    life.emitted.clear()
    seed, epochs, alpha = life.slot.seed, life.slot.epochs_in_stage, life.slot.alpha
    with pytest.raises(IllegalTransitionError) as refusal:
        ASKED[asked](life)
    for named in ("r1", stage.name, asked.name):
        assert named in str(refusal.value)
    assert (refusal.value.slot_id, refusal.value.stage, refusal.value.requested) == ("r1", stage, asked)
    assert (life.slot.stage, life.slot.seed, life.slot.epochs_in_stage, life.slot.alpha) == (stage, seed, epochs, alpha)
    assert life.emitted == []


@pytest.mark.parametrize("stage", [stage for stage in SeedStage if SeedStage.PRUNED in NEXT_STAGES[stage]])
@pytest.mark.parametrize("reason", ["policy", "episode_end"])
def test_a_prune_is_emitted_exactly_once_before_its_transition(stage: SeedStage, reason: str) -> None:
    life = Life()
    life.reach(stage)
    life.emitted.clear()
    life.slot.prune(reason)
    own, change = (event.data for event in life.emitted)
    assert isinstance(own, SeedPrunedPayload)
    assert (own.reason, own.auto_pruned, own.blueprint_id) == (reason, reason != "policy", "mixer")
    assert isinstance(change, SeedStageChangedPayload)
    assert (change.from_stage, change.to_stage) == (stage.name, "PRUNED")
    assert life.slot.seed is None
    assert life.slot.alpha == 0


def test_events_carry_the_identity_of_slot_seed_epoch_and_group() -> None:
    life = Life()
    life.epoch()
    life.germinate()
    life.epoch()
    assert [(event.epoch, event.slot_id, event.seed_id, event.group_id) for event in life.emitted] == [
        (2, "r1", "env3-r1-s7", "B")
    ] * 3
    for event in life.emitted:
        assert "r1" in event.message
        assert isinstance(event.data, SeedGerminatedPayload | SeedStageChangedPayload)
        assert (event.data.env_id, event.data.slot_id) == (3, "r1")


def test_every_seed_has_a_name_of_its_own() -> None:
    life = Life()
    for _ in range(3):
        life.germinate()
        life.slot.prune()
        for _ in range(EMBARGO_EPOCHS):
            life.epoch()
    names = [event.seed_id for event in life.told_of(SeedGerminatedPayload)]
    assert names == ["env3-r1-s7", "env3-r1-s8", "env3-r1-s9"]


def test_germination_emits_the_parameters_that_are_there_and_no_gradient() -> None:
    life = Life()
    life.germinate(tempo=4)
    payload = life.emitted[0].data
    assert isinstance(payload, SeedGerminatedPayload)
    assert payload.params == life.slot.params == 2 * (2 * 2 + 2)
    assert payload.blend_tempo_epochs == 4
    assert payload.alpha == 0
    assert payload.supplied.isdisjoint({"grad_ratio", "has_vanishing", "has_exploding"})


def test_a_gradient_is_emitted_only_after_a_training_batch() -> None:
    life = Life()
    life.germinate()
    life.epoch()
    life.advance()
    germinated, training, blending = (event.data for event in life.told_of(SeedStageChangedPayload))
    gradient_figures = {"grad_ratio", "has_vanishing", "has_exploding"}
    assert germinated.supplied.isdisjoint(gradient_figures)
    assert training.supplied.isdisjoint(gradient_figures)
    assert isinstance(blending, SeedStageChangedPayload)
    assert gradient_figures <= blending.supplied
    assert (blending.grad_ratio, blending.has_vanishing, blending.has_exploding) == (0.25, False, False)


@pytest.mark.parametrize(
    ("norm", "vanishing", "exploding"),
    [(1e-8, True, False), (0.0, True, False), (1.0, False, False), (2e3, False, True),
     (float("nan"), False, True), (float("inf"), False, True)],
)  # fmt: skip
def test_gradient_flags_follow_the_norm_and_an_explosion_is_a_warning(
    norm: float, vanishing: bool, exploding: bool
) -> None:
    life = Life()
    life.germinate()
    life.epoch(gradient=GradientHealth(seed_norm=norm, host_norm=1.0))
    life.advance()
    change = life.emitted[-1]
    assert isinstance(change.data, SeedStageChangedPayload)
    assert (change.data.has_vanishing, change.data.has_exploding) == (vanishing, exploding)
    assert change.severity == ("warning" if exploding else "info")
    assert ("gradient exploding: norm" in change.message) is exploding


def test_there_is_no_ratio_to_a_host_without_a_gradient() -> None:
    life = Life()
    life.germinate()
    life.epoch(gradient=GradientHealth(seed_norm=1.0, host_norm=0.0))
    life.advance()
    assert "grad_ratio" not in life.emitted[-1].data.supplied
    assert "has_exploding" in life.emitted[-1].data.supplied


def test_accuracy_delta_is_the_change_within_the_stage_that_was_left() -> None:
    life = Life()
    life.germinate()
    life.epoch(0.5)
    life.epoch(0.375)
    life.advance()
    life.epoch(0.5)
    life.epoch(0.875)
    changes = [event.data for event in life.emitted if isinstance(event.data, SeedStageChangedPayload)]
    by_stage = {change.from_stage: change for change in changes}
    assert "accuracy_delta" not in by_stage["DORMANT"].supplied
    assert "accuracy_delta" not in by_stage["GERMINATED"].supplied
    assert by_stage["TRAINING"].accuracy_delta == 0.375 - 0.25
    assert by_stage["TRAINING"].epochs_in_stage == 2
    assert by_stage["BLENDING"].accuracy_delta == 0.875 - 0.375


def test_a_stage_left_before_it_was_validated_supplies_no_delta_and_no_improvement() -> None:
    life = Life()
    life.germinate()
    life.slot.begin_epoch()
    life.slot.end_training(HEALTHY)
    life.slot.prune("episode_end")
    own, change = (event.data for event in life.emitted[-2:])
    assert isinstance(own, SeedPrunedPayload)
    assert own.epochs_total == 1
    assert own.supplied.isdisjoint({"improvement", "counterfactual"})
    assert "accuracy_delta" not in change.supplied
    assert "grad_ratio" in change.supplied


def test_fossilizing_emits_improvement_since_germination_and_the_last_ablation() -> None:
    life = Life()
    life.germinate()
    life.epoch(0.5)
    life.advance(target=0.75)
    life.epoch(0.5, contribution=0.125)
    life.epoch(0.75, contribution=0.0625)
    life.slot.fossilize()
    own = life.emitted[-2].data
    assert isinstance(own, SeedFossilizedPayload)
    assert (own.improvement, own.counterfactual, own.alpha) == (0.5, 0.0625, 0.75)
    assert (own.epochs_total, own.params_added) == (3, 12)


def test_fossilizing_without_an_ablation_supplies_no_counterfactual() -> None:
    life = Life()
    life.reach(SeedStage.FOSSILIZED)
    assert "counterfactual" not in life.emitted[-2].data.supplied


def test_blending_moves_alpha_epoch_by_epoch_until_the_target_is_held() -> None:
    life = Life()
    life.germinate(tempo=4)
    life.epoch()
    life.advance(target=0.5)
    alphas = []
    while life.slot.stage is SeedStage.BLENDING:
        life.epoch()
        alphas.append(life.slot.alpha)
    assert alphas == [0.125, 0.25, 0.375, 0.5]
    assert life.slot.stage is SeedStage.HOLDING


def test_the_state_is_complete_when_an_event_is_emitted() -> None:
    seen: list[tuple[SeedStage, int]] = []
    life = Life()
    slot = SeedSlot(
        "r0",
        env_id=0,
        tokens=2,
        width=4,
        generator=torch.Generator(),
        device=torch.device("cpu"),
        serials=itertools.count(),
        emit=lambda _event: seen.append((slot.stage, slot.params)),
    )
    life.slot = slot
    life.germinate()
    slot.prune()
    assert seen == [(SeedStage.GERMINATED, 12)] * 2 + [(SeedStage.PRUNED, 0)] * 2


@pytest.mark.parametrize("style", BlendStyle)
def test_the_output_follows_style_and_alpha(style: BlendStyle) -> None:
    life = Life()
    features = torch.linspace(-1, 1, 8).reshape(1, 2, 4)
    assert life.slot.join(features) is features
    life.germinate(style=style)
    assert life.slot.join(features) is features
    life.epoch()
    life.advance(target=0.5)
    life.epoch()
    life.epoch()
    assert life.slot.seed is not None
    output: torch.Tensor = life.slot.seed.module(features)

    def joined(alpha: float) -> torch.Tensor:
        return features + alpha * output if style is BlendStyle.ADD else features * (1 + alpha * output.tanh())

    assert torch.equal(life.slot.join(features), joined(0.5))
    assert torch.equal(life.slot.join_fully(features), joined(1.0))


def test_an_unknown_blueprint_leaves_the_slot_dormant() -> None:
    life = Life()
    with pytest.raises(KeyError, match="quantum"):
        life.slot.germinate("quantum", style=BlendStyle.ADD, tempo=1, val_accuracy=0.0)
    assert life.slot.stage is SeedStage.DORMANT
    assert life.emitted == []


REQUESTS: dict[str, Callable[[Life], None]] = {
    "germinate": lambda life: life.germinate(),
    "advance": lambda life: life.advance(),
    "fossilize": lambda life: life.slot.fossilize(),
    "prune": lambda life: life.slot.prune(),
    "epoch": lambda life: life.epoch(),
}


@settings(max_examples=tries(60))
@given(st.lists(st.sampled_from([*REQUESTS, "epoch", "epoch"]), max_size=30))
def test_whatever_is_asked_the_emitted_route_is_legal_unbroken_and_complete(requests: list[str]) -> None:
    life = Life()
    for request in requests:
        before, emitted = life.slot.stage, len(life.emitted)
        try:
            REQUESTS[request](life)
        except IllegalTransitionError:
            assert (life.slot.stage, len(life.emitted)) == (before, emitted)
    route = life.route()
    entered = [to for _, to in route]
    assert [left for left, _ in route] == ["DORMANT", *entered][: len(route)]
    assert all(SeedStage[to] in NEXT_STAGES[SeedStage[left]] for left, to in route)
    assert ["DORMANT", *entered][-1] == life.slot.stage.name
    for stage, own in (
        ("GERMINATED", SeedGerminatedPayload),
        ("FOSSILIZED", SeedFossilizedPayload),
        ("PRUNED", SeedPrunedPayload),
    ):
        assert len(life.told_of(own)) == entered.count(stage)
