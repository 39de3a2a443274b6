import base64
import json
from email import message_from_bytes
from email.policy import HTTP
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anykontext.adapting import Base64, Body, Call, InputImage, Purpose, Reply, form_body, get, json_body, post
from anykontext.adapting.wire import CHUNK

CALL = Call(Purpose.POLL, "GET", "/")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
LEAF = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
    | st.binary(max_size=20).map(Base64)
)
JSON = st.recursive(
    LEAF,
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=15,
)


def spelled_out(value: Any) -> Any:
    if isinstance(value, Base64):
        return base64.b64encode(value.data).decode()
    if isinstance(value, dict):
        return {key: spelled_out(item) for key, item in value.items()}
    return [spelled_out(item) for item in value] if isinstance(value, list | tuple) else value


@settings(max_examples=300, deadline=None)
@given(fields=st.dictionaries(TEXT, JSON, max_size=5))
def test_a_json_body_is_what_orjson_writes_with_base64_spliced_in(fields: dict[str, Any]) -> None:
    body = json_body(fields)

    sent = bytes(body)

    assert orjson.dumps(spelled_out(fields)) == sent
    assert spelled_out(fields) == json.loads(sent)
    assert len(body) == len(sent)
    assert sent == b"".join(body.chunks())


@settings(max_examples=50, deadline=None)
@given(data=st.binary(max_size=100))
def test_base64_knows_its_length(data: bytes) -> None:
    part = Base64(data)

    assert base64.b64encode(data) == b"".join(part.chunks())
    assert len(part) == len(base64.b64encode(data))


@pytest.mark.parametrize("size", [0, 1, 2, 3, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 2])
def test_large_images_are_encoded_in_pieces_without_padding_in_the_middle(size: int) -> None:
    part = Base64(memoryview(bytes(size)))

    pieces = list(part.chunks())

    assert base64.b64encode(bytes(size)) == b"".join(pieces)
    assert all(len(piece) <= 262_144 for piece in pieces)
    assert len(part) == sum(map(len, pieces))


def test_a_body_can_be_sent_twice() -> None:
    body = json_body({"image": Base64(b"abc")})

    assert list(body.chunks()) == list(body.chunks())


def test_no_repr_holds_bytes() -> None:
    call = post(Purpose.SUBMIT, "/x", {"image": Base64(b"SECRETSECRET"), "prompt": "a SECRET cat"})
    reply = Reply(call, 200, {}, b"SECRET")

    for shown in (repr(call), repr(reply), repr(call.body), repr(Base64(b"SECRET"))):
        assert "SECRET" not in shown
        assert "U0VD" not in shown


@pytest.mark.parametrize(
    "value", [{1: 2}, {None: 2}, {"a": {True: 1}}, {"a": [{b"x": 1}]}, {"a": object()}, {"a": {1}}]
)
def test_what_json_cannot_hold_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError):
        json_body(value)


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, "\ud800", b"bytes"])
def test_values_that_json_cannot_hold_are_type_errors(value: Any) -> None:
    with pytest.raises(TypeError):
        json_body({"a": value})


@pytest.mark.parametrize(
    "body",
    [
        *(
            b"",
            b"<html>",
            b'{"id":"one","polli',
            b"NaN",
            b'{"a":NaN}',
            b'{"a":Infinity}',
            b'{"a":1e999}',
            b'{"a":-1e999}',
        ),
        *(b'{"a":"\xff"}', b"\xef\xbb\xbf{}", b'{"a":"\\ud800"}', b"\x00", b"[" * 100_000, b'{"a":' * 5_000),
        *(b"9" * 400, b"{'a':1}", b'{"a":1,}', b'{"a":01}', b'{"a":1}{"b":2}'),
    ],
    ids=lambda body: repr(body[:20]),
)
def test_f17_f40_f41_f44_a_hostile_body_is_no_json_and_raises_nothing(body: bytes) -> None:
    reply = Reply(CALL, 200, {}, body)

    assert reply.json() is None
    assert {} == reply.mapping()


@pytest.mark.parametrize("body", [b"[1]", b"7", b'"x"', b"null", b"true"])
def test_json_that_is_no_object_has_an_empty_mapping(body: bytes) -> None:
    assert {} == Reply(CALL, 200, {}, body).mapping()


def test_huge_whole_numbers_are_read_without_harm() -> None:
    assert {"a": 1e30} == Reply(CALL, 200, {}, b'{"a":' + b"1" + b"0" * 30 + b"}").mapping()


@given(body=st.binary(max_size=200))
def test_any_bytes_are_json_or_none(body: bytes) -> None:
    assert isinstance(Reply(CALL, 200, {}, body).mapping(), dict)


@pytest.mark.parametrize(("status", "found"), [(429, "3"), (503, "3"), (200, None), (500, None), (404, None)])
def test_retry_after_is_seen_on_429_and_503_only(status: int, found: str | None) -> None:
    assert found == Reply(CALL, status, {"retry-after": "3"}, b"").retry_after


def test_a_query_is_escaped() -> None:
    call = get(Purpose.POLL, "/v1/get_result", query={"id": "a b/&?c=\u00e9"})

    assert ("GET", "/v1/get_result?id=a%20b%2F%26%3Fc%3D%C3%A9", "api") == (call.method, call.path, call.origin)


def test_a_post_is_json() -> None:
    call = post(Purpose.SUBMIT, "/v1/x", {"a": 0})

    assert ("POST", "application/json", b'{"a":0}') == (call.method, call.body.media_type, bytes(call.body))


def test_a_body_may_be_of_any_media_type() -> None:
    body = Body((b"ab", Base64(b"c")), "text/plain")

    assert (b"abYw==", 6, "text/plain") == (bytes(body), len(body), body.media_type)


def test_everything_an_author_imports_is_named_once_and_there() -> None:
    from anykontext import adapting

    assert sorted(set(adapting.__all__)) == adapting.__all__
    assert all(hasattr(adapting, name) for name in adapting.__all__)


def test_a_form_is_what_a_server_reads_and_always_the_same_bytes() -> None:
    image = InputImage(b"\x89PNG\r\n--x\r\n\x00\xff", None, "image/png", 1, 1)

    body = form_body({"uploadPath": "anykontext"}, image, "ab.png")

    head = f"Content-Type: {body.media_type}\r\n\r\n".encode()
    texts, file = message_from_bytes(head + bytes(body), policy=HTTP).iter_parts()
    assert ("uploadPath", "anykontext") == (texts.get_param("name", header="content-disposition"), texts.get_content())
    assert ("file", "ab.png") == (file.get_param("name", header="content-disposition"), file.get_filename())
    assert ("image/png", image.data) == (file.get_content_type(), file.get_payload(decode=True))
    assert len(bytes(body)) == len(body)
    assert len(body.media_type.partition("boundary=")[2]) <= 70  # RFC 2046, section 5.1.1
    assert bytes(body) == bytes(form_body({"uploadPath": "anykontext"}, image, "ab.png"))
