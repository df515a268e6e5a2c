"""A title whose every frame says which it is, its package, a server and browsers to play it in.

The clip: the frame's number in twelve blocks at the top (the first is the lowest bit, white is 1),
a colour per shot below, a moving picture at the bottom that is white in flash frames. With each
flash a beep begins.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import httpx

from encoder.encode import encode_shot
from encoder.ffmpeg import Command, run
from encoder.media import OperatingPoint, Shot
from encoder.package.audio import encode_audio, segment_audio
from encoder.package.layout import Rendition, TitlePackage, VideoSegment, WrittenPackage
from encoder.package.write import write_package
from encoder.recipes import by_name
from encoder.source.planning import plan_source
from ladder.document import Ladder, Quality, Rung, SearchFacts, Segment, TitleFacts
from recommender.prefetch.build import build_prefetch

HERE = Path(__file__).parent
MODEL = "vmaf_v1.0.16_3d0h"
WIDTH, HEIGHT = 480, 270
RATE = Fraction(24000, 1001)
LENGTHS = (30, 41, 24, 60, 35, 48, 25, 37)
SHOTS = tuple(pairwise(accumulate(LENGTHS, initial=0)))
FRAMES = SHOTS[-1][1]
COLOURS = ("c02020", "20a020", "2030d0", "c0a020", "a020a0", "20a0b0", "e07030", "707070")
FLASHES = tuple((start + end) // 2 for start, end in SHOTS)
FLASH_FRAMES = 2
BEEP_SECONDS = 0.06
RUNGS = ((160, 90), (320, 180), (480, 270))
CRFS = (18, 28, 36)
"""Rotated from shot to shot, so that neighbours under one init differ."""

PLAYERS = {"hls": "hls.js", "shaka": "Shaka Player, DASH", "shaka-hls": "Shaka Player, HLS",
           "dash": "dash.js"}  # fmt: skip
LIBRARIES = {
    "hls.js": "hls.js/dist/hls.min.js",
    "shaka.js": "shaka-player/dist/shaka-player.compiled.js",
    "dash.js": "dashjs/dist/modern/umd/dash.all.min.js",
}
BROWSERS = {"chromium": ("chromium", "chromium-browser"), "firefox": ("firefox-esr", "firefox")}
MODULES = Path(os.environ.get("SHOTLADDER_NODE_MODULES") or HERE / "browser" / "node_modules")


def make_clip(path: Path) -> Path:
    """The title, as H.264 of high quality with AAC."""
    band, rest = HEIGHT // 4 // 2 * 2, HEIGHT - 2 * (HEIGHT // 4 // 2 * 2)
    flashes = "+".join(f"between(n,{f},{f + FLASH_FRAMES - 1})" for f in FLASHES)
    beeps = "+".join(
        f"between(t,{float(f / RATE):.6f},{float(f / RATE) + BEEP_SECONDS:.6f})" for f in FLASHES
    )
    # Frames pair by number: times of sources and of concat are rounded each in their own way.
    exact = f"settb={RATE.denominator}/{RATE.numerator},setpts=N"
    parts = [
        f"color=black:s=12x2:r={RATE},trim=end_frame={FRAMES},format=gray,"
        "geq=lum='if(mod(floor(N/pow(2,X)),2),235,16)',"
        f"scale={WIDTH}:{band}:flags=neighbor,format=yuv420p,setsar=1,{exact}[bits]",
        *(
            f"color=0x{colour}:s={WIDTH}x{band}:r={RATE},trim=end_frame={length},"
            f"format=yuv420p,setsar=1[c{n}]"
            for n, (colour, length) in enumerate(zip(COLOURS, LENGTHS, strict=True))
        ),
        "".join(f"[c{n}]" for n in range(len(LENGTHS)))
        + f"concat=n={len(LENGTHS)},{exact}[colours]",
        f"testsrc2=s={WIDTH}x{rest}:r={RATE},trim=end_frame={FRAMES},"
        f"drawbox=color=white:t=fill:enable='{flashes}',format=yuv420p,setsar=1,{exact}[moving]",
        "[bits][colours][moving]vstack=inputs=3[v]",
        f"aevalsrc='0.5*sin(2*PI*1000*t)*({beeps})':s=48000:d={float(FRAMES / RATE):.6f}[a]",
    ]
    run(
        Command.of(
            [
                *("-v", "error", "-y", "-filter_complex", ";".join(parts), "-map", "[v]"),
                *("-map", "[a]", "-c:v", "libx264", "-preset", "ultrafast", "-crf", 12),
                *("-g", 24, "-threads", 1, "-c:a", "aac", "-b:a", "128k"),
                *("-movflags", "+faststart", path),
            ]
        ),
        timeout_seconds=300,
    )
    return path


def make_package(clip: Path, folder: Path) -> Path:
    """The title as the product encodes and packages it, at operating points of our choice."""
    source = plan_source(clip, folder.parent)
    made: dict[tuple[int, int], list[VideoSegment]] = {size: [] for size in RUNGS}
    inits: dict[tuple[int, int], bytes] = {}
    for number, (start, end) in enumerate(SHOTS):
        points = [
            OperatingPoint(by_name("x264-ultrafast"), *size, CRFS[(number + rung) % len(CRFS)])
            for rung, size in enumerate(RUNGS)
        ]
        with tempfile.TemporaryDirectory() as scratch:
            encodes, _ = encode_shot(source, Shot(start, end), points, Path(scratch))
            for size, encode in zip(RUNGS, encodes, strict=True):
                media = encode.media_path.read_bytes()
                digest = hashlib.sha256(media).hexdigest()
                made[size].append(
                    VideoSegment(start, end, media, len(media), digest, encode.codec_sha256)
                )
                inits[size] = encode.init_path.read_bytes()
    audio = encode_audio(
        clip, 1, folder.parent / "sound.mp4",
        first_video_pts=source.start_seconds, duration=FRAMES / RATE, channels=1,
    )  # fmt: skip
    assert audio is not None
    written = write_package(
        TitlePackage(
            RATE,
            SHOTS,
            tuple(Rendition(f"v{size[1]}", inits[size], tuple(made[size])) for size in RUNGS),
            segment_audio(audio.read_bytes(), [end / RATE for _, end in SHOTS], "en"),
        ),
        folder,
    )
    ladder = _ladder_of(written)
    (folder / "ladder.json").write_text(ladder.to_json())
    (folder / "prefetch.json").write_text(build_prefetch(ladder, written).to_json())
    return folder


def _ladder_of(written: WrittenPackage) -> Ladder:
    """The package's ladder, with qualities that are made up."""
    return Ladder(
        title=TitleFacts(
            id="0" * 16, source="clip.mp4", sha256="0" * 64, width=WIDTH, height=HEIGHT,
            frame_rate=f"{RATE.numerator}/{RATE.denominator}", frames=FRAMES,
            source_bitrate=3_000_000, audio=True,
        ),
        policy="locked", profile="default", codec="x264", recipe="x264-ultrafast", tool="none",
        quality_model=MODEL, locked_cost=None, constraints=[],
        search=SearchFacts(mode="exhaustive", encodes=24, delivered_encodes=24, grid_encodes=24),
        rungs=[
            Rung(
                name=track.name, codec="x264", codecs=track.codecs, width=track.width,
                height=track.height, bitrate=round(track.average_bitrate),
                peak_bitrate=round(track.peak_bitrate(written.target_duration)), slope=None,
                predicted_quality=None, init_uri=track.init_uri,
                quality={MODEL: Quality(mean=mean, harmonic_mean=1, p5=1, p1=1, min=1)},
                segments=[
                    Segment(
                        shot=shot, start_frame=start, end_frame=end, width=track.width,
                        height=track.height, crf=CRFS[(shot + number) % len(CRFS)],
                        bytes=segment.size, uri=segment.uri, sha256=segment.sha256,
                        quality={MODEL: mean + shot},
                    )
                    for shot, ((start, end), segment) in enumerate(
                        zip(SHOTS, track.segments, strict=True)
                    )
                ],
            )
            for number, (track, mean) in enumerate(zip(written.video, (50, 70, 90), strict=True))
        ],
    )  # fmt: skip


def facts() -> dict[str, Any]:
    """What the page needs to know of the title."""
    return {
        "package": "/package/",
        "frame_rate": float(RATE),
        "shots": SHOTS,
        "rungs": RUNGS,
        "flashes": FLASHES,
    }


# -- server and browsers -----------------------------------------------------------------------


@dataclass(frozen=True)
class Serving:
    """A server on loopback."""

    url: str
    results: queue.Queue[dict[str, Any]]
    missing: list[str]
    """Paths that were asked for and are not there."""
    notes: list[str]
    """How far the page has come, with seconds."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Browsers that are killed reset connections."""


TYPES = {
    ".html": "text/html", ".js": "text/javascript", ".json": "application/json",
    ".m3u8": "application/vnd.apple.mpegurl", ".mpd": "application/dash+xml",
    ".mp4": "video/mp4", ".m4s": "video/iso.segment",
}  # fmt: skip


@contextmanager
def serving(
    package: Path, clip: Path, extra: dict[str, Path] | None = None, behind: str | None = None
) -> Iterator[Serving]:
    """Serve the package, the clip, the players and the test page; take the page's results.

    What the service ``behind`` has is had from there, so that a test page may look into its pages.
    """
    results: queue.Queue[dict[str, Any]] = queue.Queue()
    missing: list[str] = []
    notes: list[str] = []
    began = time.monotonic()
    places = {
        "/source.mp4": clip,
        **{f"/players/{name}": MODULES / path for name, path in LIBRARIES.items()},
        **{f"/{name}": HERE / "browser" / name for name in ("play.html", "play.js")},
        **(extra or {}),
    }

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            if path == "/facts.json":
                return self._send(json.dumps(facts()).encode(), ".json")
            if path == "/favicon.ico":
                return self._send(b"", ".html", 204)
            if self._is_behind():
                return self._pass("GET")
            place = places.get(path) or (
                package / path.removeprefix("/package/") if path.startswith("/package/") else None
            )
            if place is None or not place.is_file():
                missing.append(path)
                return self._send(b"not here", ".html", 404)
            return self._send(place.read_bytes(), place.suffix)

        def _is_behind(self) -> bool:
            path = self.path.split("?")[0]
            return behind is not None and (path in ("/", "/readyz") or path.startswith("/v1/"))

        def _pass(self, method: str, body: bytes = b"") -> None:
            """Hand a request to the service, and its answer back as it comes."""
            kept = ("authorization", "range", "content-type", "last-event-id")
            sent = {name: self.headers[name] for name in kept if name in self.headers}
            url = f"{behind}{self.path}"
            with httpx.stream(method, url, headers=sent, content=body, timeout=30) as answer:
                self.send_response(answer.status_code)
                dropped = ("content-length", "content-encoding", "connection", "date",
                           "transfer-encoding")  # fmt: skip
                for name, value in answer.headers.multi_items():
                    if name not in dropped:
                        self.send_header(name, value)
                if "content-length" in answer.headers:
                    parts = iter([answer.read()])
                    self.send_header("Content-Length", str(len(answer.content)))
                else:
                    parts = answer.iter_bytes()
                    self.send_header("Connection", "close")
                self.end_headers()
                with contextlib.suppress(ConnectionError, httpx.HTTPError):
                    for part in parts:
                        self.wfile.write(part)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            if self._is_behind():
                self._pass("POST", body)
                return
            if self.path == "/result":
                results.put(json.loads(body))
            else:
                notes.append(f"{time.monotonic() - began:.1f} {body.decode()}")
            self._send(b"", ".html", 204)

        def _send(self, body: bytes, suffix: str, status: int = 200) -> None:
            spans = self.headers.get("Range", "")
            headers = {"Content-Type": TYPES.get(suffix, "application/octet-stream")}
            if status == 200 and spans.startswith("bytes="):
                first, last = spans.removeprefix("bytes=").split("-")
                start, end = int(first), min(int(last or len(body) - 1), len(body) - 1)
                headers["Content-Range"] = f"bytes {start}-{end}/{len(body)}"
                body, status = body[start : end + 1], 206
            self.send_response(status)
            for name, value in {**headers, "Accept-Ranges": "bytes"}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # players abort what they do not need
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = _Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Serving(f"http://127.0.0.1:{server.server_port}", results, missing, notes)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def find_browser(name: str) -> str | None:
    """Path of a browser, where it is installed."""
    return next((found for one in BROWSERS[name] if (found := shutil.which(one))), None)


def lacking(browser: str) -> str | None:
    """Why nothing can be played in a browser here; None when it can."""
    if find_browser(browser) is None:
        return f"{browser} is not installed: `make browsers` installs it from Debian"
    absent = [name for name in LIBRARIES.values() if not (MODULES / name).is_file()]
    if absent:
        return f"{', '.join(absent)} missing: `make browsers` installs the players from npm"
    return None


def browser_command(browser: str, profile: Path) -> Sequence[str]:
    """How to start it without a screen and without asking for clicks."""
    path = find_browser(browser)
    assert path is not None
    if browser == "firefox":
        preferences = {
            "media.autoplay.default": 0, "media.autoplay.blocking_policy": 0,
            "media.block-autoplay-until-in-foreground": False,
            "media.gmp-provider.enabled": False, "browser.shell.checkDefaultBrowser": False,
            "datareporting.policy.dataSubmissionEnabled": False, "app.update.enabled": False,
            "toolkit.telemetry.enabled": False, "network.captive-portal-service.enabled": False,
            "network.connectivity-service.enabled": False, "extensions.update.enabled": False,
            "browser.aboutwelcome.enabled": False, "layers.acceleration.disabled": True,
        }  # fmt: skip
        (profile / "user.js").write_text(
            "".join(
                f"user_pref({json.dumps(k)}, {json.dumps(v)});\n" for k, v in preferences.items()
            )
        )
        return (path, "--headless", "--no-remote", "--profile", str(profile))
    return (
        path, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
        "--disable-dev-shm-usage", "--autoplay-policy=no-user-gesture-required",
        "--disable-background-networking", "--disable-component-update",
        "--disable-background-timer-throttling", "--disable-renderer-backgrounding",
        "--disable-backgrounding-occluded-windows", f"--user-data-dir={profile}",
    )  # fmt: skip


def visit(browser: str, server: Serving, path: str, seconds: float = 240) -> dict[str, Any]:
    """Open a page and wait for what it posts.

    Raises:
        queue.Empty: it posted nothing in time.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [*browser_command(browser, Path(profile)), server.url + path],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            return server.results.get(timeout=seconds)
        finally:
            os.killpg(process.pid, 9)
            process.wait()


@contextmanager
def sound() -> Iterator[None]:
    """A sound card that nobody hears: without one Firefox's audio clock stands still."""
    if shutil.which("pulseaudio") is None:
        yield
        return
    start = ["pulseaudio", "--start", "--exit-idle-time=-1", "--load=module-null-sink"]
    running = subprocess.run(["pulseaudio", "--check"], capture_output=True).returncode == 0
    if not running:
        subprocess.run(start, capture_output=True, check=False)
    yield
    if not running:
        subprocess.run(["pulseaudio", "--kill"], capture_output=True, check=False)
