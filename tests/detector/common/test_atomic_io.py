from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from detector.common.atomic_io import atomic_write, is_stream, remove_partial_files
from detector.errors import OutputError


@pytest.mark.parametrize("content", [b"", b"new"], ids=["empty", "some bytes"])
@pytest.mark.parametrize("name", ["out.json", "more/folders/out.json", "a b é.json"])
def test_a_complete_file_takes_its_name(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    with atomic_write(path) as file:
        file.write(content)
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_bytes(b"old")
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


def write_half(path: Path, error: type[BaseException]) -> None:
    with atomic_write(path) as file:
        file.write(b"half of the n")
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("old", [None, b"old"], ids=["no old file", "an old file"])
def test_an_incomplete_file_leaves_no_trace(
    old: bytes | None, error: type[BaseException], tmp_path: Path
) -> None:
    path = tmp_path / "out.json"
    if old is not None:
        path.write_bytes(old)
    with pytest.raises(error):
        write_half(path, error)
    assert [found.read_bytes() for found in tmp_path.iterdir()] == ([] if old is None else [old])


def test_a_folder_of_that_name_is_not_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(OutputError), atomic_write(folder) as file:
        file.write(b"new")
    assert list(tmp_path.iterdir()) == [folder]


def test_links_are_followed(tmp_path: Path) -> None:
    target = tmp_path / "real" / "out.json"
    target.parent.mkdir()
    target.write_bytes(b"old")
    (tmp_path / "link").symlink_to("real/out.json")
    (tmp_path / "new").symlink_to("real/new.json")
    for name in ("link", "new"):
        with atomic_write(tmp_path / name) as file:
            file.write(b"new")
        assert (tmp_path / name).is_symlink()
    assert target.read_bytes() == b"new"
    assert sorted(path.name for path in target.parent.iterdir()) == ["new.json", "out.json"]


def test_the_permissions_of_a_file_stay(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_bytes(b"old")
    path.chmod(0o640)
    with atomic_write(path) as file:
        file.write(b"new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_pipe_gets_the_bytes_itself(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert is_stream(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with atomic_write(pipe) as file:
        file.write(b"piped")
    assert os.read(reader, 100) == b"piped"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_pipe_without_a_reader_is_an_error(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OutputError, match="pipe: is a pipe that no program reads"):
        write_half(pipe, ValueError)


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_standard_output(name: str, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with atomic_write(Path(name)) as file:
        file.write(b"to standard output")
    assert capfdbinary.readouterr().out == b"to standard output"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
def test_a_full_disk_is_one_error() -> None:
    with (
        pytest.raises(OutputError, match="/dev/full: cannot be written: No space left"),
        atomic_write(Path("/dev/full")) as file,
    ):
        file.write(b"new")


def test_two_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    with atomic_write(path) as file:
        file.write(b"first")
        with pytest.raises(OutputError, match="another program is writing this output"):
            write_half(path, ValueError)
    assert path.read_bytes() == b"first"


def test_what_a_killed_process_left_is_removed_and_what_is_in_use_stays(tmp_path: Path) -> None:
    stale = tmp_path / "folder" / f".{'0' * 16}.partial"
    stale.parent.mkdir()
    stale.write_bytes(b"half")
    foreign = tmp_path / ".letter.partial"
    foreign.write_bytes(b"mine")
    with atomic_write(tmp_path / "out.json") as file:
        file.write(b"new")
        remove_partial_files(tmp_path, recursive=False)
        assert stale.exists()
        remove_partial_files(tmp_path, recursive=True)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"folder", ".letter.partial", "out.json"}
    assert not stale.exists()


def test_a_file_that_a_killed_process_began_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    with atomic_write(path) as file:
        file.write(b"a longer beginning")
        (partial,) = tmp_path.iterdir()
    path.rename(partial)
    with atomic_write(path) as file:
        file.write(b"new")
    assert [found.read_bytes() for found in tmp_path.iterdir()] == [b"new"]
