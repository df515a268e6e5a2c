"""How the sound of a package is encoded: codec, bitrates, languages and loudness. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from encoder.errors import BadInput

LOUDEST_LUFS, QUIETEST_LUFS = -5.0, -40.0
"""Loudness that a user may ask for."""
_TAG = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{1,8})*")
AC3_RATES = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
"""Rates that AC-3 has, kbit/s (ETSI TS 102 366, table 4.18)."""


@dataclass(frozen=True, slots=True)
class SoundCodec:
    """A codec of sound and how it is used."""

    encoder: str
    """ffmpeg's encoder."""
    codecs: str
    """How its value of RFC 6381 begins."""
    stereo_rate: int
    """Bitrate of stereo unless another is asked for, bit/s."""
    surround_rate: int
    """Bitrate of 5.1 unless another is asked for, bit/s."""
    channel_rates: tuple[int, int]
    """Lowest and highest bitrate of a channel, bit/s."""
    surround_options: tuple[str, ...] = ()
    """Options of the encoder for 5.1."""


SOUND_CODECS: Mapping[str, SoundCodec] = MappingProxyType(
    {
        # A frame of AAC has at most 6144 bits for each channel.
        "aac": SoundCodec("aac", "mp4a.40.", 128_000, 320_000, (8_000, 288_000)),
        # With Vorbis' order of channels, players know the positions (RFC 7845, 5.1.1.2).
        "opus": SoundCodec(
            "libopus", "opus", 96_000, 256_000, (6_000, 256_000), ("-mapping_family", "1")
        ),
        "ac3": SoundCodec("ac3", "ac-3", 192_000, 448_000, (16_000, 320_000)),
        "eac3": SoundCodec("eac3", "ec-3", 192_000, 384_000, (16_000, 512_000)),
    }
)
"""Codecs of sound by the names that users give them."""


@dataclass(frozen=True, slots=True)
class SoundChoices:
    """What a user decides about the sound of a package."""

    codec: str = "aac"
    """Key of :data:`SOUND_CODECS`."""
    rates: tuple[float, ...] = ()
    """Bitrates in bit/s of stereo and, second, of 5.1; what is missing is the codec's own."""
    languages: tuple[str, ...] = ()
    """Tags of the languages that are kept, the one that plays by default first; empty for all."""
    loudness: float | None = None
    """Integrated loudness in LUFS that each sound is brought to; None leaves it as it is."""

    @property
    def is_default(self) -> bool:
        """True where nothing was decided."""
        return self == DEFAULT_SOUND

    def bit_rate(self, *, surround: bool) -> int:
        """Return the bitrate of stereo or 5.1 in bit/s."""
        own = SOUND_CODECS[self.codec]
        rates = (own.stereo_rate, own.surround_rate)
        asked = tuple(round(rate) for rate in self.rates)
        return (*asked, *rates[len(asked) :])[surround]

    def check(self) -> None:
        """Check what can be checked without a source.

        Raises:
            BadInput: a value is none that any sound can have.
        """
        if self.codec not in SOUND_CODECS:
            raise BadInput(
                f"no sound codec {self.codec!r:.40}; choose one of {', '.join(SOUND_CODECS)}"
            )
        if len(self.rates) > 2:
            raise BadInput(
                "audio_rates are at most two bitrates, those of stereo and of 5.1; got "
                f"{len(self.rates)}"
            )
        low, high = SOUND_CODECS[self.codec].channel_rates
        for rate, name, channels in zip(self.rates, ("stereo", "5.1"), (2, 6), strict=False):
            least, most = low * channels, high * channels
            if self.codec == "ac3":
                most = AC3_RATES[-1] * 1000
            if not least <= rate <= most:
                raise BadInput(
                    f"audio_rates: {rate / 1000:g} kbit/s is no bitrate of {name} {self.codec}; "
                    f"give {least / 1000:g} to {most / 1000:g} kbit/s"
                )
            if self.codec == "ac3" and rate / 1000 not in AC3_RATES:
                nearest = min(AC3_RATES, key=lambda each: abs(each - rate / 1000))
                raise BadInput(
                    f"audio_rates: AC-3 has no bitrate of {rate / 1000:g} kbit/s; the nearest is "
                    f"{nearest}k"
                )
        for tag in self.languages:
            if not _TAG.fullmatch(tag):
                raise BadInput(
                    f"audio_languages: {tag!r:.40} is no tag of a language; give tags such as en, "
                    "pt-BR, or und for sound that states none"
                )
        if self.loudness is not None and not QUIETEST_LUFS <= self.loudness <= LOUDEST_LUFS:
            raise BadInput(
                f"a loudness of {self.loudness:g} LUFS is out of range; give {QUIETEST_LUFS:g} to "
                f"{LOUDEST_LUFS:g}, such as -23 (EBU R128), or 0 to leave sound as it is"
            )


DEFAULT_SOUND = SoundChoices()
"""Sound as a user has it who decided nothing."""
