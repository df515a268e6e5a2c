"""A service with something of everything that the operators' page shows, some of it hostile.

``python -m tests.operators_material [--readers]`` keeps one running, to look at the page.
"""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from cluster.service.queue.deliveries import ATTEMPTS, Deliveries
from tests.service_material import ServiceProcess, service, write_package

READER = "a-token-of-readers"
HOSTILE = "<img src=x onerror=document.title='taken'><script>document.title='taken'</script>"
"""A text that would take the page over if it were ever parsed."""
WHY = f"{HOSTILE} has no picture; give a source with a video stream"
TITLES = ("film-with-a-name-that-goes-on-and-on-for-ever_2160p.v2", "sea")


def package_with_pictures(folder: Path, seed: str) -> Path:
    """A package whose stills are pictures that a browser shows."""
    write_package(folder, seed, artwork=seed, shots=3)
    (folder / "report.html").write_text(f"<!doctype html><title>{seed}</title>report of {seed}")
    document = json.loads((folder / "artwork.json").read_text())
    hue = hashlib.sha256(seed.encode()).digest()[0]
    for candidate in document["candidates"]:
        for crop in candidate["crops"]:
            for rendition in crop["renditions"]:
                picture = Image.linear_gradient("L").resize((rendition["width"],) * 2)
                colours = Image.merge("HSV", (Image.new("L", picture.size, hue), picture, picture))
                content = io.BytesIO()
                colours.convert("RGB").save(content, rendition["format"])
                (folder / rendition["uri"]).write_bytes(content.getvalue())
                rendition["bytes"] = len(content.getvalue())
                rendition["sha256"] = hashlib.sha256(content.getvalue()).hexdigest()
    (folder / "artwork.json").write_text(json.dumps(document))
    return folder


class _Failing(http.server.BaseHTTPRequestHandler):
    """Receives webhooks, and likes none."""

    def do_POST(self) -> None:
        self.send_error(500, "Out of order")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def busy_service(folder: Path, *, readers: bool = False) -> Iterator[ServiceProcess]:
    """A service with titles, running, waiting and failed jobs, and a webhook that was given up."""
    folder.mkdir(exist_ok=True)
    more: dict[str, Any] = {}
    if readers:
        (folder / "readers").write_text(f"reader {READER}\n")
        more["read_tokens"] = str(folder / "readers")
    receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Failing)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    host = f"127.0.0.1:{receiver.server_port}"
    try:
        with (
            service(folder / "s", slots=1, webhook_hosts=[host], **more) as one,
            one.client() as client,
        ):
            for name in TITLES:
                made = package_with_pictures(folder / name, name)
                source = one.source(f"{name}.json", package=str(made))
                assert client.wait(client.submit(source, external_id=name).id).state == "succeeded"
            hostile = one.source(f"{HOSTILE.replace('/', '')}.json", fail=WHY)
            failed = client.submit(
                hostile, external_id="broken", webhook=f"http://{host}/hook/{'s3cret' * 3}"
            )
            assert client.wait(failed.id).state == "failed"
            give_up(one, failed.id)
            running = client.submit(one.source("long.json", seconds=600), external_id="long-film")
            while client.job(running.id).progress is None:
                time.sleep(0.05)
            client.submit(one.source("sea.json", seconds=1), external_id="sea", kind="plan")
            yield one
    finally:
        receiver.shutdown()
        receiver.server_close()


def give_up(one: ServiceProcess, job: str) -> None:
    """Let a webhook fail so often that it is given up, without waiting for its attempts."""
    from cluster.service.database import Database, DeliveryRow

    with one.client() as client:
        while not any(d.attempts for d in client.deliveries(job_id=job)):
            time.sleep(0.05)
    database = Database(one.data / "service.db")
    with database.writing() as session:
        for row in session.query(DeliveryRow):
            row.state, row.attempts, row.claim = "given_up", ATTEMPTS, None
    assert Deliveries(database).counts() == {"given_up": 1}
    database.close()


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        busy_service(Path(folder) / "o", readers="--readers" in sys.argv) as one,
    ):
        print(one.url, one.token, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
