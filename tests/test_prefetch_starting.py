"""Starts from anywhere and on limited devices: by brute force, and as the service answers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.service.documents import StartBatch, StartDocument
from cluster.service.http.queries import StartQuery
from cluster.service.http.reading import start_choice
from cluster.service.library.bundle import Bundle, package_entries, write_bundle
from cluster.service.library.cached import Cold
from cluster.service.library.wanted import UNEDITED
from ladder.viewers import AFFORDABLE
from recommender.prefetch.build import INITIAL_DELAY_SECONDS, STALL_FREE_SECONDS, build_prefetch
from recommender.prefetch.document import Prefetch
from recommender.prefetch.starting import Device, start_from
from tests.service_material import write_package, written_package


def built(seed: str = "from", **more: int | bool | Sequence[str]) -> Prefetch:
    return build_prefetch(*written_package(seed, **more))  # type: ignore[arg-type]


def test_from_the_beginning_on_any_device_is_the_stored_start() -> None:
    prefetch = built(shots=9, rungs=3)
    for kbps, seconds in itertools.product((1, 20, 100, 1e6), (2, 4, 8, 16)):
        found = start_from(prefetch, seconds, 1000 * kbps)
        assert found is not None
        rung = prefetch.startup_rung(1000 * kbps)
        (stored,) = (s for s in prefetch.starts if s.rung == rung and s.seconds == seconds)
        assert (found.rung, found.seconds, found.from_seconds) == (rung, seconds, 0)
        assert found.covers_seconds == stored.covers_seconds
        assert list(found.files) == prefetch.start_files(stored)
        assert found.bytes == stored.bytes


def plays(prefetch: Prefetch, rung: int, throughput: float, first: int) -> bool:
    """Simulate playback from a shot on: each segment has to arrive before it is due."""
    one, offset = prefetch.rungs[rung], prefetch.boundaries[first].start_seconds
    sound = prefetch.audio.bitrate if prefetch.audio else 0
    if one.bitrate + sound > AFFORDABLE * throughput:
        return False
    bits = 8 * (one.init.bytes + (prefetch.audio.init.bytes if prefetch.audio else 0))
    for number, shot in enumerate(prefetch.boundaries[first:], start=first):
        due = shot.start_seconds - offset
        if due >= STALL_FREE_SECONDS:
            break
        bits += 8 * one.segments[number].bytes
        if prefetch.audio:
            bits += 8 * prefetch.audio.segments[number].bytes
        if bits / throughput > INITIAL_DELAY_SECONDS + due + 1e-9:
            return False
    return True


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 4), st.booleans(), st.floats(0, 40), st.floats(300, 1e6))
def test_a_viewer_continues_on_the_highest_rung_that_plays(
    shots: int, rungs: int, sound: bool, position: float, throughput: float
) -> None:
    prefetch = built(shots=shots, rungs=rungs, sound=sound, sizes=300)
    starts = [shot.start_seconds for shot in prefetch.boundaries]
    first = max(number for number, start in enumerate(starts) if start <= position)
    found = start_from(prefetch, 4, throughput, position=position)
    assert found is not None
    assert found.from_seconds == starts[first]
    good = [r for r in range(rungs) if plays(prefetch, r, throughput, first)]
    near = [r for r in range(rungs) if plays(prefetch, r, throughput * 1.01, first)]
    rung = prefetch.rungs[good[-1] if good else 0]
    if good == near:
        assert found.rung == rung.name
    uris = [file.uri for file in found.files]
    assert len(set(uris)) == len(uris)
    segments = [f"video/{found.rung}/{number:05d}.m4s" for number in range(first, shots)]
    video = [uri for uri in uris if uri in segments]
    assert video == segments[: len(video)]
    assert uris[:2] == [f"video/{found.rung}/init.mp4", segments[0]]
    if sound:
        audio = [f"audio/{number:05d}.m4s" for number in range(first, first + len(video))]
        assert uris[2:3] == ["audio/init.mp4"]
        assert [uri for uri in uris if uri in audio] == audio
    end = prefetch.boundaries[first + len(video) - 1]
    assert found.covers_seconds == pytest.approx(
        max(end.start_seconds + end.seconds - max(position, 0), 0), abs=1e-5
    )
    assert found.covers_seconds >= 4 - 1e-3 or len(video) == shots - first


def test_a_device_gets_what_it_plays() -> None:
    prefetch = built(shots=5, rungs=3)  # 180, 360 and 540 lines
    heights = {height: start_from(prefetch, 4, 1e9, device=Device(height))
               for height in (100, 180, 359, 360, 4320)}  # fmt: skip
    rungs = {height: found and found.rung for height, found in heights.items()}
    assert rungs == {100: None, 180: "v1-180p", 359: "v1-180p", 360: "v2-360p", 4320: "v3-540p"}
    assert start_from(prefetch, 4, 1e9, device=Device(codecs=("hvc1", "av01"))) is None
    both = start_from(prefetch, 4, 1e9, device=Device(codecs=("hvc1", "avc1")))
    assert both is not None


def test_the_sound_is_in_the_language_that_is_asked_for() -> None:
    prefetch = built(shots=5, languages=("en", "de-AT", "pt-BR"))
    assert [track.language for track in prefetch.more_audio] == ["de-AT", "pt-BR"]

    def folders(language: str | None, position: float = 0.0) -> set[str]:
        device = Device(language=language)
        found = start_from(prefetch, 4, 1e9, position=position, device=device)
        assert found is not None
        return {file.uri.split("/")[0] for file in found.files} - {"video"}

    asked = (None, "en", "de-at", "de", "PT-pt", "fr")
    assert [folders(one) for one in asked] == [
        {name} for name in ("audio", "audio", "audio-2", "audio-2", "audio-3", "audio")
    ]
    assert folders("de", position=6.0) == {"audio-2"}
    commented = prefetch.more_audio[0].model_copy(update={"roles": ["commentary"]})
    prefetch = prefetch.model_copy(update={"more_audio": [commented]})
    assert folders("de") == {"audio"}


def test_documents_of_titles_with_one_sound_track_stay_as_they_were() -> None:
    text = built(shots=2, languages=("en",)).to_json()
    assert "more_audio" not in text
    assert "language" not in text


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("start")
    write_package(folder / "package", "start", shots=6, rungs=3, languages=("en", "de"))
    entries, prefetch = package_entries(folder / "package", "0123abcd")
    path: Path = folder / "bundles" / "one"
    write_bundle(path, entries, [rung.throughput for rung in prefetch.startup])
    return Bundle(path)


def start(bundle: Bundle, query: StartQuery | StartBatch, title: str = "") -> StartDocument | None:
    entry = start_choice(query, title)(bundle, True, UNEDITED)
    return None if entry is None else StartDocument.model_validate_json(bundle.body(entry))


def test_queries_of_the_service(bundle: Bundle) -> None:
    plain = start(bundle, StartQuery.parse(b"kbps=9000"))
    assert plain is not None
    assert plain.from_seconds is None
    assert plain.rung == "v3-540p"
    later = start(bundle, StartQuery.parse(b"kbps=9000&from=6.5&max_height=400&codecs=avc1"))
    assert later is not None
    assert (later.from_seconds, later.rung, later.version_of) == (5.0, "v2-360p", "0123abcd")
    assert later.base == plain.base
    assert later.covers_seconds >= 4
    assert start(bundle, StartQuery.parse(b"kbps=9000&codecs=av01")) is None
    german = start(bundle, StartQuery.parse(b"kbps=9000&language=de-CH"))
    assert german is not None
    assert "audio-2/init.mp4" in [file.uri for file in german.files]
    batch = StartBatch(titles=["a"], kbps=9000, language="de")
    assert start(bundle, batch, "a") == german
    sdr = start(bundle, StartQuery.parse(b"kbps=9000&hdr=false"))  # the title is not HDR
    assert sdr is not None
    assert sdr.files == plain.files
    with pytest.raises(Cold):
        start_choice(StartQuery.parse(b"kbps=1&from=3"))(bundle, False, UNEDITED)
    for wrong in (b"kbps=1&from=-1", b"kbps=1&from=x", b"kbps=1&max_height=1.5",
                  b"kbps=1&codecs=h264!", b"kbps=1&hdr=yes", b"kbps=1&from=nan"):  # fmt: skip
        with pytest.raises(ValueError, match="missing or invalid"):
            StartQuery.parse(wrong)
    with pytest.raises(ValueError, match="no query parameter 'from_'"):
        StartQuery.parse(b"kbps=1&from_=3")


def test_a_batch_has_rates_and_places_of_single_titles(bundle: Bundle) -> None:
    batch = StartBatch(titles=["a", "b", "c"], kbps=9000, kbps_of={"b": 1}, from_of={"c": 9.0})
    found = {title: start(bundle, batch, title) for title in batch.titles}
    rungs = {title: one.rung for title, one in found.items() if one is not None}
    assert rungs == {"a": "v3-540p", "b": "v1-180p", "c": "v3-540p"}
    assert found["c"] is not None
    assert found["c"].from_seconds == 9.0
    plain = StartBatch(titles=["a"], kbps=9000).model_dump_json()
    assert plain == '{"titles":["a"],"kbps":9000.0,"seconds":4.0}'  # as earlier services take it
