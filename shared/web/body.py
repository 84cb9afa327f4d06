"""Reading a request body without letting its sender choose how much memory it takes."""

from starlette.requests import Request

from shared.web.problems import TooLarge


async def read_body(request: Request, limit: int) -> bytes:
    """The raw body, at most `limit` bytes.

    :raises TooLarge: by its declared length, or as soon as that much has come in.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise TooLarge(f"The body has {declared} bytes; {limit} are allowed.")
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise TooLarge(f"The body has more than the {limit} bytes that are allowed.")
        chunks.append(chunk)
    return b"".join(chunks)
