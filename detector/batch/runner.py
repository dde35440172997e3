"""A run: many images in, one output out, and nothing finished is ever lost."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from detector.batch.executor import DetectedImage, Executor, Finished
from detector.batch.inputs import Input
from detector.batch.journal import Journal
from detector.batch.outputs import Outputs, drawing_path, journal_path
from detector.batch.workers import Task
from detector.common.atomic_io import atomic_write, is_stream
from detector.common.json_files import encode
from detector.common.object_storage import StoredFile
from detector.common.progress import Progress, ShowProgress, no_progress
from detector.drawing import draw, is_drawing_of, save
from detector.errors import ImageError
from detector.formats import FORMATS
from detector.formats.image_lists import ImageList
from detector.formats.proposals import to_json as proposals_to_json
from detector.formats.records import Entry, Failure
from detector.images import load, read


@dataclass
class Summary:
    """What a run did.

    Args:
        images: Number of images of the run.
        resumed: Number of images that an earlier run had finished.
        computed: Number of images that this run computed.
        failures: Images that could not be used.
        detections: Number of detections in the output.
        left_out: Number of detections of classes that the output's format lacks.
        seconds: Time in each stage, summed over the computed images.
        wall_seconds: Duration of the run.
    """

    images: int
    resumed: int = 0
    computed: int = 0
    failures: list[Failure] = field(default_factory=list)
    detections: int = 0
    left_out: int = 0
    seconds: Counter[str] = field(default_factory=Counter)
    wall_seconds: float = 0.0

    def count(
        self, records: Iterable[Entry | Failure], left_out: Collection[str]
    ) -> Iterator[Entry | Failure]:
        """Pass records on and count what they hold.

        Args:
            records: The records of the images.
            left_out: Classes whose detections are not in the output.
        """
        for record in records:
            if isinstance(record, Failure):
                self.failures.append(record)
            else:
                missing = sum(label in left_out for label, _, _ in record.detections)
                self.detections += len(record.detections) - missing
                self.left_out += missing
            yield record


def run(
    executor: Executor,
    inputs: Sequence[Input],
    outputs: Outputs,
    *,
    image_list: ImageList | None = None,
    overwrite: bool = False,
    show_progress: ShowProgress = no_progress,
) -> Summary:
    """Detect the objects in images and write the outputs.

    Each finished image goes to a journal beside the output. After a kill, the same call computes
    what is missing. The output is rendered from the journal when all images are done.

    Args:
        executor: Computes the images.
        inputs: The images.
        outputs: What to write, and where.
        image_list: Ids of the images, for the formats that need them.
        overwrite: Compute all images again.
        show_progress: Shows how many images are finished.

    Raises:
        SettingsError: An output cannot be written, another run has it open, or it was begun with
            other settings.
        FormatError: The output's format cannot express the result.
    """
    started = time.perf_counter()
    names = [name for name, _ in inputs]
    ids = image_list or ImageList.from_files(names)
    FORMATS[outputs.format].check(names, executor.header.classes, ids)
    outputs.check(inputs, executor.header.classes)

    summary = Summary(images=len(inputs))
    with ExitStack() as stack:
        journals = [
            stack.enter_context(Journal(_journal_path(path, stack)))
            for path in (outputs.path, outputs.proposals)
            if path is not None
        ]
        # Only after all are locked: none is emptied before all are ours. The proposals' fingerprint
        # has a further key, so that neither journal is taken for the other.
        fingerprint = executor.fingerprint
        for journal, kind in zip(journals, ({}, {"records": "proposals"}), strict=False):
            journal.begin({**fingerprint, **kind}, overwrite=overwrite)
        outputs.remove_partial_files()

        with show_progress(len(inputs), "image") as progress:
            _compute(executor, inputs, outputs, journals, summary, progress)
            _render(executor, inputs, outputs, journals, summary, ids)
    summary.wall_seconds = time.perf_counter() - started
    return summary


def _journal_path(output: Path, stack: ExitStack) -> Path:
    """Return where the journal of an output is; a stream has a temporary one."""
    if not is_stream(output):
        return journal_path(output)
    folder = TemporaryDirectory(prefix="detector-run-")
    return Path(stack.enter_context(folder), "journal")


def _compute(
    executor: Executor,
    inputs: Sequence[Input],
    outputs: Outputs,
    journals: Sequence[Journal],
    summary: Summary,
    progress: Progress,
) -> None:
    """Compute the unfinished images and append them to the journals."""

    def unfinished() -> Iterator[Task]:
        for name, path in inputs:
            if _is_finished(name, path, journals):
                summary.resumed += 1
                progress(summary.resumed + summary.computed, summary.computed)
            else:
                yield Task(path, name)

    detections_journal, *proposals_journals = journals
    for finished in executor(unfinished()):
        digest = {"digest": finished.digest}
        record = {**_record(finished).to_json(), **digest}

        # The journal of detections comes last: an image counts as finished when all is written.
        if outputs.drawings is not None and isinstance(finished, DetectedImage):
            _draw_finished(finished, outputs.drawings, record, executor)
        for proposals_journal in proposals_journals:
            proposals_journal.append({**_proposals_record(finished), **digest})
        detections_journal.append(record)

        summary.computed += 1
        summary.seconds.update(finished.result.seconds)
        progress(summary.resumed + summary.computed, summary.computed)


def _draw_finished(
    finished: DetectedImage, folder: Path, record: dict[str, Any], executor: Executor
) -> None:
    """Draw an image that is still in memory; others are drawn at the end of the run."""
    if finished.pixels is not None:
        drawn = draw(finished.pixels, finished.result.detections, executor.header.classes)
        save(drawn, drawing_path(folder, finished.task.name), content=encode(record))


def _render(
    executor: Executor,
    inputs: Sequence[Input],
    outputs: Outputs,
    journals: Sequence[Journal],
    summary: Summary,
    ids: ImageList,
) -> None:
    """Write the outputs from the journals."""
    journal = journals[0]
    names = [name for name, _ in inputs]
    output_format = FORMATS[outputs.format]
    left_out = frozenset(output_format.left_out(executor.header.classes))
    records = summary.count((_from_journal(journal[name]) for name in names), left_out)
    output_format.write(outputs.path, executor.header, records, ids)
    _remove_stale_files(outputs, journal, names, output_format.image_file)

    if outputs.proposals is not None:
        _write_proposals(outputs.proposals, journals[1], names)
    if outputs.drawings is not None:
        _draw_missing(inputs, journal, outputs.drawings, executor)


def _is_finished(name: str, path: Path | StoredFile, journals: Sequence[Journal]) -> bool:
    """Return whether all journals have the image with the digest of its present content."""
    # The digest of a failure that may have been the machine's fault is empty.
    digests = {journal.digest(name) for journal in journals}
    if len(digests) != 1 or digests <= {None, ""}:
        return False
    try:
        return digests == {hashlib.sha256(read(path)).hexdigest()}
    except ImageError:
        return False


def _record(finished: Finished) -> Entry | Failure:
    name = finished.task.name
    if isinstance(finished, DetectedImage):
        result = finished.result
        return Entry(name, result.width, result.height, result.proposals, result.detections)
    error = finished.result.error
    return Failure(name, error.code, error.message)


def _from_journal(record: dict[str, Any]) -> Entry | Failure:
    """Return what a record of the journal, whose checksum is right, says of an image."""
    if "error" in record:
        return Failure(record["file"], record["error"], record["message"])
    return Entry.from_json(record)


def _proposals_record(finished: Finished) -> dict[str, Any]:
    name = finished.task.name
    if not isinstance(finished, DetectedImage):
        return {"file": name}
    result = finished.result
    return proposals_to_json(name, result.width, result.height, finished.proposals)


def _remove_stale_files(
    outputs: Outputs,
    journal: Journal,
    names: Sequence[str],
    image_file: Callable[[str], Path | None],
) -> None:
    """Remove what an earlier run wrote about images that are gone, or have failed since."""
    current = {image_file(name) for name in names if "error" not in journal[name]}
    for file in {image_file(name) for name in journal} - current:
        if file is not None:
            (outputs.path / file).unlink(missing_ok=True)


def _write_proposals(path: Path, journal: Journal, names: Sequence[str]) -> None:
    with atomic_write(path) as file:
        for name in names:
            record = journal[name]
            del record["digest"]
            if "boxes" in record:
                file.write(encode(record) + b"\n")


def _draw_missing(
    inputs: Sequence[Input], journal: Journal, folder: Path, executor: Executor
) -> None:
    """Draw the images that have no plot yet, or one of other detections."""
    for name, path in inputs:
        target = drawing_path(folder, name)
        record = journal[name]
        entry = _from_journal(record)
        if isinstance(entry, Failure) or is_drawing_of(target, encode(record)):
            continue
        with suppress(ImageError):  # the image was changed or removed since
            image = load(path, limits=executor.settings.images)
            drawn = draw(image, entry.detections, executor.header.classes)
            save(drawn, target, content=encode(record))
