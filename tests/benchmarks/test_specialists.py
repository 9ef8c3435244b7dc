"""Benchmarks of the method at a tiny budget: they run, learn, and say what they did."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.evaluate.labelled_sets import write_set
from tests.train.tiny import save_tiny

from benchmarks import camvid, model_card, scan, specialists
from digseg.prompts import Prompt


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(2)
    masks, images = {}, {}
    for number in range(4):
        mask = np.zeros((96, 96), np.uint8)
        mask[:, 16 * number : 16 * number + 40] = 1
        masks[f"p{number}"] = mask
        images[f"p{number}"] = np.clip(mask * 150.0 + rng.normal(40, 4, mask.shape), 0, 255)
    split = {"train": {k: masks[k] for k in ("p0", "p1", "p2")}, "val": {"p3": masks["p3"]}}
    write_set(
        tmp_path / "data" / "bright",
        split,
        [(1, "lamp", ("light",))],
        images,
        use="train-and-ship",
    )
    return tmp_path / "data"


def test_specialist_learns_what_is_bright(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)
    narrow = lambda pretrained: original(False, 0.25)  # noqa: E731
    original = specialists.new_encoder
    monkeypatch.setattr(specialists, "new_encoder", narrow)
    small = {"default": {"size": 64, "scales": [0.8, 1.2]}}
    monkeypatch.setattr(specialists, "read_mix", lambda file: small)
    out = tmp_path / "out.json"
    words = ["--data", str(data), "--random", "--steps", "25", "--batch", "2", "-o", str(out)]
    monkeypatch.setattr("sys.argv", ["specialists", *words])
    assert specialists.main() == 0
    told = json.loads(out.read_text())
    assert told["miou"]["bright"] > 0.5  # a third of the picture is bright: chance is below that
    assert told["runs"]["bright"]["steps"] == 25
    assert "| bright |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("trunk", "learning"), [("whole", range(7)), ("coarse", (4, 5, 6)), ("frozen", ())]
)
def test_what_of_a_specialists_trunk_learns(
    trunk: str,
    learning: Sequence[int],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoder = specialists.new_encoder(False, 0.25)
    before = [next(stage.parameters()).detach().clone() for stage in encoder.stages]
    monkeypatch.setattr(specialists, "new_encoder", lambda pretrained: encoder)
    monkeypatch.setattr(specialists, "read_mix", lambda file: {"default": {"size": 64}})
    out = tmp_path / "out.json"
    words = ["--data", str(data), "--random", "--steps", "2", "--batch", "2", "-o", str(out)]
    monkeypatch.setattr("sys.argv", ["specialists", *words, "--trunk", trunk])
    assert specialists.main() == 0
    after = [next(stage.parameters()) for stage in encoder.stages]
    moved = {i for i, (x, y) in enumerate(zip(before, after, strict=True)) if not x.equal(y)}
    assert moved == set(learning)
    command = json.loads(out.read_text())["runs"]["bright"]["command"]
    assert (f"--trunk {trunk}" in command) == (trunk != "whole")


def test_specialist_answers_by_name_only() -> None:
    net = specialists.Specialist(2, specialists.new_encoder(False, 0.25))
    model = specialists.SpecialistModel(net, ["a", "b"])
    tiles = np.random.default_rng(0).random((2, 3, 64, 32), dtype=np.float32)
    maps = model(tiles, [Prompt("b"), Prompt("nothing of this"), Prompt("a")])
    assert maps.shape == (2, 3, 64, 32)
    assert not maps[:, 1].any()
    logits = net(torch.from_numpy(tiles)).detach()
    # Above one half exactly where the class beats background, so threshold and arg-max agree.
    np.testing.assert_array_equal(maps[:, 0] > 0.5, (logits[:, 2] > logits[:, 0]).numpy())


@pytest.mark.parametrize("only", ["pretrained", "random"])
def test_street_scenes_from_both_starts(
    only: str,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    start = save_tiny(tmp_path / "start")
    out = tmp_path / "out.json"
    monkeypatch.setattr(camvid, "MIX", {"default": {"size": 64, "prompts": 2}})
    words = ["--data", str(data / "bright"), "--start", str(start), "--steps", "2", "--batch", "1"]
    more = ["--threads", "1", "--only", only, "--json", str(out), "--precision", "no"]
    monkeypatch.setattr("sys.argv", ["camvid", *words, *more])
    assert camvid.main() == 0
    told = json.loads(out.read_text())["runs"]
    assert set(told) == {only}
    assert 0 <= told[only]["miou"] <= 1
    assert told[only]["pictures"] == 8  # of 2 steps: 0.3 with the U-Net, 0.94 x 4 without
    assert f"| {only} |" in capsys.readouterr().out


def test_model_card_is_one_command(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = save_tiny(tmp_path / "m")
    shutil.copytree(data / "bright", data / "other")
    text = (data / "other" / "dataset.json").read_text()
    (data / "other" / "dataset.json").write_text(text.replace('"bright"', '"other"'))
    for name, domain in (("stranger", "aerial"), ("street", "street")):  # not trained on
        shutil.copytree(data / "bright", data / name)
        told = json.loads(text) | {"name": name, "use": "research-only", "domain": domain}
        (data / name / "dataset.json").write_text(json.dumps(told))
    docs = tmp_path / "docs"
    words = ["model_card", "--data", str(data), "--model", str(model), "--docs", str(docs)]
    monkeypatch.setattr("sys.argv", words)
    assert model_card.main() == 0
    told = json.loads((model / "figures.json").read_text())
    assert told["sets"]["bright"]["n"] == told["sets"]["other"]["n"] == 1
    assert set(told["elsewhere"]) == {"stranger"}, "no domain that it wasn't trained on"
    card = (docs / "model-card.md").read_text()
    assert card.startswith("# Model card: m")
    assert "images/scan.png" not in card  # there is none
    assert "| stranger | aerial |" in card[card.index("### Elsewhere") :]
    readme = (model / "README.md").read_text()
    assert readme.startswith("---\nlicense:")
    assert "bright" in readme
    # After a kill only what is missing is measured; the rest stays as it was told.
    told["sets"].pop("other")
    told["sets"]["bright"]["miou"] = 0.125
    (model / "figures.json").write_text(json.dumps(told))
    monkeypatch.setattr("sys.argv", [*words, "--missing"])
    assert model_card.main() == 0
    card = (docs / "model-card.md").read_text()
    assert "| other |" in card
    assert "| bright | 1 | 0.125 |" in card
    # Written again without measuring: the same text.
    monkeypatch.setattr("sys.argv", [*words, "--again"])
    assert model_card.main() == 0
    assert (docs / "model-card.md").read_text() == card


def test_scan_shows_picture_truth_and_result(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save_tiny(tmp_path / "m")
    out = tmp_path / "scan.png"
    words = ["scan", "--data", str(data), "--model", str(model), "--sets", "bright", "-o", str(out)]
    monkeypatch.setattr("sys.argv", words)
    assert scan.main() == 0
    assert "1 pictures" in capsys.readouterr().out
    with Image.open(out) as page:
        colours = {tuple(rgb) for _, rgb in page.convert("RGB").getcolors(1 << 20) or []}
    assert len(colours) > 4  # the picture, the truth's colour, frame and captions
