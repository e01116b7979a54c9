"""Changes one thing at a time in the fold and runs its tests: a mutant that they let live is something unproven.

Run: python benchmarks/mutants.py [--sample N] [--seed N] [MODULE …]

A mutant is a comparison, a logical operator, a condition, a small constant or a statement that was changed. Survivors
are printed with file, line and change; the exit status is 1 when there is one that `EQUIVALENT` does not explain.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULES = (
    "leyline/position.py",
    "leyline/attempts.py",
    "karn/aggregator.py",
    "karn/env_state.py",
    "karn/history_writer.py",
    "karn/seeds.py",
    "karn/totals.py",
    "karn/derived.py",
    "karn/tally.py",
    "karn/health_fold.py",
    "leyline/typical.py",
    "leyline/trend.py",
    "karn/report/episodes.py",
    "karn/report/history.py",
    "nissa/plotting.py",
)
TESTS = (
    "tests/leyline/test_position.py",
    "tests/leyline/test_health.py",
    "tests/leyline/test_trend.py",
    "tests/karn/test_history_writer.py",
    "tests/karn/test_health_fold.py",
    "tests/karn/test_verdict.py",
    "tests/karn/test_seeds.py",
    "tests/karn/test_derived.py",
    "tests/karn/test_aggregator.py",
    "tests/karn/test_aggregator_model.py",
    "tests/karn/report/test_history.py",
    "tests/nissa/test_plotting.py",
    "tests/karn/test_agreement.py",
)
SECONDS = 600
"""A mutant that runs longer has been noticed."""
SWAPS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
EQUIVALENT = {
    "self.shared": "whether lists are shared decides what an append costs, and nothing that is read",
    "self.latest": "a shortcut past histories that hold nothing to take back",
    "_newest_shard": "a shortcut past looking the shard up",
    "_REACH": "how many attempts are looked through bounds a hostile log only",
    "_BEYOND": "any number beyond all episodes will do",
    "assert": "says what holds anyway",
}
"""Words in a line that explain why a change there changes nothing that can be seen."""


class Mutation:
    """One change, told by the place of its node among all nodes."""

    def __init__(self, source: str, index: int) -> None:
        self.tree = ast.parse(source)
        target = next(found for at, found in enumerate(ast.walk(self.tree)) if at == index)
        self.line = getattr(target, "lineno", 0)
        self.before = ast.unparse(target)
        _change(self.tree, target)
        self.after = ast.unparse(target)


def places(source: str) -> list[int]:
    """Return the places of the nodes that can be changed."""
    tree = ast.parse(source)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name != "__init__"]
    inside = {id(node) for function in functions for node in ast.walk(function)}
    return [at for at, node in enumerate(ast.walk(tree)) if _can_change(node, in_function=id(node) in inside)]


def _can_change(node: ast.AST, *, in_function: bool) -> bool:
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.Add | ast.Sub)
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return False
    if isinstance(node, ast.Assign | ast.AugAssign | ast.Expr):
        return in_function
    return isinstance(node, ast.Compare | ast.BoolOp | ast.If | ast.IfExp)


def _change(tree: ast.Module, node: ast.AST) -> None:
    """Change a node in place."""
    if isinstance(node, ast.Compare):
        node.ops[0] = SWAPS[type(node.ops[0])]()
    elif isinstance(node, ast.BoolOp):
        node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    elif isinstance(node, ast.BinOp):
        node.op = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
    elif isinstance(node, ast.If | ast.IfExp):
        node.test = ast.UnaryOp(ast.Not(), node.test)
        ast.fix_missing_locations(tree)
    elif isinstance(node, ast.stmt):
        _replace(tree, node)


def _replace(tree: ast.Module, node: ast.stmt) -> None:
    for parent in ast.walk(tree):
        for name in ("body", "orelse"):
            block = getattr(parent, name, None)
            if isinstance(block, list) and node in block:
                block[block.index(node)] = ast.copy_location(ast.Pass(), node)


def survives(copy_of_src: Path, module: str, mutant: Mutation) -> bool:
    """Whether the tests let a mutant live."""
    path = copy_of_src / "esper" / module
    original = path.read_text(encoding="utf-8")
    path.write_text(ast.unparse(mutant.tree), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": f"{copy_of_src}:{ROOT / 'benchmarks'}", "PYTHONDONTWRITEBYTECODE": "1"}
    plugins = ["-p", "no:cacheprovider", "-p", "no:randomly", "-p", "unshrunk"]
    nearest_first = sorted(TESTS, key=lambda tests: not tests.endswith(f"test_{Path(module).name}"))
    command = [sys.executable, "-m", "pytest", "-x", "-q", *plugins, *nearest_first]
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return False
    finally:
        path.write_text(original, encoding="utf-8")
    return done.returncode == 0


def explained(source: str, mutant: Mutation) -> str | None:
    """Return why a survivor changes nothing that can be seen; None when nobody has said so."""
    line = source.splitlines()[mutant.line - 1] if mutant.line else ""
    return next((why for word, why in EQUIVALENT.items() if word in line or word in mutant.before), None)


def main() -> int:
    """Run the mutants and print which survived."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("modules", nargs="*", default=MODULES, metavar="MODULE", help=f"of {', '.join(MODULES)}")
    parser.add_argument("--sample", type=int, help="run so many mutants of each module, drawn at random, not all")
    parser.add_argument("--seed", type=int, default=0, help="which ones are drawn (default 0)")
    chosen = parser.parse_args()
    killed = unexplained = 0
    with tempfile.TemporaryDirectory() as directory:
        copied = Path(directory) / "src"
        shutil.copytree(ROOT / "src", copied, ignore=shutil.ignore_patterns("__pycache__"))
        for module in chosen.modules:
            source = (ROOT / "src" / "esper" / module).read_text(encoding="utf-8")
            mutants = places(source)
            if chosen.sample is not None and chosen.sample < len(mutants):
                mutants = random.Random(chosen.seed).sample(mutants, chosen.sample)
            for index in mutants:
                mutant = Mutation(source, index)
                if not survives(copied, module, mutant):
                    killed += 1
                    continue
                why = explained(source, mutant)
                unexplained += why is None
                says = f"SURVIVED {module}:{mutant.line}: {mutant.before!r} became {mutant.after!r}"
                print(f"{says} ({why or 'not explained'})", flush=True)
            print(f"{module}: {len(mutants)} mutants", flush=True)
    print(f"{killed} killed, {unexplained} survived without an explanation")
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
