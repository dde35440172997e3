"""The page for people, and the interactive description of the interface."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

PAGE = Path(__file__).parents[1] / "page"
"""Folder of the page's files."""

SECURITY_HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' blob: data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}

router = APIRouter(include_in_schema=False)


@router.get("/")
async def page() -> HTMLResponse:
    """Return the page."""
    return HTMLResponse((PAGE / "index.html").read_bytes(), headers=SECURITY_HEADERS)


@router.get("/docs")
async def docs() -> HTMLResponse:
    """Return the interactive description, whose scripts and style come from this service, too.

    FastAPI's own page has a script in its text, which the policy of `SECURITY_HEADERS` forbids.
    """
    return HTMLResponse((PAGE / "docs.html").read_bytes(), headers=SECURITY_HEADERS)


def mount_files(app: FastAPI) -> None:
    """Serve the files that the page and the description load."""
    swagger_ui = files("fastapi_offline").joinpath("static")
    app.mount("/docs/assets", StaticFiles(directory=str(swagger_ui)), "swagger")
    app.mount("/page", StaticFiles(directory=PAGE), "page")
