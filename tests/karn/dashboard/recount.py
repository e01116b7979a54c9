"""What a log says, counted from its JSON lines by code that knows nothing of esper: see test_recomputed.

Every key names a place on the screen, every value is the text that must stand there.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, TypeAlias

Event: TypeAlias = dict[str, Any]


def read(path: Path) -> list[Event]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def of_type(events: list[Event], name: str) -> list[Event]:
    return [event for event in events if event["event_type"] == name]


def four(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def alpha(value: float) -> str:
    return f"{value:.2f}".removeprefix("0") if 0 < value < 1 else f"{value:g}"


def learning(events: list[Event]) -> dict[str, str]:
    """What the charts' titles say."""
    batches = [event["data"] for event in of_type(events, "BATCH_EPOCH_COMPLETED")]
    newest = batches[-1]
    best = max(batches, key=lambda batch: batch["avg_reward"])
    sharpest = max(batches, key=lambda batch: batch["avg_accuracy"])
    update = of_type(events, "PPO_UPDATE_COMPLETED")[-1]["data"]
    return {
        "mean episode return": four(newest["avg_reward"]),
        "best return": f"best {four(best['avg_reward'])} in batch {best['batch_idx']}",
        "validation accuracy": f"{newest['avg_accuracy']:.3f}",
        "best accuracy": f"best {sharpest['avg_accuracy']:.3f} in batch {sharpest['batch_idx']}",
        "rolling accuracy": f"rolling {newest['rolling_accuracy']:.3f}",
        "KL divergence": four(update["kl_divergence"]),
        "policy entropy": four(update["entropy"]),
        "explained variance": four(update["explained_variance"]),
        "gradient norm": four(update["grad_norm"]),
        "clip fraction": four(update["clip_fraction"]),
        "value loss": four(update["value_loss"]),
        "policy loss": four(update["policy_loss"]),
        "largest ratio": four(update["ratio_max"]),
        "learning rate": four(update["lr"]),
        "update time in ms": four(update["update_time_ms"]),
        "range of batches": f"batch {batches[0]['batch_idx']} ",
        "end of the range": f" {newest['batch_idx']} ({newest['episodes_completed']} episodes)",
    }


def scales(events: list[Event]) -> dict[str, tuple[float, float]]:
    """The lowest and the highest that a chart's scale has to cover, by title."""
    batches = [event["data"] for event in of_type(events, "BATCH_EPOCH_COMPLETED")]
    updates = [event["data"] for event in of_type(events, "PPO_UPDATE_COMPLETED")]
    names = {
        "mean episode return": [batch["avg_reward"] for batch in batches],
        "validation accuracy": [batch["avg_accuracy"] for batch in batches],
        "policy entropy": [update["entropy"] for update in updates],
        "gradient norm": [update["grad_norm"] for update in updates],
        "value loss": [update["value_loss"] for update in updates],
        "learning rate": [update["lr"] for update in updates],
    }
    return {name: (min(values), max(values)) for name, values in names.items()}


def progress(events: list[Event]) -> dict[str, str]:
    """What the first lines say of how far it is."""
    newest = of_type(events, "BATCH_EPOCH_COMPLETED")[-1]
    data = newest["data"]
    since = events.index(newest)
    newest_of = {
        event["data"]["env_id"]: event["data"]["inner_epoch"] for event in of_type(events[since:], "EPOCH_COMPLETED")
    }
    (epoch,) = {*newest_of.values()}
    started = of_type(events, "TRAINING_STARTED")[0]["data"]
    return {
        "share": f"{data['episodes_completed'] / data['total_episodes']:.0%} ",
        "episodes": f"{data['episodes_completed']} of {data['total_episodes']} episodes",
        "batch": f"batch {data['batch_idx']} complete",
        "epoch": f"next: epoch {epoch}/{started['max_epochs']}",
        "events": f"{len(events):,} so far",
        "parameters": f"{started['host_params']} parameters",
    }


def best_episode(events: list[Event]) -> dict[str, str]:
    """What is said of the best episode: an environment plays one a batch."""
    started = of_type(events, "TRAINING_STARTED")[0]["data"]
    n_envs, max_epochs = started["n_envs"], started["max_epochs"]
    batch, returns, steps = 0, defaultdict[tuple[int, int], float](float), Counter[tuple[int, int]]()
    accuracy: dict[tuple[int, int], float] = {}
    kept, pruned = defaultdict[tuple[int, int], list[str]](list), Counter[tuple[int, int]]()
    for event in events:
        data = event["data"]
        at = (batch, data.get("env_id", -1))
        match event["event_type"]:
            case "REWARD_COMPUTED":
                returns[at] += data["total_reward"]
                steps[at] += 1
            case "EPOCH_COMPLETED":
                accuracy[at] = data["val_accuracy"]
            case "SEED_FOSSILIZED":
                kept[at].append(f"{data['slot_id']} {data['blueprint_id']} Δacc {data['improvement']:+.3f}")
            case "SEED_PRUNED":
                pruned[at] += 1
            case "BATCH_EPOCH_COMPLETED":
                batch += 1
    at = max((at for at in returns if steps[at] == max_epochs), key=lambda at: returns[at])
    grown = ", ".join(kept[at]) or "nothing"
    return {
        "episode": f"Best episode {at[0] * n_envs + at[1]} (env {at[1]}, batch {at[0]})",
        "return": f"return {four(returns[at])}",
        "accuracy": f"accuracy {accuracy[at]:.3f}",
        "kept": f"kept {grown}",
        "pruned": f"; {pruned[at]} pruned" if pruned[at] else ".",
    }


def environments(events: list[Event]) -> dict[int, list[str]]:
    """The cells of every environment's row on a wide screen, and what its slots hold."""
    rows: dict[int, list[str]] = {}
    slot_ids = of_type(events, "TRAINING_STARTED")[0]["data"]["slot_ids"]
    epochs = {event["data"]["env_id"]: event["data"] for event in of_type(events, "EPOCH_COMPLETED")}
    rewards = {event["data"]["env_id"]: event["data"] for event in of_type(events, "REWARD_COMPUTED")}
    words = {"FOSSILIZED": "kept", "PRUNED": "pruned", "EMBARGOED": "resting"}
    for env_id, epoch in epochs.items():
        reward = rewards[env_id]
        cells = [f"{epoch['inner_epoch']}", f"{epoch['val_accuracy']:.3f}"]
        cells += [f"{epoch['val_loss']:.4g}"[:6], f"{reward['total_reward']:+.3f}", f"{reward['value_estimate']:+.3f}"]
        cells += [reward["action_name"], f"{reward['action_confidence']:.3f}", f"{reward['decision_entropy']:.3f}"]
        for slot_id in slot_ids:
            if slot_id not in epoch["seeds"]:
                cells.append("·")
                continue
            seed = epoch["seeds"][slot_id]
            cells += [words.get(seed["stage"], seed["stage"].lower()), f"α{alpha(seed['alpha'])}"]
            cells += [f"{seed['epochs_in_stage']}"]
        rows[env_id] = cells
    return rows


def worst_first(events: list[Event]) -> list[int]:
    """The environments by their newest accuracy, the lowest first."""
    newest = {event["data"]["env_id"]: event["data"]["val_accuracy"] for event in of_type(events, "EPOCH_COMPLETED")}
    return sorted(newest, key=lambda env_id: (newest[env_id], env_id))


def totals(events: list[Event]) -> dict[str, list[int]]:
    """The rows of tables of the whole run: what became of the seeds of a blueprint, actions, events of a type."""
    rows: dict[str, list[int]] = {}
    blueprints = {event["data"]["blueprint_id"] for event in of_type(events, "SEED_GERMINATED")}
    for name in blueprints:
        own = [event for event in events if event["data"].get("blueprint_id") == name]
        ended = of_type(own, "SEED_PRUNED")
        by_rule = sum(event["data"]["auto_pruned"] for event in ended)
        germinated, kept = len(of_type(own, "SEED_GERMINATED")), len(of_type(own, "SEED_FOSSILIZED"))
        rows[name] = [germinated, kept, len(ended) - by_rule, by_rule, 0]
    for action, count in Counter(event["data"]["action_name"] for event in of_type(events, "REWARD_COMPUTED")).items():
        rows[action] = [count]
    for name, count in Counter(event["event_type"] for event in events).items():
        rows[name.lower().replace("_", " ")] = [count]
    return rows


def reward_parts(events: list[Event], env_id: int) -> dict[str, str]:
    """The parts of an environment's newest reward."""
    data = [event["data"] for event in of_type(events, "REWARD_COMPUTED") if event["data"]["env_id"] == env_id][-1]
    names = [
        "base_acc_delta",
        "bounded_attribution",
        "compute_rent",
        "alpha_shock",
        "ratio_penalty",
        "stage_bonus",
        "total_reward",
    ]
    return {name: f"{data[name]:+.3f}" for name in names}
