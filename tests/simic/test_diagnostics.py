"""Every diagnostic against a value worked out by hand, and at the edges."""

from __future__ import annotations

import math
import re
import subprocess
import sys

import pytest
import torch

from esper.simic import diagnostics as d

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(("module", "lacks"), [("diagnostics", "torch"), ("environment", "gymnasium")])
def test_where_a_library_is_missing_the_import_names_the_extra(module: str, lacks: str) -> None:
    code = f"import sys; sys.modules[{lacks!r}] = None; import esper.simic.{module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"need {lacks}: pip install 'esper-telemetry[train]'" in done.stderr


def test_gradient_totals_of_three_and_four_are_five() -> None:
    totals = d.gradient_totals([torch.tensor([[3.0]]), None, torch.tensor([0.0, -4.0])])
    assert totals == d.GradientTotals(norm=5.0, nan_count=0, inf_count=0)
    assert totals.finite


def test_nan_and_inf_are_counted_apart_and_show_in_the_norm() -> None:
    with_inf = d.gradient_totals([torch.tensor([INF, 1.0, -INF])])
    assert with_inf == d.GradientTotals(norm=INF, nan_count=0, inf_count=2)
    both = d.gradient_totals([torch.tensor([INF]), torch.tensor([NAN, NAN, 2.0])])
    assert math.isnan(both.norm)
    assert (both.nan_count, both.inf_count) == (2, 1)
    assert not both.finite
    assert not with_inf.finite


def test_no_gradient_at_all_has_norm_zero() -> None:
    assert d.gradient_totals([None]) == d.GradientTotals(0.0, 0, 0)


def test_half_precision_gradients_do_not_overflow_while_they_are_measured() -> None:
    assert d.gradient_totals([torch.full((4,), 60_000.0, dtype=torch.float16)]).norm == pytest.approx(
        120_000.0, rel=1e-3
    )


def test_layer_health_is_gradient_over_weight_norm() -> None:
    health = d.layer_health({"a": (torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 10.0]]))})
    assert health == d.LayerHealth(ratios={"a": 2.0}, dead=(), exploding=())


@pytest.mark.parametrize(("zeros", "dead"), [(8, ()), (9, ("a",)), (10, ("a",))])
def test_a_layer_is_dead_from_ninety_percent_zeros(zeros: int, dead: tuple[str, ...]) -> None:
    gradient = torch.ones(10)
    gradient[:zeros] = 0.0
    assert d.layer_health({"a": (torch.ones(10), gradient)}).dead == dead


@pytest.mark.parametrize(("gradient", "exploding"), [(100.0, False), (101.0, True), (INF, True), (NAN, True)])
def test_a_layer_explodes_above_a_hundredfold_or_when_not_finite(gradient: float, exploding: bool) -> None:
    health = d.layer_health({"a": (torch.tensor([1.0]), torch.tensor([gradient]))})
    assert health.exploding == (("a",) if exploding else ())


def test_a_layer_with_zero_weights_has_an_infinite_ratio_or_none_to_speak_of() -> None:
    zero = torch.zeros(2)
    assert d.layer_health({"a": (zero, torch.ones(2))}).ratios == {"a": INF}
    assert d.layer_health({"a": (zero, zero)}) == d.LayerHealth({"a": 0.0}, ("a",), ())


def test_row_norms_belong_to_their_choices() -> None:
    assert d.row_norms(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), ["x", "y"]) == {"x": 5.0, "y": 0.0}
    with pytest.raises(ValueError, match="2 rows, 1 names"):
        d.row_norms(torch.ones(2, 2), ["x"])


def test_ratio_statistics_by_hand() -> None:
    stats = d.ratio_statistics(torch.tensor([0.5, 1.0, 1.5]).log())
    assert stats == pytest.approx((1.0, 0.5, 1.5, math.sqrt(1 / 6)))


def test_a_single_ratio_has_no_spread_and_no_ratio_is_an_error() -> None:
    assert d.ratio_statistics(torch.zeros(1)) == (1.0, 1.0, 1.0, 0.0)
    with pytest.raises(ValueError, match=re.escape("at least one sample")):
        d.ratio_statistics(torch.zeros(0))


def test_a_ratio_that_overflowed_is_emitted_as_it_is() -> None:
    stats = d.ratio_statistics(torch.tensor([0.0, 1000.0]))
    assert stats.max == INF
    assert math.isnan(stats.std)


def test_kl_is_the_k3_estimator() -> None:
    ratios = torch.tensor([0.5, 2.0])
    expected = ((0.5 - 1 - math.log(0.5)) + (2 - 1 - math.log(2))) / 2
    assert d.approximate_kl(ratios.log()) == pytest.approx(expected)
    assert d.approximate_kl(torch.zeros(5)) == 0.0


def test_kl_of_tiny_steps_is_not_lost_to_rounding() -> None:
    assert d.approximate_kl(torch.tensor([1e-3], dtype=torch.float64)) == pytest.approx(5e-7, rel=0.05)


def test_kl_and_clip_fraction_of_nothing_are_unknown() -> None:
    assert math.isnan(d.approximate_kl(torch.zeros(0)))
    assert math.isnan(d.clip_fraction(torch.zeros(0), 0.2))


def test_nan_is_not_hidden_by_the_kl() -> None:
    assert math.isnan(d.approximate_kl(torch.tensor([0.0, NAN])))
    assert d.approximate_kl(torch.tensor([0.0, 100.0])) == INF


def test_clip_fraction_counts_both_sides_and_not_the_edge_inside() -> None:
    assert d.clip_fraction(torch.tensor([0.7, 0.9, 1.0, 1.1, 1.3]).log(), 0.2) == pytest.approx(0.4)


def test_explained_variance_of_perfect_useless_and_harmful_values() -> None:
    returns = torch.tensor([1.0, 2.0, 3.0])
    assert d.explained_variance(returns, returns) == 1.0
    assert d.explained_variance(returns + 5.0, returns) == 1.0, "a constant offset is not unexplained variance"
    assert d.explained_variance(torch.full((3,), 7.0), returns) == 0.0
    assert d.explained_variance(-returns, returns) == pytest.approx(-3.0)


@pytest.mark.parametrize("returns", [[2.0, 2.0], [2.0, 2.0 + 1e-5], [NAN, 1.0], [INF, 1.0]])
def test_explained_variance_is_nan_when_there_is_nothing_to_explain(returns: list[float]) -> None:
    assert math.isnan(d.explained_variance(torch.zeros(2), torch.tensor(returns)))


def test_head_entropy_averages_where_the_head_mattered_and_leaves_empty_slots_out() -> None:
    entropy = torch.tensor([1.0, 3.0, 100.0, 5.0])
    mattered = torch.tensor([True, True, False, True])
    slots = torch.tensor([0, 0, 1, 2])
    assert d.head_entropy(entropy, mattered, slots, ["a", "b", "c"]) == {"all": 3.0, "a": 2.0, "c": 5.0}
    assert d.head_entropy(entropy, mattered) == {"all": 3.0}


def test_a_head_that_never_mattered_has_no_entropy() -> None:
    nowhere = torch.zeros(2, dtype=torch.bool)
    assert d.head_entropy(torch.ones(2), nowhere, torch.zeros(2), ["a"]) == {}
    assert d.head_entropy(torch.ones(0), torch.zeros(0, dtype=torch.bool)) == {}


@pytest.mark.parametrize(
    ("entropy", "largest", "collapsed"),
    [(0.0099, 1.0, True), (0.01, 1.0, False), (2.0, 1.0, False), (0.0, 0.0, False), (NAN, 1.0, False)],
)
def test_entropy_has_collapsed_below_one_percent(entropy: float, largest: float, collapsed: bool) -> None:
    assert d.entropy_collapsed(entropy, largest) is collapsed


def test_a_real_scaler_shows_its_overflow_and_nothing_else_counts_as_one() -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=1)

    def step(gradient: float) -> bool:
        before = scaler.get_scale()
        scaler.scale(torch.zeros(1))
        weight.grad = torch.tensor([gradient])
        scaler.step(optimizer)
        scaler.update()
        return d.amp_overflowed(before, scaler.get_scale(), d.gradient_totals([weight.grad]))

    assert step(1.0) is False, "the scale grew"
    assert step(INF) is True
    assert step(NAN) is False, "no smaller factor mends it"
    assert d.amp_overflowed(1.0, 1.0) is False
    assert d.amp_overflowed(2.0, 1.0) is True, "where nobody counted the factor alone decides"


def test_an_infinite_gradient_without_a_factor_to_lower_is_no_overflow() -> None:
    infinite = d.gradient_totals([torch.tensor([INF, NAN])])
    assert d.amp_overflowed(2.0, 1.0, infinite) is True
    assert d.amp_overflowed(1.0, 0.5, infinite) is False
