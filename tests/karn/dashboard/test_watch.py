"""How the dashboard is opened, and when it is not."""

from __future__ import annotations

import math
from unittest.mock import Mock

import pytest

from esper.karn.dashboard import watch


@pytest.mark.parametrize("speed", [0.0, -1.0, math.nan, math.inf])
def test_a_speed_that_makes_no_sense_is_refused(speed: float, capsys: pytest.CaptureFixture[str]) -> None:
    assert watch("run", speed=speed) == 2
    assert "speed must be" in capsys.readouterr().err


def test_without_a_terminal_it_says_what_to_do_instead(capsys: pytest.CaptureFixture[str]) -> None:
    assert watch("run") == 2
    assert "esper replay" in capsys.readouterr().err


def test_events_are_not_read_from_the_keyboard(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", Mock(isatty=lambda: True))
    assert watch("-") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_without_textual_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "textual", None)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert watch("run") == 2
    assert "pip install 'esper-telemetry[dashboard]'" in capsys.readouterr().err
