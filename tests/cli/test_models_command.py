"""``models``: bring models in, and refuse what could run code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.model import stable_diffusion as sd

from digseg.cli.main import main


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sd.save(tmp_path_factory.mktemp("sd") / "sd-turbo", "turbo")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DIGSEG_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def test_convert_import_list_show(
    checkpoint: Path, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "converted"
    assert main(["models", "convert", str(checkpoint), "-o", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["components"]["unet"] == "UNet2DConditionModel"
    assert told["components"]["text_pathway"] == "TextPathway"
    assert "image_encoder" not in told["components"]
    assert "sd-turbo" in told["summary"]
    assert json.loads((out / "unet" / "config.json").read_text())["in_channels"] == 8

    assert main(["models", "import", str(out), "--name", "mine"]) == 0
    assert (home / "mine" / "unet" / "diffusion_pytorch_model.safetensors").is_file()
    capsys.readouterr()
    assert main(["models", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["models"]
    assert [(m["name"], m["shipped"]) for m in listed if not m["shipped"]] == [("mine", False)]
    assert main(["models", "show", "mine"]) == 0
    assert "sd-turbo, converted" in capsys.readouterr().out

    # Twice under one name only when asked for, and never over a file of another kind.
    assert main(["models", "import", str(out), "--name", "mine"]) == 2
    assert "there already" in capsys.readouterr().err
    assert main(["models", "import", str(out), "--name", "mine", "--overwrite"]) == 0
    assert main(["models", "convert", str(checkpoint), "-o", str(out)]) == 2


def test_import_refuses_what_it_cannot_load(
    checkpoint: Path, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "import", str(checkpoint)]) == 3
    assert "models convert" in capsys.readouterr().err
    assert main(["models", "import", str(tmp_path / "nowhere")]) == 3
    assert main(["models", "import", str(checkpoint), "--name", "../x"]) == 2
    assert not home.exists() or not list(home.iterdir())


def test_convert_refuses_pickles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = sd.save(tmp_path / "m", "1.5")
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    file.rename(file.with_suffix(".bin"))
    capsys.readouterr()  # progress bars of the writing
    assert main(["models", "convert", str(folder), "-o", str(tmp_path / "o")]) == 3
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "pickle" in error
    assert not (tmp_path / "o").exists()
    assert not list(tmp_path.glob(".*partial"))


def test_no_network_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "fetch", "nobody/no-such-model"]) == 3
    assert "connect to the network" in capsys.readouterr().err
    assert main(["models", "fetch", "no id at all"]) == 2
    assert main(["models", "convert", "nobody/nothing", "-o", str(tmp_path / "o")]) == 3
    assert "connect to the network" in capsys.readouterr().err


def test_distil_gives_a_converted_model_a_mask_decoder(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    converted, out = tmp_path / "converted", tmp_path / "small"
    assert main(["models", "convert", str(checkpoint), "-o", str(converted)]) == 0
    words = ["models", "distil", str(converted), "-o", str(out), "--size", "64"]
    assert main([*words, "--minutes", "0"]) == 2
    assert main([*words, "--steps", "1", "--data", str(tmp_path / "nowhere")]) == 3
    assert not out.exists()
    capsys.readouterr()
    assert main([*words, "--steps", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["components"]["mask_decoder"] == "MaskDecoder"
    assert 0 <= told["distilled"]["distilled_iou"] <= 1
    assert main([*words, "--steps", "1"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main(["models", "distil", str(out), "-o", str(tmp_path / "x"), "--steps", "1"]) == 2
    assert "mask decoder already" in capsys.readouterr().err
