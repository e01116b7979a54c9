"""What a module exports is what its ``__all__`` says, nothing forgotten and nothing left over."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import esper

ROOT = Path(esper.__file__).parent
MODULES = sorted(path for path in ROOT.rglob("*.py") if path.name != "__main__.py")


def exports(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(node.value)
            return names
    return None


def constants(tree: ast.Module) -> set[str]:
    """Names given a value at the top of a module; type variables are of no use to anybody else."""
    found = set()
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and "TypeVar(" not in ast.unparse(node):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return {name for name in found if not name.startswith("_")}


def assigned(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            yield from (name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def defined(tree: ast.Module) -> set[str]:
    return {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)}


def imported(tree: ast.Module) -> set[str]:
    """Names imported, those included that only type checkers import and everybody else gets when they ask."""
    checked = [node for block in tree.body if isinstance(block, ast.If) for node in block.body]
    return {
        alias.asname or alias.name
        for node in [*tree.body, *checked]
        if isinstance(node, ast.ImportFrom) and node.module not in {"__future__", "typing", "esper.leyline._lazy"}
        for alias in node.names
    }


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_all_says_what_a_module_exports(path: Path) -> None:
    tree = ast.parse(path.read_text())
    names = exports(tree)
    public = {name for name in defined(tree) if not name.startswith("_")} | constants(tree)
    if names is None:
        assert not public
        return
    assert len(names) == len(set(names))
    assert public <= set(names)
    assert set(names) <= defined(tree) | set(assigned(tree)) | imported(tree)
    if path.name == "__init__.py" and not public:  # a package that only gathers
        assert set(names) == imported(tree)


def test_the_package_exports_what_its_contract_does_and_its_errors() -> None:
    import esper.leyline
    from esper.leyline import telemetry

    assert set(telemetry.__all__) < set(esper.leyline.__all__)
    for name in esper.leyline.__all__:
        assert hasattr(esper.leyline, name)
