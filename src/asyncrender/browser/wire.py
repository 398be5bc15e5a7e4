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
_HEADER_BYTES = len(_ENVELOPE) + 4
_ENVELOPE_TAG = 24
_BINARY_TAG = 22
_MAP, _ARRAY, _STOP = b"\xbf", b"\x9f", b"\xff"


class Decoder:
    """Collects bytes, gives whole messages. Raises ValueError on bytes that are no envelope."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes | memoryview) -> list[Message]:
        """The messages that are complete with these bytes, in order."""
        self._buffer += data
        messages = []
        while (end := self._end_of_first()) is not None:
            messages.append(_load(bytes(self._buffer[_HEADER_BYTES:end])))
            del self._buffer[:end]
        return messages

    def _end_of_first(self) -> int | None:
        if len(self._buffer) < _HEADER_BYTES:
            return None
        if not self._buffer.startswith(_ENVELOPE):
            raise ValueError(f"not a DevTools message: {bytes(self._buffer[:16])!r}")
        end = _HEADER_BYTES + int.from_bytes(self._buffer[len(_ENVELOPE) : _HEADER_BYTES], "big")
        return end if len(self._buffer) >= end else None


def encode(value: object) -> bytes:
    """A message, or a value within one, in Chromium's dialect."""
    if isinstance(value, dict):
        parts = [_MAP]
        for key, item in value.items():
            parts += _name(key), encode(item)
        return _envelope(b"".join(parts) + _STOP)
    if isinstance(value, list | tuple):
        return _envelope(_ARRAY + b"".join(map(encode, value)) + _STOP)
    if isinstance(value, str):  # a lone surrogate cannot be UTF-8; Chromium would close the pipe
        return cbor2.dumps(value.encode("utf-8", "replace").decode())
    return cbor2.dumps(cbor2.CBORTag(_BINARY_TAG, value) if isinstance(value, bytes) else value)


@functools.lru_cache(maxsize=256)
def _name(key: str) -> bytes:
    return cbor2.dumps(key)


def _envelope(body: bytes) -> bytes:
    return _ENVELOPE + struct.pack(">I", len(body)) + body


def _load(data: bytes) -> Any:
    return _with_texts(cbor2.loads(data, tag_hook=_unwrap))


class _Binary(bytes):
    """A byte string that was sent as one."""


def _unwrap(tag: cbor2.CBORTag, immutable: bool = False) -> Any:
    if tag.tag == _ENVELOPE_TAG:
        return _load(tag.value)
    return _Binary(tag.value) if tag.tag == _BINARY_TAG else tag.value


def _with_texts(value: Any) -> Any:
    """A map or an array whose texts are such: Chromium sends those beyond ASCII as UTF-16 in a plain byte string.

    True bytes carry a tag of their own.
    """
    if isinstance(value, dict) and (bytes in map(type, value.values()) or bytes in map(type, value)):
        return {_text(key): _text(item) for key, item in value.items()}
    if isinstance(value, list) and bytes in map(type, value):
        return [_text(item) for item in value]
    return value


def _text(value: Any) -> Any:
    return value.decode("utf-16-le", "replace") if type(value) is bytes else value
