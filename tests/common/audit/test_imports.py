"""The package is for auditors' machines: none of its modules loads torch."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import common.audit


def test_no_module_loads_torch() -> None:
    names = [f"common.audit.{module.name}" for module in pkgutil.iter_modules(common.audit.__path__)]
    assert "common.audit.one_run" in names
    code = f"import sys; import {', '.join(names)}; print('torch' in sys.modules, 'transformers' in sys.modules)"
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.split() == ["False", "False"]
