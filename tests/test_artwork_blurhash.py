"""BlurHash: read back by a decoder of its description, and by what it says of plain colours."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from recommender.artwork.blurhash import blurhash
from tests.artwork_material import natural

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#$%*+,-.:;=?@[]^_{|}~"


def number(text: str) -> int:
    value = 0
    for digit in text:
        value = 83 * value + DIGITS.index(digit)
    return value


def decoded(code: str, width: int, height: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """As the description says: BGR pixels."""
    down, across = (part + 1 for part in divmod(number(code[0]), 9))
    assert len(code) == 4 + 2 * across * down
    largest = (number(code[1]) + 1) / 166
    average = number(code[2:6])
    channels = np.array([average >> 16, average >> 8 & 255, average & 255]) / 255
    colours = [np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)]
    for at in range(6, len(code), 2):
        value = number(code[at : at + 2])
        levels = (np.array([value // 361, value // 19 % 19, value % 19]) - 9) / 9
        colours.append(np.sign(levels) * levels**2 * largest)
    linear = np.zeros((height, width, 3))
    for place, colour in enumerate(colours):
        j, i = divmod(place, across)
        row = np.cos(np.pi * j * np.arange(height) / height)
        column = np.cos(np.pi * i * np.arange(width) / width)
        linear += row[:, None, None] * column[None, :, None] * colour
    linear = np.clip(linear, 0, 1)
    share = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(255 * share[..., ::-1]).astype(np.uint8)


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (40, 128, 220)])
def test_a_plain_colour_comes_back(colour: tuple[int, int, int]) -> None:
    picture = np.full((90, 160, 3), colour, np.uint8)
    assert np.abs(decoded(blurhash(picture), 8, 8).astype(int) - colour).max() <= 4


def test_a_picture_comes_back_blurred() -> None:
    picture = natural(4, (160, 90))
    shown = decoded(blurhash(picture), 32, 18).astype(np.float32)
    plain = cv2.resize(picture, (32, 18), interpolation=cv2.INTER_AREA).astype(np.float32)
    soft = cv2.GaussianBlur(plain, (0, 0), 4)
    assert np.abs(shown - soft).mean() < 0.5 * np.abs(soft - soft.mean(axis=(0, 1))).mean() + 6


def test_the_longer_side_has_more_components() -> None:
    picture = natural(2, (160, 90))
    wide, tall = blurhash(picture), blurhash(np.ascontiguousarray(picture.transpose(1, 0, 2)))
    assert (number(wide[0]), number(tall[0])) == (3 + 9 * 2, 2 + 9 * 3)
    assert wide == blurhash(picture)
