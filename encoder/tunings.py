"""Tunings: encoder parameters beyond a preset, and which of them a recipe may set.

Tunings come from clients, inside profiles. So they may only set what :data:`TUNABLE` lists, which
changes nothing but how the pictures of a shot are encoded. Everything else an encoder may have is
refused: parameters that name files above all, since those would let a client read and write files
of the machine that encodes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from encoder.errors import BadInput


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


TUNABLE: Mapping[str, frozenset[str]] = {
    "x264": _words(
        "8x8dct aq-mode aq-strength b-adapt b-bias bframes deblock direct ipratio mbtree me "
        "merange mixed-refs partitions pbratio psy psy-rd qcomp rc-lookahead ref subme trellis "
        "weightb weightp"
    ),
    "x265": _words(
        "aq-mode aq-motion aq-strength b-adapt bframes ctu cutree deblock early-skip limit-modes "
        "limit-refs limit-tu max-merge me merange psy-rd psy-rdoq qcomp qg-size rc-lookahead rd "
        "rdoq-level rect ref rskip sao selective-sao strong-intra-smoothing subme tu-inter-depth "
        "tu-intra-depth weightb weightp"
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

FILE_PARAMETERS = _words(
    "abr-ladder analysis-load analysis-reuse-file analysis-save aom-film-grain config cqmfile csv "
    "dhdr10-info dolby-vision-rpu dump-yuv errlog fgs-table film-grain fovea-gaze-file input "
    "lambda-file log-file multiview-config nalu-file opencl-clbin output psyfile qpfile recon "
    "roi-map-file scaling-list scc-config scenecut-qp-config stat-file stats tcfile-in tcfile-out "
    "zonefile"
)
"""Parameters of encoders, of this or another build, whose value is the name of a file."""

_REASONS: Mapping[str, frozenset[str]] = {
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
_WORDS = {"direct", "me", "partitions"}


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
        if found[2].isalpha() and name not in _WORDS:
            raise BadInput(f"the tuning {tuning!r:.120} of {codec} has {part!r:.60}; use a number")
        if name in seen:
            raise BadInput(f"the tuning {tuning!r:.120} of {codec} sets {name} twice")
        seen.add(name)


def _reason(name: str) -> str:
    return next((why for why, names in _REASONS.items() if name in names), _OTHERWISE)
