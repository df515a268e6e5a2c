"""The pages of the service over HTTP: open, strict, and of one look."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib import resources

import httpx
import pytest

from tests.service_material import ServiceProcess, service

PAGES = {
    "/": ("cluster.service.http", "operators.html"),
    "/v1/titles/film/player": ("cluster.service.library", "player.html"),
}
REPORT = ("cluster.package", "report.html")


def text_of(package: str, name: str) -> str:
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    folder = tmp_path_factory.mktemp("pages")
    (folder / "readers").write_text("reader a-token-of-readers\n")
    with service(folder / "s", slots=0, read_tokens=str(folder / "readers")) as one:
        yield one


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_open_and_its_policy_allows_only_itself(
    running: ServiceProcess, path: str
) -> None:
    assert httpx.get(f"{running.url}/v1/jobs").status_code == 401
    answer = httpx.get(running.url + path)
    assert answer.status_code == 200
    assert answer.text == text_of(*PAGES[path])
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = dict(
        part.strip().partition(" ")[::2]
        for part in answer.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert policy["require-trusted-types-for"] == "'script'"
    for kind in ("script", "style"):
        (content,) = re.findall(rf"<{kind}>(.*?)</{kind}>", answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert policy[f"{kind}-src"] == f"'sha256-{digest}'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert "http" not in answer.headers["content-security-policy"]


class Outside(HTMLParser):
    """Collects what a page would load from elsewhere, and what its policy would not let run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.labelled: set[str] = set()
        self.fields: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        for name in ("src", "href"):
            if not values.get(name, "#").startswith(("#", "data:,")):
                self.found.append(f"{tag} {name}={values[name]}")
        self.found += [f"{tag} {name}" for name in values if name.startswith("on")]
        self.found += [f"{tag} style" for name in values if name == "style"]
        if tag == "label":
            self.labelled.add(values["for"])
        if tag in ("input", "select"):
            self.fields.add(values["id"])


@pytest.mark.parametrize("page", PAGES.values())
def test_a_page_needs_nothing_but_itself_and_labels_its_fields(page: tuple[str, str]) -> None:
    text = text_of(*page)
    seen = Outside()
    seen.feed(text)
    assert seen.found == []
    assert seen.fields == seen.labelled
    assert 'lang="en"' in text
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "localStorage",
                "document.cookie", "eval("):  # fmt: skip
        assert way not in text


def colours(page: tuple[str, str]) -> list[dict[str, str]]:
    """The named colours of a page, light and dark."""
    found = [
        dict(re.findall(r"--([a-z0-9]+):(#[0-9a-f]+)", block))
        for block in re.findall(r":root \{(.*?)\}", text_of(*page), re.DOTALL)
    ]
    assert len(found) == 2
    return found


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[n : n + 2], 16) / 255 for n in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("page", [*PAGES.values()])
def test_all_pages_have_one_look(page: tuple[str, str]) -> None:
    for mine, reports in zip(colours(page), colours(REPORT), strict=True):
        shared = mine.keys() & reports.keys()
        assert {"paper", "ink", "soft", "line"} <= shared
        assert {name: mine[name] for name in shared} == {name: reports[name] for name in shared}


def test_the_operators_page_can_be_read() -> None:
    """WCAG 2.2, AA: text has a contrast of 4.5 to what is behind it, bars of 3."""
    for named in colours(PAGES["/"]):
        for behind in ("paper", "panel"):
            for text in ("ink", "soft", "link", "c1", "c4"):
                assert contrast(named[text], named[behind]) >= 4.5, (text, behind)
        assert contrast(named["c0"], named["panel"]) >= 3
        assert contrast(named["soft"], named["line"]) >= 4.5  # in place of a poster
