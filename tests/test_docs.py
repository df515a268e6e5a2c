"""What docs/ says about the code is what the code is."""

from __future__ import annotations

import json
import pkgutil
import re
from pathlib import Path

import pytest

from cluster.cli.app import app
from docs import generate
from recommender.prefetch.build import build_prefetch
from tests.cli_material import hand_made, hand_made_measurements
from tests.service_material import written_package

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = (*DOCS.glob("*.md"), ROOT / "README.md")
FOLDERS = "encoder|vmaf|ladder|recommender|cluster|tests|fixtures|data|docs"


GENERATED = generate.generated()


@pytest.mark.parametrize("path", GENERATED, ids=str)
def test_generated_files_are_current(path: Path) -> None:
    assert (DOCS / path).read_text("utf-8") == GENERATED[path], "run `make docs`"


def test_every_command_and_option_is_documented() -> None:
    page = (DOCS / "cli.md").read_text("utf-8")
    sections = dict(re.findall(r"^## `([^`]+)`\n(.*?)(?=^## |\Z)", page, re.M | re.S))
    found = dict(generate.commands())
    assert set(sections) == set(found)
    assert len(found) > 8
    for name, command in found.items():
        assert command.help, name
        for parameter in command.params:
            if parameter.name == "help":
                continue
            assert parameter.help, f"{name} {parameter.name}"
            for option in parameter.opts if parameter.param_type_name == "option" else ():
                assert f"`{option}" in sections[name], f"{name} {option}"


def test_no_command_hides_another() -> None:
    names = [one.name or one.callback.__name__ for one in app.registered_commands if one.callback]
    assert sorted(set(names)) == sorted(names)


NOT_ALWAYS = {
    *("external_id", "editors", "features"),
    *("sound", "excerpt", "cues", "encryption", "more_audio", "language", "roles"),
}
"""Fields that documents may lack. A service puts the first ones into what it serves; there
is nothing to say of sound about which nobody decided anything, of tracks that are the only one, nor
of the part that a title is which is a whole source."""


def test_schemas_describe_what_is_written() -> None:
    prefetch = build_prefetch(*written_package("title"))
    for name, document in (
        ("ladder", hand_made()),
        ("measurements", hand_made_measurements()),
        ("prefetch", prefetch),
    ):
        schema = json.loads((DOCS / "schemas" / f"{name}.json").read_text("utf-8"))
        check(json.loads(document.to_json()), schema, schema["$defs"])


def check(value: object, schema: dict[str, object], definitions: dict[str, object]) -> None:
    """Names, and what is required: all that a reader relies on when it indexes."""
    if "$ref" in schema:
        schema = definitions[str(schema["$ref"]).rsplit("/", 1)[1]]  # type: ignore[assignment]
    match value, schema.get("type"):
        case dict(), "object" if "properties" in schema:
            properties = schema["properties"]
            assert isinstance(properties, dict)
            required = set(schema["required"])  # type: ignore[call-overload]
            assert set(properties) - NOT_ALWAYS == required
            assert required <= set(value) <= set(properties)
            for name, inner in value.items():
                check(inner, properties[name], definitions)
        case list(), "array":
            for inner in value:
                check(inner, schema["items"], definitions)  # type: ignore[arg-type]
        case dict(), "array":
            pytest.fail(f"{value} should be a list")
        case list(), "object":
            pytest.fail(f"{value} should be an object")
        case int(), kind if kind is not None:
            assert kind in ("integer", "number", "boolean")
        case str(), kind if kind is not None:
            assert kind == "string"


def anchors(page: Path) -> set[str]:
    """Names by which GitHub links to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.M)
    return {re.sub(r"[^\w\s-]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", page.read_text("utf-8")):
            path = page.parent / target if target else page
            assert path.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in anchors(path), f"{page.name}: {target}#{anchor}"


def spans(pattern: str) -> list[tuple[str, str]]:
    """Pages with the spans of code in them that a pattern matches."""
    return [
        (page.name, span)
        for page in PAGES
        for span in re.findall(rf"`({pattern})`", page.read_text("utf-8"))
    ]


def test_files_that_pages_name_exist() -> None:
    paths = spans(rf"(?:{FOLDERS})/[\w./-]+")
    assert len(paths) > 20
    assert [(page, path) for page, path in paths if not (ROOT / path).exists()] == []


def test_names_of_the_code_that_pages_use_exist() -> None:
    names = spans(r"(?!ladder\.json)(?:encoder|vmaf|ladder|recommender|cluster)\.\w[\w.]*")
    assert len(names) > 3
    for page, name in names:
        assert pkgutil.resolve_name(name) is not None, page
