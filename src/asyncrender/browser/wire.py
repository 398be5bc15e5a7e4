"""Chromium's DevTools protocol as bytes: messages in, bytes out, and back. No socket in sight.

With `--remote-debugging-pipe=cbor` every message is a CBOR envelope: tag 24 around a byte string with a 32-bit length,
`d8 18 5a <u32>`; maps and arrays inside are of indefinite length, each in an envelope of its own. Binary fields, such
as pictures, are byte strings under tag 22: no base64. Source: chromium/third_party/inspector_protocol/crdtp/cbor.h.
"""

from __future__ import annotations

import functools
import struct
from typing import Any

import cbor2

Message = dict[str, Any]

_ENVELOPE = b"\xd8\x18\x5a"
_HEAD = struct.Struct(">3sI")
_ENVELOPE_TAG = 24
_BINARY_TAG = 22
_MAP, _ARRAY, _STOP = b"\xbf", b"\x9f", b"\xff"

_PLAIN = frozenset({bool, int, float, type(None)})
"""Types whose values are written as in all CBOR."""


class Decoder:
    """Collects bytes, gives whole messages. Raises ValueError on bytes that are no envelope."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes | memoryview) -> list[Message]:
        """The messages that are complete with these bytes, in order."""
        buffer, messages = self._buffer, []
        buffer += data
        while len(buffer) >= _HEAD.size:
            start, length = _HEAD.unpack_from(buffer)
            if start != _ENVELOPE:
                raise ValueError(f"not a DevTools message: {bytes(buffer[:16])!r}")
            end = _HEAD.size + length
            if len(buffer) < end:
                break
            messages.append(_load(bytes(buffer[_HEAD.size : end])))
            del buffer[:end]
        return messages


def encode(value: object) -> bytes:
    """A message, or a value within one, in Chromium's dialect."""
    if isinstance(value, str):  # a lone surrogate cannot be UTF-8; Chromium would close the pipe
        return cbor2.dumps(value if value.isascii() else value.encode("utf-8", "replace").decode())
    if isinstance(value, dict):
        parts = [_MAP]
        for key, item in value.items():
            parts += _name(key), cbor2.dumps(item) if type(item) in _PLAIN else encode(item)
        parts.append(_STOP)
        return _envelope(b"".join(parts))
    if isinstance(value, (list, tuple)):
        return _envelope(b"".join([_ARRAY, *map(encode, value), _STOP]))
    return cbor2.dumps(cbor2.CBORTag(_BINARY_TAG, value) if isinstance(value, bytes) else value)


@functools.lru_cache(maxsize=256)
def _name(key: str) -> bytes:
    return encode(key)


def _envelope(body: bytes) -> bytes:
    return _HEAD.pack(_ENVELOPE, len(body)) + body


class _Binary(bytes):
    """A byte string that was sent as one."""


def _load(data: bytes) -> Any:
    """A map or an array. Its texts are such: Chromium sends those beyond ASCII as UTF-16 in a plain byte string. True
    bytes carry a tag of their own.
    """
    value = cbor2.loads(data, tag_hook=_unwrap)
    if isinstance(value, dict):
        if bytes in map(type, value.values()) or bytes in map(type, value):
            return {_text(key): _text(item) for key, item in value.items()}
    elif bytes in map(type, value):
        return [_text(item) for item in value]
    return value


def _unwrap(tag: cbor2.CBORTag, immutable: bool = False) -> Any:
    if tag.tag == _ENVELOPE_TAG:
        return _load(tag.value)
    return _Binary(tag.value) if tag.tag == _BINARY_TAG else tag.value


def _text(value: Any) -> Any:
    return value.decode("utf-16-le", "replace") if type(value) is bytes else value
