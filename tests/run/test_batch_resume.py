"""A batch that is taken up again: what is done is proved to be what is asked for."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tests.models import Brightness
from tests.run.test_batch import job, scene, volume

from digseg.cli.main import main
from digseg.errors import UsageError
from digseg.events import BlockWritten, Event
from digseg.prompts import PromptSet
from digseg.run import execute
from digseg.run.batch import BatchJob, Case, run_batch
from digseg.run.found import find
from digseg.run.table import Table
from digseg.settings import SegmentSettings


class StopError(Exception):
    """The program ends here."""


def done(asked: BatchJob, pattern: Path, table: Table | None = None, **more: Any) -> list[Case]:
    values = {"model": Brightness(), "table": table, **more}
    return list(run_batch(asked, find([str(pattern)]), **values))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("listed", [False, True], ids=["pattern", "list"])
def test_a_damaged_file_that_was_repaired_gets_its_own_mask(tmp_path: Path, listed: bool) -> None:
    x, y = (scene(tmp_path / "in" / part / "a.tif") for part in ("x", "y"))
    whole = x.read_bytes()
    x.write_bytes(b"no image")
    inputs = tmp_path / "in" / "*" / "a.tif"
    if listed:
        inputs = tmp_path / "all.txt"
        inputs.write_text(f"{x}\n{y}\n")
    first = done(job(tmp_path / "out"), inputs)
    assert [case.status for case in first] == ["failed", "done"]
    x.write_bytes(whole)
    again = done(job(tmp_path / "out", resume=True), inputs)
    assert [case.status for case in again] == ["done", "skipped"]
    assert again[1].output == first[1].output
    for case, file in zip(again, (x, y), strict=True):
        assert case.output is not None
        recipe = json.loads(case.output.with_name(f"{case.output.name}.recipe.json").read_text())
        assert recipe["input"] == str(file)


@dataclass(frozen=True)
class Other(Brightness):
    """Another model with the same answers."""

    @property
    def identity(self) -> str:
        return "another"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"prompts": PromptSet.parse(["red"])}, 'prompts: ["bright"] became ["red"]'),
        ({"settings": SegmentSettings(threshold=0.3)}, "settings.threshold: 0.5 became 0.3"),
        ({"settings": SegmentSettings(tile=64, overlap=0)}, "settings.tile: 512 became 64"),
        ({"model": Other()}, "model: "),
        ({"image": None}, "image: its content has changed"),
    ],
    ids=["prompts", "threshold", "tile", "model", "image"],
)
def test_a_mask_of_another_run_is_not_taken_for_done(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    scene(tmp_path / "in" / "a.tif")
    asked = job(tmp_path / "out")
    done(asked, tmp_path / "in")
    mask = tmp_path / "out" / "a_mask.tif"
    before = mask.read_bytes(), mask.stat().st_mtime_ns
    if "image" in changes:
        changed = tmp_path / "in" / "a.tif"
        content = bytearray(changed.read_bytes())
        content[-1] ^= 255
        changed.write_bytes(content)
    model = changes.pop("model", Brightness())
    changes.pop("image", None)
    (case,) = done(replace(asked, resume=True, **changes), tmp_path / "in", model=model)
    assert case.status == "failed"
    assert said in case.error
    assert "--overwrite" in case.error
    assert (mask.read_bytes(), mask.stat().st_mtime_ns) == before


def test_what_costs_no_label_may_change(tmp_path: Path) -> None:
    scene(tmp_path / "in" / "a.tif")
    done(job(tmp_path / "out"), tmp_path / "in")
    settings = SegmentSettings(batch=2, memory=2**33, device="cpu", simplify="2px")
    asked = replace(job(tmp_path / "out", resume=True, pictures=True), settings=settings)
    (case,) = done(asked, tmp_path / "in")
    assert case.status == "skipped"
    assert (tmp_path / "out" / "a_mask.png").exists(), "a picture is made from the mask"


@pytest.mark.parametrize("content", [None, "no JSON", '{"recipe": 1, "prompts": 3}'])
def test_a_mask_without_a_recipe_is_not_taken_for_done(tmp_path: Path, content: str | None) -> None:
    scene(tmp_path / "in" / "a.tif")
    done(job(tmp_path / "out"), tmp_path / "in")
    recipe = tmp_path / "out" / "a_mask.tif.recipe.json"
    if content is None:
        recipe.unlink()
    else:
        recipe.write_text(content)
    (case,) = done(job(tmp_path / "out", resume=True), tmp_path / "in")
    assert case.status == "failed"
    assert "without a recipe" in case.error


def test_a_volume_that_stopped_in_its_first_pass_is_finished(tmp_path: Path) -> None:
    volume(tmp_path / "in" / "a.nii.gz")
    settings = SegmentSettings(planes="zyx", tile=32, overlap=8)
    asked = replace(job(tmp_path / "out"), settings=settings)

    def stop(event: Event) -> None:
        if isinstance(event, BlockWritten):
            raise StopError

    with pytest.raises(StopError):
        done(asked, tmp_path / "in", callback=stop)
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left == {".a_mask.nii.gz.digseg.zarr.parts"}, "it has to stop before the last pass"
    (case,) = done(asked, tmp_path / "in")
    assert "An unfinished run for a_mask.nii.gz is there" in case.error
    (case,) = done(replace(asked, resume=True), tmp_path / "in")
    assert (case.status, case.error) == ("done", "")
    (case,) = done(replace(asked, resume=True), tmp_path / "in")
    assert case.status == "skipped"


def test_the_table_keeps_the_rows_of_what_is_done(tmp_path: Path) -> None:
    scene(tmp_path / "in" / "a.tif")
    volume(tmp_path / "in" / "b.nii.gz")
    path = tmp_path / "all.csv"
    table = Table.open(path)
    table.write(done(job(tmp_path / "out"), tmp_path / "in", table))
    first = rows_of(path)
    assert len(first) == 2
    for _ in range(2):
        table = Table.open(path, resume=True)
        cases = done(job(tmp_path / "out", resume=True), tmp_path / "in", table)
        assert [case.status for case in cases] == ["skipped"] * 2
        assert not any(case.labels for case in cases), "nothing is counted twice"
        table.write(cases)
        assert rows_of(path) == first
    # Without the old table, everything but the probabilities is counted from the masks.
    path.unlink()
    table = Table.open(path, resume=True)
    table.write(done(job(tmp_path / "out", resume=True), tmp_path / "in", table))
    assert rows_of(path) == [{**row, "mean_probability": ""} for row in first]


def test_rows_older_than_their_mask_are_counted_anew(tmp_path: Path) -> None:
    scene(tmp_path / "in" / "a.tif")
    path = tmp_path / "all.csv"
    table = Table.open(path)
    table.write(done(job(tmp_path / "out"), tmp_path / "in", table))
    pixels = rows_of(path)[0]["pixels"]
    path.write_text(path.read_text().replace(f",{pixels},", ",7,"))
    assert rows_of(path)[0]["pixels"] == "7"
    done(job(tmp_path / "out", overwrite=True), tmp_path / "in")  # and is stopped before the table
    table = Table.open(path, resume=True)
    table.write(done(job(tmp_path / "out", resume=True), tmp_path / "in", table))
    assert rows_of(path)[0]["pixels"] == pixels


def test_a_file_that_is_no_table_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    for content in ("a,b\n1,2\n", "file,b\nx,2,3\n", 'file\n"x\n', "\0"):
        path.write_text(content)
        if content != "\0":
            with pytest.raises(UsageError, match="no table of a batch"):
                Table.open(path, resume=True)
    path.write_bytes(b"file\n\xff\n")
    with pytest.raises(UsageError, match="no table of a batch"):
        Table.open(path, resume=True)
    path.write_text("id,name,color,pixels,share\n")  # of a batch in which nothing could be done
    assert not Table.open(path, resume=True).kept


def test_a_batch_that_is_stopped_leaves_its_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        scene(tmp_path / "in" / f"{name}.tif")
    calls = []

    class Stopping(Brightness):
        def __call__(self, *words: Any) -> Any:
            calls.append(1)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return super().__call__(*words)

    monkeypatch.setattr(execute, "load_model", lambda settings: Stopping())
    out = tmp_path / "out"
    words = ["batch", str(tmp_path / "in"), "-p", "bright", "-o", str(out)]
    words += ["--stats", str(out / "t.csv")]  # in a folder that is not there yet
    assert main(words) == 130
    assert [Path(row["file"]).name for row in rows_of(out / "t.csv")] == ["a.tif"]
    assert main([*words, "--resume"]) == 0
    assert [Path(row["file"]).name for row in rows_of(out / "t.csv")] == ["a.tif", "b.tif", "c.tif"]
    assert all(row["mean_probability"] for row in rows_of(out / "t.csv"))


def test_masks_beside_their_images_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(execute, "load_model", lambda settings: Brightness())
    scene(tmp_path / "a.tif")
    words = ["batch", str(tmp_path / "*.tif"), "-p", "bright", "-o", str(tmp_path)]
    assert main(words) == 0
    for _ in range(2):
        assert main([*words, "--resume", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["skipped"] == 1
    assert sorted(path.name for path in tmp_path.glob("*.tif")) == ["a.tif", "a_mask.tif"]
    assert main(["batch", str(tmp_path), "-p", "bright", "-o", str(tmp_path)]) == 2
    assert "folder of the masks itself" in capsys.readouterr().err


def test_a_line_for_each_file_whatever_its_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(execute, "load_model", lambda settings: Brightness())
    file = scene(tmp_path / ("long " * 20).strip() / "a.tif")
    assert main(["batch", str(file), "-p", "bright", "-o", str(tmp_path / "out")]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"[1/1] done: {file} -> {tmp_path / 'out' / 'a_mask.tif'} (")
