"""schemathesis against the OpenAPI document: a few cases here, all of them by `make fuzz`.

``python -m tests.test_service_fuzz [EXAMPLES]`` runs its command line against a service with the
stub.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.service_material import ROOT, service

SCHEMATHESIS = (sys.executable, "-m", "schemathesis.cli")


def fuzz(folder: Path, examples: int, *, phases: str, workers: int = 1) -> tuple[int, str]:
    """Exit status and report of schemathesis, against a service with a title and a job."""
    with service(folder, slots=1) as running, running.client() as client:
        job = client.submit(
            running.source("film.json", artwork=json.dumps({"a": 1})), external_id="film-1"
        )
        package = client.wait(job.id).result
        assert package is not None
        (folder / "schemathesis.toml").write_text(
            f'headers = {{ Authorization = "Bearer {running.token}" }}\n'
            "[[operations]]\n"
            'include-path = "/v1/jobs"\n'
            'include-method = "POST"\n'
        )
        ended = subprocess.run(
            [*SCHEMATHESIS, "run", f"{running.url}/openapi.json", "--phases", phases,
             "--max-examples", str(examples), "--workers", str(workers), "--generation-database",
             "none", "--header", f"Authorization: Bearer {running.token}",
             "--exclude-path", "/docs"],
            capture_output=True, text=True, timeout=1800, cwd=folder,
        )  # fmt: skip
        bad = [line for line in running.log().splitlines() if '"level": "error"' in line]
    return ended.returncode, "\n".join([ended.stdout[-6000:], ended.stderr[-2000:], *bad[:3]])


def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    status, report = fuzz(tmp_path / "s", 3, phases="examples,fuzzing")
    assert status == 0, report


def main() -> None:
    examples = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory() as folder:
        status, report = fuzz(
            Path(folder) / "s", examples, phases="examples,coverage,fuzzing,stateful"
        )
    print(report)
    sys.exit(status)


if __name__ == "__main__":
    assert ROOT
    main()
