"""Credentials in URIs: masked in whatever people read, stripped from the `uri` column on request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

MASK = "***"

# What precedes `@` in a URI's authority. A password may hold raw `/`, `?` or `#`, which should have been escaped: then
# it is what follows a colon that begins no port. Second form: a URI inside another's query, percent-encoded.
_USERINFO = re.compile(
    r"""(?P<start>:(?:\\?/){2})
        (?P<user>[^\s/?#"<>\\]+ | [^\s/?#"<>\\:@\[]+:(?!\d{1,5}[/?#])[^\s"<>]{0,400})
        @
      | (?P<encoded_start>%3A(?:%2F){2})
        (?P<encoded_user>(?:(?!%2F|%3F|%23|%40)[^\s/?#&@"<>]){1,400})
        %40""",
    re.VERBOSE | re.IGNORECASE,
)
_CONTAINER = re.compile(r"(?:abfss?|wasbs?)$", re.IGNORECASE)  # abfs://CONTAINER@account: no secret

# The name of a query parameter, up to its equals sign; both may be escaped once for JSON, HTML or another URI.
_NAME = re.compile(r"(?:[?&;#]|%3F|%26|\\u0026)(?P<name>[\w.~%\[\]-]{1,64}?)(?:=|%3D)", re.IGNORECASE)
_VALUE = re.compile(r"""[^\s&#"<>]*""")
_CLOSING = "'\\\")]},;:.…"  # belongs to the sentence about a URI when it ends it

_SECRET_PARTS = (
    "signature", "token", "secret", "passw", "credential", "apikey", "api_key", "api-key",
    "accesskey", "access_key", "access-key", "accessid",
)  # fmt: skip
_SECRET_NAMES = {
    "sig", "sign", "key", "auth", "authorization", "pass", "pwd", "jwt", "hmac", "code", "policy", "key-pair-id",
    "q-ak", "hdnts", "hdntl", "hdnea", "sid", "session", "sessionid",
}  # fmt: skip

# Schemes whose `?` begins a query; in a path, in gs:// and s3:// it may be a letter of a name.
_WITH_QUERY = {"http", "https", "ftp", "ftps", "az", "azfs", "abfs", "abfss", "wasb", "wasbs"}


def is_secret_name(name: str) -> bool:
    """Whether a query parameter or option of this name holds a secret, such as `X-Amz-Signature`, `sig` or `token`.

    When and to what a signed URL applies (`Expires`, `se`, `sp`, `sv`) is none.
    """
    name = re.split("[?&;#]", unquote(name))[-1].lower().removesuffix("[]")
    return name in _SECRET_NAMES or any(part in name for part in _SECRET_PARTS)


def mask_credentials(text: str) -> str:
    """`text` with `***` in place of what URIs in it carry before `@`, and of the values of secret query parameters.

    Masking twice is as masking once. Linear in the length of the text. Mask before cutting a text short: of half a
    URI nobody can tell what is a password.
    """
    return _mask_query(_replace_userinfo(text, f"{MASK}@"))


def mask_values(values: Any) -> Any:
    """Plain values (mappings, lists, texts) with credentials masked in every text and under every secret name."""
    if isinstance(values, str):
        return mask_credentials(values)
    if isinstance(values, Mapping):
        return {
            name: MASK if isinstance(value, str) and value and is_secret_name(str(name)) else mask_values(value)
            for name, value in values.items()
        }
    if isinstance(values, (list, tuple)):
        return [mask_values(value) for value in values]
    return values


def strip_uri(uri: str) -> str:
    """`uri` without user, password, query and fragment; paths without a scheme stay as they are.

    Where `?` may be part of a name (`file`, `gs`, `s3`, `hdfs`), a query goes only if it holds a secret.
    """
    scheme, separator, _ = uri.partition("://")
    if not separator or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        return uri
    uri = _replace_userinfo(uri, "")
    if scheme.lower() in _WITH_QUERY:
        return re.split("[?#]", uri, maxsplit=1)[0]
    return uri if _mask_query(uri) == uri else uri.partition("?")[0]


def _replace_userinfo(text: str, by: str) -> str:
    def replaced(match: re.Match[str]) -> str:
        user = match["user"]
        if user and ":" not in user and _CONTAINER.search(text[max(0, match.start() - 5) : match.start()]):
            return match[0]
        return (match["start"] or match["encoded_start"]) + by

    return _USERINFO.sub(replaced, text)


def _mask_query(text: str) -> str:
    pieces, copied, position = [], 0, 0
    while name := _NAME.search(text, position):
        position = name.end()  # the value of a harmless parameter may be a URI with secrets
        if not is_secret_name(name["name"]):
            continue
        value = _VALUE.match(text, position)
        assert value is not None
        end = position + len(value[0].rstrip(_CLOSING))
        if end > position:
            pieces += [text[copied:position], MASK]
            copied = position = end
    return "".join([*pieces, text[copied:]])
