"""schemathesis against the OpenAPI document: a few cases here, all of them by `make fuzz`.

``python -m tests.test_service_fuzz [EXAMPLES]`` runs its command line against a service with the
stub.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.service_material import service

SCHEMATHESIS = Path(sys.executable).parent / "schemathesis"


def fuzz(folder: Path, examples: int, *, phases: str, more: Sequence[str] = ()) -> tuple[int, str]:
    """Exit status and report of schemathesis, against a service with a title and a job."""
    with service(folder, slots=1) as running, running.client() as client:
        job = client.submit(running.source("film.json", artwork="film"), external_id="film-1")
        package = client.wait(job.id).result
        assert package is not None
        # A withdrawn title answers 410 to every valid request. Whether the options of a job go
        # together (a preset with a codec, the keys of a profile) is more than a schema says.
        statuses = '"2xx", "3xx", 401, 403, 404, 409, 410'
        (folder / "schemathesis.toml").write_text(
            "[checks.positive_data_acceptance]\n"
            f"expected-statuses = [{statuses}]\n"
            "[[operations]]\n"
            'include-name = "POST /v1/jobs"\n'
            f"checks.positive_data_acceptance.expected-statuses = [{statuses}, 422]\n"
        )
        ended = subprocess.run(
            [SCHEMATHESIS, "run", f"{running.url}/openapi.json", "--phases", phases,
             "--max-examples", str(examples), "--generation-database",
             "none", "--header", f"Authorization: Bearer {running.token}", *more],
            capture_output=True, text=True, timeout=1800, cwd=folder,
        )  # fmt: skip
        bad = [line for line in running.log().splitlines() if '"level": "error"' in line]
    return ended.returncode, "\n".join([ended.stdout[-6000:], ended.stderr[-2000:], *bad[:3]])


def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    status, report = fuzz(tmp_path / "s", 2, phases="fuzzing")
    assert status == 0, report


def main() -> None:
    examples = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    phases = "examples,coverage,fuzzing,stateful"
    found = 0
    # Once without takedowns: after one there is little left to read.
    for more in (("--exclude-method", "DELETE"), ()):
        with tempfile.TemporaryDirectory() as folder:
            status, report = fuzz(Path(folder) / "s", examples, phases=phases, more=more)
        print(report)
        found |= status
    sys.exit(found)


if __name__ == "__main__":
    main()
