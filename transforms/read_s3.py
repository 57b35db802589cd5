"""Images on S3 and on stores that speak its protocol; the client is that of the outputs."""

from __future__ import annotations

import time

from botocore.exceptions import (  # type: ignore[import-untyped]
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    NoCredentialsError,
    ReadTimeoutError,
)

from transforms.errors import ImageError
from transforms.read import too_large
from transforms.storage_s3 import client

ATTEMPTS = 4  # of a body that breaks off: the client repeats requests, and not bodies
PAUSE = 0.2  # seconds before the second attempt, doubled for each one after
# What people can do something about, by S3's error code; by HTTP status where a store has codes of its own.
_REASONS: dict[str | int, tuple[str, str]] = {
    "NoSuchBucket": ("not_found", "no such bucket"),
    "InvalidObjectState": ("archived", "the object is archived and must be restored before it can be read"),
    404: ("not_found", "no such object"),
    403: ("permission_denied", "no permission to read the object, or there is no such object"),
    401: ("permission_denied", "no permission to read the object"),
}


def read_s3(uri: str, max_bytes: int) -> bytes:
    """The object at `s3://BUCKET/KEY`; the key stands for itself, nothing in it is decoded.

    Raises:
        ImageError: stage `read`; `not_found`, `permission_denied`, `archived`, `too_large`, `timeout`,
            `incomplete_read`, `bad_uri`, `io_error`.
    """
    return _answer(uri, max_bytes)


def read_s3_range(uri: str, start: int, stop: int) -> bytes:
    """Bytes `start` to `stop` of the object at `s3://BUCKET/KEY`; fewer or none when it ends before.

    Raises:
        ImageError: as `read_s3`.
    """
    return _answer(uri, stop - start, Range=f"bytes={start}-{stop - 1}")


def _answer(uri: str, most: int, **options: str) -> bytes:
    """What a request brings, `most` bytes at most; tried again when it breaks off."""
    bucket, _, key = uri.partition("://")[2].partition("/")
    if not bucket or not key:
        raise ImageError("read", "bad_uri", "it must be s3://BUCKET/KEY")
    for attempt in range(ATTEMPTS):
        try:
            return _get({"Bucket": bucket, "Key": key, **options}, most)
        except ClientError as error:
            if "Range" in options and _code(error) == "InvalidRange":
                return b""
            raise _refused(error) from None
        except NoCredentialsError:
            raise ImageError("read", "permission_denied", "no AWS credentials were found") from None
        except (ConnectTimeoutError, ReadTimeoutError):
            raise ImageError("read", "timeout", "the store does not answer") from None
        except _BrokenOffError as error:
            if attempt == ATTEMPTS - 1:
                raise ImageError("read", "incomplete_read", f"the connection broke ({error})") from None
        except BotoCoreError as error:
            raise ImageError("read", "io_error", str(error)) from None
        time.sleep(PAUSE * 2**attempt)
    raise AssertionError("unreachable")


class _BrokenOffError(Exception):
    """The answer's body ended before it was complete."""


def _get(request: dict[str, str], most: int) -> bytes:
    response = client().get_object(**request)
    size, body = int(response["ContentLength"]), response["Body"]
    try:
        if size > most:
            if "Range" in request:
                raise ImageError("read", "io_error", "the store does not give parts of objects")
            raise too_large(size, most)
        return body.read()
    except ReadTimeoutError:
        raise
    except BotoCoreError as error:
        raise _BrokenOffError(str(error)) from None
    finally:
        body.close()


def _refused(error: ClientError) -> ImageError:
    code = _code(error)
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    found = _REASONS.get(code) or _REASONS.get(status)
    if found is not None:
        return ImageError("read", *found)
    return ImageError("read", "io_error", f"the store answered {status} {code}".rstrip())


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
