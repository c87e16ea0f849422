# SPDX-FileCopyrightText: celeryops.stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Bodies that were sent compressed: kombu's decoders stop at :data:`LARGEST`, however much 100 bytes become."""

from __future__ import annotations

import bz2
import lzma
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

LARGEST = 64 * 1024 * 1024
"""Bytes of a body that was sent compressed, at most; RabbitMQ 4 takes 16 MiB of one that was not."""


class TooLargeError(ValueError):
    """A compressed body is larger than :data:`LARGEST`, or not a whole one."""


def _bounded(make: Callable[[], Any]) -> Callable[[bytes], bytes]:
    """Make a decoder that stops.

    :param make: makes the standard library's decompressor, of zlib, bz2 or lzma.
    """

    def decode(body: bytes) -> bytes:
        decompressor = make()
        text: bytes = decompressor.decompress(body, LARGEST + 1)
        if len(text) > LARGEST:
            raise TooLargeError(f"its body is larger than {LARGEST} bytes when decompressed")
        if not decompressor.eof:
            raise TooLargeError("its compressed body is not complete")
        return text

    return decode


class _Brotli:
    """Brotli's decompressor with the standard library's words."""

    def __init__(self, brotli: Any) -> None:
        self._own = brotli.Decompressor()

    def decompress(self, body: bytes, limit: int) -> bytes:
        parts = [self._own.process(body, output_buffer_limit=limit)]
        size = len(parts[0])
        while size < limit and parts[-1] and not self._own.is_finished():
            parts.append(self._own.process(b"", output_buffer_limit=limit - size))
            size += len(parts[-1])
        return b"".join(parts)

    @property
    def eof(self) -> bool:
        return bool(self._own.is_finished())


def _refused(_body: bytes) -> bytes:
    raise TooLargeError("its compression cannot be bounded here")


def mend() -> None:
    """Have kombu's decoders stop. Calling it again changes nothing more."""
    from kombu import compression

    decoders = compression._decoders
    for content_type, make in (
        ("application/x-gzip", zlib.decompressobj),
        ("application/x-bz2", bz2.BZ2Decompressor),
        ("application/x-lzma", lzma.LZMADecompressor),
    ):
        if content_type in decoders:
            decoders[content_type] = _bounded(make)
    # These come with kombu 5.7 and a package, or Python 3.14; the module is the one that kombu has chosen.
    zstd, brotli = getattr(compression, "zstd", None), getattr(compression, "brotli", None)
    if "application/zstd" in decoders:
        own = getattr(zstd, "ZstdDecompressor", None)
        decoders["application/zstd"] = _bounded(own) if own else _refused
    if "application/x-brotli" in decoders:
        # Brotli's own decompressor stops nowhere before its version 1.2.
        bounds = hasattr(getattr(brotli, "Decompressor", None), "can_accept_more_data")
        decoders["application/x-brotli"] = _bounded(lambda: _Brotli(brotli)) if bounds else _refused
