"""Install the wheel with each extra into an environment of its own, and do with it what the extra is for.

``make dist`` runs it: ``python tests/extras_alone.py WHEEL BUILD_DIR CONSTRAINTS``. Extras that bring torch are left
out: they would fetch gigabytes, and ``make test`` runs them.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
LOG = ROOT / "tests" / "golden" / "schema_version_1.jsonl"
WITH_TORCH = {"train", "sb3"}
USES = {
    "dashboard": "from esper.karn.dashboard import watch",
    "report": "from esper.karn.report import report; report([{log!r}], {out!r} + '/page.html')",
    "tensorboard": "from esper.nissa import TensorBoardSink; TensorBoardSink({out!r} + '/board').close()",
    "wandb": "from esper.nissa import WandbSink",
    "compare": "from esper.cli import main; main(['compare', '--help'])",
    "export": "from esper.cli import main; assert main(['export', {log!r}, '-o', {out!r} + '/tables']) == 0",
}
"""What each extra is tried with; an extra that is not named here fails."""


def main() -> int:
    """Try every extra; return 1 when one does not work."""
    wheel, build, constraints = (Path(argument).resolve() for argument in sys.argv[1:4])
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    failed = [
        extra for extra in extras if extra not in WITH_TORCH | {"dev"} and not works(extra, wheel, build, constraints)
    ]
    print(f"failed: {', '.join(failed)}" if failed else "each extra works alone")  # noqa: T201 - a script
    return 1 if failed else 0


def works(extra: str, wheel: Path, build: Path, constraints: Path) -> bool:
    """Whether the wheel with one extra alone does what the extra is for, and no other extra has come along."""
    home = build / extra
    venv.create(home / "venv", clear=True, with_pip=True)
    python = str(home / "venv" / "bin" / "python")
    install = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--constraint",
        str(constraints),
    ]
    use = USES[extra].format(log=str(LOG), out=str(home))
    commands = ([*install, f"{wheel}[{extra}]"], [python, "-c", use], [python, "-m", "pip", "check"])
    done = [subprocess.run(command, cwd=build, check=False).returncode == 0 for command in commands]
    print(f"{extra}: {'works' if all(done) else 'does not work'}", flush=True)  # noqa: T201 - a script
    return all(done)


if __name__ == "__main__":
    raise SystemExit(main())
