from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detector.batch.proposal_cache import cache_path, gather_proposals
from detector.datasets import coco
from detector.errors import FormatError, ImageError
from detector.images import load
from detector.settings import ProposalSettings
from proposals import SelectiveSearch

SETTINGS = ProposalSettings()


def test_computed_once_and_again_where_a_photo_changed(painted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    shutil.copytree(painted.with_suffix(""), folder)
    images = coco.read(painted).images
    cache = cache_path(tmp_path, SETTINGS)
    cached, failures = gather_proposals(images[:2], folder, SETTINGS, cache, workers=1)
    assert not failures
    expected = SelectiveSearch()(load(folder / "1.png")).boxes
    np.testing.assert_array_equal(cached[1].proposals.boxes, expected)
    lines = cache.read_text().splitlines()
    assert len(lines) == 1 + 2
    assert 0 < cached[1].seconds < 60

    again, _ = gather_proposals(images[:3], folder, SETTINGS, cache, workers=1)
    assert cache.read_text().splitlines()[:3] == lines
    assert len(cache.read_text().splitlines()) == 1 + 3
    np.testing.assert_array_equal(again[1].proposals.boxes, expected)

    shutil.copy(folder / "3.png", folder / "1.png")
    changed, _ = gather_proposals(images[:3], folder, SETTINGS, cache, workers=1)
    assert len(cache.read_text().splitlines()) == 1 + 4
    assert changed[1].proposals.boxes.tolist() != expected.tolist()


def test_other_settings_have_another_file(tmp_path: Path) -> None:
    other = ProposalSettings(superpixels="rcnn")
    assert cache_path(tmp_path, SETTINGS) != cache_path(tmp_path, other)


def test_missing_photos_are_left_out_or_an_error(painted: Path, tmp_path: Path) -> None:
    missing = replace(coco.read(painted).images[0], file="gone.png")
    cache = cache_path(tmp_path, SETTINGS)
    cached, failures = gather_proposals(
        [missing], painted.with_suffix(""), SETTINGS, cache, workers=1
    )
    assert not cached
    assert [failure.file for failure in failures] == ["gone.png"]
    with pytest.raises(ImageError, match=r"gone\.png"):
        gather_proposals(
            [missing], painted.with_suffix(""), SETTINGS, cache, workers=1, strict=True
        )


def test_a_photo_of_another_size(painted: Path, tmp_path: Path) -> None:
    turned = replace(coco.read(painted).images[0], width=80, height=100)
    with pytest.raises(FormatError, match=r"0\.png: is 100x80 \(upright\).* say 80x100"):
        gather_proposals(
            [turned],
            painted.with_suffix(""),
            SETTINGS,
            cache_path(tmp_path, SETTINGS),
            workers=1,
        )
