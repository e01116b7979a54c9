"""A wrong option is refused in one sentence that names it."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from typing import Any

import pytest

from esper.simic.config import TrainingConfig


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("envs", -3, "envs must be at least 1, got -3"),
        ("episodes", 0, "episodes must be at least 1, got 0"),
        ("slots", 0, "slots must be at least 1, got 0"),
        ("max_epochs", 0, "max_epochs must be at least 1, got 0"),
        ("ppo_epochs", 0, "ppo_epochs must be at least 1, got 0"),
        ("minibatches", 0, "minibatches must be at least 1, got 0"),
        ("seed", -1, "seed must be at least 0, got -1"),
        ("param_budget", -1, "param_budget must be at least 0, got -1"),
        ("entropy_coef", -0.1, "entropy_coef must be at least 0.0, got -0.1"),
        ("entropy_coef_end", math.inf, "entropy_coef_end must be at least 0.0, got inf"),
        ("value_coef", math.nan, "value_coef must be at least 0.0, got nan"),
        ("lr", 0.0, "lr must be above 0, got 0.0"),
        ("lr", math.nan, "lr must be above 0, got nan"),
        ("clip_ratio", -0.2, "clip_ratio must be above 0, got -0.2"),
        ("max_grad_norm", 0.0, "max_grad_norm must be above 0, got 0.0"),
        ("target_kl", math.inf, "target_kl must be above 0, got inf"),
        ("gamma", 1.1, "gamma must lie between 0 and 1, got 1.1"),
        ("gae_lambda", -0.1, "gae_lambda must lie between 0 and 1, got -0.1"),
        ("amp_dtype", "float64", "amp_dtype must be float16 or bfloat16, got 'float64'"),
        ("compile_mode", "default", "compile_mode needs compile_backend inductor, got None"),
        ("device", "warp", "device must be one that torch can use here, got 'warp'"),
        ("device", "meta", "device must be one that torch can use here, got 'meta'"),
        ("device", "cuda:99", "device must be one that torch can use here, got 'cuda:99'"),
    ],
)
def test_a_wrong_option_is_named_with_its_value(option: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        TrainingConfig(**{option: value})


def test_an_unknown_compile_backend_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"compile_backend must be one that torch knows \(.*inductor.*\), got 'magic'"):
        TrainingConfig(compile_backend="magic")


def test_defaults_and_extremes_are_accepted() -> None:
    assert TrainingConfig().episodes == 160
    TrainingConfig(episodes=1, envs=9, gamma=1.0, gae_lambda=0.0, param_budget=0, entropy_coef=0.0)


def test_the_defaults_can_be_shown_without_loading_torch() -> None:
    code = (
        "import sys; from esper.simic.config import TrainingConfig; TrainingConfig(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
