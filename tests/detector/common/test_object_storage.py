"""Object storage, with moto's S3 server."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from detector import Detector
from detector.batch.inputs import find_images
from detector.batch.local_executor import LocalExecutor
from detector.batch.outputs import Outputs
from detector.batch.runner import run
from detector.common.object_storage import StoredFile, list_files
from detector.errors import SettingsError, UnreadableImage
from detector.images import load


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Start an empty S3 server, point the environment to it, and return its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    running.start()
    with pytest.MonkeyPatch.context() as patch:
        address = f"http://127.0.0.1:{port}"
        patch.setenv("AWS_ENDPOINT_URL", address)
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield address
    running.stop()


@pytest.fixture
def bucket(server: str, photos: Path) -> Iterator[str]:
    """Put the photos into a bucket, beside files that are not images, and return its URI."""
    client = boto3.client("s3", endpoint_url=server)
    client.create_bucket(Bucket="album")
    for file in photos.rglob("*.png"):
        key = f"holidays/{file.relative_to(photos).as_posix()}"
        client.put_object(Bucket="album", Key=key, Body=file.read_bytes())
    for key in ("holidays/notes.txt", "holidays/.hidden.png", "other/e.png", "texts/a.txt"):
        client.put_object(Bucket="album", Key=key, Body=b"text")
    yield "s3://album"
    for item in client.list_objects_v2(Bucket="album")["Contents"]:
        client.delete_object(Bucket="album", Key=item["Key"])
    client.delete_bucket(Bucket="album")


def test_folders_in_a_bucket_are_searched(bucket: str) -> None:
    inputs = find_images([f"{bucket}/holidays"])
    assert [name for name, _ in inputs] == ["a.png", "b c é.png", "more/d.png"]
    assert str(inputs[0].path) == "s3://album/holidays/a.png"

    inputs = find_images([f"{bucket}/holidays/more/", f"{bucket}/other/e.png"])
    assert [name for name, _ in inputs] == ["holidays/more/d.png", "other/e.png"]
    assert [name for name, _ in find_images([f"{bucket}/holidays/notes.txt"])] == ["notes.txt"]


def test_results_equal_those_from_the_disk(
    tiny_detector: Detector, bucket: str, photos: Path, tmp_path: Path
) -> None:
    executor = LocalExecutor(tiny_detector)
    outputs = [tmp_path / name for name in ("stored.json", "disk.json")]
    for pattern, output in zip([f"{bucket}/holidays", str(photos)], outputs, strict=True):
        drawings = output.with_suffix(".drawings")
        run(executor, find_images([pattern]), Outputs(output, drawings=drawings))
        assert (drawings / "more" / "d.png.jpg").exists()

    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    again = run(executor, find_images([f"{bucket}/holidays"]), Outputs(outputs[0]))
    assert (again.computed, again.resumed) == (0, 3)


def test_errors_name_the_missing_file_or_folder(bucket: str) -> None:
    with pytest.raises(UnreadableImage, match=r"s3://album/holidays/x\.png: cannot be read"):
        load(StoredFile(bucket, "album/holidays/x.png"))
    with pytest.raises(SettingsError, match=r"s3://album/nowhere: cannot be listed"):
        list_files(f"{bucket}/nowhere")
    with pytest.raises(SettingsError, match=r"s3://nobucket/a: cannot be listed"):
        list_files("s3://nobucket/a")
    with pytest.raises(SettingsError, match=r"tape://a/b: "):
        list_files("tape://a/b")
    with pytest.raises(SettingsError, match=r"no image in s3://album/texts"):
        find_images([f"{bucket}/texts"])


def test_stored_and_local_files_cannot_be_mixed(bucket: str, photos: Path) -> None:
    with pytest.raises(SettingsError, match="either all images are in object storage, or none"):
        find_images([f"{bucket}/holidays", str(photos)])
