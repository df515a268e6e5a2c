"""What ``encode`` prints when the file is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cluster.jobs.encode import EncodedTitle, EncodeRequest


def encode_fields(done: EncodedTitle, asked: EncodeRequest) -> dict[str, Any]:
    """Return the file as JSON."""
    single = done.single_crf
    return {
        "file": str(done.out),
        "bytes": done.file.file.bytes,
        "frames": done.file.file.frames,
        "shots": done.shots,
        "recipe": done.recipe,
        "quality_model": done.quality_model,
        "asked": {"quality": asked.quality, "pooling": asked.pooling},
        "reached": done.reached,
        "quality": done.quality.model_dump(),
        "video_bitrate": round(done.rate),
        "crf": list(done.crfs),
        "sound": {
            "tracks": done.file.file.sounds,
            "copied": done.file.copied,
            "why_encoded": done.file.why_not or None,
        },
        "subtitles": done.file.file.texts,
        "lost": list(done.file.lost),
        "notes": list(done.notes),
        "single_crf": None
        if single is None
        else {
            "crf": round(single.crf, 2),
            "bitrate": round(single.bits / float(done.seconds)),
            "more_bits_percent": round(100 * (single.bits / done.video_bits - 1), 2),
            "tried": single.tried,
        },
    }


def encode_view(done: EncodedTitle, asked: EncodeRequest) -> str:
    """Return the file in a few lines for people."""
    quality = done.quality
    lines = [
        f"{done.out}: {done.file.file.bytes / 1e6:.1f} MB, video {done.rate / 1e3:.0f} kbit/s",
        f"VMAF mean {quality.mean:.2f}, harmonic mean {quality.harmonic_mean:.2f}, 5th percentile "
        f"{quality.p5:.2f} ({done.quality_model}), {_crfs(done)}",
    ]
    if not done.reached:
        lines.append(f"a {asked.pooling} of {asked.quality:g} was not reached: {_limits(done)}")
    if done.file.file.sounds:
        tracks = f"{done.file.file.sounds} track{'s' * (done.file.file.sounds != 1)}"
        why = f": {done.file.why_not}" if done.file.why_not else ""
        lines.append(f"sound: {tracks}, " + ("copied" if done.file.copied else f"as AAC{why}"))
    lines += done.file.lost
    if asked.compare:
        lines.append(_comparison(done))
    return "\n".join(lines)


def _crfs(done: EncodedTitle) -> str:
    low, high = done.crfs
    if done.shots == 1:
        return f"CRF {low:g}"
    return f"CRF {low:g} to {high:g} over {done.shots} shots"


def _limits(done: EncodedTitle) -> str:
    return "; ".join(done.notes) or "the encoder's best is below it"


def _comparison(done: EncodedTitle) -> str:
    if done.single_crf is None:
        return "no single CRF has this quality, so there is nothing to compare with"
    more = 100 * (done.single_crf.bits / done.video_bits - 1)
    kbits = done.single_crf.bits / float(done.seconds) / 1e3
    return (
        f"one CRF for the whole file ({done.single_crf.crf:.1f}) takes {kbits:.0f} kbit/s for the "
        f"same quality: {abs(more):.1f} % {'more' if more >= 0 else 'less'} "
        f"({done.single_crf.tried} such encodes were measured)"
    )
