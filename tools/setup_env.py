"""Make ``.venv`` ready: the right build of torch, then this project with the extras asked for.

Usage: ``python tools/setup_env.py EXTRA[,EXTRA]`` with the interpreter of the environment to fill.

On Linux the newest torch on the public registry brings gigabytes of CUDA packages. Where there is
no GPU that is a waste, so pip is asked first what it *would* install: if CUDA packages are among
it, uv's ``--torch-backend=cpu`` chooses the CPU build instead.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STAMP = Path(sys.prefix) / ".digseg-setup"


def main() -> int:
    extras = sys.argv[1] if len(sys.argv) > 1 else ""
    wanted = _fingerprint(extras)
    if STAMP.exists() and wanted in STAMP.read_text().split():
        return 0
    install_torch(_torch_requirement())
    target = f"{ROOT}[{extras}]" if extras else str(ROOT)
    uv_install("-e", target)
    STAMP.write_text(wanted + "\n")
    return 0


def install_torch(requirement: str) -> None:
    """Install torch for this machine unless one that fits is there."""
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        version = None
    if version is not None:
        print(f"torch {version} is installed")
        return
    if has_gpu() or not _would_bring_cuda(requirement):
        _run(sys.executable, "-m", "pip", "install", "--quiet", requirement)
    else:
        uv_install(requirement, "--torch-backend=cpu")


def has_gpu() -> bool:
    """Whether an NVIDIA driver answers."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return False
    return subprocess.run([tool, "-L"], capture_output=True, check=False).returncode == 0


def uv_install(*arguments: str) -> None:
    """Install with uv, which resolves and unpacks in seconds what takes pip minutes."""
    if importlib.util.find_spec("uv") is None:
        _run(sys.executable, "-m", "pip", "install", "--quiet", "uv>=0.6.9")
    environment = dict(os.environ)
    # uv reads its own variables only; what pip was told about local files holds for it too.
    if "PIP_FIND_LINKS" in environment:
        environment.setdefault("UV_FIND_LINKS", environment["PIP_FIND_LINKS"].replace(" ", ","))
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", sys.executable]
    subprocess.run([*command, *arguments], check=True, env=environment)


def _would_bring_cuda(requirement: str) -> bool:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--report", "-"]
    done = subprocess.run([*command, requirement], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        # An old pip without --report, or no network: let the real install tell what is wrong.
        return False
    report = json.loads(done.stdout[done.stdout.index("{") :])
    names = [item["metadata"]["name"].lower() for item in report["install"]]
    return any(name.startswith(("nvidia", "cuda", "triton")) for name in names)


def _torch_requirement() -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = [item for item in project["dependencies"] if item.startswith("torch")]
    return str(found[0])


def _fingerprint(extras: str) -> str:
    """Changes with the dependencies, the manifest (copied on install) and the extras."""
    digest = hashlib.sha256(extras.encode())
    for name in ("pyproject.toml", "napari.yaml"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


if __name__ == "__main__":
    raise SystemExit(main())
