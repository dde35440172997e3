"""Finding the images of a run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from detector.batch.inputs import find_images
from detector.common.object_storage import Listing, StoredFile
from detector.errors import FormatError, SettingsError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Make two folders of empty image files, and files that are not images."""
    for name in [
        "one/b.JPG", "one/a.png", "one/sub/c.webp", "one/notes.txt", "one/.hidden.png",
        "one/.cache/d.png", "two/a.png", "two/odd[1].gif",
    ]:  # fmt: skip
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return tmp_path


def names(*patterns: Path | str, exclude: list[Path] | None = None) -> list[str]:
    """Return the names of the images that patterns match."""
    inputs = find_images([str(pattern) for pattern in patterns], exclude=exclude or [])
    assert all(isinstance(path, Path) and path.is_file() for _, path in inputs)
    return [name for name, _ in inputs]


def test_folders_are_searched_for_images(tree: Path) -> None:
    assert names(tree / "one") == ["a.png", "b.JPG", "sub/c.webp"]


def test_names_are_relative_to_the_common_parent(tree: Path) -> None:
    expected = ["one/a.png", "one/b.JPG", "one/sub/c.webp", "two/a.png", "two/odd[1].gif"]
    assert names(tree / "one", tree / "two") == expected
    assert names(tree / "two" / "a.png", tree / "one" / "a.png") == ["one/a.png", "two/a.png"]


def test_named_files_may_have_any_suffix(tree: Path) -> None:
    assert names(tree / "one" / "notes.txt") == ["notes.txt"]


def test_globs(tree: Path) -> None:
    assert names(tree / "*" / "a.png") == ["one/a.png", "two/a.png"]
    assert names(tree / "**" / "*.webp") == ["one/sub/c.webp"]
    assert names(tree / "one" / "**" / "*.webp") == ["sub/c.webp"], "relative to the fixed part"


def test_an_existing_file_is_not_a_glob(tree: Path) -> None:
    assert names(tree / "two" / "odd[1].gif") == ["odd[1].gif"]


def test_lists(tree: Path) -> None:
    file = tree / "list.txt"
    file.write_text(f"{tree}/one/a.png\n\n{tree}/two\n")
    assert names(f"@{file}") == ["one/a.png", "two/a.png", "two/odd[1].gif"]


def test_each_image_is_found_once(tree: Path) -> None:
    assert names(tree / "two", tree / "two" / "a.png") == ["a.png", "odd[1].gif"]


def test_folders_can_be_excluded(tree: Path) -> None:
    sub = [tree / "one" / "sub"]
    assert names(tree / "one", exclude=sub) == ["a.png", "b.JPG"]
    globs = [tree / "one" / "**" / f"*.{suffix}" for suffix in ("png", "webp")]
    assert names(*globs) == ["a.png", "sub/c.webp"]
    assert names(*globs, exclude=sub) == ["a.png"]


@pytest.mark.parametrize("pattern", ["one", "one/*"])
def test_drawings_among_the_images_are_refused(tree: Path, pattern: str) -> None:
    with pytest.raises(SettingsError, match="drawings would be written among the images there"):
        names(tree / pattern, exclude=[tree / "one"])


def test_named_files_and_folders_are_not_excluded(tree: Path) -> None:
    files = [tree / "one" / "a.png", tree / "two" / "a.png"]
    assert names(*files, exclude=[tree]) == ["one/a.png", "two/a.png"]
    assert names(files[0], exclude=[tree / "one"]) == ["a.png"]
    assert names(tree / "one" / "*", exclude=[tree]) == names(tree / "one" / "*")


def test_links_to_folders_are_followed(tree: Path) -> None:
    (tree / "two" / "more").symlink_to(tree / "one" / "sub")
    assert names(tree / "two") == ["a.png", "more/c.webp", "odd[1].gif"]


def test_links_to_a_parent_are_not_followed(tree: Path) -> None:
    (tree / "two" / "round").symlink_to(tree / "two")
    assert names(tree / "two") == ["a.png", "odd[1].gif"]
    (tree / "one" / "sub" / "across").symlink_to(tree / "two")
    (tree / "two" / "back").symlink_to(tree / "one")
    inputs = names(tree / "one")
    assert "sub/across/a.png" in inputs
    assert len(inputs) == len(set(inputs)) < 10


def test_names_need_not_be_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    (tmp_path / name).touch()
    assert names(tmp_path) == [name]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("absent", "absent: nothing there; give a folder"),
        ("*.xyz", "nothing there"),
        ("empty", "no image in .*empty: suffixes are .bmp, .dib"),
    ],
)
def test_patterns_without_images_are_refused(tree: Path, pattern: str, message: str) -> None:
    (tree / "empty").mkdir()
    with pytest.raises(SettingsError, match=message):
        find_images([str(tree / pattern)])


def test_missing_lists_are_refused(tree: Path) -> None:
    with pytest.raises(FormatError, match=r"absent.txt: cannot be read: No such file"):
        find_images([f"@{tree / 'absent.txt'}"])


def test_names_that_lead_out_of_the_folder_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [StoredFile("s3", "photos/../../a.jpg")]
    listing = Listing("photos", files, is_file=False)
    monkeypatch.setattr("detector.batch.inputs.list_files", lambda uri: listing)
    with pytest.raises(SettingsError, match=r"^\.\./\.\./a\.jpg: .* must not have \.\."):
        find_images(["s3://photos"])
