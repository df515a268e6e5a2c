"""An encrypted copy of a package, with playlists and documents of its own.

Every segment ends where the shot does, as in the clear package: only sample data changes, and the
boxes that say which bytes are encrypted. Before the copy appears, each of its segments is decrypted
by other code than encrypted it, and compared with the clear one, byte for byte.
"""

from __future__ import annotations

import csv
import hashlib
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

from cluster import events
from cluster.package.package import Package
from cluster.package.publish import publishing
from encoder import mp4
from encoder.errors import BadInput, VerificationFailed
from encoder.package import protected_playlists as playlists
from encoder.package import readback
from encoder.package.layout import buffered_bitrate, peak_bitrate
from encoder.package.packager import encrypting, packager_binary
from encoder.package.progressive import read_sounds
from encoder.package.protection import (
    SCHEME,
    ContentKey,
    Protection,
    decrypted_samples,
    read_protection,
)
from ladder.document import EncryptionFacts, EncryptionKey, Ladder
from recommender.prefetch.build import measure_start, plan_title, startup_table
from recommender.prefetch.document import (
    START_SECONDS,
    AudioTrack,
    File,
    Prefetch,
    PrefetchRung,
)

CLASSES = ("sd", "hd", "uhd", "audio")
"""Classes of tracks that may have keys of their own: rungs of up to 576 lines, of up to 1080, of
more, and sound."""
_MOST_LINES = {"sd": 576, "hd": 1080}
_Listed = TypeVar("_Listed", PrefetchRung, AudioTrack)
_COPIED = ("subtitles", "artwork", "artwork.json")


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys of a package, by class."""

    by_class: Mapping[str, ContentKey] = field(repr=False)

    @classmethod
    def single(cls, key_id: str, key: str) -> Keys:
        """Return one key for all tracks.

        Raises:
            BadInput: the id or the key is not 32 hexadecimal digits.
        """
        return cls(dict.fromkeys(CLASSES, _content_key(key_id, key, "--key-id", "--key")))

    @classmethod
    def from_csv(cls, path: Path) -> Keys:
        """Return the keys of a CSV file with the columns ``class``, ``key_id`` and ``key``.

        Raises:
            BadInput: there is no such file, or it cannot be read.
        """
        try:
            rows = list(csv.DictReader(path.read_text("utf-8-sig").splitlines()))
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"the keys in {path} cannot be read; name a CSV file") from error
        found: dict[str, ContentKey] = {}
        for number, row in enumerate(rows, 2):
            name = (row.get("class") or "").strip()
            if name not in CLASSES or name in found:
                raise BadInput(
                    f"{path}, row {number}: the class is {name!r:.40}; give each of "
                    f"{', '.join(CLASSES)} once at most"
                )
            where = f"{path}, row {number}: the key_id", f"{path}, row {number}: the key"
            one = _content_key(row.get("key_id") or "", row.get("key") or "", *where)
            for earlier, known in found.items():
                if known.key_id == one.key_id and known.key != one.key:
                    raise BadInput(
                        f"{path}, row {number}: {name} has the key_id of {earlier} and another "
                        "key, and players know keys by their ids; give each key its own id"
                    )
            found[name] = one
        if not found:
            raise BadInput(f"{path} has no keys; give the columns class, key_id and key")
        return cls(found)

    def of(self, name: str) -> ContentKey:
        """Return the key of a class.

        Raises:
            BadInput: there is none.
        """
        if name not in self.by_class:
            raise BadInput(f"the package has tracks of the class {name}, for which no key is given")
        return self.by_class[name]


def _content_key(key_id: str, key: str, id_name: str, key_name: str) -> ContentKey:
    for name, text in ((id_name, key_id), (key_name, key)):
        if not re.fullmatch(r"[0-9A-Fa-f]{32}", text.strip().replace("-", "")):
            raise BadInput(f"{name} has to be 32 hexadecimal digits")
    return ContentKey(
        bytes.fromhex(key_id.strip().replace("-", "")), bytes.fromhex(key.strip().replace("-", ""))
    )


@dataclass(frozen=True, slots=True)
class _Track:
    """A track that was encrypted."""

    name: str
    folder: str
    protection: Protection
    files: dict[str, tuple[int, str]]
    """Size and digest of every file by its path in the package."""
    bits: list[int]
    durations: list[Fraction]
    keyframes: list[tuple[int, int, Fraction]]
    """Size, offset and duration of each key frame of the video."""

    def peak(self, target: int) -> float:
        """Return the peak bitrate."""
        return peak_bitrate(self.bits, self.durations, target)

    @property
    def average(self) -> float:
        """Return the average bitrate."""
        return float(sum(self.bits) / sum(self.durations))


@dataclass(frozen=True, slots=True)
class Encrypted:
    """An encrypted copy that was written."""

    ladder: Ladder
    tracks: int
    bytes: int


def export_encrypted(
    package: Package,
    keys: Keys,
    out: Path,
    *,
    key_uri: str | None = None,
    on_event: events.Listener = lambda event: None,
) -> Encrypted:
    """Write an encrypted copy of a package to a folder, which appears when it has proven right.

    Args:
        package: The clear package.
        keys: Keys of its tracks.
        out: Folder for the copy: a new or empty one, or an older package.
        key_uri: URI of the key in HLS; None names the key's id.
        on_event: Receives progress.

    Raises:
        BadInput: the package is encrypted already, a key is missing, or there is no packager.
        OutputUnwritable: the folder cannot be written.
        ToolFailed: the packager failed.
        VerificationFailed: the clear package is damaged, or the copy does not decrypt to it.
    """
    package.check_clear()
    packager_binary()
    clear = package.directory.resolve()
    if out.resolve() == clear or clear in out.resolve().parents:
        raise BadInput(f"{out} is in the clear package, which stays; name a folder elsewhere")
    ladder, directory = package.ladder, package.directory
    sounds = read_sounds(directory)
    chosen = {rung.name: keys.of(_class_of(min(rung.width, rung.height))) for rung in ladder.rungs}
    sound_key = keys.of("audio") if sounds else None
    with publishing(out) as made:
        video, audio = list[_Track](), list[_Track]()
        with events.stage(on_event, "encrypt", len(chosen) + len(sounds), unit="tracks") as stage:
            for rung in ladder.rungs:
                uris = [segment.uri for segment in rung.segments]
                known = [segment.sha256 for segment in rung.segments]
                video.append(
                    _encrypt(directory, made, rung.init_uri, uris, chosen[rung.name], known)
                )
                stage.advance(1)
            for sound in sounds:
                assert sound_key is not None
                init = str(sound.init.relative_to(directory))
                uris = [str(path.relative_to(directory)) for path in sound.segments]
                audio.append(_encrypt(directory, made, init, uris, sound_key))
                stage.advance(1)
        for name in _COPIED:
            if (directory / name).is_dir():
                shutil.copytree(directory / name, made / name)
            elif (directory / name).exists():
                shutil.copy(directory / name, made / name)
        target = _write_playlists(directory, made, video, audio, key_uri)
        new = _new_ladder(ladder, [*video, *audio], {one.name: one for one in video}, target)
        (made / "ladder.json").write_text(new.to_json())
        prefetch = _new_prefetch(package.prefetch, [*video, *audio])
        (made / "prefetch.json").write_text(prefetch.to_json())
    size = sum(size for track in (*video, *audio) for size, _ in track.files.values())
    return Encrypted(new, len(video) + len(audio), size)


def _class_of(lines: int) -> str:
    return next((name for name, most in _MOST_LINES.items() if lines <= most), "uhd")


def _encrypt(
    directory: Path,
    made: Path,
    init_uri: str,
    uris: Sequence[str],
    key: ContentKey,
    known: Sequence[str] | None = None,
) -> _Track:
    """Encrypt one track into the copy, and compare what it decrypts to with the clear one."""
    folder = str(Path(init_uri).parent)
    clear_init = _read(directory / init_uri)
    kind = "audio" if init_uri.startswith("audio/") else "video"
    (made / folder).mkdir(parents=True)
    files: dict[str, tuple[int, str]] = {}
    bits, durations, keyframes = list[int](), list[Fraction](), list[tuple[int, int, Fraction]]()
    timescale = mp4.track_timescale(clear_init)
    priming = mp4.edit_media_time(clear_init)
    paths = [directory / uri for uri in uris]
    with encrypting(kind, clear_init, paths, key, made) as (init, segments):
        (made / init_uri).write_bytes(init)
        files[init_uri] = len(init), hashlib.sha256(init).hexdigest()
        for number, (uri, media) in enumerate(zip(uris, segments, strict=True)):
            clear = _read(directory / uri)
            if known is not None and hashlib.sha256(clear).hexdigest() != known[number]:
                raise VerificationFailed(
                    f"{directory / uri} is not what ladder.json says", file=uri
                )
            (made / uri).write_bytes(media)
            ticks = _compare(clear_init, clear, init, (made / uri).read_bytes(), key, uri)
            files[uri] = len(media), hashlib.sha256(media).hexdigest()
            bits.append(8 * len(media))
            durations.append(Fraction(ticks - (priming if not number else 0), timescale))
            keyframes += _keyframes(init, media, timescale)
    name = Path(folder).name
    return _Track(name, folder, read_protection(init), files, bits, durations, keyframes)


def _compare(
    clear_init: bytes, clear: bytes, init: bytes, media: bytes, key: ContentKey, uri: str
) -> int:
    """Compare an encrypted segment with the clear one, and return its duration in ticks."""
    samples = mp4.sample_table(clear_init, clear)
    wanted = [clear[sample.offset : sample.offset + sample.size] for sample in samples]
    try:
        same = decrypted_samples(init, media, key.key) == wanted
        times = [
            [(one.decode_time, one.composition_time, one.duration, one.is_sync) for one in table]
            for table in (samples, mp4.sample_table(init, media))
        ]
    except ValueError as error:
        raise VerificationFailed(f"{uri}, encrypted, cannot be read: {error}", file=uri) from error
    if not same or times[0] != times[1]:
        raise VerificationFailed(f"{uri}, encrypted, does not decrypt to what it was", file=uri)
    return sum(sample.duration for sample in samples)


def _keyframes(init: bytes, media: bytes, timescale: int) -> list[tuple[int, int, Fraction]]:
    """Return size, offset and duration of the key frame of each fragment."""
    return [
        (
            one.samples[0].offset + one.samples[0].size - one.start,
            one.start,
            Fraction(sum(sample.duration for sample in one.samples), timescale),
        )
        for one in mp4.fragments(init, media)
    ]


def _write_playlists(
    directory: Path,
    made: Path,
    video: Sequence[_Track],
    audio: Sequence[_Track],
    key_uri: str | None,
) -> int:
    """Write all playlists of the copy, and return the target duration."""
    rates: dict[str, tuple[int, int]] = {}
    bandwidths: dict[str, int] = {}
    target = 0
    sound_peak, sound_average = 0.0, 0.0
    for track in (*audio, *video):
        uri = f"{track.folder}/media.m3u8"
        text = _read(directory / uri).decode()
        target = readback.parse_media(text).target_duration
        tag = playlists.key_tag(track.protection, key_uri)
        (made / uri).write_text(playlists.with_key(text, tag))
        buffered = buffered_bitrate(track.bits, track.durations, target)
        bandwidths[track.name] = math.ceil(max(buffered, track.peak(target)))
        if track in audio:
            sound_peak = max(sound_peak, track.peak(target))
            sound_average = max(sound_average, track.average)
            continue
        rates[uri] = (
            math.ceil(track.peak(target) + sound_peak),
            math.ceil(track.average + sound_average),
        )
        uri = f"{track.folder}/iframes.m3u8"
        ranges = [(size, offset) for size, offset, _ in track.keyframes]
        listed = playlists.with_ranges(_read(directory / uri).decode(), ranges)
        (made / uri).write_text(playlists.with_key(listed, tag))
        bits = [8 * size for size, _, _ in track.keyframes]
        lasting = [duration for _, _, duration in track.keyframes]
        rates[uri] = (
            math.ceil(peak_bitrate(bits, lasting, target)),
            math.ceil(sum(bits) / sum(lasting)),
        )
    protections = {track.name: track.protection for track in (*video, *audio)}
    manifest = _read(directory / "manifest.mpd").decode()
    (made / "manifest.mpd").write_text(
        playlists.protected_manifest(manifest, bandwidths, protections)
    )
    master = _read(directory / "master.m3u8").decode()
    (made / "master.m3u8").write_text(playlists.with_rates(master, rates))
    return target


def _new_ladder(
    ladder: Ladder, tracks: Sequence[_Track], video: Mapping[str, _Track], target: int
) -> Ladder:
    by_key: dict[bytes, list[str]] = {}
    for track in tracks:
        by_key.setdefault(track.protection.key_id, []).append(track.name)
    rungs = []
    for rung in ladder.rungs:
        track = video[rung.name]
        segments = [
            segment.model_copy(
                update=dict(zip(("bytes", "sha256"), track.files[segment.uri], strict=True))
            )
            for segment in rung.segments
        ]
        changed = {
            "segments": segments,
            "bitrate": round(track.average),
            "peak_bitrate": round(track.peak(target)),
        }
        rungs.append(rung.model_copy(update=changed))
    encryption = EncryptionFacts(
        scheme=SCHEME,
        keys=[EncryptionKey(key_id=key_id.hex(), tracks=names) for key_id, names in by_key.items()],
    )
    return ladder.model_copy(update={"rungs": rungs, "encryption": encryption})


def _new_prefetch(prefetch: Prefetch, tracks: Sequence[_Track]) -> Prefetch:
    """Return the document with the sizes and digests of the copy, and what follows from them."""
    files = {uri: facts for track in tracks for uri, facts in track.files.items()}
    rungs = [_renewed_track(rung, files) for rung in prefetch.rungs]
    audio = prefetch.audio and _renewed_track(prefetch.audio, files)
    more = [_renewed_track(each, files) for each in prefetch.more_audio]
    boundaries = prefetch.boundaries
    return prefetch.model_copy(
        update={
            "rungs": rungs,
            "audio": audio,
            "more_audio": more,
            "startup": startup_table(boundaries, audio, rungs),
            "starts": [
                measure_start(seconds, boundaries, audio, rung)
                for rung in rungs
                for seconds in START_SECONDS
            ],
            "cache_plan": plan_title(boundaries, audio, rungs),
        }
    )


def _renewed_track(track: _Listed, files: Mapping[str, tuple[int, str]]) -> _Listed:
    def renewed(file: File) -> File:
        size, digest = files[file.uri]
        return file.model_copy(update={"bytes": size, "sha256": digest})

    segments = [renewed(one) for one in track.segments]
    grown = Fraction(sum(one.bytes for one in segments), sum(one.bytes for one in track.segments))
    return track.model_copy(
        update={
            "init": renewed(track.init),
            "segments": segments,
            "bitrate": round(track.bitrate * grown),
        }
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise VerificationFailed(
            f"{path} is missing or cannot be read ({error.strerror})", file=str(path)
        ) from error
