"""DevTools as bytes: every case whole, byte by byte, and with a tail."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncrender.browser.wire import Decoder, Message, encode

NOTHING = bytes.fromhex("d8185a00000002 bfff")


def envelope(body: bytes) -> bytes:
    return b"\xd8\x18\x5a" + len(body).to_bytes(4, "big") + body


def as_chromium_writes_it(key: str, value: bytes) -> bytes:
    """A reply whose result has one entry, `value` being CBOR already."""
    result = b"\xbf" + cbor2.dumps(key) + value + b"\xff"
    return envelope(b"\xbf" + cbor2.dumps("id") + b"\x01" + cbor2.dumps("result") + envelope(result) + b"\xff")


PICTURE = as_chromium_writes_it("data", b"\xd6" + cbor2.dumps(b"\x89PNG"))
"""A byte string, tagged as meant for base64 (RFC 8949, 3.4.5.2)."""
TITLE = as_chromium_writes_it("title", cbor2.dumps("é日🎬".encode("utf-16-le")))
"""Text beyond ASCII: UTF-16 in a byte string without a tag (crdtp/cbor.h, EncodeFromUTF16)."""

CASES: list[tuple[str, bytes, list[Message]]] = [
    ("nothing", b"", []),
    ("empty", NOTHING, [{}]),
    ("picture", PICTURE, [{"id": 1, "result": {"data": b"\x89PNG"}}]),
    ("title", TITLE, [{"id": 1, "result": {"title": "é日🎬"}}]),
    ("call", encode({"id": 1, "method": "A.b", "params": {}}), [{"id": 1, "method": "A.b", "params": {}}]),
    ("nested", encode({"a": [1, [2.5, {"b": [None, True]}], []]}), [{"a": [1, [2.5, {"b": [None, True]}], []]}]),
    ("text", encode({"é": "日本 🎬"}), [{"é": "日本 🎬"}]),
    ("numbers", encode({"a": [-1, 2**31, -(2**31), 1e300]}), [{"a": [-1, 2**31, -(2**31), 1e300]}]),
    ("binary", encode({"data": bytes(range(256)) * 40}), [{"data": bytes(range(256)) * 40}]),
    ("two", encode({"id": 1}) + encode({"id": 2}), [{"id": 1}, {"id": 2}]),
]


def feed_all(pieces: Iterable[bytes]) -> list[Message]:
    decoder = Decoder()
    return [message for piece in pieces for message in decoder.feed(piece)]


@pytest.mark.parametrize(("data", "messages"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
class TestDecoder:
    def test_whole(self, data: bytes, messages: list[Message]) -> None:
        assert feed_all([data]) == messages

    def test_byte_by_byte(self, data: bytes, messages: list[Message]) -> None:
        assert feed_all(data[index : index + 1] for index in range(len(data))) == messages

    def test_with_a_tail(self, data: bytes, messages: list[Message]) -> None:
        tail = encode({"id": 99})
        assert feed_all([data + tail[:9], tail[9:]]) == [*messages, {"id": 99}]


@pytest.mark.parametrize("data", [b"HTTP/1.1 400 Bad", b'{"id":1}\0', bytes(7), b"\xd8\x18\x5b\0\0\0\0"])
def test_what_is_no_message_is_said_so(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a DevTools message"):
        Decoder().feed(data)


def test_a_lone_surrogate_does_not_break_the_pipe() -> None:
    assert feed_all([encode({"text": "a\ud800b"})]) == [{"text": "a?b"}]


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(messages=st.lists(st.dictionaries(st.text(), values, max_size=4), max_size=4), data=st.data())
def test_what_is_written_is_read_however_it_is_cut(messages: list[dict[str, Any]], data: st.DataObject) -> None:
    text = b"".join(map(encode, messages))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert feed_all(pieces) == messages
