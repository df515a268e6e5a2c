"""Material for tests of the service: synthetic packages, a stub in place of the run, and the
service in a process of its own that can be killed.

``python -m tests.service_material DATA SOURCES [SLOTS [GRACE_SECONDS]]`` serves with the stub.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster import events
from cluster.service.documents import ASPECTS
from cluster.service.queue.work import Work, perform
from encoder.errors import ToolFailed
from encoder.package.layout import KeyFrame, WrittenPackage, WrittenSegment, WrittenTrack
from encoder.source.stamp import source_changed
from ladder.document import Ladder, Quality, Rung, SearchFacts, Segment, TitleFacts
from recommender.prefetch.build import build_prefetch

if TYPE_CHECKING:
    from cluster.service.client import Client
    from recommender.artwork.document import Artwork

# Imports that take long stand where they are used: job processes load this module too.
MODEL = "vmaf_v1.0.16_3d0h"
COMMAND = ("-c", "import sys; from cluster.cli import main; sys.exit(main())")
ROOT = Path(__file__).parent.parent
STOP_SECONDS = 120
"""Time for a service to end on a busy machine, which frees its memory in it."""
SECRET = b"0123456789abcdef-secret"


def written_package(
    seed: str,
    *,
    shots: int = 3,
    rungs: int = 2,
    sound: bool = True,
    sizes: int = 64,
    languages: Sequence[str] = (),
    folder: Path | None = None,
) -> tuple[Ladder, WrittenPackage]:
    """A ladder and its package, as the main job would have written it; its media are noise of
    about ``sizes`` bytes, in ``folder`` where one is given. It has sound in each of ``languages``.

    Shots last 2, 3, 4, 2, 3, 4... s at 24 fps. Everything follows from ``seed``.
    """
    rate = Fraction(24)
    ends = [0]
    for number in range(shots):
        ends.append(ends[-1] + 24 * (2 + number % 3))

    def put(uri: str, size: int) -> tuple[int, str]:
        digest = hashlib.sha256(f"{seed} {uri}".encode()).digest()
        if folder is None:
            return size, digest.hex()
        content = (digest * (size // 32 + 1))[:size]
        (folder / uri).parent.mkdir(parents=True, exist_ok=True)
        (folder / uri).write_bytes(content)
        return size, hashlib.sha256(content).hexdigest()

    def track(name: str, directory: str, scale: int) -> WrittenTrack:
        init_size, init_sha = put(f"{directory}/init.mp4", 40)
        segments = []
        for number in range(shots):
            uri = f"{directory}/{number:05d}.m4s"
            size, sha = put(uri, sizes * scale + number % 7)
            start, end = ends[number] / rate, ends[number + 1] / rate
            segments.append(WrittenSegment(uri, start, end - start, size, sha))
        codecs = "mp4a.40.2" if name == "audio" else "avc1.64001e"
        return WrittenTrack(
            name, directory, codecs, 24, f"{directory}/init.mp4", init_size, init_sha,
            tuple(segments), width=320 * scale, height=180 * scale,
        )  # fmt: skip

    video = tuple(
        track(f"v{n}-{180 * n}p", f"video/v{n}-{180 * n}p", n) for n in range(1, rungs + 1)
    )
    more = tuple(
        replace(track("audio", f"audio-{number}", 1), language=language)
        for number, language in enumerate(languages[1:], 2)
    )
    main = replace(track("audio", "audio", 1), language=languages[0] if languages else None)
    written = WrittenPackage(rate, 4, video, main if sound else None, more)
    quality = {n: 90 - 30 / n for n in range(1, rungs + 1)}
    ladder = Ladder(
        title=TitleFacts(
            id=hashlib.sha256(seed.encode()).hexdigest()[:16],
            source="clip.mp4",
            sha256=hashlib.sha256(seed.encode()).hexdigest(),
            width=640, height=360, frame_rate="24/1", frames=ends[-1], source_bitrate=3_000_000,
            audio=sound,
        ),
        policy="locked", profile="default", codec="x264", recipe="x264-medium", tool="stub",
        quality_model=MODEL,
        search=SearchFacts(mode="exhaustive", encodes=9, delivered_encodes=9, grid_encodes=9),
        locked_cost=None, constraints=[],
        rungs=[
            Rung(
                name=one.name, codec="x264", codecs=one.codecs, width=one.width, height=one.height,
                bitrate=round(one.average_bitrate), peak_bitrate=round(one.peak_bitrate(4)),
                slope=None, predicted_quality=None, init_uri=one.init_uri,
                quality={MODEL: Quality(mean=quality[n], harmonic_mean=1, p5=1, p1=1, min=1)},
                segments=[
                    Segment(
                        shot=k, start_frame=ends[k], end_frame=ends[k + 1], width=one.width,
                        height=one.height, crf=23, bytes=made.size, uri=made.uri,
                        sha256=made.sha256, quality={MODEL: quality[n]},
                    )
                    for k, made in enumerate(one.segments)
                ],
            )
            for n, one in enumerate(video, 1)
        ],
    )  # fmt: skip
    return ladder, written


def written_artwork(
    seed: str, ladder: Ladder, *, stills: int = 6, folder: Path | None = None
) -> Artwork:
    """A pool of ``stills`` made up; its pictures are noise, in ``folder`` where one is given.

    Everything follows from ``seed``. Quality is in no order, and clusters repeat.
    """
    from recommender.artwork.document import Artwork, pool_id

    draw = random.Random(seed)

    def rendition(identity: str, aspect: str, width: int, suffix: str) -> dict[str, Any]:
        uri = f"artwork/{identity}/{aspect.replace(':', 'x')}-{width}.{suffix}"
        content = draw.randbytes(48)
        if folder is not None:
            (folder / uri).parent.mkdir(parents=True, exist_ok=True)
            (folder / uri).write_bytes(content)
        return {
            "format": {"webp": "webp", "jpg": "jpeg"}[suffix],
            "width": width, "height": width // 2, "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(), "uri": uri,
        }  # fmt: skip

    def crop(identity: str, aspect: str) -> dict[str, Any]:
        return {
            "aspect": aspect,
            "area": {"x": 0, "y": 0, "width": 640, "height": 320},
            "focal_point": {"x": round(draw.random(), 3), "y": round(draw.random(), 3)},
            "renditions": [
                rendition(identity, aspect, width, suffix)
                for width in (600, 240) for suffix in ("webp", "jpg")
            ],
        }  # fmt: skip

    def candidate(rank: int) -> dict[str, Any]:
        identity, frame = draw.randbytes(8).hex(), draw.randrange(ladder.title.frames)
        return {
            "id": identity, "action_id": identity, "rank": rank, "frame": frame,
            "time_seconds": frame / 24, "shot": 0, "cluster": rank % 4,
            "quality": round(draw.random(), 4), "flags": [],
            "focal_point": {"x": 0.5, "y": 0.5}, "title_side": "left",
            "crops": [crop(identity, aspect) for aspect in ASPECTS],
            "metrics": {"sharpness": {"raw": draw.random(), "percentile": 0.5}},
            "colours": [{"hex": "#204060", "share": 0.5}, {"hex": "#c0a080", "share": 0.2}],
            "perceptual_hash": draw.randbytes(8).hex(),
            "embedding": [round(draw.gauss(0, 0.2), 4) for _ in range(32)],
            "faces": None, "spoiler_zone": False, "maturity": None, "rights": None,
        }  # fmt: skip

    title = ladder.title
    document = Artwork.model_validate(
        {
            "pool": "",
            "title": title.model_dump(
                include={"id", "source", "sha256", "width", "height", "frame_rate", "frames"}
            ),
            "embedding_model": "made-up/1", "face_model": None,
            "picture": {"x": 0, "y": 0, "width": 640, "height": 360},
            "selection": {"stills": 90, "quota": 0.15, "filters": [], "clusters": 4,
                          "uncovered_clusters": []},
            "candidates": [candidate(rank) for rank in range(stills)],
            "actions_uri": "artwork/actions.parquet",
            "scrub": {"uri": "artwork/scrub.vtt", "sheets": [], "step_seconds": 2, "width": 160,
                      "height": 90},
            "replaces": None,
        }
    )  # fmt: skip
    return document.model_copy(update={"pool": pool_id(document.candidates)})


def write_package(
    folder: Path, seed: str, *, artwork: str | None = None, before: Artwork | None = None,
    playable: bool = False, stills: int = 6, **more: Any,
) -> None:  # fmt: skip
    """A finished package in ``folder``; ``artwork`` is the seed of its pool of ``stills``. It has
    its playlists only if it is ``playable``."""
    folder.mkdir(parents=True)
    ladder, written = written_package(seed, folder=folder, **more)
    (folder / "ladder.json").write_text(ladder.to_json())
    (folder / "prefetch.json").write_text(build_prefetch(ladder, written).to_json())
    (folder / "master.m3u8").write_text("#EXTM3U\n")
    if playable:
        from encoder.package.write import playlists

        for uri, text in playlists(with_key_frames(written)).items():
            (folder / uri).write_text(text)
    (folder / "run.json").write_text('{"source": "/secret/place"}\n')
    if artwork is not None:
        pool = written_artwork(artwork, ladder, stills=stills, folder=folder)
        if before is not None:
            from recommender.artwork.lineage import follow

            pool = follow(pool, before)
        (folder / "artwork.json").write_text(pool.to_json())
        (folder / "artwork" / "scrub.vtt").write_text("WEBVTT\n")


def with_key_frames(written: WrittenPackage) -> WrittenPackage:
    """A package whose video segments have one key frame each, as playlists of them need."""
    return replace(
        written,
        video=tuple(
            replace(
                track,
                segments=tuple(
                    replace(one, keyframes=(KeyFrame(one.start, one.duration, 0, one.size),))
                    for one in track.segments
                ),
            )
            for track in written.video
        ),
    )


def perform_stub(
    work: Work, source: Path, store: Path, on_event: events.Listener
) -> Mapping[str, Any]:
    """Stand in for the run: do what the source says, in JSON; a video goes to the real run.

    ``seconds``: duration; ``fail``: message of the error to raise; ``changed``: how the source
    changed meanwhile; ``die``: how often to kill the process first; ``package``: folder to return
    as the result; ``playable``: with playlists. Every start adds a line to the file ``ledger``
    beside the stores.
    """
    with (work.stores.parent / "ledger").open("a") as ledger:
        ledger.write(f"{source.name}\n")
    if source.suffix == ".mp4":
        return perform(work, source, store, on_event)
    asked = json.loads(source.read_text())
    store.mkdir(parents=True, exist_ok=True)
    (store / "made").write_text("something that was made of the source")
    marks = len(list(store.glob("died-*")))
    if marks < asked.get("die", 0):
        (store / f"died-{marks}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    on_event(events.StagePlanned("encode 1", 10, unit="encodes"))
    for step in range(10):
        time.sleep(asked.get("seconds", 0.0) / 10)
        on_event(events.StageProgress("encode 1", step + 1, 10))
    if "changed" in asked:
        raise source_changed(f"{source} {asked['changed']}", "run the same command again")
    if "fail" in asked:
        raise ToolFailed(asked["fail"], returncode=1)
    before = None
    if work.out.exists():  # as the main job sees what it replaces
        from cluster.package.documents import read_artwork

        before = read_artwork(work.out)
        shutil.rmtree(work.out)
    if work.kind == "plan":
        return {"plan": {"frames": 1}}
    if "package" in asked:
        shutil.copytree(asked["package"], work.out)
        return {"run": {"encoded_now": 0}}
    write_package(
        work.out, source.read_text(), artwork=asked.get("artwork"), before=before,
        playable=asked.get("playable", False), stills=asked.get("stills", 6),
    )  # fmt: skip
    return {"run": {"encoded_now": 1}}


class AllKept:
    """In place of the library: nothing that was made is ever missing."""

    def is_whole(self, package: str) -> bool:
        return True

    def has_store(self, content_sha256: str) -> bool:
        return True


class ServiceProcess:
    """The service, in a process group of its own."""

    def __init__(
        self, folder: Path, *, stub: bool = True, slots: int = 2, grace: float = 3600, **more: Any
    ) -> None:
        self.data = folder / "data"
        self.sources = folder / "sources"
        self.sources.mkdir(exist_ok=True)
        self.token = ""
        self.url = ""
        self.process: subprocess.Popen[str] | None = None
        self._port = 0
        self._log = folder / "log"
        self._stub = stub
        self.slots, self._grace, self._more = slots, grace, more
        self.database: str | None = more.get("database")

    def start(self) -> None:
        line: tuple[object, ...]
        if self._stub:
            line = ("-m", "tests.service_material", self.data, self.sources, self._port,
                    self.slots, self._grace, json.dumps(self._more))  # fmt: skip
        else:
            line = (*COMMAND, "serve", "--data", self.data, "--sources", self.sources,
                    "--port", self._port, "--workers", 1, "--jobs", self.slots,
                    *(word for pair in self._more.items() for word in pair))  # fmt: skip
        self.url = self._said(line)
        assert self.url.startswith("http"), self._log.read_text()[-3000:]
        self._port = int(self.url.rpartition(":")[2])
        self.token = (self.data / "tokens").read_text().split()[1]

    def _said(self, line: Sequence[object]) -> str:
        """Start the process; return the first line that it prints."""
        with self._log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, *map(str, line)],
                stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT, start_new_session=True,
            )  # fmt: skip
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        """Kill the service with `kill -9`, but not its job processes, which have to notice."""
        assert self.process is not None
        self.process.kill()
        self._gone()

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        status = self.process.wait(STOP_SECONDS)
        self._gone()
        return status

    def _gone(self) -> None:
        assert self.process is not None
        self.process.wait(STOP_SECONDS)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def client(self, **more: Any) -> Client:
        from cluster.service.client import Client

        return Client(self.url, self.token, **more)

    def source(self, name: str, **asked: Any) -> Path:
        """A source for the stub."""
        path = self.sources / name
        path.write_text(json.dumps({"name": name, **asked}))
        return path

    def log(self) -> str:
        return self._log.read_text()

    def ledger(self) -> list[str]:
        """Names of sources whose job was begun, one for every time."""
        path = self.data / "ledger"
        return path.read_text().split() if path.exists() else []


class RunnerProcess(ServiceProcess):
    """A runner beside services on one folder, which runs their jobs and answers nothing."""

    def start(self) -> None:
        more = json.dumps({"runner": True, **self._more})
        name = self._said(("-m", "tests.service_material", self.data, self.sources, 0, self.slots,
                           self._grace, more))  # fmt: skip
        assert name, self.log()[-3000:]


@contextmanager
def service(folder: Path, **more: Any) -> Iterator[ServiceProcess]:
    """A service that runs while the block does."""
    folder.mkdir(parents=True, exist_ok=True)
    running = ServiceProcess(folder, **more)
    running.start()
    try:
        yield running
    finally:
        if running.process is not None and running.process.poll() is None:
            running.stop()


def main() -> None:
    from cluster.service.http.connections import ConnectionLimits
    from cluster.service.logs import log_as_json
    from cluster.service.serving import ServiceOptions, serve, work

    data, sources, port, slots, grace, more = sys.argv[1:]
    asked = json.loads(more)
    if "claim_seconds" in asked:
        from cluster.service.queue import deliveries

        deliveries.CLAIM_SECONDS = asked["claim_seconds"]
    log_as_json()
    secret = Path(data).parent / "secret"
    if not secret.exists():  # another process on this folder may be reading it
        secret.write_bytes(SECRET)
    options = ServiceOptions(
        data=Path(data),
        roots=(Path(sources),),
        source_urls=tuple(asked.get("source_urls", ())),
        port=int(port),
        slots=int(slots),
        grace_seconds=float(grace),
        webhook_hosts=tuple(asked.get("webhook_hosts", ())),
        webhook_private=True,
        webhook_secret=secret,
        limits=ConnectionLimits(**asked.get("limits", {})),
        allowed_hosts=tuple(asked.get("allowed_hosts", ())),
        host=asked.get("host", "127.0.0.1"),
        trusted_proxies=tuple(asked.get("trusted_proxies", ())),
        read_tokens=Path(asked["read_tokens"]) if "read_tokens" in asked else None,
        signed_seconds=float(asked.get("signed_seconds", 86400)),
        media_url=asked.get("media_url", ""),
        processes=asked.get("processes", 1),
        access_log=asked.get("access_log"),
        public_url=asked.get("public_url", ""),
        root_path=asked.get("root_path", ""),
        cors_origins=tuple(asked.get("cors_origins", ())),
        database=asked.get("database"),
        performing=perform_stub,
    )
    if asked.get("runner"):
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as the command line does
        work(options, lambda name: print(name, flush=True))
    else:
        serve(options, lambda url, tokens: print(url, flush=True))


if __name__ == "__main__":
    main()
