"""Every field says what it means, and every number in what unit."""

from __future__ import annotations

import dataclasses
import pydoc

from esper.leyline import PPOUpdatePayload, TelemetryEvent, TelemetryPayload
from esper.leyline._payload.table import types_of
from esper.leyline.field_docs import Meaning, field_table, meanings


def test_every_field_has_a_docstring(cls: type[TelemetryPayload]) -> None:
    assert [*meanings(cls)] == [f.name for f in dataclasses.fields(cls)]
    assert all(meaning.text.endswith((".", "html")) for meaning in meanings(cls).values())


def test_every_number_has_a_unit_and_a_range(cls: type[TelemetryPayload]) -> None:
    for name, row in types_of(cls).items():
        meaning = meanings(cls)[name]
        assert "Unit:" not in meaning.text, name
        if row.text.partition(" ")[0] in {"int", "float"}:
            assert meaning.unit, name
            assert meaning.range, name


def test_the_event_s_fields_have_docstrings_too() -> None:
    assert [*meanings(TelemetryEvent)] == [f.name for f in dataclasses.fields(TelemetryEvent)]


def test_unit_and_range_are_taken_out_of_the_sentence_and_the_source_stays() -> None:
    assert meanings(PPOUpdatePayload)["explained_variance"] == Meaning(
        text="1 - Var(returns - values) / Var(returns) over the batch before the update. "
        "Source: the coefficient of determination, as in OpenAI Baselines, common/math_util.py.",
        unit="1",
        range="at most 1, higher is better, NaN when Var(returns) is below 1e-8",
    )
    assert meanings(PPOUpdatePayload)["kl_divergence"].text.endswith("Source: http://joschu.net/blog/kl-approx.html")


def test_the_table_has_a_row_a_field(cls: type[TelemetryPayload]) -> None:
    rows = [row for row in field_table().splitlines() if row.startswith(f"| {cls.__name__} |")]
    assert len(rows) == len(dataclasses.fields(cls))
    assert all(row.replace("\\|", "").count("|") == 8 for row in rows)


def test_help_shows_the_meaning_and_unit_of_every_field(cls: type[TelemetryPayload]) -> None:
    shown = " ".join(pydoc.plain(pydoc.render_doc(cls)).replace("|", " ").split())
    for name, meaning in meanings(cls).items():
        assert f" {name} {meaning.text}" in shown
        assert meaning.unit is None or f"Unit: {meaning.unit}; {meaning.range}." in shown


def test_a_formula_has_its_source() -> None:
    about = meanings(PPOUpdatePayload)
    for field in ("policy_loss", "value_loss", "entropy", "kl_divergence", "explained_variance", "advantage_mean"):
        assert "Source: " in about[field].text
