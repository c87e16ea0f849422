"""Bodies that were sent compressed, through kombu's own decoders."""

from __future__ import annotations

import types
import zlib
from typing import Any

import pytest
from kombu import compression

from celeryops_runtime.malformed import decompression
from celeryops_runtime.malformed.decompression import TooLargeError


@pytest.mark.parametrize(("name", "squeeze"), [("gzip", zlib.compress), ("bzip2", None), ("lzma", None)])
def test_a_bomb_stops_at_the_limit(monkeypatch: pytest.MonkeyPatch, name: str, squeeze: Any) -> None:
    decompression.mend()
    packed = squeeze(b"0" * 5000) if squeeze else compression.compress(b"0" * 5000, name)[0]
    assert compression.decompress(packed, name) == b"0" * 5000
    monkeypatch.setattr(decompression, "LARGEST", 4999)
    with pytest.raises(TooLargeError, match="larger than 4999"):
        compression.decompress(packed, name)


class OtherPackage:
    """A module such as zstd (Python 3.14, backports) or brotli, whose streams are those of zlib."""

    class ZstdDecompressor:
        def __new__(cls) -> Any:
            return zlib.decompressobj()

    class Decompressor:
        def __init__(self) -> None:
            self._own = zlib.decompressobj()
            self._rest = b""

        def process(self, body: bytes, output_buffer_limit: int) -> bytes:
            # No more than half of what was asked for at once, as brotli may.
            text: bytes = self._own.decompress(self._rest + body, max(1, output_buffer_limit // 2))
            self._rest = self._own.unconsumed_tail
            return text

        def is_finished(self) -> bool:
            return bool(self._own.eof)

        def can_accept_more_data(self) -> bool:
            return True


@pytest.mark.parametrize(("module", "kind"), [("zstd", "application/zstd"), ("brotli", "application/x-brotli")])
def test_the_decoders_of_other_packages_stop_too(monkeypatch: pytest.MonkeyPatch, module: str, kind: str) -> None:
    monkeypatch.setattr(compression, module, OtherPackage, raising=False)
    monkeypatch.setitem(compression._decoders, kind, zlib.decompress)
    decompression.mend()
    packed = zlib.compress(b"0" * 5000)
    assert compression.decompress(packed, kind) == b"0" * 5000
    with pytest.raises(TooLargeError, match="not complete"):
        compression.decompress(packed[:-4], kind)
    monkeypatch.setattr(decompression, "LARGEST", 4999)
    with pytest.raises(TooLargeError, match="larger than 4999"):
        compression.decompress(packed, kind)
    monkeypatch.setattr(compression, module, types.SimpleNamespace())
    decompression.mend()
    with pytest.raises(TooLargeError, match="cannot be bounded"):
        compression.decompress(packed, kind)
