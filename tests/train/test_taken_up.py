"""``train --resume``: the same training goes on, another one is refused, the record tells which."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.evaluate.labelled_sets import write_set
from tests.train.tiny import save_tiny

from digseg.cli.main import main
from digseg.errors import ResumeError, UsageError
from digseg.model import DiGSegPipeline
from digseg.model.adapter import quiet
from digseg.train import job as jobs
from digseg.train.layouts.prepare import prepare_any
from digseg.train.run import train_sets
from digseg.train.settings import TrainSettings
from digseg.train.state import read_checkpoint

QUICK = ("--batch", "1", "--log-every", "1", "--threads", "1", "-q")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny")


def _set(folder: Path, pictures: int) -> Path:
    mask = np.zeros((64, 64), np.uint8)
    mask[:32] = 1
    masks = {f"p{number}": mask for number in range(pictures)}
    return write_set(folder, {"train": masks}, [(1, "water", ())], licence=f"licence {folder.name}")


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sets")
    for name, pictures in (("one", 2), ("two", 1)):
        _set(root / name, pictures)
    return root


@pytest.fixture(scope="module")
def begun(model: Path, sets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("begun") / "run"
    assert main(_words(model, sets / "one", out, "--stage2", "1")) == 0
    return out


@pytest.fixture
def run(begun: Path, tmp_path: Path) -> Path:
    shutil.copytree(begun, tmp_path / "run")
    return tmp_path / "run"


def _words(model: Path, data: Path, out: Path, *more: str) -> list[str]:
    return ["train", str(data), "-o", str(out), "--model", str(model), *QUICK, *more]


def _record(run: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((run / "training.json").read_text())
    return told


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (("--lr", "0.5"), "rate: 0.001, now 0.5"),
        (("--seed", "9"), "seed: 0, now 9"),
        (("--batch", "2"), "batch: 1, now 2"),
        (("--ema", "0.5"), "ema: 0.998, now 0.5"),
        (("--tune-encoder",), "encoder_rate: 0.0, now"),
        (("--fresh",), "fresh: False, now True"),
        (("--stage1", "3"), "stage 1: none, now 3 steps"),
    ],
)
def test_other_settings_are_refused_and_the_record_stays(
    model: Path,
    sets: Path,
    run: Path,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
    named: str,
) -> None:
    before = (run / "training.json").read_bytes()
    assert main([*_words(model, sets / "one", run, "--stage2", "2", "--resume"), *more]) == 6
    told = capsys.readouterr().err
    assert named in told
    assert told.count("\n") == 1
    assert (run / "training.json").read_bytes() == before


def test_other_data_and_another_model_are_refused(
    model: Path, sets: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (run / "training.json").read_bytes()
    assert main(_words(model, sets / "two", run, "--stage2", "2", "--resume")) == 6
    assert "one: 2 pictures, now none; two: none, now 1 picture" in capsys.readouterr().err
    _set(tmp_path / "one", 3)
    assert main(_words(model, tmp_path / "one", run, "--stage2", "2", "--resume")) == 6
    assert "one: 2 pictures, now 3 pictures" in capsys.readouterr().err
    other = save_tiny(tmp_path / "tiny", seed=1)
    assert main(_words(other, sets / "one", run, "--stage2", "2", "--resume")) == 6
    assert f"model: {model}, now {other}" in capsys.readouterr().err
    assert (run / "training.json").read_bytes() == before


def test_length_logs_and_the_model_s_place_may_change(
    model: Path, sets: Path, run: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(model, moved)
    more = ("--stage2", "3", "--minutes", "9", "--log-every", "2", "--checkpoint-minutes", "1")
    saving = ("--gradient-checkpointing", "--threads", "0", "--resume")
    assert main([*_words(moved, sets / "one", run), *more, *saving]) == 0
    told = _record(run)
    assert told["finished"] is True
    assert told["stages"]["stage2"]["steps"] == 3
    # A lower number of steps than were done: nothing is learned, and nothing else is claimed.
    assert main(_words(model, sets / "one", run, "--stage2", "2", "--resume")) == 0
    assert _record(run)["stages"]["stage2"]["steps"] == 3


def test_another_mix_is_written_down_with_its_first_step(
    model: Path, sets: Path, run: Path, tmp_path: Path
) -> None:
    mix = tmp_path / "mix.json"
    for steps, prompts in ((1, 1), (2, 2), (3, 3)):  # of the first, no step is made
        mix.write_text(json.dumps({"default": {"prompts": prompts}}))
        more = ("--stage2", str(steps), "--mix", str(mix), "--resume")
        assert main(_words(model, sets / "one", run, *more)) == 0
    mixes = _record(run)["stages"]["stage2"]["mixes"]
    assert [item["from_step"] for item in mixes] == [0, 1, 2]
    assert [item["file"] for item in mixes] == [None, str(mix), str(mix)]
    assert [item["mix"]["default"].get("prompts") for item in mixes[1:]] == [2, 3]


def test_folders_of_older_versions_go_on(model: Path, sets: Path, run: Path) -> None:
    record = _record(run)
    del record["begun_with_sha256"], record["finished"], record["stages"]["stage2"]["mixes"]
    (run / "training.json").write_text(json.dumps(record))
    assert main(_words(model, sets / "one", run, "--stage2", "2", "--resume")) == 0
    assert _record(run)["stages"]["stage2"]["mixes"][0]["mix"] is None  # not known
    (run / "training.json").unlink()  # killed before there was one
    assert main(_words(model, sets / "two", run, "--stage2", "3", "--resume")) == 0
    assert main(_words(model, sets / "two", run, "--stage2", "3", "--lr", "1", "--resume")) == 6


def test_before_the_first_checkpoint_all_may_change(model: Path, sets: Path, run: Path) -> None:
    shutil.rmtree(run / "stage2")
    more = ("--stage2", "1", "--lr", "0.01", "--resume")
    assert main(_words(model, sets / "two", run, *more)) == 0
    assert [item["name"] for item in _record(run)["sets"]] == ["two"]


def test_a_stage_that_is_over_stays_as_it_was(
    model: Path, sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = _words(model, sets / "one", out)
    assert main([*words, "--stage1", "2", "--stage2", "1"]) == 0
    assert main([*words, "--stage1", "3", "--stage2", "2", "--resume"]) == 6
    assert "stage 1, which is over: 2 steps, now 3" in capsys.readouterr().err
    assert main([*words, "--stage2", "2", "--resume"]) == 6
    assert "stage 1: 2 steps, now none" in capsys.readouterr().err
    more = ("--stage1", "2", "--stage2", "2", "--minutes", "5", "--resume")
    assert main([*words, *more]) == 0
    stages = _record(out)["stages"]
    assert [stages[name]["steps"] for name in ("stage1", "stage2")] == [2, 2]
    assert [stages[name]["settings"]["minutes"] for name in ("stage1", "stage2")] == [0, 5]


def test_a_damaged_record_is_named(
    model: Path, sets: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "training.json").write_text("[")
    assert main(_words(model, sets / "one", run, "--stage2", "2", "--resume")) == 6
    assert "training.json can't be read" in capsys.readouterr().err


def test_the_library_goes_on_with_any_mix_length_and_rate(
    model: Path, sets: Path, tmp_path: Path
) -> None:
    """As ``tools/build_default/train_tiny.py`` does, which knows what it changes."""
    prepared = prepare_any([sets / "one"])
    mix = tmp_path / "mix.json"
    mix.write_text('{"default": {"prompts": 1}}')
    settings = TrainSettings(steps=1, batch=1, threads=1)
    for steps, chosen in ((1, None), (2, mix)):
        with quiet():
            pipeline = DiGSegPipeline.from_pretrained(model)
        now = replace(settings, steps=steps, rate=1e-3 / steps, minutes=5.0)
        train_sets(pipeline, prepared, now, tmp_path / "stage2", chosen)
    found = read_checkpoint(tmp_path / "stage2")
    assert found is not None
    assert found.step == 2


def test_a_loss_that_is_no_number_stops_and_the_checkpoint_stays(
    model: Path, sets: Path, run: Path
) -> None:
    kept = (run / "stage2" / "checkpoint.safetensors").read_bytes()
    with quiet():
        broken = DiGSegPipeline.from_pretrained(model)
    broken.text_encoder.get_input_embeddings().weight.data.fill_(float("nan"))
    settings = TrainSettings.from_dict(_record(run)["stages"]["stage2"]["settings"])
    with pytest.raises(UsageError, match=r"at step 2 \(the checkpoint of step 1 stays\)"):
        train_sets(broken, prepare_any([sets / "one"]), replace(settings, steps=2), run / "stage2")
    assert (run / "stage2" / "checkpoint.safetensors").read_bytes() == kept


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (("--lr", "nan"), "learning rate can't be nan"),
        (("--lr", "inf"), "learning rate can't be inf"),
        (("--lr", "0"), "learning rate has to be above 0"),
        (("--minutes", "nan"), "limit in minutes can't be nan"),
        (("--checkpoint-minutes", "nan"), "minutes between checkpoints can't be nan"),
        (("--lora", "-1"), "rank of low-rank updates can't be -1"),
        (("--threads", "-1"), "number of threads can't be -1"),
        (("--log-every", "0"), "every 1 or more steps, not 0"),
        (("--seed", "-1"), "seed lies between"),
        (("--seed", str(10**23)), "seed lies between"),
        (("--batch", "0"), "batch can't be 0"),
        (("--stage2", "0"), "Nothing is to be done"),
        (("-o", "FILE"), "is a file: name a folder"),
        (("-o", "FILE/run"), "nothing can be written to"),
        (("-o", "FULL"), "holds something already"),
        (("-o", "SETS", "--overwrite"), "lies in the output folder"),
        (("-o", "FULL", "--resume"), "checkpoint"),
        (("--model", "FULL/none"), "There is no model"),
    ],
)
def test_what_can_t_be_done_is_said_before_pictures_are_read(
    model: Path,
    sets: Path,
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    more: tuple[str, ...],
    named: str,
) -> None:
    def read(*_: object, **__: object) -> None:
        raise AssertionError("pictures were read")

    monkeypatch.setattr("digseg.train.layouts.prepare.prepare_any", read)
    (tmp_path / "a.tif").write_bytes(b"")
    (run / "stage2" / "checkpoint.safetensors").write_bytes(b"half")
    places = {"FILE": tmp_path / "a.tif", "FULL": run, "SETS": sets}
    words = [
        str(places[head] / tail) if (head := word.partition("/")[0]) in places else word
        for word in more
        for tail in [word.partition("/")[2]]
    ]
    code = main([*_words(model, sets / "one", tmp_path / "new", "--stage2", "1"), *words])
    assert code in (2, 3, 6)
    told = capsys.readouterr().err
    assert named in told
    assert told.count("\n") == 1
    assert not (tmp_path / "new").exists()
    assert (sets / "one").is_dir()


def test_a_job_checks_once_more_for_the_library(model: Path, sets: Path, run: Path) -> None:
    job = jobs.TrainJob(run, str(model), settings=TrainSettings(batch=1, rate=0.5), resume=True)
    with pytest.raises(ResumeError, match="rate"):
        jobs.run_job(job, prepare_any([sets / "one"]))


@pytest.mark.skipif(sys.platform == "win32", reason="torchrun needs gloo over a socket")
def test_processes_on_cpus_share_one_run(model: Path, sets: Path, tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words = _words(model, sets / "one", tmp_path / "run", "--stage2", "1")
    done = subprocess.run(
        [*launch, "-m", "digseg.cli.main", *(word for word in words if word != "-q")],
        env={**os.environ, "ACCELERATE_USE_CPU": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("stage 2  step 1 ") == 1  # not one of each process
