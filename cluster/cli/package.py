"""Commands that take a finished package: ``verify``, ``shots``, ``report`` and ``export``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.cli.command import command, option
from cluster.cli.options import Directory, MovedSource, SourceFlags, StorePath
from cluster.cli.output import Output
from encoder.errors import BadInput

if TYPE_CHECKING:
    from cluster.events import Listener
    from cluster.package.encrypt import Keys
    from cluster.package.package import Package


@command
def shots(
    output: Output,
    title: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE|DIR", help="Video file, or directory of a finished package."
        ),
    ],
    store: StorePath = None,
    *,
    flags: SourceFlags,
) -> None:
    """List the shots of a video or of a finished ladder."""
    from cluster.cli.views.shots import shot_lines, shots_view
    from cluster.jobs.shots import shots_of_package, shots_of_source
    from encoder.source.choices import SourceChoices

    if title.is_dir():
        listed = shots_of_package(title)
    else:
        choices = SourceChoices.from_document(asdict(flags))
        listed = shots_of_source(title, store, output.announce("shots", title), choices)
    output.finish(
        lines=shot_lines(listed),
        result={"shots": len(listed.shots), "frames": listed.frames},
        view=lambda: shots_view(listed),
    )


@command
def verify(output: Output, directory: Directory, source: MovedSource = None) -> None:
    """Decode a package and compare it with what was scored and with its source.

    Every frame must be the frame that was scored, and playlists, sizes, times, keyframes and audio
    must fit each other. Where the source is at hand, with the digest of the run, it is decoded too:
    length, pictures and sound must be those of the source, at the same times. `run` does all this
    before it publishes a package; `verify` finds what has happened to the files since.
    """
    from cluster.package.package import Package
    from encoder.errors import BadInput

    package = Package.open(directory)
    done = package.verify(output.announce("verify", directory))
    try:
        compared, why = package.verify_source(source), ""
    except BadInput as error:
        if source is not None:
            raise
        compared, why = None, error.message
    if compared is None:
        against = f"not compared with the source: {why}"
    else:
        sounds = f" and {compared.sounds} audio tracks" if compared.sounds else ""
        against = f"{compared.pictures} pictures{sounds} are those of the source, at the same times"
        for tracks, why_not in (
            (compared.even, "varies too little to be compared"),
            (compared.unsure, "is mixed too much to be recognised"),
        ):
            if tracks:
                against += f"; the sound of {', '.join(map(repr, tracks))} {why_not}"
        if compared.differing:
            against += f"; {compared.differing} differs, since the source is damaged there"
    output.finish(
        result={
            "rungs": list(done.rungs),
            "frames": done.frames,
            "segments": done.segments,
            "cpu_seconds": round(done.cpu_seconds, 3),
            "source": None if compared is None else asdict(compared),
            "source_missing": why or None,
        },
        view=lambda: (
            f"{directory}: {len(done.rungs)} rungs of {done.segments} segments decode to exactly "
            f"the {done.frames} frames that were scored\n{against}"
        ),
    )


@command
def report(
    output: Output,
    directory: Directory,
    out: Path | None = option(
        None, metavar="FILE", help="File for the report. [default: DIR/report.html]"
    ),
    source: MovedSource = None,
    frames: bool = option(
        True, "--frames/--no-frames", help="Include thumbnails and frames of the worst shots."
    ),
) -> None:
    """Write an HTML report of a ladder that needs no network and no other file.

    It shows: curves of the title and of each shot; bits and quality over time; predicted and
    measured values; the baselines that `ladder compare` measured; frames of the worst shots; the
    bytes of a start; loudness; black and frozen stretches; artwork, if there is any; and the run.
    """
    from cluster.package.report import ReportOptions, write_report

    on_event = output.announce("report", directory)
    path = write_report(ReportOptions(directory, out, source, frames), on_event)
    output.finish(
        result={"report": str(path), "bytes": path.stat().st_size}, view=lambda: str(path)
    )


@dataclass(frozen=True, slots=True)
class EncryptFlags:
    """Options of ``export --encrypt``."""

    encrypt: str | None = option(
        None,
        metavar="cbcs",
        help="Write an encrypted copy of the whole package to the folder `--out` instead: `cbcs` "
        "is the scheme that all players have. Needs the extra `encrypt` (Shaka Packager).",
    )
    key_id: str | None = option(
        None, metavar="HEX", help="Id of the key, 32 hexadecimal digits, for `--encrypt`."
    )
    key: str | None = option(
        None,
        metavar="HEX|@FILE",
        help="The key, 32 hexadecimal digits, or `@` and a file that holds them, which keeps the "
        "key out of the list of processes and the history of the shell.",
    )
    keys: Path | None = option(
        None,
        metavar="FILE",
        help="Keys by class instead: a CSV file with the columns `class` (`sd` for rungs up to "
        "576 lines, `hd` up to 1080, `uhd`, `audio`), `key_id` and `key`.",
    )
    key_uri: str | None = option(
        None,
        metavar="URI",
        help="URI of the key in HLS. [default: the id of the key, as Shaka Packager has it]",
    )

    def chosen(self) -> Keys | None:
        """Return the keys; None where nothing is to be encrypted.

        Raises:
            BadInput: the options do not belong together, or a key cannot be read.
        """
        from cluster.package.encrypt import Keys

        named = [self.key_id, self.key, self.keys, self.key_uri]
        if self.encrypt is None:
            if any(value is not None for value in named):
                raise BadInput("keys are for `--encrypt cbcs`; add it, or leave them out")
            return None
        if self.encrypt != "cbcs":
            raise BadInput(f"no encryption {self.encrypt!r:.40}; give cbcs")
        if self.keys is not None and self.key_id is None and self.key is None:
            return Keys.from_csv(self.keys)
        if self.keys is not None or self.key_id is None or self.key is None:
            raise BadInput("--encrypt needs --key-id and --key, or --keys FILE")
        return Keys.single(self.key_id, self._key())

    def _key(self) -> str:
        assert self.key is not None
        if not self.key.startswith("@"):
            return self.key
        try:
            return Path(self.key[1:]).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise BadInput(f"the key in {self.key[1:]} cannot be read") from None


@command
def export(
    output: Output,
    directory: Directory,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE|DIR",
            help="File to write: .mp4, .m4v or .mkv says the format. With `--encrypt`, a folder.",
        ),
    ],
    rung: str | None = option(
        None,
        metavar="RUNG",
        help="The rung: its name, its number in the ladder, `top`, or a rate such as `800k` for "
        "the nearest. [default: top]",
    ),
    audio: str | None = option(
        None,
        metavar="LANG,...",
        help="Languages of the sound to take, `all` or `none`. [default: all]",
    ),
    subtitles: str | None = option(
        None,
        metavar="LANG,...",
        help="Languages of the subtitles to take, `all` or `none`. [default: all]",
    ),
    *,
    encryption: EncryptFlags,
) -> None:
    """Write one rung of a package as one file, or an encrypted copy of all of it.

    Nothing is encoded again. The file is decoded before it appears: each frame is the one that was
    scored, at its time, and the sound is the package's. MP4 begins with its index, so that it plays
    while it loads; it keeps the text of subtitles, but not their places and styles.

    An encrypted copy has playlists, `ladder.json` and `prefetch.json` of its own, and the same
    segments. Before it appears, each is decrypted and compared with the clear one.
    """
    from cluster.package.export import export_rung
    from cluster.package.package import Package

    keys = encryption.chosen()
    package = Package.open(directory)
    on_event = output.announce("export", directory)
    if keys is not None:
        if any(value is not None for value in (rung, audio, subtitles)):
            raise BadInput(
                "--encrypt copies the whole package; leave --rung, --audio and --subtitles out"
            )
        _encrypted(output, package, keys, out, encryption.key_uri, on_event)
        return
    done = export_rung(
        package,
        rung or "top",
        out,
        sounds=_languages(audio or "all"),
        texts=_languages(subtitles or "all"),
    )
    said = f"{done.rung.name}, {done.file.frames} frames, {done.file.bytes / 1e6:.1f} MB"
    for what, count in (("sound", done.file.sounds), ("subtitle", done.file.texts)):
        said += f", {count} {what} track{'s' * (count != 1)}" if count else ""
    if done.plain_text:
        said += "\nthe subtitles are plain text now; .mkv keeps their places and styles"
    output.finish(
        result={
            "file": str(out),
            "rung": done.rung.name,
            "bytes": done.file.bytes,
            "frames": done.file.frames,
            "sounds": [track.language or None for track in done.sounds],
            "subtitles": [track.language or None for track in done.texts],
        },
        view=lambda: f"{out}: {said}",
    )


def _encrypted(
    output: Output, package: Package, keys: Keys, out: Path, key_uri: str | None, on_event: Listener
) -> None:
    from cluster.package.encrypt import export_encrypted

    done = export_encrypted(package, keys, out, key_uri=key_uri, on_event=on_event)
    output.finish(
        result={"out": str(out), "tracks": done.tracks, "bytes": done.bytes},
        view=lambda: f"{out}: {done.tracks} tracks, {done.bytes / 1e6:.1f} MB, encrypted by cbcs",
    )


def _languages(text: str) -> list[str] | None:
    """Return the languages of a list; None for all."""
    if text in ("all", "none"):
        return None if text == "all" else []
    return [part.strip() for part in text.split(",") if part.strip()]
