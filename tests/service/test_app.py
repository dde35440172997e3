from __future__ import annotations

import httpx2

from detector.bundles.bundle import Bundle
from service.app import create_app
from tests.support.serving import serving


def test_other_paths_and_methods(client: httpx2.Client) -> None:
    assert client.get("/nothing").json()["type"] == "not-found"
    answer = client.get("/detect")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_other_origins(tiny_bundle: Bundle, client: httpx2.Client) -> None:
    origin = {"origin": "https://example.org"}
    assert "access-control-allow-origin" not in client.get("/model", headers=origin).headers
    settings = {"cors_origins": ("https://example.org",)}
    with serving(tiny_bundle, **settings) as running, running.client() as other:
        allowed = other.get("/model", headers=origin).headers["access-control-allow-origin"]
        assert allowed == "https://example.org"


def test_answers_are_described_with_types() -> None:
    description = create_app({}).openapi()
    answers = description["paths"]["/detect"]["post"]["responses"]
    assert answers["200"]["content"] == {
        "application/json": {"schema": {"$ref": "#/components/schemas/DetectResponse"}},
        "image/png": {"schema": {"type": "string", "format": "binary"}},
    }

    schemas = description["components"]["schemas"]
    detections = schemas["DetectResponse"]["properties"]["detections"]
    assert detections["items"] == {"$ref": "#/components/schemas/Detection"}
    box = schemas["Detection"]["properties"]["box"]
    assert (box["items"], box["minItems"], box["maxItems"]) == ({"type": "number"}, 4, 4)
    assert "proposal_boxes" not in schemas["DetectResponse"]["required"]


def test_problems_have_one_schema() -> None:
    description = create_app({}).openapi()
    assert set(description["components"]["schemas"]["Problem"]["required"]) == {
        "type",
        "title",
        "status",
        "detail",
        "request_id",
    }
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for path in description["paths"].values():
        for operation in path.values():
            for status, answer in operation["responses"].items():
                assert status == "200" or answer["content"] == problem
