"""The house rules: which room may import which, and what every module owes its readers."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("common", "client", "server", "deploy")
ALLOWED = {
    "common": {"common"},
    "client": {"client", "common"},
    "server": {"server", "common"},
    "deploy": set(ROOMS),
}
MODULES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def name_of(path: Path) -> str:
    """A file's name from the root, as ids of tests show it."""
    return path.relative_to(ROOT).as_posix()


def imported(tree: ast.AST) -> set[str]:
    """Top-level packages that a module imports, anywhere in it."""
    found = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    found |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in found}


def defined(tree: ast.Module) -> set[str]:
    """Public functions and classes that a module defines at its top."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")}


def exported(tree: ast.Module) -> list[str] | None:
    """What a module's ``__all__`` lists; None where it has none."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets
        ):
            return list(ast.literal_eval(node.value))
    return None


def names_at_top(tree: ast.Module) -> set[str]:
    """Every name that exists at a module's top."""
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    names |= {
        a.asname or a.name for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom) for a in n.names
    }
    return names | defined(tree)


def test_there_are_modules_to_look_at() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in MODULES} == set(ROOMS)
    assert len(MODULES) > 40


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_room_imports_only_the_rooms_it_may(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    used = imported(ast.parse(path.read_text(encoding="utf-8"))) & {*ROOMS, "tests"}
    assert used <= ALLOWED[room]


@pytest.mark.parametrize("path", [p for p in MODULES if "privacy" in p.parts], ids=name_of)
def test_accounting_imports_no_model_code(path: Path) -> None:
    used = imported(ast.parse(path.read_text(encoding="utf-8")))
    assert not used & {"transformers", "peft"}
    assert "torch" not in used or path.stem in {"randomness"}


def test_import_linter_agrees(tmp_path: Path) -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    found = str(linter) if linter.exists() else shutil.which("lint-imports")
    if found is None:
        pytest.skip("import-linter is not installed")
    ended = subprocess.run(
        [found, "--config", str(ROOT / "pyproject.toml"), "--cache-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "0 broken" in ended.stdout


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_says_what_it_is_and_what_it_exports(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    names = exported(tree)
    if defined(tree):
        assert names is not None, f"defines {sorted(defined(tree))} and has no __all__"
    if names is not None:
        assert len(set(names)) == len(names)
        assert set(names) <= names_at_top(tree), "lists a name that does not exist"


MACHINE_PATHS = re.compile(r"""(?<![\w.\-/])/(?:work|root|home/\w+|Users/\w+)(?:/|\b)""")
KINDS = {".py", ".toml", ".md", ".txt", ".yml", ".yaml", ".json", ".cfg", ".ini", ".sh", ""}
NOT_OURS = re.compile(r"(^|/)(\.(?!ci(/|$))|__pycache__|build|dist|runs|shared|node_modules|[^/]*\.egg-info)")


def sources() -> list[Path]:
    """Source files: what lies in the checkout, less what tools leave there."""
    files = [path for path in ROOT.rglob("*") if not NOT_OURS.search(path.relative_to(ROOT).as_posix())]
    return [path for path in files if path.suffix in KINDS and path.is_file()]


def test_no_source_names_a_folder_of_the_machine_it_was_written_on() -> None:
    files = sources()
    assert {"pyproject.toml", "tests/test_rooms.py"} <= {name_of(path) for path in files}
    named = []
    for path in files:
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
            if path != Path(__file__).resolve() and MACHINE_PATHS.search(line):
                named.append(f"{name_of(path)}:{number}: {line.strip()}")
    assert named == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("see /work/main/x", True),
        ('"/root"', True),
        ("/home/someone/data", True),
        ("at docs/work/x", False),
        ("the network/work split", False),
        ("https://example.org/work/x", False),
        ("../shared/data", False),
    ],
)
def test_the_pattern_of_machine_paths(line: str, found: bool) -> None:
    assert bool(MACHINE_PATHS.search(line)) is found
