"""Changes one thing at a time in the fold and runs its tests: a mutant that they let live is something unproven.

Run: python benchmarks/mutants.py [--sample N] [--seed N] [MODULE …]

A mutant is a function in which a comparison, a logical operator, a sum, a condition or a statement was changed. The
tests are collected once, and each mutant is put into a fork of that process, where the tests that reach its line run,
the quickest first, until one fails. Survivors are printed with file, line and change; the exit status is 1 when there
is one that `EQUIVALENT` does not explain.
"""

from __future__ import annotations

import argparse
import ast
import gc
import json
import os
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import CodeType, FunctionType

import coverage
import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "esper"
MODULES = (
    "leyline/position.py",
    "leyline/shard.py",
    "leyline/attempts.py",
    "karn/aggregator.py",
    "karn/views.py",
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
    "tests/leyline/test_attempts.py",
    "tests/leyline/test_health.py",
    "tests/leyline/test_trend.py",
    "tests/karn/test_history_writer.py",
    "tests/karn/test_health_fold.py",
    "tests/karn/test_seeds.py",
    "tests/karn/test_totals.py",
    "tests/karn/test_views.py",
    "tests/karn/test_derived.py",
    "tests/karn/test_aggregator.py",
    "tests/karn/test_aggregator_model.py",
    "tests/karn/report/test_history.py",
    "tests/karn/report/test_episodes.py",
    "tests/nissa/test_plotting.py",
)
"""Those that are about these modules: what only a test of all views together would notice deserves one of its own."""
PATIENCE = 10
"""A mutant under which a test takes so many times its time, and as many seconds, of the processor has been noticed."""
MEMORY = 4 << 30
"""One that needs more has been noticed, too. Unit: bytes."""
SWAPS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
EQUIVALENT = {
    "leyline/position.py": {
        "`state.attempt.index >= 0` became `state.attempt.index > 0`": "the first attempt is found again",
    },
    "leyline/attempts.py": {
        "`cuts[-1][1] >= start.start_episode` became `cuts[-1][1] > start.start_episode`": (
            "two resumes from the same episode take back the same"
        ),
    },
    "leyline/trend.py": {
        "`self._open + 1` became `self._open - 1`": "a block is full after as many values, counted up or down",
    },
    "karn/aggregator.py": {
        "`position.run < self.run` became `position.run <= self.run`": "they are not equal here",
        "`position.resume < self.resume` became `position.resume <= self.resume`": "they are not equal here",
        "`assert_never(data)` was dropped": "the type checkers' proof that it is never reached",
        "`self.seen_resume = self.resume` was dropped": "it decides what a look costs, not what it says",
    },
    "karn/views.py": {
        "`len(seen) > n` became `len(seen) >= n`": "what stands in order is put in order again",
    },
    "karn/history_writer.py": {
        "`1 - self.bound` became `1 + self.bound`": "of twice the bound: counted from either end",
        "`stop > self.bound` became `stop >= self.bound`": "the first is at 0 either way",
        "`about < self.latest` became `about <= self.latest`": "the slow way of taking back is right for all",
        "`self.shared = False` was dropped": "it decides what an append costs, not what is read",
        "`self._at = position` was dropped": "it decides what an append costs, not what is read",
        "`self.latest = max(known, default=_NEVER)` was dropped": "too late an episode only costs a look for nothing",
        "`self.ordered = len(known) == len(abouts) and known == sorted(known)` was dropped": (
            "what was ordered stays so, and the slow way of taking back is right for all"
        ),
    },
    "karn/seeds.py": {
        "`at < 0` became `at <= 0`": "looking back finds the first, too",
        "`at < len(self._records)` became `at <= len(self._records)`": "behind the last there is nothing to drop",
    },
}
"""Why a change alters nothing that can be seen, by module and by what is said of the change."""
KILLED, BROKEN = 1, 3


class Mutation:
    """One change, told by the place of its node among all nodes."""

    def __init__(self, source: str, index: int) -> None:
        self.tree = ast.parse(source)
        target = next(found for at, found in enumerate(ast.walk(self.tree)) if at == index)
        changed = target.test if isinstance(target, ast.If | ast.IfExp) else target
        assert isinstance(changed, ast.expr | ast.stmt)
        self.lines = range(changed.lineno, (changed.end_lineno or changed.lineno) + 1)
        before = ast.unparse(changed)
        _change(self.tree, target)
        became = "was negated" if changed is not target else f"became `{ast.unparse(changed)}`"
        self.says = f"`{before}` " + ("was dropped" if isinstance(changed, ast.stmt) else became)


def places(source: str) -> list[int]:
    """Return the places of the nodes that can be changed."""
    tree = ast.parse(source)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    inside = {id(node) for function in functions for body in function.body for node in ast.walk(body)}
    made = {id(node) for function in functions if function.name == "__init__" for node in ast.walk(function)}
    return [
        at
        for at, node in enumerate(ast.walk(tree))
        if id(node) in inside and _can_change(node, initialises=id(node) in made)
    ]


def _can_change(node: ast.AST, *, initialises: bool) -> bool:
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.Add | ast.Sub)
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return False
    if isinstance(node, ast.Assign | ast.AugAssign | ast.Expr):
        return not initialises
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


def functions_of(path: Path) -> list[FunctionType]:
    """Return the functions of a module, whoever has imported them."""
    functions = [found for found in gc.get_objects() if type(found) is FunctionType]
    return [function for function in functions if function.__code__.co_filename == str(path)]


def put_in(functions: list[FunctionType], path: Path, tree: ast.Module) -> None:
    """Give the functions of a module the code of another tree."""
    codes = {(code.co_qualname, code.co_firstlineno): code for code in _codes(compile(tree, str(path), "exec"))}
    for function in functions:
        function.__code__ = codes[function.__code__.co_qualname, function.__code__.co_firstlineno]


def _codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes(constant)


class Mutants:
    """A plugin of pytest that runs the tests which were collected under one mutant after the other.

    Args:
        modules: that are changed.
        sample: how many mutants of each; None for all.
        seed: which ones.
    """

    def __init__(self, modules: Sequence[str], sample: int | None, seed: int) -> None:
        self.sources = {module: (SOURCE / module).read_text(encoding="utf-8") for module in modules}
        self.sample, self.seed = sample, seed
        self.seconds: dict[str, float] = {}
        self.functions: dict[str, list[FunctionType]] = {}
        self.found: Counter[str] = Counter()

    def pytest_configure(self) -> None:
        """Take the place of the profile of the tests' own conftest."""
        from hypothesis import HealthCheck, Phase, settings  # whose plugin pytest wants to be the first

        settings.register_profile(
            "mutants",  # the first example that fails is enough, however large, and every mutant meets the same
            phases=(Phase.explicit, Phase.generate),
            suppress_health_check=[HealthCheck.too_slow],
            derandomize=True,
            database=None,
            deadline=None,
        )
        settings.load_profile("mutants")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """End the process at the first failure."""
        if report.failed:
            os._exit(KILLED)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run the mutants and print which survived."""
        if session.testsfailed:
            return False
        with tempfile.TemporaryDirectory() as directory:
            reached = self._measure(session.items, Path(directory))
        self.functions = {module: functions_of(SOURCE / module) for module in self.sources}
        for module, source in self.sources.items():
            indices = places(source)
            if self.sample is not None and self.sample < len(indices):
                indices = random.Random(self.seed).sample(indices, self.sample)
            counts = Counter(self._judge(module, source, index, session.items, reached[module]) for index in indices)
            print(f"{module}: " + ", ".join(f"{number} {what}" for what, number in sorted(counts.items())), flush=True)
            self.found += counts
        return True

    def _measure(self, items: list[pytest.Item], directory: Path) -> dict[str, dict[int, list[str]]]:
        """Run the tests as they are; return for each module, by line, which reach it."""
        data, seconds = directory / "coverage", directory / "seconds"

        def measure() -> None:
            taken = {}
            measured = coverage.Coverage(
                str(data), config_file=False, include=[str(SOURCE / of) for of in self.sources]
            )
            measured.start()
            for item in items:
                measured.switch_context(item.nodeid)
                began = time.process_time()
                _run([item])
                taken[item.nodeid] = time.process_time() - began
            measured.stop()
            measured.save()
            seconds.write_text(json.dumps(taken))

        if status := in_fork(measure):
            raise pytest.UsageError(
                f"the tests fail without any mutant (status {status}): run pytest {' '.join(TESTS)}"
            )
        self.seconds = json.loads(seconds.read_text())
        read = coverage.CoverageData(str(data))
        read.read()
        return {module: read.contexts_by_lineno(str(SOURCE / module)) for module in self.sources}

    def _judge(
        self, module: str, source: str, index: int, items: list[pytest.Item], reached: dict[int, list[str]]
    ) -> str:
        mutant = Mutation(source, index)
        reaching = {name for line in mutant.lines for name in reached.get(line, ())}
        functions = self.functions[module]
        tests = sorted((item for item in items if item.nodeid in reaching), key=lambda item: self.seconds[item.nodeid])

        def run() -> None:
            put_in(functions, SOURCE / module, mutant.tree)
            resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
            try:
                _run(tests, self.seconds)
            except BaseException:  # noqa: BLE001 - whatever it does to what runs the tests has been noticed
                os._exit(KILLED)

        status = in_fork(run)
        if status == BROKEN:
            raise RuntimeError(f"{module}:{mutant.lines[0]}: {mutant.says}: could not be run")
        if status:
            return "killed"
        why = EQUIVALENT.get(module, {}).get(mutant.says)
        print(f"SURVIVED {module}:{mutant.lines[0]}: {mutant.says} ({why or 'not explained'})", flush=True)
        return "survived" if why is None else "explained"


def _run(tests: Sequence[pytest.Item], seconds: dict[str, float] | None = None) -> None:
    for at, item in enumerate(tests):
        if seconds is not None:
            limit = int(time.process_time() + PATIENCE * (1 + seconds[item.nodeid]))
            resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        after = tests[at + 1] if at + 1 < len(tests) else None
        item.ihook.pytest_runtest_protocol(item=item, nextitem=after)


def in_fork(work: Callable[[], None]) -> int:
    """Return how a fork of this process ended that did some work: 0 when nothing failed, below when it was killed."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = BROKEN
    try:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        work()
        status = 0
    finally:
        os._exit(status)


def main() -> int:
    """Run the mutants; 1 when one survived without an explanation."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("modules", nargs="*", default=MODULES, metavar="MODULE", help=f"of {', '.join(MODULES)}")
    parser.add_argument("--sample", type=int, help="run so many mutants of each module, drawn at random, not all")
    parser.add_argument("--seed", type=int, default=0, help="which ones are drawn (default 0)")
    chosen = parser.parse_args()
    if unknown := set(chosen.modules) - set(MODULES):
        parser.error(f"not one of the modules: {', '.join(sorted(unknown))}")
    os.chdir(ROOT)
    mutants = Mutants(chosen.modules, chosen.sample, chosen.seed)
    without = ["-p", "no:cacheprovider", "-p", "no:randomly", "-qq", "--no-header"]
    with tempfile.TemporaryDirectory() as directory:
        status = pytest.main(["-s", *without, f"--basetemp={directory}/tests", *TESTS], plugins=[mutants])
    if not mutants.found:
        print(f"no mutant was run: pytest ended with status {status}", file=sys.stderr)
        return 2
    counts = [mutants.found[what] for what in ("killed", "explained", "survived")]
    print("in all {} killed, {} explained, {} survived without an explanation".format(*counts))
    return 1 if mutants.found["survived"] else 0


if __name__ == "__main__":
    sys.exit(main())
