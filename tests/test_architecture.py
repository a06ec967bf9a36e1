"""The order of packages in docs/architecture.md, held against the imports of ops/."""

import ast
from pathlib import Path

from helpers.launch import ROOT

# A package may import packages of a lower level only.
LEVELS = [
    {"utils"},
    {"backbones", "temporal", "data", "distributed"},
    {"models"},
    {"checkpoints", "explain", "inference"},
    {"scores"},
    {"export", "report"},
    {"training", "testing", "predict", "streaming"},
    {"cli"},
]


def level_of(package: str) -> int:
    for level, packages in enumerate(LEVELS):
        if package in packages:
            return level
    raise AssertionError(f"ops/{package} has no level: add it here and in docs/architecture.md")


def imported_modules(path: Path) -> list[tuple[int, str]]:
    """(line, module) of each import of ``ops`` in a file, inside functions too."""
    modules = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "ops":
            modules += [(node.lineno, f"ops.{alias.name}") for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules.append((node.lineno, node.module))
    return [(line, module) for line, module in modules if module.startswith("ops.")]


def test_imports_point_downwards():
    wrong = []
    for path in sorted((ROOT / "ops").rglob("*.py")):
        package = path.relative_to(ROOT / "ops").parts[0].removesuffix(".py")
        if package == "__init__":
            continue
        for line, module in imported_modules(path):
            imported = module.split(".")[1]
            if imported != package and level_of(imported) >= level_of(package):
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {module}")
    assert wrong == []


def test_every_package_is_documented():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for level in LEVELS:
        for package in level - {"distributed"}:
            name = package if (ROOT / "ops" / package).is_dir() else f"{package}.py"
            assert f"`{name}`" in text
