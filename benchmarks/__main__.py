"""``make bench``: list the benchmarks, or run those that are named.

    python -m benchmarks            # what there is, and the command of each
    python -m benchmarks engine     # run one (arguments after it are passed on)

Each prints its table and says machine, command and date, so that docs can quote it.
"""

from __future__ import annotations

import ast
import runpy
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def found() -> dict[str, Path]:
    """Benchmarks by name: modules of this folder and packages that can be run."""
    modules = {path.stem: path for path in FOLDER.glob("*.py") if not path.stem.startswith("_")}
    packages = {path.parent.name: path for path in FOLDER.glob("*/__main__.py")}
    return dict(sorted({**modules, **packages}.items()))


def main(words: list[str]) -> int:
    """Run the benchmark that the first word names, or list all."""
    benchmarks = found()
    if not words:
        for name, path in benchmarks.items():
            summary = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
            print(f"python -m benchmarks {name:<16} {summary}")
        return 0
    if words[0] not in benchmarks:
        print(f"There is no benchmark {words[0]!r}; there are: {', '.join(benchmarks)}.")
        return 2
    sys.argv = words
    runpy.run_module(f"benchmarks.{words[0]}", run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
