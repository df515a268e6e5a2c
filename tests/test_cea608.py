"""The decoder of CEA-608, without media: what viewers see of the bytes, and when."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder.source.captions.caption_data import (
    FIELD_1,
    FIELD_2,
    Triplet,
    ancillary,
    caption_distribution_packet,
    in_picture,
)
from encoder.source.captions.cea608 import decode
from fixtures.kinds.captions import (
    END_OF_CAPTION,
    ERASE,
    RETURN,
    Pair,
    command,
    parity,
    pop_on,
    preamble,
    triplets,
    user_data,
    words,
)

PAINT, TEXT_MODE, BACKSPACE, DELETE_TO_END, ROLL_2 = 0x29, 0x2A, 0x21, 0x24, 0x25


def seen(
    *pairs: Pair, field: int = 0, step: Fraction = Fraction(1)
) -> dict[str, list[tuple[int, int, str]]]:
    """Start, end (seconds) and text of every caption, by channel; a pair every ``step`` seconds."""
    sent = [
        (number * step, field, parity(one), parity(two)) for number, (one, two) in enumerate(pairs)
    ]
    return {
        name: [(int(c.start), int(c.end), "\n".join(row.text for row in c.rows)) for c in captions]
        for name, captions in decode(sent).items()
    }


def texts(*pairs: Pair, field: int = 0) -> dict[str, list[str]]:
    found = seen(*pairs, field=field, step=Fraction(1, 30))
    return {name: [text for _, _, text in captions] for name, captions in found.items()}


def test_a_caption_is_shown_from_its_end_code_to_the_next_or_to_the_erasure():
    first, second = pop_on("ONE", 15), pop_on("TWO", 15)
    begin = len(first) - 2
    again = len(first) + len(second) - 2
    assert seen(*first, *second, *command(ERASE)) == {
        "CC1": [(begin, again, "ONE"), (again, again + 2, "TWO")]
    }


@pytest.mark.parametrize("channel", range(4))
def test_every_channel_has_captions_of_its_own(channel: int):
    said = texts(*pop_on("WORDS", 15, 0, channel), field=channel >> 1)
    assert said == {f"CC{channel + 1}": ["WORDS"]}


def test_a_line_that_rolls_up_stays_above_the_next():
    pairs = [*command(ROLL_2), *command(RETURN), *preamble(15), *words("ONE"), *command(RETURN)]
    pairs += [*words("TWO"), *command(RETURN), *words("SIX")]
    assert texts(*pairs)["CC1"] == ["ONE", "ONE\nTWO", "TWO\nSIX"]


def test_painted_captions_grow_where_they_are_shown():
    pairs = [*command(PAINT), *preamble(1), *words("AB"), *words("CD"), (0, 0), *command(ERASE)]
    # Pairs a second apart are pauses: what was there stays for that long.
    assert seen(*pairs)["CC1"] == [(4, 5, "AB"), (5, 7, "ABCD")]


def test_characters_of_all_sets():
    special = [(0x11, 0x37)] * 2  # a note, sent twice as all of these are
    extended = [*words("E"), *[(0x12, 0x21)] * 2, *words("O"), *[(0x13, 0x32)] * 2]
    pairs = [
        *command(0x20), *preamble(15), *special, *words("á¿".replace("¿", "a")), *extended,
        *command(END_OF_CAPTION),
    ]  # fmt: skip
    assert texts(*pairs)["CC1"] == ["♪áaÉÖ"]


def test_style_and_place():
    style = [(0x11, 0x2E)] * 2  # italics
    pairs = [*command(0x20), *preamble(2, 8), *words("AB"), *style, *words("CD")]
    sent = [(Fraction(n), 0, one, two) for n, (one, two) in enumerate([*pairs, (0x14, 0x2F)])]
    (caption,) = decode(sent)["CC1"]
    (row,) = caption.rows
    assert (row.number, row.column) == (2, 8)
    assert [(text, look.italic) for text, look in row.runs] == [("AB ", False), ("CD", True)]


def test_backspace_and_deletion():
    pairs = [*command(0x20), *preamble(15), *words("ABCD"), *command(BACKSPACE), *words("XY")]
    assert texts(*pairs, *command(END_OF_CAPTION))["CC1"] == ["ABCXY"]
    pairs = [*command(PAINT), *preamble(15), *words("ABCD"), *preamble(15), *command(DELETE_TO_END)]
    assert texts(*pairs)["CC1"][0].startswith("AB")
    assert len(seen(*pairs)["CC1"]) == 2  # AB, ABCD, then nothing


def test_text_services_and_programme_data_are_no_captions():
    assert texts(*command(TEXT_MODE), *words("WEB ADDRESS")) == {}
    data = [(0x01, 0x03), *words("PROGRAMME"), (0x0F, 0x1D)]
    assert texts(*data, field=1) == {}
    pairs = [*command(0x20, 2), *preamble(15, 0, 2), *data, *command(0x20, 2), *words("HI")]
    assert texts(*pairs, *command(END_OF_CAPTION, 2), field=1) == {"CC3": ["HI"]}


def test_damaged_bytes_are_left_out_where_there_is_parity():
    pairs = [(parity(a), parity(b)) for a, b in pop_on("ABCDEF", 15)]
    sent = [[Fraction(number), 0, *pair] for number, pair in enumerate(pairs)]
    damaged = next(each for each in sent if each[2] & 0x7F == ord("C"))
    damaged[2] ^= 0x80
    (caption,) = decode(tuple(each) for each in sent)["CC1"]
    assert caption.rows[0].text == "ABDEF"
    plain = [(Fraction(number), 0, a, b) for number, (a, b) in enumerate(pop_on("ABC", 15))]
    assert decode(plain)["CC1"][0].rows[0].text == "ABC"


def test_a_caption_that_nothing_follows_is_erased_after_16_seconds():
    ((start, end, _),) = seen(*pop_on("LAST", 15))["CC1"]
    assert end - start == 16


def test_scte_20_sends_bits_the_other_way_round():
    bits = "00001" + "00" + "01" + "00000" + f"{0x94:08b}"[::-1] + f"{0x2F:08b}"[::-1] + "1"
    content = int(bits.ljust(40, "0"), 2).to_bytes(5, "big")
    packet = b"\0\0\1\0\0\x0f\xff\xf8\0\0\1\xb2\x03\x81" + content + b"\0\0\1\1"
    assert list(in_picture("mpeg2video", packet)) == [Triplet(FIELD_1, 0x94, 0x2F)]


def test_a_distribution_packet_in_ancillary_data():
    cdp = b"\x96\x69\x10\x4f\x43\0\0\x72\xe1\xfc\x94\x2c\x74\0\0\0"
    assert list(caption_distribution_packet(cdp)) == [Triplet(FIELD_1, 0x94, 0x2C)]
    payload = b"\x61\x01" + bytes((len(cdp),)) + cdp + b"\0"
    head = b"\0\x09\x01\x04\0\x13" + len(payload).to_bytes(4) + (1).to_bytes(4)
    assert list(ancillary(b"\0\1" + head + payload)) == [Triplet(FIELD_1, 0x94, 0x2C)]
    raw = b"\x61\x02\x03\x0c\x94\x2c\0"
    head = b"\0\x09\x01\x04\0\x13" + len(raw).to_bytes(4) + (1).to_bytes(4)
    assert list(ancillary(b"\0\1" + head + raw)) == [Triplet(FIELD_2, 0x94, 0x2C)]


def test_bytes_that_prevent_start_codes_are_no_captions():
    content = triplets([(0, 0)], 0).replace(b"\x80\x80", b"\0\0") + triplets([(0x14, 0x2C)], 0)
    message = user_data(content).replace(b"\0\0\xfc", b"\0\0\3\xfc")
    packet = b"\0\0\1\6\4\x30\xb5\0\x31" + message + b"\x80"
    assert [t.second for t in in_picture("h264", packet)][-1] & 0x7F == 0x2C


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 255), st.integers(0, 255))))
def test_any_bytes_are_decoded_to_rows_on_the_screen_in_order_of_time(found):
    sent = [(Fraction(number, 30), *each) for number, each in enumerate(found)]
    for captions in decode(sent).values():
        assert list(captions) == sorted(captions, key=lambda caption: caption.start)
        for caption in captions:
            assert caption.start < caption.end
            for row in caption.rows:
                assert 1 <= row.number <= 15
                assert row.column >= 0
                assert row.column + len(row.text) <= 32


@given(st.sampled_from(["h264", "hevc", "mpeg2video", "av1"]), st.binary())
def test_any_packet_is_searched(codec: str, content: bytes):
    for start in (
        b"GA94\x03",
        b"\0\0\1\xb2CC\x01\xf8",
        b"\0\0\1\xb2\x03\x81",
        b"\0\0\1\xb2GA94\x03",
    ):
        for found in in_picture(codec, start + content):
            assert 0 <= found.kind <= 3
    list(ancillary(content))
    list(caption_distribution_packet(b"\x96\x69" + content))
