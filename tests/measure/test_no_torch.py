"""What measures knows boxes and numbers, no network."""

import subprocess
import sys
from pathlib import Path

import cxr.measure

ROOMS = sorted(path.stem for path in Path(cxr.measure.__path__[0]).glob("[a-z]*.py"))


def test_measuring_imports_no_torch() -> None:
    modules = "; ".join(f"import cxr.measure.{name}" for name in ROOMS)
    code = f"{modules}; import sys; print([n for n in sys.modules if n.split('.')[0] in ('torch', 'torchmetrics')])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
