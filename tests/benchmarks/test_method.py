"""Ablations, scan, latency and the mask decoder's cost, each at a tiny budget."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.benchmarks.test_specialists import data  # noqa: F401  (a fixture)
from tests.model import stable_diffusion as sd
from tests.train.tiny import save_tiny

from benchmarks import _shared, ablations, latency, mask_decoder, scan, specialists
from digseg.evaluate import open_sets
from digseg.model import DiGSegPipeline
from digseg.model.adapter import LoadedModel
from digseg.model.text_pathway import MATCHED
from digseg.prompts import Prompt

_ARGV = "sys.argv"


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "tiny")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small crops, and no ImageNet, whose weights are of another width."""
    monkeypatch.setattr(ablations, "read_mix", lambda file: {"default": {"size": 64}})
    monkeypatch.setattr(_shared, "load_imagenet", lambda encoder: None)


def test_a_fresh_start_keeps_text_and_masks_only(tiny: Path) -> None:
    given = DiGSegPipeline.from_pretrained(tiny)
    made = _shared.fresh_start(tiny, pretrained=False, seed=9)
    for part in ("vae", "text_encoder"):
        theirs = getattr(made, part).state_dict()
        for name, value in getattr(given, part).state_dict().items():
            assert torch.equal(value, theirs[name]), name
    assert torch.equal(made.text_pathway.projection.weight, given.text_pathway.projection.weight)
    assert not torch.equal(made.unet.conv_in.weight, given.unet.conv_in.weight)
    assert _shared.layout_of(made) == _shared.layout_of(given)
    for scales in (3, 0):
        fewer = _shared.fresh_start(tiny, pretrained=False, scales=scales)
        assert fewer.image_encoder.config.match_channels == (8, 8, 4)[:scales]
        assert len(fewer.text_pathway.matches) == scales


def test_results_of_two_processes_are_merged(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "r.json"
    _shared.add_result(out, {"runs": {"a": 1}, "miou": {"a": 0.5}})
    _shared.add_result(out, {"runs": {"b": 2}})
    assert json.loads(out.read_text()) == {"runs": {"a": 1, "b": 2}, "miou": {"a": 0.5}}
    items = list("abcde")
    halves = [_shared.share_of(items, part) for part in ("1/2", "2/2")]
    assert sorted(halves[0] + halves[1]) == items
    assert _shared.share_of(items, None) == items
    with pytest.raises(SystemExit):
        _shared.share_of(items, "3/2")


def test_ablations_run_share_and_go_on(
    data: Path,  # noqa: F811
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "a.json"
    words = ["ablations", "--data", str(data), "--model", str(tiny), "--sets", "bright"]
    names = ["encoder-random", "one-prompt", "no-diffusion", "no-pathway", "in-use"]
    # One precision for a process, as accelerate has it: the other tests train in single.
    words += ["--precision", "no", "--pictures", "6", "--batch", "2", "-o", str(out)]
    words += ["--only", *names]
    for part in ("1/2", "2/2"):
        capsys.readouterr()
        monkeypatch.setattr(_ARGV, [*words, "--part", part])
        assert ablations.main() == 0
    told = json.loads(out.read_text())["runs"]
    assert set(told) == set(names)
    assert {row["pictures"] for name, row in told.items() if name != "in-use"} == {6}
    assert all(0 <= told[name]["miou"]["bright"] <= 1 for name in names[:-1])
    shown = capsys.readouterr().out
    assert shown.count("| one prompt a picture |") == 1
    assert "| text pathway at zero |" in shown
    # Called again: the same table, nothing measured.
    monkeypatch.setattr(ablations, "run_variant", None)
    monkeypatch.setattr(ablations, "in_use", None)
    monkeypatch.setattr(_ARGV, words)
    assert ablations.main() == 0
    assert "| one prompt a picture |" in capsys.readouterr().out
    # Another budget is another measurement.
    monkeypatch.setattr(_ARGV, [*words, "--limit", "1"])
    with pytest.raises(TypeError):
        ablations.main()
    monkeypatch.setattr(_ARGV, [*words, "--only", "nonsense"])
    assert ablations.main() == 2


def test_stages_share_the_budget() -> None:
    args = ablations._parser().parse_args(["--data", "x", "--pictures", "120", "--batch", "4"])
    args.minutes = 0.0
    found = ablations.stages(ablations.VARIANTS["default"], args)
    assert [(s.stage, s.steps) for s in found] == [(1, 10), (2, 20)]
    (alone,) = ablations.stages(ablations.VARIANTS["no-diffusion"], args)
    assert (alone.stage, alone.steps) == (2, 30)
    args.minutes, args.pictures = 9.0, 0
    minutes = [s.minutes for s in ablations.stages(ablations.VARIANTS["default"], args)]
    assert minutes == pytest.approx([3.0, 6.0])


def test_a_silent_pathway_is_an_untrained_one(tiny: Path) -> None:
    pipeline = DiGSegPipeline.from_pretrained(tiny)
    torch.manual_seed(0)
    for parameter in pipeline.text_pathway.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    pixels = np.random.default_rng(0).random((1, 3, 64, 64), dtype=np.float32)
    words = [Prompt("water"), Prompt("building")]
    spoken = LoadedModel(pipeline, "x")(pixels, words)
    ablations.silence_pathway(pipeline)
    silent = LoadedModel(pipeline, "x")(pixels, words)
    assert np.abs(spoken - silent).max() > 1e-3
    pathway = pipeline.text_pathway
    h, e = torch.randn(2, 8, 4, 4), torch.randn(2, 8)
    for injection in pathway.scales:
        assert torch.equal(injection(h, e), h)
    rows = torch.zeros(2, dtype=torch.long)
    channels = [*pathway.config.direct_channels, *pathway.config.match_channels]
    sides = (2, 4, 8, 16, 1, 2, 4, 8, 16)
    features = {
        name: torch.randn(1, width, side, side)
        for name, width, side in zip(MATCHED, channels, sides, strict=True)
    }
    assert not pathway.match(features, e, rows).any()


def test_one_prompt_keeps_what_was_asked(data: Path) -> None:  # noqa: F811
    from digseg.train.mix import shares
    from digseg.train.run import prepare

    infos, pictures = prepare(data)
    taken = shares(infos, {"default": {"size": 64, "prompts": 3}})
    several, one = (
        kind(infos, pictures, taken) for kind in (ablations.Sampler, ablations.OnePrompt)
    )
    for seed in range(5):
        many = several.draw(np.random.default_rng(seed))
        single = one.draw(np.random.default_rng(seed))
        assert len(single.prompts) == len(single.masks) == 1
        place = many.prompts.index(single.prompts[0])
        np.testing.assert_array_equal(single.masks[0], many.masks[place])


def test_scan_picks_by_name(
    data: Path,  # noqa: F811
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (labelled,) = open_sets(data)
    picked = {scan.order(labelled, "train", seed)[0] for seed in range(30)}
    assert picked == {"p0", "p1", "p2"}  # every picture has its chance
    assert sorted(scan.order(labelled, "train", 3)) == ["p0", "p1", "p2"]
    out = tmp_path / "docs" / "scan.png"
    words = ["scan", "--data", str(data), "--model", str(tiny), "--sets", "bright"]
    monkeypatch.setattr(_ARGV, [*words, "-o", str(out)])
    assert scan.main() == 0
    assert "bright" in capsys.readouterr().out
    with Image.open(out) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    # The truth's panel: the masked columns in the colour of the first class, black beside them.
    top, left = scan._LINE, 2 * scan._GAP + scan._SIDE
    panel = pixels[top : top + scan._SIDE, left : left + scan._SIDE]
    assert tuple(panel[90, int(scan._SIDE * 60 / 96)]) == scan.color_of("lamp", 0)
    assert tuple(panel[90, 20]) == (0, 0, 0)
    monkeypatch.setattr(_ARGV, ["scan", "--data", str(data), "--model", str(tiny)])
    assert scan.main() == 1  # none of the twenty is there


def test_latency_tells_each_part(
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "l.json"
    words = ["latency", "--model", str(tiny), "--size", "64", "--repeat", "2", "--threads", "1"]
    monkeypatch.setattr(_ARGV, [*words, "--profile", "--json", str(out)])
    assert latency.main() == 0
    told = json.loads(out.read_text())["seconds"]
    assert set(told) == {"tile and prompts", "picture, once", "prompts"}
    assert all(0 < row["fastest"] <= row["median"] for row in told.values())
    shown = capsys.readouterr().out
    assert "64 x 64, 4 prompts" in shown
    # The modules' own times add up to the whole, and the picture's stem is one of them.
    assert "| image_encoder.stem (SameConv) |" in latency.profile(
        LoadedModel(DiGSegPipeline.from_pretrained(tiny), "x"),
        latency.tile(64),
        [Prompt("water")],
        1,
        1000,
    )
    assert "outside of modules" in shown


def test_mask_decoder_of_a_converted_pipeline(
    data: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = sd.save(tmp_path / "sd", "turbo")
    DiGSegPipeline.from_stable_diffusion(folder).save_pretrained(tmp_path / "c")
    out = tmp_path / "m.json"
    words = ["mask_decoder", "--data", str(data), "--pipeline", str(tmp_path / "c")]
    words += ["--steps", "1", "--size", "64", "--tile", "64", "--each", "1", "--json", str(out)]
    monkeypatch.setattr(_ARGV, words)
    assert mask_decoder.main() == 0
    told = json.loads(out.read_text())
    assert set(told["sets"]) == {"bright"}
    assert "| bright |" in capsys.readouterr().out
    # Counted by hand: MACs of the convolutions of a decoder of widths 64 and 32 on 64 x 64.
    eighth, quarter, half = 8 * 8, 16 * 16, 32 * 32
    by_hand = 9 * 4 * 64 * eighth + 2 * 9 * 64 * 64 * quarter + 64 * 32 * quarter
    by_hand += 9 * 32 * 32 * half + 9 * 32 * half
    assert told["cost"]["distilled_gmac"] == pytest.approx(by_hand / 1e9, rel=1e-9)


def test_specialists_go_on_where_they_were(
    data: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    original = specialists.new_encoder
    monkeypatch.setattr(specialists, "new_encoder", lambda pretrained: original(False, 0.25))
    monkeypatch.setattr(
        specialists, "read_mix", lambda file: {"default": {"size": 64, "weight": 2}}
    )
    out = tmp_path / "s.json"
    words = ["specialists", "--data", str(data), "--random", "-o", str(out), "--batch", "2"]
    monkeypatch.setattr(_ARGV, [*words, "--total", "6"])
    assert specialists.main() == 0
    first = json.loads(out.read_text())
    assert first["runs"]["bright"]["pictures"] == 6  # the only set has all of them
    monkeypatch.setattr(specialists, "run_set", None)
    assert specialists.main() == 0  # not measured again
    assert json.loads(out.read_text()) == first
    for more in (["--pictures", "6"], ["--total", "6", "--again"]):
        monkeypatch.setattr(_ARGV, [*words, *more])
        with pytest.raises(TypeError):
            specialists.main()
