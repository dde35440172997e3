"""The image that a request carries, as its body or in a form."""

from __future__ import annotations

from http import HTTPStatus

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, create_form_parser
from starlette.requests import Request

from service.problems import Problem

FIELD = "image"
"""Name of the form's field that has the image."""

MAX_OTHER_FIELDS = 8
"""Largest number of other fields in a form."""


async def read_image(request: Request, limit: int) -> bytes:
    """Read the image of a request: its body, or the field `image` of its form.

    Args:
        request: The request.
        limit: Largest size of the body in bytes.

    Raises:
        Problem: The content type or encoding is not allowed, or the form is broken or has no image.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "unsupported-content-encoding",
            f"the content encoding {encoding[:80]!r}: send the body as it is",
        )
    content_type = request.headers.get("content-type", "application/octet-stream")
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        return await _read_form(request, limit)
    if media_type.startswith("image/") or media_type == "application/octet-stream":
        return await request.body()
    raise Problem(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "unsupported-content-type",
        f"{media_type[:80]!r}: allowed are image/…, application/octet-stream, and "
        f"multipart/form-data with a field {FIELD!r}",
    )


async def _read_form(request: Request, limit: int) -> bytes:
    images: list[bytes] = []
    other_fields = 0

    def take(name: bytes | None, content: bytes) -> None:
        nonlocal other_fields
        if name == FIELD.encode():
            images.append(content)
            return
        other_fields += 1
        if other_fields > MAX_OTHER_FIELDS:
            detail = f"more than {MAX_OTHER_FIELDS} fields beside the image"
            raise Problem(HTTPStatus.BAD_REQUEST, "bad-form", detail)

    def take_field(field: Field) -> None:
        # A file whose name is in `filename*` alone is a field without a file's name.
        take(field.field_name, field.value or b"")

    def take_file(file: File) -> None:
        file.file_object.seek(0)
        content = file.file_object.read()
        file.close()
        take(file.field_name, content)

    headers = {"Content-Type": request.headers["content-type"].encode("latin-1")}
    config = {"MAX_MEMORY_FILE_SIZE": limit + 1}  # nothing goes to disk
    try:
        parser = create_form_parser(headers, take_field, take_file, config)
        async for chunk in request.stream():
            parser.write(chunk)
        parser.finalize()
    except FormParserError as error:
        raise Problem(HTTPStatus.BAD_REQUEST, "bad-form", f"not a form: {error}") from error

    if len(images) != 1:
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "several-images" if images else "missing-image",
            f"the form needs one file in its field {FIELD!r}, not {len(images)}",
        )
    # The parser and its functions refer to each other, and would keep the image for a while.
    return images.pop()
