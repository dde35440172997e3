"""A run: many images in, one output out, nothing finished ever lost."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from detector.batch.inputs import Input
from detector.batch.journal import Journal
from detector.batch.local_executor import Executor
from detector.batch.outputs import Outputs, journal_path, picture_path
from detector.batch.workers import Task
from detector.common.atomic_io import atomic_write, encode
from detector.common.object_storage import StoredFile
from detector.detector import Result
from detector.drawing import draw, is_about, save
from detector.errors import ImageError
from detector.formats import FORMATS
from detector.formats.image_lists import ImageList
from detector.formats.proposals import to_json as proposals_to_json
from detector.formats.records import Entry, Failure, Header
from detector.images import load, read
from proposals import Proposals


@dataclass
class Summary:
    """What a run did. Seconds are sums over the images it computed, by stage."""

    images: int
    resumed: int = 0
    computed: int = 0
    failures: list[Failure] = field(default_factory=list)
    detections: int = 0
    seconds: Counter[str] = field(default_factory=Counter)
    wall_seconds: float = 0.0

    def count(self, records: Iterable[Entry | Failure]) -> Iterator[Entry | Failure]:
        """Pass records on and count what they hold."""
        for record in records:
            if isinstance(record, Failure):
                self.failures.append(record)
            else:
                self.detections += len(record.detections)
            yield record


def run(
    engine: Executor,
    inputs: Sequence[Input],
    outputs: Outputs,
    *,
    image_list: ImageList | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda finished, computed: None,
) -> Summary:
    """Detect the objects in `inputs` and write `outputs`.

    Each finished image goes to a journal beside the output, so that the same call after a kill
    does what is left. The output is rendered from the journal when all images are done.

    Args:
        image_list: ids for the formats that want some.
        overwrite: do all images again.
        progress: told how many images are finished, and how many of them this run computed, each
            time that changes.

    Raises:
        SettingsError: an output cannot be written, another run has it open, or it was begun with
            other settings.
        FormatError: the output's format cannot express the result.
    """
    started = time.perf_counter()
    names = [name for name, _ in inputs]
    ids = image_list or ImageList.counted(names)
    outputs.check(inputs)
    classes = engine.bundle.manifest.classes
    FORMATS[outputs.format].check(names, classes, ids)
    summary = Summary(images=len(inputs))
    with ExitStack() as stack:
        journals = [
            stack.enter_context(Journal(journal_path(path)))
            for path in (outputs.path, outputs.proposals)
            if path is not None
        ]
        for journal in journals:  # none is emptied before all are ours
            journal.begin(engine.fingerprint, overwrite=overwrite)
        journal = journals[0]

        def unfinished() -> Iterator[Task]:
            for name, path in inputs:
                if _is_finished(name, path, journals):
                    summary.resumed += 1
                    progress(summary.resumed + summary.computed, summary.computed)
                else:
                    yield Task(path, name)

        for task, prepared, result in engine(unfinished()):
            digest = {"digest": prepared.digest}
            record = _record(task.name, result).to_json() | digest
            if prepared.image is not None and outputs.pictures:
                picture = draw(prepared.image, result.detections, classes)
                save(picture, picture_path(outputs.pictures, task.name), about=encode(record))
            for proposals_journal in journals[1:]:
                proposals_journal.append(
                    _proposals_record(task.name, result, prepared.proposals) | digest
                )
            journal.append(record)
            summary.computed += 1
            summary.seconds.update(result.seconds)
            progress(summary.resumed + summary.computed, summary.computed)

        header = Header(
            {"name": engine.bundle.manifest.name, "sha256": engine.bundle.sha256},
            engine.settings.model_dump(mode="json"),
            classes,
        )
        records = summary.count(_from_journal(journal[name]) for name in names)
        form = FORMATS[outputs.format]
        form.write(outputs.path, header, records, ids)
        _remove_others(outputs, journal, names, form.file_of)
        if outputs.proposals:
            with atomic_write(outputs.proposals) as file:
                for name in names:
                    _write_proposals(file, journals[1][name])
        if outputs.pictures:
            _draw_missing(inputs, journal, outputs.pictures, engine)
    summary.wall_seconds = time.perf_counter() - started
    return summary


def _is_finished(name: str, path: Path | StoredFile, journals: Sequence[Journal]) -> bool:
    # A lost worker's digest is empty, for it may have been the machine's fault.
    digests = {journal.digest(name) for journal in journals}
    if len(digests) != 1 or digests <= {None, ""}:
        return False
    try:
        return digests == {hashlib.sha256(read(path)).hexdigest()}
    except ImageError:
        return False


def _record(name: str, result: Result) -> Entry | Failure:
    if result.error is not None:
        return Failure(name, result.error.code, result.error.message)
    return Entry(name, result.width, result.height, result.proposals, result.detections)


def _from_journal(record: dict[str, Any]) -> Entry | Failure:
    if "error" in record:
        return Failure(record["file"], record["error"], record["message"])
    return Entry.from_json(record)


def _remove_others(
    outputs: Outputs, journal: Journal, names: Sequence[str], file_of: Callable[[str], Path | None]
) -> None:
    """Remove what an earlier run wrote about images that are gone, or failed since."""
    written = {file_of(name) for name in names if "error" not in journal[name]}
    for file in {file_of(name) for name in journal} - written:
        if file is not None:
            (outputs.path / file).unlink(missing_ok=True)


def _proposals_record(name: str, result: Result, proposals: Proposals | None) -> dict[str, Any]:
    if result.error is not None or proposals is None:
        return {"file": name}
    return proposals_to_json(name, result.width, result.height, proposals)


def _write_proposals(file: BinaryIO, record: dict[str, Any]) -> None:
    del record["digest"]
    if "boxes" in record:
        file.write(encode(record) + b"\n")


def _draw_missing(
    inputs: Sequence[Input], journal: Journal, folder: Path, engine: Executor
) -> None:
    """Draw the images of which there is no picture, or one of other detections."""
    for name, path in inputs:
        target = picture_path(folder, name)
        record = journal[name]
        entry = _from_journal(record)
        if isinstance(entry, Entry) and not is_about(target, encode(record)):
            with suppress(ImageError):  # changed or removed since
                image = load(path, max_pixels=engine.settings.images.max_pixels)
                picture = draw(image, entry.detections, engine.bundle.manifest.classes)
                save(picture, target, about=encode(record))
