"""The decoder of CEA-708, without media."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from encoder.source.captions.cea708 import decode


def packet(block: bytes, service: int = 1, number: int = 0) -> list[tuple[bool, int, int]]:
    """A packet with one block, as pairs of bytes; True marks the first."""
    assert len(block) < 32
    content = bytes((service << 5 | len(block),)) + block
    content += b"\0" * (1 - len(content) % 2)
    whole = bytes((number << 6 | (len(content) + 1) // 2,)) + content
    pairs = list(zip(whole[::2], whole[1::2], strict=True))
    return [(n == 0, *pair) for n, pair in enumerate(pairs)]


def seen(*packets: list[tuple[bool, int, int]]) -> dict[int, list[tuple[float, float, str]]]:
    """Start, end and text of captions by service; a packet per second."""
    sent = [(Fraction(second), *pair) for second, one in enumerate(packets) for pair in one]
    return {
        service: [
            (float(c.start), float(c.end), "\n".join(row.text for row in c.rows)) for c in captions
        ]
        for service, captions in decode(sent).items()
    }


HIDDEN = bytes((0x98, 0x00, 70, 105, 0x71, 31, 0))  # two rows, bottom centre
SHOWN = bytes((0x98, 0x20, 70, 105, 0x71, 31, 0))


def test_a_window_is_written_while_it_is_hidden():
    text = packet(HIDDEN + b"Hello\r" + b"w\xf6rld")
    assert seen(text, packet(b"\x89\x01"), packet(b"\x8a\x01")) == {1: [(1, 2, "Hello\nwörld")]}


def test_lines_roll_up_in_a_window_that_is_full():
    found = seen(packet(SHOWN + b"ONE\rTWO"), packet(b"\rSIX"), packet(b"\x8c\xff"))
    assert found == {1: [(0, 1, "ONE\nTWO"), (1, 2, "TWO\nSIX")]}


def test_services_are_apart_and_extended_ones_have_numbers_of_their_own():
    spanish = b"\x09" + SHOWN + b"Hola\x10\x25"
    assert seen(packet(SHOWN + b"Hi \x7f"), packet(b"\x8f"), packet(spanish[1:], 2)) == {
        1: [(0, 1, "Hi ♪")],
        2: [(2, 2 + 24 * 3600, "Hola…")],
    }


def test_places_are_rows_of_the_screen():
    top = bytes((0x98, 0x20, 3, 105, 0x11, 31, 0))
    sent = [(Fraction(0), *pair) for pair in packet(top + b"UP")]
    (caption,) = decode(sent)[1]
    assert [(row.number, row.column) for row in caption.rows] == [(1, 15)]
    sent = [(Fraction(0), *pair) for pair in packet(SHOWN + b"LOW")]
    (caption,) = decode(sent)[1]
    assert [row.number for row in caption.rows] == [14]


@given(st.lists(st.binary(max_size=31)), st.integers(1, 6))
def test_any_bytes_are_decoded_to_rows_on_the_screen(blocks: list[bytes], service: int):
    sent = [
        (Fraction(second), *pair)
        for second, block in enumerate(blocks)
        for pair in packet(SHOWN[: 7 * (second % 2)] + block[:20], service)
    ]
    for captions in decode(sent).values():
        for caption in captions:
            assert caption.start < caption.end
            assert all(1 <= row.number <= 15 and row.column >= 0 for row in caption.rows)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 255), st.integers(0, 255))))
def test_any_pairs_are_decoded(pairs: list[tuple[bool, int, int]]):
    decode((Fraction(number), *pair) for number, pair in enumerate(pairs))
