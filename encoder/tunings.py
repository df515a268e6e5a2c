"""Tunings: encoder parameters beyond a preset, and which of them a recipe may set.

Tunings come from clients, inside profiles. So they may only set what :data:`TUNABLE` lists, which
changes nothing but how the pictures of a shot are encoded. Everything else an encoder may have is
refused: parameters that name files above all, since those would let a client read and write files
of the machine that encodes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from encoder.errors import BadInput


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


TUNABLE: Mapping[str, frozenset[str]] = {
    "x264": _words(
        "8x8dct aq-mode aq-strength b-adapt b-bias bframes deblock direct ipratio mbtree me "
        "merange mixed-refs partitions pbratio psy psy-rd qcomp rc-lookahead ref subme trellis "
        "tune weightb weightp"
    ),
    "x265": _words(
        "aq-mode aq-motion aq-strength b-adapt bframes ctu cutree deblock early-skip limit-modes "
        "limit-refs limit-tu max-merge me merange psy-rd psy-rdoq qcomp qg-size rc-lookahead rd "
        "rdoq-level rect ref rskip sao selective-sao strong-intra-smoothing subme tu-inter-depth "
        "tu-intra-depth tune weightb weightp"
    ),
    "svtav1": _words(
        "ac-bias enable-cdef enable-dlf enable-qm enable-restoration enable-tf lookahead "
        "luminance-qp-bias qm-max qm-min qp-scale-compress-strength sharpness "
        "tf-strength tune enable-variance-boost variance-boost-curve variance-boost-strength "
        "variance-octile"
    ),
    "vp9": frozenset(),
}
"""Encoder parameters that a tuning may set, by codec."""

TUNES: Mapping[str, tuple[str, ...]] = {
    "x264": ("film", "animation", "grain", "stillimage", "psnr", "ssim", "fastdecode"),
    "x265": ("psnr", "ssim", "grain", "animation", "fastdecode"),
    "svtav1": ("vq", "psnr", "ssim"),
    "vp9": (),
}
"""Names of the tunes of each codec, which set several parameters at once. SVT-AV1 numbers its tunes
in this order, and has further ones in some builds."""

FILE_PARAMETERS = _words(
    "abr-ladder analysis-load analysis-reuse-file analysis-save aom-film-grain config cqmfile csv "
    "dhdr10-info dolby-vision-rpu dump-yuv errlog fgs-table film-grain fovea-gaze-file input "
    "lambda-file log-file multiview-config nalu-file opencl-clbin output psyfile qpfile recon "
    "roi-map-file scaling-list scc-config scenecut-qp-config stat-file stats tcfile-in tcfile-out "
    "zonefile"
)
"""Parameters of encoders, of this or another build, whose value is the name of a file."""

_REASONS: Mapping[str, frozenset[str]] = {
    "the bit depth follows from the codec: x264 and vp9 encode 8 bits here, because most devices "
    "and all browsers decode H.264 in 8 bits only, and x265 and svtav1 encode 10; use --codec x265 "
    "or svtav1 for 10 bits": _words(
        "bit-depth bitdepth high-tier input-depth output-depth output-csp pix-fmt profile"
    ),
    "the presets have an option of their own, --preset": _words("preset speed cpu-used deadline"),
    "it names a file that the encoder reads or writes": FILE_PARAMETERS,
    "the rate is what the search decides": _words(
        "bitrate const-vbv crf crf-max crf-min lossless nal-hrd pass qp qpfile qpmax qpmin qpstep "
        "rc strict-cbr tbr vbv-bufsize vbv-init vbv-maxrate zones"
    ),
    "keyframes lie where shots begin": _words(
        "force-flush forced-idr intra-refresh keyint min-keyint open-gop radl scd scenecut "
        "stitchable"
    ),
    "an encode has one thread, so that it is the same on every machine": _words(
        "asm frame-threads lookahead-threads lp numa-pools opencl opencl-device pin pme pmode "
        "pools slices sliced-threads threads wpp"
    ),
}
"""Why parameters that clients may ask for are not among those that a tuning may set."""
_OTHERWISE = "it is not known to change only how the pictures of a shot are encoded"

_NUMBER = r"-?[0-9]+(?:\.[0-9]+)?"
_PARAMETER = re.compile(rf"([a-z0-9][a-z0-9-]*)=({_NUMBER}(?:,{_NUMBER})*|[a-z]+)")
# The other parameters are numbers, and x264 takes a word for the number 0.
_WORDS = {"direct", "me", "partitions", "tune"}


def check_parameters(codec: str, tuning: str) -> None:
    """Check that a tuning sets what tunings may set, by values that name no file.

    Raises:
        BadInput: it does not.
    """
    seen: set[str] = set()
    for part in tuning.split(":") if tuning else ():
        name, equals, _ = part.partition("=")
        if equals and name not in TUNABLE[codec] and _PARAMETER.fullmatch(f"{name}=1"):
            known = ", ".join(sorted(TUNABLE[codec])) or "none"
            raise BadInput(
                f"a tuning of {codec} cannot set {name!r:.60}, since {_reason(name)}; the "
                f"parameters that it can set are: {known}"
            )
        found = _PARAMETER.fullmatch(part)
        if found is None:
            raise BadInput(
                f"the tuning {tuning!r:.120} of {codec} has {part!r:.60}; write parameters as "
                "name=value, separated by colons, as in psy-rd=0.4,0:ref=3"
            )
        if name == "tune":
            _check_tune(codec, found[2])
        if found[2].isalpha() and (name not in _WORDS or codec == "svtav1"):
            raise BadInput(f"the tuning {tuning!r:.120} of {codec} has {part!r:.60}; use a number")
        if name in seen:
            raise BadInput(f"the tuning {tuning!r:.120} of {codec} sets {name} twice")
        seen.add(name)


def _check_tune(codec: str, tune: str) -> None:
    """Check that a codec has a tune; SVT-AV1 has them by number.

    Raises:
        BadInput: it does not, or the tune needs several threads.
    """
    numbered = codec == "svtav1"
    if tune.isdecimal() if numbered else tune in TUNES[codec]:
        return  # whether a build of SVT-AV1 has the number, it says itself
    if tune == "zerolatency" and not numbered:
        raise BadInput(
            f"the tune zerolatency of {codec} cuts pictures into slices by threads, and an encode "
            "has one thread, so that it is the same on every machine; leave it out"
        )
    raise BadInput(
        f"{codec} has no tune {tune!r:.40}; its tunes are "
        f"{', '.join(TUNES[codec]) or 'none'}" + (", or their numbers from 0" if numbered else "")
    )


def with_parameters(codec: str, tuning: str, parameters: str) -> str:
    """Return a tuning with other ``parameters`` over its own, in the same notation.

    The names of SVT-AV1's tunes may stand for their numbers.

    Raises:
        BadInput: the parameters are none that a tuning may set.
    """
    parts = [part.strip() for part in parameters.split(":")]
    if codec == "svtav1":
        numbers = {f"tune={name}": f"tune={number}" for number, name in enumerate(TUNES[codec])}
        parts = [numbers.get(part, part) for part in parts]
    check_parameters(codec, ":".join(parts))
    values = dict(part.split("=", 1) for part in [*tuning.split(":"), *parts] if part)
    return ":".join(f"{name}={value}" for name, value in values.items())


def by_codec(texts: Sequence[str], codecs: Sequence[str]) -> dict[str, str]:
    """Return the encoder parameters of each codec from texts such as ``ref=4:bframes=5``, or
    ``x265:rd=4`` where there are several codecs.

    Raises:
        BadInput: a codec is not named and there are several, is not among ``codecs``, or is named
            twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        codec, colon, parameters = text.strip().partition(":")
        if "=" in codec or not colon:
            if len(codecs) != 1:
                raise BadInput(
                    f"the encoder parameters {text!r:.80} name no codec, and the ladder has "
                    f"{', '.join(codecs)}; write, for example, {codecs[0]}:{text:.60}"
                )
            codec, parameters = codecs[0], text.strip()
        if codec not in codecs:
            raise BadInput(
                f"the encoder parameters {text!r:.80} are for {codec!r}, and the ladder has "
                f"{', '.join(codecs)}"
            )
        if codec in found:
            raise BadInput(f"the encoder parameters of {codec} are given twice; join them by ':'")
        found[codec] = parameters
    return found


def _reason(name: str) -> str:
    return next((why for why, names in _REASONS.items() if name in names), _OTHERWISE)
