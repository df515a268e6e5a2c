"""The report, the player and the operators' page in real browsers: no errors, no network, any
width, exact frames."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.package import report
from tests import playback_material as material
from tests.cli_material import MODEL, hand_made, hand_made_measurements, of_three_codecs
from tests.operators_material import HOSTILE, READER, TITLES, WHY, busy_service
from tests.playback_material import FRAMES, RATE, SHOTS
from tests.report_material import write_long_title
from tests.service_material import ServiceProcess, service

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

BROWSERS = pytest.mark.parametrize("browser", list(material.BROWSERS))
PAGES = {"/pages.html": material.HERE / "browser" / "pages.html"}


def needs(browser: str) -> None:
    if material.find_browser(browser) is None:
        why = f"PAGES NOT PROVEN: {browser} is not installed: `make browsers` installs it"
        if os.environ.get("SHOTLADDER_BROWSERS"):
            pytest.fail(why)
        warnings.warn(why, stacklevel=1)
        pytest.skip(why)


@BROWSERS
def test_the_report_is_drawn_at_any_width_and_reached_by_keys(browser: str, tmp_path: Path) -> None:
    needs(browser)
    (tmp_path / "ladder.json").write_text(of_three_codecs(hand_made()).to_json())
    (tmp_path / "measurements.json").write_text(hand_made_measurements().to_json())
    made = report.write_report(report.ReportOptions(tmp_path), lambda event: None)
    places = {**PAGES, "/report.html": made}
    with material.serving(tmp_path, made, places) as server:
        seen = material.visit(browser, server, "/pages.html?page=report")
    assert seen["errors"] == []
    assert seen["resources"] == []  # it needs nothing but itself
    assert seen["widths"] == {"390": 390, "1280": 1280} or all(
        width <= int(name) for name, width in seen["widths"].items()
    )
    assert seen["nameless"] == 0
    assert {"overview", "curves", "timeline", "shots", "baselines", "codecs", "artwork"} <= {
        *seen["sections"]
    }
    assert seen["selected"].startswith("Shot 0")
    assert MODEL in seen["tip"]
    assert seen["hover"].startswith("Shot ")
    assert "kbit/s" in seen["hover"]
    assert seen["cards"] == {"390": "grid", "1280": "table-row"}
    assert "an hour of the highest rung would be" in seen["lead"]
    assert seen["raw"] == 0
    assert seen["first"] == "0"  # sorted by shot, after a press on that head


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of 1,500 shots in nine rungs, with thumbnails."""
    folder = tmp_path_factory.mktemp("film")
    write_long_title(folder)
    return report.write_report(report.ReportOptions(folder), lambda event: None)


@BROWSERS
def test_the_report_of_a_film_opens_at_once(browser: str, film: Path) -> None:
    """The page is painted within seconds of the request."""
    needs(browser)
    with material.serving(film.parent, film, {**PAGES, "/report.html": film}) as server:
        seen = material.visit(browser, server, "/pages.html?page=open")
    assert seen["errors"] == []
    assert seen["sheet"] == [True]
    assert seen["opened"] < 6000, seen  # under 2000 on a machine that does nothing else
    assert seen["selected"] < 2000, seen  # a step along the strip


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("player")
    return material.make_package(material.make_clip(folder / "clip.mp4"), folder / "package")


@BROWSERS
@pytest.mark.parametrize("readers", [False, True], ids=["open", "with-tokens"])
def test_the_services_player_shows_every_shot_and_plays_to_the_end(
    browser: str, readers: bool, package: Path, tmp_path: Path
) -> None:
    needs(browser)
    (tmp_path / "readers").write_text("player a-token-of-readers\n")
    more = {"read_tokens": str(tmp_path / "readers")} if readers else {}
    with service(tmp_path / "s", **more) as one, one.client() as client:
        job = client.submit(one.source("film.json", package=str(package)), external_id="film")
        assert client.wait(job.id).state == "succeeded"
        asked = "&token=a-token-of-readers" if readers else ""
        with material.serving(package, package, PAGES, one.url) as server, material.sound():
            at = "/v1/titles/film/player"
            seen = material.visit(browser, server, f"/pages.html?page=player&at={at}{asked}")
        refused = {"error": seen["errors"], "failed": seen["failed"], "missing": server.missing}
    assert refused == {"error": [], "failed": "", "missing": []}
    assert [shown for _, shown in seen["seeks"]] == [start for start, _ in SHOTS]
    assert seen["ended_at"] == pytest.approx(FRAMES / float(RATE), abs=1 / float(RATE))
    assert "kbit/s" in seen["said"]
    assert MODEL in seen["legend"]
    assert seen["elsewhere"] == []
    assert seen["width"] <= 390


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with busy_service(tmp_path_factory.mktemp("busy")) as one:
        yield one


@BROWSERS
@pytest.mark.parametrize("readers", [False, True], ids=["open", "with-tokens"])
def test_the_operators_page_shows_everything_and_lets_nothing_in(
    browser: str, readers: bool, busy: ServiceProcess, tmp_path: Path
) -> None:
    needs(browser)
    (tmp_path / "readers").write_text(f"reader {READER}\n")
    more = {"read_tokens": str(tmp_path / "readers")} if readers else {}
    tokens = ["not-a-known-token", READER, busy.token] if readers else [busy.token]
    one = ServiceProcess(busy.data.parent, slots=0, **more)  # beside the other, on its folder
    one.start()
    try:
        name = f"{browser}-{readers}"
        with busy.client() as client:
            for width in (390, 1280):
                client.submit(
                    one.source("sea.json"), external_id=f"{name}-{width}", priority=-10, force=True
                )
        with material.serving(tmp_path, tmp_path, PAGES, one.url) as server:
            asked = f"/pages.html?page=operators&tokens={','.join(tokens)}&cancel={name}"
            seen = material.visit(browser, server, asked)
    finally:
        one.stop()
    assert seen["errors"] == []
    nobody, *known = seen["seen"]
    if readers:
        assert nobody["asked"] == "Reading this service needs a token."
        assert nobody["titles"] == 0
        unknown, reader, writer = known
        assert unknown["asked"] == "The service does not know this token."
        assert (reader["asked"], reader["titles"]) == ("", len(TITLES))
        assert "the scope `submit`" in reader["deliveries"]
    else:
        assert (nobody["asked"], nobody["titles"]) == ("", len(TITLES))
        assert "Not shown without a token that may submit" in nobody["deliveries"]
        (writer,) = known
    assert (writer["asked"], writer["trouble"]) == ("", "")
    assert "Given up after 10 attempts: 500 Out of order" in writer["deliveries"]
    assert "s3cret" not in writer["deliveries"]  # what only its receiver may know
    assert 0 <= seen["bar"] < 1
    assert "encode 1: " in seen["doing"]
    assert "attempt 1" not in seen["doing"]
    assert WHY in seen["failed"]
    assert HOSTILE.replace("/", "") in seen["failed"]
    assert all(title in seen["titles"] for title in TITLES)
    assert "v1/titles/sea/player Player" in seen["links"]
    assert ("v1/titles/sea/report Report" in seen["links"]) == (not readers)  # or signed
    assert "report of film" in seen["report"][0]
    assert "sandbox" in seen["report"][1]
    assert seen["widths"] == {"390": 390, "1280": 1280} or all(
        width <= int(name) for name, width in seen["widths"].items()
    )
    assert (seen["name"], seen["taken"], seen["violations"]) == ("shotladder", 0, [])
    assert (seen["elsewhere"], seen["nameless"], seen["focused"]) == ([], 0, [])
    assert seen["kept"] == [["shotladder-token"], [], ""]
    assert {"Retry broken", "Cancel long-film", f"Cancel {name}-1280"} <= {*seen["buttons"]}
    with busy.client() as client:
        ended = {job.title: job.state for job in client.jobs(state="cancelled")}
    assert {f"{name}-390", f"{name}-1280"} <= ended.keys()
