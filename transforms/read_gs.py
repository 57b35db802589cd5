"""Images on Google Cloud Storage; the client is that of the outputs.

Not through Beam's file system, which has no time-outs, asks twice for each object and takes `[` and `*` for patterns.
"""

from __future__ import annotations

from google.api_core.exceptions import Forbidden, GoogleAPIError, NotFound, RequestRangeNotSatisfiable, Unauthorized
from google.auth.exceptions import GoogleAuthError
from requests import RequestException
from requests.exceptions import Timeout

from transforms.errors import ImageError
from transforms.storage_gcs import TIMEOUT, client


def read_gs(uri: str, max_bytes: int) -> bytes:
    """The object at `gs://BUCKET/NAME`, as it is stored; the name stands for itself, nothing in it is decoded.

    Raises:
        ImageError: stage `read`; `not_found`, `permission_denied`, `too_large`, `timeout`, `bad_uri`, `io_error`.
    """
    # One byte more than allowed tells a larger object without asking for its size first.
    data = read_gs_range(uri, 0, max_bytes + 1)
    if len(data) > max_bytes:
        raise ImageError("read", "too_large", f"more than {max_bytes:,} bytes; image.max_bytes is {max_bytes:,}")
    return data


def read_gs_range(uri: str, start: int, stop: int) -> bytes:
    """Bytes `start` to `stop` of the object at `gs://BUCKET/NAME`; fewer or none when it ends before.

    Raises:
        ImageError: as `read_gs`.
    """
    bucket, _, name = uri.partition("://")[2].partition("/")
    if not bucket or not name:
        raise ImageError("read", "bad_uri", "it must be gs://BUCKET/NAME")
    blob = client().bucket(bucket).blob(name)
    try:
        return blob.download_as_bytes(start=start, end=stop - 1, raw_download=True, timeout=TIMEOUT)
    except NotFound:
        raise ImageError("read", "not_found", "no such object or bucket") from None
    except RequestRangeNotSatisfiable:
        return b""
    except (Forbidden, Unauthorized):
        raise ImageError("read", "permission_denied", "no permission to read the object") from None
    except GoogleAuthError as error:
        raise ImageError("read", "permission_denied", f"no Google credentials that work: {error}") from None
    except Timeout:
        raise ImageError("read", "timeout", "the store does not answer") from None
    except (GoogleAPIError, RequestException) as error:
        raise ImageError("read", "io_error", getattr(error, "message", None) or str(error)) from None
