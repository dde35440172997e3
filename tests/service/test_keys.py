from __future__ import annotations

from pathlib import Path

import pytest
from starlette.requests import Request

from detector.bundles.bundle import Bundle
from detector.errors import FormatError
from service.keys import Keys, read_keys
from service.problems import Problem
from tests.support.serving import serving

KEY, OTHER = "0123456789abcdef", "fedcba9876543210"


def request(**headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "headers": raw})


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer  {OTHER} "},
        {"x_api_key": KEY},
    ],
)
def test_right_keys(headers: dict[str, str]) -> None:
    Keys([KEY, OTHER])(request(**headers))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer"},
        {"authorization": f"Basic {KEY}"},
        {"authorization": KEY},
        {"x_api_key": KEY[:-1]},
        {"x_api_key": KEY + "0"},
        {"x_api_key": "ключ"},
    ],
)
def test_wrong_keys(headers: dict[str, str]) -> None:
    with pytest.raises(Problem) as refused:
        Keys([KEY])(request(**headers))
    assert refused.value.status == 401
    assert refused.value.headers == {"www-authenticate": "Bearer"}


def test_keys_of_file_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DETECTOR_API_KEYS", raising=False)
    assert read_keys(None) == ()
    monkeypatch.setenv("DETECTOR_API_KEYS", f"{OTHER}, {KEY}")
    file = tmp_path / "keys"
    file.write_text(f"\n{KEY}x\n")
    assert read_keys(file) == (OTHER, KEY, f"{KEY}x")


@pytest.mark.parametrize("value", ["", " , "])
def test_a_variable_without_keys_does_not_open_the_service(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DETECTOR_API_KEYS", value)
    with pytest.raises(FormatError, match="DETECTOR_API_KEYS: has no key"):
        read_keys(None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n", "has no key"),
        (b"0123456789abcdef\nshort\n", ":2: a key must have at least 16 ASCII characters"),
        (b"\xff", "not UTF-8"),
        (None, "cannot be read"),
    ],
)
def test_bad_files_of_keys(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(FormatError, match=message):
        read_keys(file)


def test_detection_needs_a_key_and_health_does_not(tiny_bundle: Bundle) -> None:
    with serving(tiny_bundle, keys=(KEY,)) as running, running.client() as client:
        refused = client.post("/detect", content=b"x")
        assert (refused.status_code, refused.json()["type"]) == (401, "bad-key")
        assert refused.headers["www-authenticate"] == "Bearer"
        answer = client.post("/detect", content=b"x", headers={"x-api-key": KEY})
        assert answer.json()["type"] == "not-an-image"
        description = client.get("/openapi.json").json()
        assert description["paths"]["/detect"]["post"]["security"] == [
            {"HTTPBearer": []},
            {"APIKeyHeader": []},
        ]
        assert client.get("/healthz").status_code == client.get("/").status_code == 200
