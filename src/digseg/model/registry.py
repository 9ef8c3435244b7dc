"""Which models are here: shipped with the package, in the models folder, or any folder.

Reads file names, sizes and JSON only; no torch is imported.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from digseg.errors import ModelError, ModelNotFoundError

DEFAULT = "digseg-tiny"
#: Environment variable that names the folder of local models.
FOLDER_VARIABLE = "DIGSEG_MODELS"
#: Files that say what a model is and change no answer.
PAPERS = ("README.md", "LICENSE", "figures.json")


@dataclass(frozen=True)
class ModelInfo:
    """A model that can be loaded.

    Parameters
    ----------
    name
        As given to ``--model``.
    folder
        A diffusers folder.
    shipped
        Whether it came with the package.
    size
        Bytes of all its files.
    licence, summary
        From the model card; empty without one.
    components
        Class of each part, by its folder.
    """

    name: str
    folder: Path
    shipped: bool
    size: int
    licence: str
    summary: str
    components: dict[str, str]

    @property
    def card(self) -> str:
        """Text of the model card; empty without one."""
        file = self.folder / "README.md"
        return file.read_text(encoding="utf-8") if file.exists() else ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "name": self.name,
            "folder": str(self.folder),
            "shipped": self.shipped,
            "size": self.size,
            "licence": self.licence,
            "summary": self.summary,
            "components": self.components,
        }


def shipped_folder() -> Path:
    """Folder of the models that came with the package."""
    return Path(str(resources.files("digseg") / "weights"))


def local_folder() -> Path:
    """Folder of the person's own models: ``DIGSEG_MODELS``, or one in the home folder."""
    given = os.environ.get(FOLDER_VARIABLE)
    return Path(given).expanduser() if given else Path.home() / ".local" / "share" / "digseg"


def list_models() -> tuple[ModelInfo, ...]:
    """Shipped models first, then local ones; the shipped one wins where names are equal."""
    found: dict[str, ModelInfo] = {}
    for root, shipped in ((shipped_folder(), True), (local_folder(), False)):
        if root.is_dir():
            for folder in sorted(root.iterdir()):
                if (folder / "model_index.json").exists() and folder.name not in found:
                    found[folder.name] = describe(folder, folder.name, shipped)
    return tuple(sorted(found.values(), key=lambda info: (not info.shipped, info.name)))


def find_model(name_or_folder: str | os.PathLike[str]) -> ModelInfo:
    """A model by its name, or by its folder.

    Raises
    ------
    ModelNotFoundError
        There is none.
    ModelError
        The folder is no model.
    """
    text = str(name_or_folder)
    for info in list_models():
        if info.name == text:
            return info
    folder = Path(name_or_folder).expanduser()
    if folder.is_dir():
        return describe(folder, folder.name, shipped=False)
    names = ", ".join(info.name for info in list_models()) or "none"
    raise ModelNotFoundError(
        f"There is no model {text!r}: give a folder, or one of the models here ({names})."
    )


def describe(folder: Path, name: str, shipped: bool) -> ModelInfo:
    """What a model folder says of itself.

    Raises
    ------
    ModelError
        The folder has no readable ``model_index.json``.
    """
    index = folder / "model_index.json"
    try:
        parts = json.loads(index.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{folder} is no model: it has no model_index.json.") from None
    except json.JSONDecodeError as error:
        raise ModelError(f"{index} is no valid JSON ({error}).") from None
    components = {
        key: str(value[1])
        for key, value in parts.items()
        if isinstance(value, list) and len(value) == 2 and value[1]
    }
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8") if card.exists() else ""
    licence = re.search(r"^license:\s*(.+)$", text, re.MULTILINE)
    summary = re.search(r"^summary:\s*(.+)$", text, re.MULTILINE)
    return ModelInfo(
        name=name,
        folder=folder,
        shipped=shipped,
        size=sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
        licence=licence[1].strip() if licence else "",
        summary=summary[1].strip() if summary else "",
        components=components,
    )


def folder_of(model: str | os.PathLike[str]) -> Path:
    """The folder of the model that is here by this name, else the path itself."""
    folder = Path(model)
    if folder.is_dir():
        return folder
    return next((info.folder for info in list_models() if info.name == str(model)), folder)


def refuse_code(folder: Path) -> None:
    """Refuse a folder with code, or whose weights are pickles, whatever else it holds.

    Raises
    ------
    ModelError
        Names the file.
    """
    for file in sorted(folder.rglob("*")):
        pickled = file.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl")
        if pickled and not any(file.parent.glob("*.safetensors")):
            raise ModelError(
                f"{file} is a pickle, which can run code when it is opened: "
                "convert the weights to safetensors first."
            )
        if file.suffix == ".py":
            raise ModelError(f"{file} is code: a model folder may hold weights and JSON only.")
