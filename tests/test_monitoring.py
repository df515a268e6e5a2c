"""The Grafana dashboard and the Prometheus alerts ask for metrics, labels and values that exist."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import promql_parser as promql
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from cluster.service.http.reading import START
from cluster.service.library.files import DOCUMENTS
from tests.service_material import service

DOCS = Path(__file__).parent.parent / "docs"
OF_PROMETHEUS = {"job", "instance"}
"""Labels that Prometheus adds to what it scrapes."""
NOT_SHOWN = {("shotladder_deliveries", "state", "delivered")}
"""What is exposed and in neither file, as docs/monitoring.md says."""


@dataclass(frozen=True)
class Exposed:
    """What a service exposes."""

    labels: Mapping[str, Mapping[str, set[str]]]
    """Values of each label of each metric that were seen."""
    routes: set[str]
    """Values that the label ``route`` can have."""

    def values(self, metric: str, label: str) -> set[str]:
        return self.routes if label == "route" else self.labels[metric][label]


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> Exposed:
    with service(tmp_path_factory.mktemp("metrics") / "s", slots=0) as one:
        for path in ("/v1/titles/film/artwork", "/healthz"):
            httpx.get(one.url + path)
        text = httpx.get(f"{one.url}/metrics").text
        paths = httpx.get(f"{one.url}/openapi.json").json()["paths"]
    found: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = found.setdefault(sample.name, defaultdict(set))
            for label, value in sample.labels.items():
                labels[label].add(value)
    assert len(found) >= 7
    return Exposed(found, {*DOCUMENTS, START, *paths, "refused", "failed", "other"})


def dashboard() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((DOCS / "monitoring" / "dashboard.json").read_text())
    return document


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((DOCS / "monitoring" / "alerts.yml").read_text())["groups"]
    listed: list[dict[str, Any]] = group["rules"]
    return listed


def expressions() -> Iterator[tuple[str, str]]:
    """Where each expression of PromQL is, and the expression with Grafana's variables filled in."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            text = target["expr"].replace("$__rate_interval", "1m")
            yield f"panel {panel['title']}", re.sub(r"\$(job|instance)\b", ".*", text)
    for rule in rules():
        yield f"alert {rule['alert']}", rule["expr"]


EXPRESSIONS = list(expressions())


def parts(text: str) -> tuple[list[promql.VectorSelector], set[str]]:
    """The metrics that an expression asks for, and the labels by which it groups them."""
    selectors: list[promql.VectorSelector] = []
    grouped: set[str] = set()

    def visit(node: promql.Expr) -> bool:
        if isinstance(node, promql.VectorSelector):
            selectors.append(node)
        if isinstance(node, promql.AggregateExpr) and node.modifier is not None:
            grouped.update(node.modifier.labels)
        return True

    promql.walk(promql.parse(text), pre_visit=visit)
    return selectors, grouped


@pytest.mark.parametrize(("place", "text"), EXPRESSIONS, ids=[place for place, _ in EXPRESSIONS])
def test_what_is_asked_for_exists(place: str, text: str, exposed: Exposed) -> None:
    selectors, grouped = parts(text)
    assert selectors
    known: set[str] = set()
    for selector in selectors:
        if selector.name == "up":  # Prometheus' own
            continue
        assert selector.name in exposed.labels, place
        known |= {*exposed.labels[selector.name], *OF_PROMETHEUS}
        for matcher in selector.matchers.matchers:
            if matcher.name in OF_PROMETHEUS:
                continue
            assert matcher.name in exposed.labels[selector.name], place
            if matcher.name == "status":
                assert re.fullmatch(r"[1-5](\.\.|\d\d)(\|[1-5]\d\d)*", matcher.value), place
                continue
            assert {*matcher.value.split("|")} <= exposed.values(selector.name, matcher.name), place
    assert grouped <= known, place


def test_what_is_exposed_is_shown_or_listed(exposed: Exposed) -> None:
    shown = set()
    for _, text in EXPRESSIONS:
        for selector in parts(text)[0]:
            narrowed = {m.name: {*m.value.split("|")} for m in selector.matchers.matchers}
            states = exposed.labels.get(selector.name, {}).get("state", set())
            shown |= {(selector.name, "", "")}
            shown |= {(selector.name, "state", s) for s in narrowed.get("state", states)}
    there = {(name, "", "") for name in exposed.labels}
    for name, labels in exposed.labels.items():
        there |= {(name, "state", value) for value in labels.get("state", ())}
    assert there - shown == NOT_SHOWN
    page = (DOCS / "monitoring.md").read_text()
    for name, label, value in NOT_SHOWN:
        assert f'`{name}{{{label}="{value}"}}`' in page.rpartition("On neither")[2]
    for name in exposed.labels:
        assert f"`{re.sub('_(bucket|count|sum)$', '', name)}`" in page


def test_panels_have_places_of_their_own_and_units() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
        if panel["type"] != "row":
            assert panel["fieldConfig"]["defaults"]["unit"]
            assert panel["datasource"]["uid"] == "${datasource}"


def test_an_alert_says_what_is_wrong_and_what_to_do() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names) == 9
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "description"}
        assert rule["annotations"]["description"].rstrip().endswith(".")
        text = rule["annotations"]["summary"]
        asked = {*re.findall(r"\$labels\.(\w+)", text)}
        selectors, grouped = parts(rule["expr"])
        assert asked <= grouped or selectors[0].name == "up", rule["alert"]
