"""Boxes of common encryption (ISO/IEC 23001-7, scheme ``cbcs``) in tracks that are packaged.

A protected track is the clear one with other sample data: its fragments keep their samples and
times, and get the boxes that say which bytes are encrypted. Samples come encrypted from a packager,
in the same order and of the same sizes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from encoder import mp4

SCHEME = "cbcs"
"""The only scheme: what Apple devices, and by now all others, play."""
_BLOCK = 16
_SUBSAMPLES = 0x2  # flag of senc: samples are encrypted in part


@dataclass(frozen=True, slots=True)
class ContentKey:
    """A key of 128 bits and its id; the key is no part of any text made of the value."""

    key_id: bytes
    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.key_id) != _BLOCK or len(self.key) != _BLOCK:
            raise ValueError("a key and its id have 16 bytes each")


@dataclass(frozen=True, slots=True)
class Protection:
    """How a track is encrypted, as its ``tenc`` says."""

    key_id: bytes
    iv: bytes
    """Constant initialisation vector."""
    crypt: int
    """Encrypted blocks of a pattern; 0 where all of a range is encrypted."""
    skip: int
    """Clear blocks that follow them."""
    pssh: bytes
    """The ``pssh`` box of the common system, which names the key's id."""


@dataclass(frozen=True, slots=True)
class CodedSample:
    """An encrypted sample."""

    data: bytes
    ranges: bytes
    """Its entry in ``senc``: clear and encrypted bytes by turns; empty where all is encrypted."""


def read_protection(init: bytes) -> Protection:
    """Read how the only track of an init segment is encrypted.

    Raises:
        ValueError: it is not encrypted by ``cbcs`` with a constant vector.
    """
    sinf = _protection_box(init)
    tenc = mp4.find(init, "schi/tenc", sinf.body, sinf.end)
    scheme = mp4.find(init, "schm", sinf.body, sinf.end)
    if init[scheme.body + 4 : scheme.body + 8] != SCHEME.encode():
        raise ValueError(f"the track is encrypted by {init[scheme.body + 4 : scheme.body + 8]!r}")
    body = init[tenc.body : tenc.end]
    if len(body) != 41 or body[0] != 1 or body[6:8] != b"\x01\x00" or body[24] != _BLOCK:
        raise ValueError("tenc does not have a constant vector of 16 bytes")
    moov = mp4.find(init, "moov")
    pssh = b"".join(
        init[b.start : b.end] for b in mp4.walk(init, moov.body, moov.end) if b.kind == "pssh"
    )
    return Protection(body[8:24], body[25:41], body[5] >> 4, body[5] & 15, pssh)


def _protection_box(init: bytes) -> mp4.Box:
    entry = mp4.sample_entry(init)
    fixed = {"encv": 78, "enca": 28}.get(entry.kind)
    if fixed is None:
        raise ValueError(f"the sample entry {entry.kind!r} is not encrypted")
    return mp4.find(init, "sinf", entry.body + fixed, entry.end)


def protected_init(clear: bytes, encrypted: bytes) -> bytes:
    """Return a clear init segment as that of an encrypted track.

    Args:
        clear: The clear init segment.
        encrypted: The packager's init segment, whose ``sinf`` and ``pssh`` boxes are taken.
    """
    sinf = _protection_box(encrypted)
    whole = bytearray(mp4.with_sample_entry_boxes(clear, encrypted[sinf.start : sinf.end]))
    entry = mp4.sample_entry(bytes(whole))
    kind = mp4.sample_entry(encrypted).kind
    original = mp4.find(encrypted, "frma", sinf.body, sinf.end)
    if encrypted[original.body : original.end] != entry.kind.encode("latin-1"):
        raise ValueError(f"the encrypted track is of another codec than {entry.kind!r}")
    whole[entry.start + 4 : entry.start + 8] = kind.encode("latin-1")
    pssh = read_protection(encrypted).pssh
    moov = mp4.find(bytes(whole), "moov")
    whole[moov.end : moov.end] = pssh
    whole[moov.start : moov.start + 4] = (moov.end - moov.start + len(pssh)).to_bytes(4)
    return bytes(whole)


def coded_samples(init: bytes, fragment: bytes) -> Iterator[CodedSample]:
    """Yield the samples of one encrypted fragment, a ``moof`` and its ``mdat``, in order."""
    (parsed,) = mp4.fragments(init, fragment)
    traf = mp4.find(fragment, "moof/traf")
    senc = next((b for b in mp4.walk(fragment, traf.body, traf.end) if b.kind == "senc"), None)
    entries = [b""] * len(parsed.samples)
    if senc is not None:
        entries = _entries(fragment[senc.body : senc.end])
    for sample, ranges in zip(parsed.samples, entries, strict=True):
        yield CodedSample(fragment[sample.offset : sample.offset + sample.size], ranges)


def _entries(senc: bytes) -> list[bytes]:
    """Return the entry of each sample in the body of a ``senc`` without vectors."""
    flags, count = struct.unpack_from(">II", senc)
    if not flags & _SUBSAMPLES:
        return [b""] * count
    entries, place = [], 8
    for _ in range(count):
        size = 2 + 6 * int.from_bytes(senc[place : place + 2])
        entries.append(senc[place : place + size])
        place += size
    if place != len(senc):
        raise ValueError("senc does not end with its last sample")
    return entries


def protected_fragments(init: bytes, media: bytes, samples: Iterator[CodedSample]) -> bytes:
    """Return the fragments of a clear segment with encrypted samples.

    Args:
        init: The clear init segment.
        media: The clear segment.
        samples: Encrypted samples of the track; as many are taken as the segment has.

    Raises:
        ValueError: a sample is missing or has another size.
    """
    parts = []
    for fragment in mp4.fragments(init, media):
        coded = []
        for sample in fragment.samples:
            one = next(samples, None)
            if one is None or len(one.data) != sample.size:
                raise ValueError(
                    f"a sample of {sample.size} bytes was encrypted to "
                    f"{len(one.data) if one is not None else 'no'} bytes"
                )
            coded.append(one)
        parts.append(_protected(media[fragment.start : fragment.end], coded))
    return b"".join(parts)


def _protected(fragment: bytes, samples: list[CodedSample]) -> bytes:
    moof, mdat = mp4.walk(fragment)
    payload = b"".join(sample.data for sample in samples)
    if len(payload) != mdat.end - mdat.body:
        raise ValueError("the samples of a fragment are not all of its mdat")
    head = fragment[moof.start : moof.end]
    if any(sample.ranges for sample in samples):
        head = _with_ranges(head, [sample.ranges for sample in samples])
    return head + mp4.box("mdat", payload)


def _with_ranges(head: bytes, entries: list[bytes]) -> bytes:
    """Return a ``moof`` with the boxes that say which bytes of each sample are encrypted."""
    saiz = mp4.full_box("saiz", 0, 0, struct.pack(">BI", 0, len(entries)), bytes(map(len, entries)))
    senc = mp4.full_box("senc", 0, _SUBSAMPLES, struct.pack(">I", len(entries)), *entries)
    saio_size = 20
    traf = mp4.find(head, "moof/traf")
    # Its entries follow the headers of senc: counted from the moof, as the samples are.
    offset = traf.end + len(saiz) + saio_size + 16
    saio = mp4.full_box("saio", 0, 0, struct.pack(">II", 1, offset))
    added = saiz + saio + senc
    whole = bytearray(head)
    for run in mp4.walk(head, traf.body, traf.end):
        if run.kind == "trun" and head[run.body + 3] & 1:
            place = run.body + 8
            moved = int.from_bytes(head[place : place + 4], signed=True) + len(added)
            whole[place : place + 4] = moved.to_bytes(4, signed=True)
    whole[traf.end : traf.end] = added
    for grown in (mp4.find(head, "moof"), traf):
        size = grown.end - grown.start + len(added)
        whole[grown.start : grown.start + 4] = size.to_bytes(4)
    return bytes(whole)


def decrypted_samples(init: bytes, media: bytes, key: bytes) -> list[bytes]:
    """Return the samples of an encrypted segment, decrypted.

    Raises:
        ValueError: a box is damaged, or the ranges of a sample are not all of it.
    """
    protection = read_protection(init)
    found = []
    for fragment in mp4.fragments(init, media):
        for sample in coded_samples(init, media[fragment.start : fragment.end]):
            found.append(_decrypted(sample, protection, key))
    return found


def _decrypted(sample: CodedSample, protection: Protection, key: bytes) -> bytes:
    ranges = [(0, len(sample.data))]
    if sample.ranges:
        numbers = struct.iter_unpack(">HI", sample.ranges[2:])
        ranges = [(clear, coded) for clear, coded in numbers]
    parts, place = [], 0
    for clear, coded in ranges:
        parts.append(sample.data[place : place + clear])
        place += clear
        parts.append(_range(sample.data[place : place + coded], protection, key))
        place += coded
    if place != len(sample.data):
        raise ValueError(f"the ranges of a sample are {place} of its {len(sample.data)} bytes")
    return b"".join(parts)


def _range(data: bytes, protection: Protection, key: bytes) -> bytes:
    """Decrypt one range; what does not fill a block, or the pattern leaves out, is clear."""
    step = (protection.crypt + protection.skip) * _BLOCK or len(data) or 1
    width = protection.crypt * _BLOCK or len(data) // _BLOCK * _BLOCK
    spans = [
        (start, start + width) for start in range(0, len(data), step) if start + width <= len(data)
    ]
    cipher = Cipher(algorithms.AES(key), modes.CBC(protection.iv)).decryptor()
    plain = cipher.update(b"".join(data[start:end] for start, end in spans)) + cipher.finalize()
    whole = bytearray(data)
    for number, (start, end) in enumerate(spans):
        whole[start:end] = plain[number * width : (number + 1) * width]
    return bytes(whole)
