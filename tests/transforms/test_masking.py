import json
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from transforms.masking import is_secret_name, mask_credentials, mask_values, strip_uri

SIGNED = {
    "https://b.s3.amazonaws.com/a.jpg?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAX%2F20240101&X-Amz-Date=2024"
    "&X-Amz-Expires=900&X-Amz-Security-Token=FwoG%2B%3D%3D&X-Amz-SignedHeaders=host&X-Amz-Signature=0123abcd":
    "https://b.s3.amazonaws.com/a.jpg?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=***&X-Amz-Date=2024"
    "&X-Amz-Expires=900&X-Amz-Security-Token=***&X-Amz-SignedHeaders=host&X-Amz-Signature=***",
    "https://b.s3.amazonaws.com/a.jpg?AWSAccessKeyId=AKIAX&Expires=1700000000&Signature=ab%2Fcd%3D":
    "https://b.s3.amazonaws.com/a.jpg?AWSAccessKeyId=***&Expires=1700000000&Signature=***",
    "https://storage.googleapis.com/b/a.jpg?GoogleAccessId=me%40project.iam&Expires=17&Signature=ab%2B":
    "https://storage.googleapis.com/b/a.jpg?GoogleAccessId=***&Expires=17&Signature=***",
    "https://storage.googleapis.com/b/a.jpg?x-goog-credential=me%40p&x-goog-signature=00ff&x-goog-expires=60":
    "https://storage.googleapis.com/b/a.jpg?x-goog-credential=***&x-goog-signature=***&x-goog-expires=60",
    "https://acc.blob.core.windows.net/c/a.jpg?sv=2022-11-02&se=2024-01-01T00%3A00Z&sp=r&sr=b&sig=aB%2F3%3D":
    "https://acc.blob.core.windows.net/c/a.jpg?sv=2022-11-02&se=2024-01-01T00%3A00Z&sp=r&sr=b&sig=***",
    "https://d1.cloudfront.net/a.jpg?Expires=17&Policy=eyJ&Signature=ab-cd~&Key-Pair-Id=K1":
    "https://d1.cloudfront.net/a.jpg?Expires=17&Policy=***&Signature=***&Key-Pair-Id=***",
    "https://api.example.com/a.jpg?width=640&access_token=ya29.x&api_key=1&key=AIza#access_token=2":
    "https://api.example.com/a.jpg?width=640&access_token=***&api_key=***&key=***#access_token=***",
}  # fmt: skip

USERS = {
    "https://user:password@example.com:8443/a.jpg": "https://***@example.com:8443/a.jpg",
    "https://ghp_token@example.com/a.jpg": "https://***@example.com/a.jpg",
    "ftp://user:p@ss@example.com/a@2x.jpg": "ftp://***@example.com/a@2x.jpg",
    "HTTPS://user:pa/ss?w#d@example.com": "HTTPS://***@example.com",
    "s3://AKIA:secret@bucket/key": "s3://***@bucket/key",
    "abfss://container:secret@account.dfs.core.windows.net/a": "abfss://***@account.dfs.core.windows.net/a",
}

HARMLESS = [
    "no such file",
    "photos/key=3/token=4/a.jpg",
    "s3://bucket/photo@2x.jpg",
    "https://example.com:8080/photo@2x.jpg?width=3&Expires=9",
    "http://[::1]:80/a@b",
    "https://medium.com/@someone?page=2",
    "abfss://container@account.dfs.core.windows.net/a.jpg",
    "me@example.com wrote",
    "image.max_bytes is 5; signature=none",
]


@pytest.mark.parametrize(("uri", "masked"), [*SIGNED.items(), *USERS.items()])
def test_credentials_are_masked_and_nothing_else(uri: str, masked: str) -> None:
    assert mask_credentials(uri) == masked
    assert mask_credentials(f"GET '{uri}', then ({uri}).") == f"GET '{masked}', then ({masked})."
    assert json.loads(mask_credentials(json.dumps({"uri": uri}))) == {"uri": masked}


@pytest.mark.parametrize("text", HARMLESS)
def test_what_holds_no_credentials_stays(text: str) -> None:
    assert mask_credentials(text) == text


def test_uris_escaped_in_other_texts_are_masked_too() -> None:
    assert mask_credentials("https://proxy/?url=https%3A%2F%2Fu%3Apw%40host%2Fa%3Fw%3D1%26sig%3Dabc&x=1") == (
        "https://proxy/?url=https%3A%2F%2F***@host%2Fa%3Fw%3D1%26sig%3D***&x=1"
    )
    assert mask_credentials(r"https:\/\/user:pw@host\/a?w=1\u0026sig=abc") == r"https:\/\/***@host\/a?w=1\u0026sig=***"
    assert mask_credentials("<a href=https://host/?w=1&amp;sig=abc>") == "<a href=https://host/?w=1&amp;sig=***>"


secrets = st.text("abcdefgXYZ0123456789-._~!$*+,;=%", min_size=8, max_size=40).map(lambda text: f"S3{text}cr3t")
hosts = st.sampled_from(["example.com", "h:8080", "[::1]:443", "127.0.0.1", "bucket"])
paths = st.text("abc/@.-_%20é", max_size=20).map(lambda path: f"/{path}")
names = st.sampled_from(
    ["X-Amz-Signature", "x-amz-security-token", "Signature", "sig", "token", "access_token", "key", "api_key",
     "AWSAccessKeyId", "GoogleAccessId", "X-Amz-Credential", "client_secret", "PASSWORD", "sessionToken"]
)  # fmt: skip
around = st.sampled_from(
    [
        "{}",
        "'{}'",
        '"{}"',
        "({})",
        "a {} b",
        "<{}>",
        "[{}, 1]",
        "{}: 404",
        "url={}",
        "…{}…",
        "x\n{}\ny",
        "{{'u': '{}'}}",
    ]
)


@st.composite
def uris_with_secrets(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A URI with a user, secret parameters or both, and the secrets in it."""
    found = draw(st.lists(secrets, min_size=1, max_size=4))
    uri = draw(st.sampled_from(["http", "https", "s3", "gs", "ftp", "file", "hdfs"])) + "://"
    rest = list(found)
    if draw(st.booleans()):
        uri += draw(st.sampled_from(["user:", ":", ""])) + rest.pop() + "@"
    uri += draw(hosts) + draw(paths)
    if rest:
        harmless = draw(st.lists(st.sampled_from(["w=1", "Expires=2", "se=3", "flag", "next=http://h/a"]), max_size=3))
        pairs = [f"{draw(names)}={secret}" for secret in rest]
        uri += "?" + "&".join(draw(st.permutations([*harmless, *pairs])))
    return uri, found


@given(uris_with_secrets(), around)
def test_no_secret_survives_and_masking_again_changes_nothing(made: tuple[str, list[str]], frame: str) -> None:
    uri, found = made
    masked = mask_credentials(frame.format(uri))
    for secret in found:
        assert secret not in masked
        assert secret[:-1] not in masked
    assert mask_credentials(masked) == masked
    stripped = strip_uri(uri)
    assert not any(secret in stripped for secret in found)
    assert strip_uri(stripped) == stripped == mask_credentials(stripped)


@given(st.text("?&;#=%3DF26@:/'\" \\sigtokeny***.abu0", max_size=60))
@example("?sig=***'***")
@example("http://a:b@c:d@e")
def test_masking_is_idempotent_for_any_text(text: str) -> None:
    once = mask_credentials(text)
    assert mask_credentials(once) == once


@given(st.text(max_size=100))
def test_text_without_a_uri_or_query_stays(text: str) -> None:
    if "@" not in text and "=" not in text and "%" not in text:
        assert mask_credentials(text) == text


def test_masking_takes_time_in_proportion_to_the_text() -> None:
    hostile = ["://a:x/", "://", "?", "?a", "?sig='", "%3A%2F%2Fa", "a", "?%", "%3F", "://a:@", "?sig=", "&&key=;"]
    began = time.process_time()
    for piece in hostile:
        mask_credentials(piece * (100_000 // len(piece)))
    assert time.process_time() - began < 5  # quadratic work would take minutes


@pytest.mark.parametrize(
    ("uri", "stripped"),
    [
        ("https://user:pw@h:8080/a.jpg?w=1&sig=2#top", "https://h:8080/a.jpg"),
        ("https://h/a.jpg", "https://h/a.jpg"),
        ("photos/what?.jpg?sig=1", "photos/what?.jpg?sig=1"),
        ("/photos/a@b://c.jpg", "/photos/a@b://c.jpg"),
        ("gs://bucket/what?.jpg", "gs://bucket/what?.jpg"),
        ("s3://id:secret@bucket/a.jpg?X-Amz-Signature=1", "s3://bucket/a.jpg"),
        ("file:///photos/what%3F.jpg", "file:///photos/what%3F.jpg"),
        ("abfss://container@account/a.jpg?sig=1", "abfss://container@account/a.jpg"),
        ("ftp://user@h/a.jpg", "ftp://h/a.jpg"),
    ],
)
def test_strip_uri(uri: str, stripped: str) -> None:
    assert strip_uri(uri) == stripped


def test_values_are_masked_at_any_depth() -> None:
    values = {
        "path": ["https://u:p@h/list.txt", 3],
        "options": {"s3_secret_access_key": "abc", "temp_location": "gs://b/t", "session": None},
    }
    assert mask_values(values) == {
        "path": ["https://***@h/list.txt", 3],
        "options": {"s3_secret_access_key": "***", "temp_location": "gs://b/t", "session": None},
    }


@pytest.mark.parametrize("name", ["Expires", "se", "sp", "sv", "sr", "X-Amz-Date", "width", "page", "versionId"])
def test_what_says_when_and_to_what_a_url_applies_is_no_secret(name: str) -> None:
    assert not is_secret_name(name)
