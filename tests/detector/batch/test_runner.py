from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from detector import Detector
from detector.batch.inputs import find_images
from detector.batch.journal import Journal
from detector.batch.local_executor import LocalExecutor
from detector.batch.outputs import Outputs, journal_path
from detector.batch.runner import Summary, run
from detector.bundles.bundle import Bundle
from detector.commands.run import command
from detector.errors import FormatError, SettingsError
from detector.formats.image_lists import ImageList
from detector.image_types import PreprocessedImage, ProposedImage
from detector.results import Result
from detector.runtime import Runtime
from detector.settings import Settings
from tests.support.progress import reporting_to

ROOT = Path(__file__).parents[3]


def detect(detector: Detector, photos: Path, out: Path, **options: Any) -> Summary:
    outputs = options.pop("outputs", Outputs(out))
    engine = LocalExecutor(
        detector,
        proposals_file=options.pop("proposals_file", None),
        workers=options.pop("workers", None),
    )
    return run(engine, find_images([str(photos)]), outputs, **options)


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_bytes()))


def test_output_says_what_was_found(
    tiny_detector: Detector, tiny_bundle: Bundle, photos: Path, tmp_path: Path
) -> None:
    (photos / "broken.jpg").write_text("text")
    summary = detect(tiny_detector, photos, tmp_path / "dets.json")
    assert (summary.images, summary.computed, summary.resumed) == (4, 4, 0)
    content = read(tmp_path / "dets.json")
    assert list(content) == ["format", "bundle", "settings", "classes", "images", "failed"]
    assert content["format"] == "detections/1"
    assert content["bundle"] == {"name": "tiny", "sha256": tiny_bundle.sha256}
    assert content["classes"] == ["cat", "dog", "person"]
    expected = tiny_detector.settings.model_dump(mode="json")
    expected["images"] = {"max_pixels": 50_000_000}  # the other limits change no result
    assert content["settings"] == expected
    assert [image["file"] for image in content["images"]] == ["a.png", "b c é.png", "more/d.png"]
    assert content["failed"] == [
        {
            "file": "broken.jpg",
            "error": "not-an-image",
            "message": "not an image: allowed are JPEG, PNG, WEBP, BMP, TIFF, GIF",
        }
    ]
    for image in content["images"]:
        result = tiny_detector.detect(photos / image["file"])
        assert (image["width"], image["height"]) == (result.width, result.height)
        assert image["proposals"] == result.proposals
        found = [(d["label"], d["score"], tuple(d["box"])) for d in image["detections"]]
        assert found == [tuple(detection) for detection in result.detections]
        assert found


def test_workers_and_the_outputs_name_change_no_byte(
    tiny_detector: Detector, photos: Path, tmp_path: Path
) -> None:
    outputs = [Outputs(tmp_path / f"{n}.json", proposals=tmp_path / f"{n}.jsonl") for n in (1, 2)]
    for workers, output in enumerate(outputs, start=1):
        detect(tiny_detector, photos, output.path, outputs=output, workers=workers)
    assert outputs[0].path.read_bytes() == outputs[1].path.read_bytes()
    first, second = (output.proposals for output in outputs)
    assert first is not None
    assert second is not None
    assert first.read_bytes() == second.read_bytes()


def test_only_new_and_changed_photos_are_computed(
    tiny_detector: Detector, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "dets.json"
    detect(tiny_detector, photos, out)
    before = out.read_bytes()
    again = detect(tiny_detector, photos, out)
    assert (again.computed, again.resumed) == (0, 3)
    assert out.read_bytes() == before
    with PillowImage.open(photos / "a.png") as image:
        image.transpose(PillowImage.Transpose.FLIP_LEFT_RIGHT).save(photos / "a.png")
        image.save(photos / "new.png")
    third = detect(tiny_detector, photos, out)
    assert (third.computed, third.resumed) == (2, 2)
    detect(tiny_detector, photos, tmp_path / "fresh.json")
    assert out.read_bytes() == (tmp_path / "fresh.json").read_bytes()
    (photos / "new.png").unlink()
    detect(tiny_detector, photos, out)
    assert [image["file"] for image in read(out)["images"]] == ["a.png", "b c é.png", "more/d.png"]


def test_every_detection_is_one_of_the_proposals_and_they_can_be_used_again(
    tiny_detector: Detector, photos: Path, tmp_path: Path
) -> None:
    proposals = tmp_path / "proposals.jsonl"
    out = tmp_path / "dets.json"
    detect(tiny_detector, photos, out, outputs=Outputs(out, proposals=proposals))
    lines = [json.loads(line) for line in proposals.read_text().splitlines()]
    images = read(out)["images"]
    assert [line["file"] for line in lines] == [image["file"] for image in images]
    for line, image in zip(lines, images, strict=True):
        assert (line["width"], line["height"]) == (image["width"], image["height"])
        assert image["detections"]
        boxes = [tuple(map(float, box)) for box in line["boxes"]]
        assert {tuple(d["box"]) for d in image["detections"]} <= set(boxes)
        assert set(line["sources"]) == {"selective_search"}
    again = tmp_path / "again.json"
    detect(tiny_detector, photos, again, proposals_file=proposals)
    assert again.read_bytes() == out.read_bytes()


def test_multiboxes_are_written_and_not_added_to_given_ones(
    multibox_bundle: Bundle, photos: Path, tmp_path: Path
) -> None:
    proposals, out, again = (tmp_path / name for name in ("p.jsonl", "dets.json", "again.json"))
    with Detector.load(multibox_bundle, device="cpu") as detector:
        detect(detector, photos, out, outputs=Outputs(out, proposals=proposals))
        detect(detector, photos, again, proposals_file=proposals)
    first = json.loads(proposals.read_text().splitlines()[0])
    assert set(first["sources"]) == {"multibox", "selective_search"}
    assert again.read_bytes() == out.read_bytes()


def test_given_proposals_that_do_not_fit(
    tiny_detector: Detector, photos: Path, tmp_path: Path
) -> None:
    given = tmp_path / "given.jsonl"
    line = {"width": 120, "height": 24, "boxes": [[0, 0, 60, 20]], "scores": [1]}
    line |= {"sources": ["mine"]}
    lines = [line | {"file": "a.png"}, line | {"file": "b c é.png", "width": 121}]
    given.write_text("".join(json.dumps(item) + "\n" for item in lines))
    detect(tiny_detector, photos, tmp_path / "dets.json", proposals_file=given)
    content = read(tmp_path / "dets.json")
    assert [image["proposals"] for image in content["images"]] == [{"mine": 1, "merged": 1}]
    assert [(item["file"], item["error"]) for item in content["failed"]] == [
        ("b c é.png", "missing-proposals"),
        ("more/d.png", "missing-proposals"),
    ]
    given.write_text(json.dumps(line | {"file": "a.png", "boxes": [[0, 0, 500, 1]]}) + "\n")
    detect(tiny_detector, photos, tmp_path / "other.json", proposals_file=given)
    message = read(tmp_path / "other.json")["failed"][0]["message"]
    assert message.startswith("line 1 of the given proposals is wrong: box [0.0, 0.0, 500.0, 1.0]")
    given.write_text("{}\n")
    with pytest.raises(FormatError, match=r"given.jsonl:1: must be an object with"):
        detect(tiny_detector, photos, tmp_path / "third.json", proposals_file=given)
    with pytest.raises(FormatError, match=r"absent.jsonl: cannot be read"):
        detect(
            tiny_detector, photos, tmp_path / "third.json", proposals_file=tmp_path / "absent.jsonl"
        )


def test_proposals_asked_for_later_are_computed(
    tiny_detector: Detector, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "dets.json"
    detect(tiny_detector, photos, out)
    before = out.read_bytes()
    outputs = Outputs(out, proposals=tmp_path / "p.jsonl")
    summary = detect(tiny_detector, photos, out, outputs=outputs)
    assert summary.computed == 3
    assert len((tmp_path / "p.jsonl").read_text().splitlines()) == 3
    assert out.read_bytes() == before


def test_drawings(tiny_detector: Detector, photos: Path, tmp_path: Path) -> None:
    out, drawings = tmp_path / "dets.json", tmp_path / "drawings"
    outputs = Outputs(out, drawings=drawings)
    detect(tiny_detector, photos, out, outputs=outputs)
    names = sorted(p.relative_to(drawings).as_posix() for p in drawings.rglob("*.jpg"))
    assert names == ["a.png.jpg", "b c é.png.jpg", "more/d.png.jpg"]
    with PillowImage.open(drawings / "a.png.jpg") as drawing:
        assert drawing.size == (120, 24)
    (drawings / "a.png.jpg").unlink()
    summary = detect(tiny_detector, photos, out, outputs=outputs)
    assert summary.computed == 0
    assert (drawings / "a.png.jpg").exists()
    before = (drawings / "a.png.jpg").read_bytes()
    (photos / "a.png").write_bytes((photos / "more" / "d.png").read_bytes())
    assert detect(tiny_detector, photos, out).computed == 1, "without drawings"
    assert detect(tiny_detector, photos, out, outputs=outputs).computed == 0
    assert (drawings / "a.png.jpg").read_bytes() != before
    written = (drawings / "a.png.jpg").stat().st_mtime_ns
    detect(tiny_detector, photos, out, outputs=outputs)
    assert (drawings / "a.png.jpg").stat().st_mtime_ns == written, "it is drawn once"


def test_another_format_is_rendered_without_computing(
    tiny_detector: Detector, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "dets"
    detect(tiny_detector, photos, out)
    summary = detect(tiny_detector, photos, out, outputs=Outputs(out, "csv"))
    assert summary.computed == 0
    assert out.read_text().startswith("file,label,score,x1,y1,x2,y2\na.png,")


def test_files_of_photos_that_are_gone_leave_a_folder_format(
    tiny_detector: Detector, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "labels"
    outputs = Outputs(out, "yolo")
    detect(tiny_detector, photos, out, outputs=outputs)
    (out / "data.yaml").write_text("somebody's own")
    (photos / "a.png").unlink()
    (photos / "b c é.png").write_text("no image any more")
    detect(tiny_detector, photos, out, outputs=outputs)
    names = sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())
    assert names == ["classes.txt", "data.yaml", "more/d.txt"]


def test_what_a_format_cannot_express_is_found_before_the_work(
    tiny_detector: Detector, photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(FormatError, match="no space in an image's name"):
        detect(tiny_detector, photos, tmp_path, outputs=Outputs(tmp_path / "v", "voc"))
    outputs = Outputs(tmp_path / "c.json", "coco")
    with pytest.raises(FormatError, match="has no image a"):
        detect(tiny_detector, photos, tmp_path, outputs=outputs, image_list=ImageList({}, {}))
    assert [path.name for path in tmp_path.iterdir()] == ["photos"], "nothing was begun"


def test_nothing_is_overwritten_before_all_journals_are_there(
    tiny_detector: Detector, photos: Path, tmp_path: Path
) -> None:
    out, proposals = tmp_path / "dets.json", tmp_path / "p.jsonl"
    detect(tiny_detector, photos, out)
    before = journal_path(out).read_bytes()
    outputs = Outputs(out, proposals=proposals)
    with (
        Journal(journal_path(proposals)),
        pytest.raises(SettingsError, match=r"p.jsonl.journal: another run is writing"),
    ):
        detect(tiny_detector, photos, out, outputs=outputs, overwrite=True)
    assert journal_path(out).read_bytes() == before


@pytest.mark.parametrize("step", ["propose", "predict_batch"])
@pytest.mark.parametrize("together", [1, 4])
def test_an_image_that_fills_the_memory_is_tried_again_by_the_next_run(
    tiny_detector: Detector,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    together: int,
    step: str,
) -> None:
    PillowImage.new("RGB", (130, 24)).save(photos / "large.png")
    work = getattr(Detector, step)

    def fill(detector: Detector, images: PreprocessedImage | Sequence[ProposedImage]) -> Any:
        batch = [images] if isinstance(images, PreprocessedImage) else images
        if any(image.pixels.shape[1] == 130 for image in batch):
            raise MemoryError
        return work(detector, images)

    out = tmp_path / "dets.json"
    with monkeypatch.context() as patch:
        patch.setattr(Detector, step, fill)
        patch.setattr(Runtime, "images_per_batch", together)
        summary = detect(tiny_detector, photos, out)
    assert [(one.file, one.error) for one in summary.failures] == [("large.png", "lost-worker")]
    assert summary.computed == 4
    again = detect(tiny_detector, photos, out)
    assert (again.computed, again.failures) == (1, [])


def test_other_settings_are_refused_unless_overwritten(
    tiny_bundle: Bundle, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "dets.json"
    with Detector.load(tiny_bundle) as detector:
        detect(detector, photos, out)
    other = Settings.read(assignments=["detections.score_threshold=0.3"])
    with Detector.load(tiny_bundle, settings=other) as detector:
        message = r"detections.score_threshold was 0.05, is 0.3\); choose another --out"
        with pytest.raises(SettingsError, match=message):
            detect(detector, photos, out)
        assert detect(detector, photos, out, overwrite=True).computed == 3


def test_memory_does_not_hold_the_results(tiny_detector: Detector, tmp_path: Path) -> None:
    """Between two images nothing of the first is alive but its line in the journal."""
    import gc

    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(8):
        pixels = np.full((8, 40, 3), 30 * number, np.uint8)
        PillowImage.fromarray(pixels).save(folder / f"{number}.png")
    alive = []

    def count(finished: int, computed: int, note: str = "") -> None:
        gc.collect()
        alive.append(sum(type(thing) is Result for thing in gc.get_objects()))

    detect(tiny_detector, folder, tmp_path / "dets.json", show_progress=reporting_to(count))
    assert len(alive) == 8
    assert max(alive) <= 2


KILLED = """
import os, sys
from pathlib import Path
from detector.commands.run import command
import detector.batch.runner as runner

if __name__ == "__main__":
    after, where = int(sys.argv.pop(1)), sys.argv.pop(1)
    module = {"append": runner.Journal, "render": runner}[where]
    name = {"append": "append", "render": "atomic_write"}[where]
    original, calls = getattr(module, name), 0

    def counted(*arguments, **named):
        global calls
        calls += 1
        if calls > after:
            os.kill(os.getpid(), 9)
        return original(*arguments, **named)

    setattr(module, name, counted)
    sys.exit(command())
"""


@pytest.mark.parametrize(("after", "where"), [(0, "append"), (4, "append"), (0, "render")])
def test_killed_run_goes_on_to_the_same_bytes(
    tiny_bundle: Bundle, photos: Path, tmp_path: Path, after: int, where: str
) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def call(out: str, *before: str) -> int:
        arguments = [*before, "--images", str(photos), "--out", str(tmp_path / out)]
        arguments += ["--proposals-out", str(tmp_path / f"{out}.proposals"), "--quiet"]
        arguments += ["--bundle", str(tiny_bundle.directory), "--device", "cpu"]
        if not before:
            return command(arguments)
        return subprocess.run([sys.executable, str(script), *arguments], env=environment).returncode

    assert call("a.json", str(after), where) == -9
    written = [(tmp_path / f"a.json{suffix}").exists() for suffix in ("", ".proposals")]
    assert written == [where == "render", False]
    assert call("a.json") == 0
    assert call("b.json") == 0
    for suffix in ("", ".proposals"):
        first, second = ((tmp_path / f"{name}.json{suffix}").read_bytes() for name in "ab")
        assert first == second


def test_a_journal_of_proposals_is_not_taken_for_one_of_detections(
    tiny_detector: Detector, photos: Path, tmp_path: Path
) -> None:
    outputs = Outputs(tmp_path / "dets.json", proposals=tmp_path / "proposals.jsonl")
    detect(tiny_detector, photos, outputs.path, outputs=outputs)
    with pytest.raises(
        SettingsError, match=r"jsonl\.journal: .*\(records was proposals, is None\)"
    ):
        detect(tiny_detector, photos, tmp_path / "proposals.jsonl")
