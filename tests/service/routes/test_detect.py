from __future__ import annotations

import gzip
import io
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image as PillowImage

from detector import Detector
from detector.bundles.bundle import Bundle
from detector.drawing import draw
from proposals import Image
from service.problems import MEDIA_TYPE
from tests.support.images import scene
from tests.support.serving import Running, metric, serving

JPEG = {"content-type": "image/jpeg"}
PNG_WANTED = JPEG | {"accept": "image/png"}

FAILED = 'detector_requests_total{path="/detect",status="500"}'


def encoded(seed: int, form: str = "PNG", height: int = 24) -> bytes:
    buffer = io.BytesIO()
    PillowImage.fromarray(scene(seed, 120, height)).save(buffer, format=form)
    return buffer.getvalue()


def expected(detector: Detector, data: bytes) -> list[dict[str, Any]]:
    return [
        {"label": label, "score": score, "box": list(box)}
        for label, score, box in detector.detect(data).detections
    ]


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"])
def test_answers_are_the_detectors(client: httpx2.Client, running: Running, form: str) -> None:
    data = encoded(1, form)
    raw = client.post("/detect", content=data, headers=JPEG)
    by_form = client.post("/detect", files={"image": ("a b ü.x", data)})
    assert raw.status_code == by_form.status_code == 200
    answer = raw.json()
    assert answer["detections"] == by_form.json()["detections"] == expected(running.detector, data)
    assert len(answer["detections"]) > 3
    result = running.detector.detect(data)
    assert answer["proposals"] == result.proposals
    assert (answer["width"], answer["height"]) == (120, 24)
    assert set(answer["seconds"]) == {"decode", "proposals", "classify", "total"}
    assert re.fullmatch(r"tiny@[0-9a-f]{8}", answer["bundle"])


@pytest.mark.parametrize("preset", ["default", "fast"])
def test_answers_with_multibox_are_the_detectors(multibox_bundle: Bundle, preset: str) -> None:
    data = encoded(1)
    with serving(multibox_bundle) as running, running.client() as client:
        answer = client.post("/detect", content=data, headers=JPEG, params={"preset": preset})
        detector = running.detectors[preset]
        assert answer.json()["detections"] == expected(detector, data)
        proposals = answer.json()["proposals"]
        assert proposals == detector.detect(data).proposals
        assert proposals["multibox"] > 0
        assert ("selective_search" in proposals) == (preset == "default")


def test_parameters(client: httpx2.Client, running: Running) -> None:
    data = encoded(2)

    def found(**query: Any) -> list[dict[str, Any]]:
        answer = client.post("/detect", content=data, headers=JPEG, params=query)
        assert answer.status_code == 200
        detections: list[dict[str, Any]] = answer.json()["detections"]
        return detections

    everything = found(score_threshold=0)
    half = sorted(item["score"] for item in everything)[len(everything) // 2]
    assert found(score_threshold=half) == [item for item in everything if item["score"] >= half]
    assert found(max_detections=2) == everything[:2]
    dogs = found(classes=" dog ", score_threshold=0)
    assert {item["label"] for item in dogs} == {"dog"}
    assert found(preset="fast") != found(preset="default") == found()
    assert found(preset="fast") == expected(running.detectors["fast"], data)


def test_proposal_boxes_on_request(client: httpx2.Client, running: Running) -> None:
    data = encoded(2)
    answer = client.post(
        "/detect", content=data, headers=JPEG, params={"include": "proposals"}
    ).json()
    assert list(answer)[-1] == "proposal_boxes"
    boxes = answer["proposal_boxes"]
    assert boxes == running.detector.preprocessor.preprocess(data).proposals.boxes.tolist()


def test_drawn_image(client: httpx2.Client, running: Running) -> None:
    answer = client.post("/detect", content=encoded(3), headers=PNG_WANTED)
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["vary"] == "accept"
    pixels = np.asarray(PillowImage.open(io.BytesIO(answer.content)))
    detections = running.detector.detect(encoded(3)).detections
    expected_pixels = draw(scene(3, 120, 24), detections, running.detector.classes)
    np.testing.assert_array_equal(pixels, expected_pixels)


def test_a_drawn_image_has_the_detections_asked_for(client: httpx2.Client) -> None:
    def drawn(**query: float) -> Image:
        answer = client.post("/detect", content=encoded(2), headers=PNG_WANTED, params=query)
        return np.asarray(PillowImage.open(io.BytesIO(answer.content)))

    assert (drawn(score_threshold=1) == scene(2, 120, 24)).all()
    assert (drawn() != scene(2, 120, 24)).any()
    assert (drawn(score_threshold=0.05) != drawn()).any()


@pytest.mark.parametrize("accept", ["application/json, image/png;q=0.1", "*/*", "image/png;q=0"])
def test_json_unless_png_has_more_weight(client: httpx2.Client, accept: str) -> None:
    answer = client.post("/detect", content=encoded(3), headers={"accept": accept})
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["vary"] == "accept"


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        ({"content": b"", "headers": JPEG}, 400, "empty-image"),
        ({"content": b"I am no image", "headers": JPEG}, 400, "not-an-image"),
        ({"content": encoded(0)[:-60], "headers": JPEG}, 400, "truncated-image"),
        ({"content": b"%PDF-1.7", "headers": JPEG}, 415, "unsupported-image"),
        (
            {"content": b"{}", "headers": {"content-type": "application/json"}},
            415,
            "unsupported-content-type",
        ),
        ({"data": {"image": "text"}}, 415, "unsupported-content-type"),
        ({"files": {"picture": b"x"}}, 422, "missing-image"),
        ({"files": {"image": (None, b"a text")}}, 400, "not-an-image"),
        ({"files": [("image", b"x"), ("image", b"y")]}, 422, "several-images"),
        (
            {"content": b"x", "headers": {"content-type": "multipart/form-data"}},
            400,
            "bad-form",
        ),
        (
            {
                "content": b"--y\r\nbroken",
                "headers": {"content-type": "multipart/form-data; boundary=x"},
            },
            400,
            "bad-form",
        ),
        ({"content": b"x", "params": {"score_threshold": "2"}}, 422, "bad-parameter"),
        ({"content": b"x", "params": {"score_threshold": "nan"}}, 422, "bad-parameter"),
        ({"content": b"x", "params": {"max_detections": "0"}}, 422, "bad-parameter"),
        ({"content": b"x", "params": {"classes": "unicorn"}}, 422, "bad-parameter"),
        ({"content": b"x", "params": {"preset": "paper"}}, 422, "bad-parameter"),
        ({"content": b"x", "params": {"include": "all"}}, 422, "bad-parameter"),
    ],
)
def test_problems(client: httpx2.Client, request_: dict[str, Any], status: int, code: str) -> None:
    answer = client.post("/detect", **request_)
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (status, code)
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert problem["status"] == status
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert "/" not in problem["detail"].replace("image/…", "").replace("application/", "").replace(
        "multipart/", ""
    )


def test_too_many_pixels(client: httpx2.Client) -> None:
    buffer = io.BytesIO()
    PillowImage.new("1", (10_000, 10_000)).save(buffer, format="PNG")
    answer = client.post("/detect", content=buffer.getvalue(), headers=JPEG)
    assert (answer.status_code, answer.json()["type"]) == (413, "oversized-image")


def test_an_error_of_the_service_says_nothing(
    client: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("/a/path of this machine")

    monkeypatch.setattr("detector.regions.ensemble.Ensemble.classify", fail)
    before = metric(client, FAILED)
    for _ in range(2):  # on the same connection
        answer = client.post("/detect", content=encoded(0), headers=JPEG)
        problem = answer.json()
        assert (answer.status_code, problem["type"]) == (500, "internal")
        assert problem["request_id"] == answer.headers["x-request-id"]
        assert answer.headers["content-type"] == MEDIA_TYPE
        assert "path" not in answer.text
        assert "Traceback" not in answer.text
    assert metric(client, FAILED) == before + 2


def low(seed: int) -> bytes:
    """An image with quick proposals."""
    return encoded(seed, height=5)


def test_every_client_has_its_own_answer(running: Running) -> None:
    """32 clients with 32 different images, ten rounds."""
    found = [(data, expected(running.detector, data)) for data in map(low, range(64))]
    different = {str(answer): (data, answer) for data, answer in found}
    images, answers = zip(*list(different.values())[:32], strict=True)
    assert len(images) == 32

    def rounds(number: int) -> int:
        right = 0
        with running.client() as client:
            for turn in range(10):
                which = (number + turn) % 32
                answer = client.post("/detect", content=images[which], headers=JPEG)
                assert answer.status_code == 200, answer.text
                right += answer.json()["detections"] == answers[which]
        return right

    with ThreadPoolExecutor(32) as clients:
        assert list(clients.map(rounds, range(32))) == [10] * 32


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("score_treshold=0.8", "'score_treshold' is no parameter: did you mean score_threshold?"),
        ("Classes=cat", "'Classes' is no parameter: did you mean classes?"),
        ("zzz=1", "'zzz' is no parameter: known are score_threshold, max_detections"),
        ("max_detections=1&max_detections=2", "max_detections: given 2 times"),
    ],
)
def test_unknown_and_repeated_parameters(client: httpx2.Client, query: str, detail: str) -> None:
    answer = client.post(f"/detect?{query}", content=encoded(1), headers=JPEG)
    assert (answer.status_code, answer.json()["type"]) == (422, "bad-parameter")
    assert answer.json()["detail"].startswith(detail)


@pytest.mark.parametrize("disposition", ["; filename*=UTF-8''a%20b.png", '; filename="a.png"', ""])
def test_a_file_of_a_form_by_any_kind_of_name(
    client: httpx2.Client, running: Running, disposition: str
) -> None:
    data = encoded(1)
    head = f'--x\r\ncontent-disposition: form-data; name="image"{disposition}\r\n\r\n'
    body = head.encode() + data + b"\r\n--x--\r\n"
    answer = client.post(
        "/detect", content=body, headers={"content-type": "multipart/form-data; boundary=x"}
    )
    assert answer.status_code == 200
    assert answer.json()["detections"] == expected(running.detector, data)


def test_an_encoded_body_is_refused_by_name(client: httpx2.Client) -> None:
    body = gzip.compress(encoded(1))
    answer = client.post("/detect", content=body, headers=JPEG | {"content-encoding": "gzip"})
    assert (answer.status_code, answer.json()["type"]) == (415, "unsupported-content-encoding")
    assert "'gzip': send the body as it is" in answer.json()["detail"]
