"""What the callback for Stable-Baselines3 adds to an update of its default PPO: CPU time, in turns with and without.

Run: python benchmarks/foreign_trainer.py [--rounds N]
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from stable_baselines3 import PPO

from esper.integrations.stable_baselines3 import TelemetryCallback
from esper.leyline import TelemetryEvent
from harness import machine, table


class _Timed(PPO):
    took: float

    def train(self) -> None:
        before = time.process_time()
        super().train()
        self.took = time.process_time() - before


class _Nowhere:
    def emit(self, event: TelemetryEvent) -> None:
        """Take an event: what the hub and its sinks cost is measured elsewhere."""


def main() -> None:
    """Print a markdown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    rows = []
    for target_kl in (None, 10.0):
        without, watched = (_Timed("MlpPolicy", "CartPole-v1", seed=1, device="cpu", target_kl=target_kl) for _ in "ab")
        callback, added, plain, with_callback = TelemetryCallback(_Nowhere()), [], [], []
        for _ in range(rounds):
            without.learn(2048, reset_num_timesteps=False)
            watched.learn(2048, callback=callback, reset_num_timesteps=False)
            plain.append(without.took)
            with_callback.append(watched.took)
            added.append(watched.took / without.took - 1)
        limit = "no KL limit, as by default" if target_kl is None else "a KL limit that is never reached"
        low, middle, high = statistics.quantiles(added, n=4)
        fastest = min(with_callback) / min(plain) - 1  # what else runs on the machine is in all the others
        rows.append(
            (limit, f"{min(plain) * 1e3:.0f} ms", f"{fastest:+.1%}", f"{middle:+.1%} ({low:+.1%} to {high:+.1%})")
        )
    print(machine("torch", "stable-baselines3"), "\n")
    print(
        table(
            (
                "PPO, MlpPolicy, 320 minibatches of 64",
                "fastest update",
                "with the callback",
                "median (quartiles) of turns",
            ),
            rows,
        )
    )


if __name__ == "__main__":
    main()
