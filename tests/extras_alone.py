"""Install the wheel with each extra into an environment of its own, do what the extra is for, and run each page there.

``make dist`` runs it: ``python tests/extras_alone.py WHEEL BUILD_DIR CONSTRAINTS``. A page of the documentation is run
where there is what its ``pip install`` names and nothing else. ``--torch`` tries what brings torch, too, which fetches
gigabytes where no wheel for CPUs is at hand.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
NAME = "esper-telemetry"
LOG = ROOT / "tests" / "golden" / "schema_version_1.jsonl"
WITH_TORCH = {"train", "sb3"}
TRAIN = "train --episodes 2 --envs 2 --max-epochs 4 --evaluate-episodes 2 --quiet --run-dir run"
USES = {
    "train": f"from esper.cli import main; assert main('{TRAIN}'.split()) == 0",
    "dashboard": "from esper.karn.dashboard import watch",
    "report": "from esper.cli import main; assert main(['report', {log!r}, '-o', 'page.html']) == 0",
    "tensorboard": "from esper.nissa import TensorBoardSink; TensorBoardSink('board').close()",
    "wandb": "from esper.nissa import WandbSink; WandbSink('.').close()",
    "compare": "from esper.cli import main; assert main(['compare', {log!r}, {log!r}]) == 0",
    "export": "from esper.cli import main; assert main(['export', {log!r}, '-o', 'tables']) == 0",
    "sb3": "from esper.integrations.stable_baselines3 import TelemetryCallback",
}
"""What each extra is tried with; an extra that is not named here fails. The pages try them further."""


def main() -> int:
    """Try every extra and every page; return 1 when one does not work."""
    asked = argparse.ArgumentParser()
    asked.add_argument("wheel", type=Path)
    asked.add_argument("build", type=Path)
    asked.add_argument("constraints", type=Path)
    asked.add_argument("--torch", action="store_true")
    args = asked.parse_args()
    failed, left_out = [], []
    for requirements, trials in environments().items():
        name = " ".join(sorted(requirements))
        if not args.torch and any(extra in requirement for requirement in requirements for extra in WITH_TORCH):
            left_out += [what for what, _ in trials]
            continue
        print(f"with {name}:", flush=True)  # noqa: T201 - a script
        failed += in_an_environment(requirements, trials, args)
    if left_out:
        print(f"left out, because they bring torch (--torch): {', '.join(left_out)}")  # noqa: T201 - a script
    print(f"failed: {', '.join(failed)}" if failed else "all of it works alone")  # noqa: T201 - a script
    return 1 if failed else 0


def environments() -> dict[frozenset[str], list[tuple[str, list[str]]]]:
    """Return, for each set of requirements, what is tried with it: a name, and what Python is told to run."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    found: dict[frozenset[str], list[tuple[str, list[str]]]] = {}
    for extra in extras:
        if extra != "dev":
            use = USES[extra].format(log=str(LOG))
            found.setdefault(frozenset({f"{NAME}[{extra}]"}), []).append((f"[{extra}]", ["-c", use]))
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = page.read_text(encoding="utf-8")
        if "```python\n" in text:
            trial = (str(page.relative_to(ROOT)), ["-P", str(ROOT / "tests" / "run_page.py"), str(page)])
            found.setdefault(named_by(text), []).append(trial)
    return found


def named_by(page: str) -> frozenset[str]:
    """Return what the page tells its reader to install."""
    lines = re.findall(r"pip install ([^`\n]*)", page)
    return frozenset(word for line in lines for word in shlex.split(line, comments=True)) or frozenset({NAME})


def in_an_environment(
    requirements: frozenset[str], trials: list[tuple[str, list[str]]], args: argparse.Namespace
) -> list[str]:
    """Return what does not work where the wheel was installed with these requirements and nothing else."""
    home = args.build.resolve() / "environment"
    venv.create(home, clear=True, with_pip=True)
    python = str(home / "bin" / "python")
    wheel = str(args.wheel.resolve())
    wanted = [requirement.replace(NAME, wheel) for requirement in sorted(requirements)]
    constraints = str(args.constraints.resolve())
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    if not run([*pip, "install", "--quiet", "--constraint", constraints, *wanted], home, "the installation"):
        return [what for what, _ in trials]
    trials = [*trials, ("pip check", [*pip[1:], "check"])]
    failed = [what for what, command in trials if not run([python, *command], home, what)]
    shutil.rmtree(home)
    return failed


def run(command: list[str], home: Path, what: str) -> bool:
    """Run a command, and show what it said if it failed."""
    environment = {"PATH": f"{home / 'bin'}:/usr/bin:/bin", "HOME": str(home), "WANDB_MODE": "offline"}
    done = subprocess.run(
        command, cwd=home, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    works = done.returncode == 0
    print(f"  {what}: {'works' if works else 'does not work'}", flush=True)  # noqa: T201 - a script
    if not works:
        print(done.stdout, file=sys.stderr, flush=True)  # noqa: T201 - a script
    return works


if __name__ == "__main__":
    raise SystemExit(main())
