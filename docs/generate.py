"""Write the parts of ``docs/`` that are derived from the code: ``python -m docs.generate``.

The command-line page is generated from the Typer app, the JSON Schemas from the pydantic models,
and the tables of events from their dataclasses. A test fails when a committed page differs from
what this module writes.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import typer

from cluster import events
from cluster.cli.app import app
from ladder.document import Document, Ladder, Measurements
from recommender.artwork.document import Artwork, SelectedArtwork
from recommender.prefetch.document import Prefetch

DOCS = Path(__file__).parent
SCHEMAS: dict[str, type[Document]] = {
    "ladder": Ladder,
    "measurements": Measurements,
    "artwork": Artwork,
    "artwork-selection": SelectedArtwork,
    "prefetch": Prefetch,
}


def generated() -> dict[Path, str]:
    """Return the text of every generated file, by its path relative to ``docs/``."""
    return {
        Path("cli.md"): cli_page(),
        Path("events.md"): events_page(),
        **{Path("schemas") / f"{name}.json": schema(model) for name, model in SCHEMAS.items()},
    }


def schema(model: type[Document]) -> str:
    """Return the JSON Schema of a document as it is serialised, not as it is validated."""
    document = model.model_json_schema(by_alias=True, mode="serialization")
    module = sys.modules[model.__module__]
    for name, part in {model.__name__: document, **document["$defs"]}.items():
        documented = getattr(module, name)
        docstrings = _document_docstrings(documented)
        known = documented.model_fields
        part["description"] = _flat(part["description"])
        # A written document has every field but those that are left out where they say nothing.
        part["required"] = [
            name
            for name in part["properties"]
            if name not in known or known[name].exclude_if is None
        ]
        for field, properties in part["properties"].items():
            properties.pop("title", None)  # pydantic repeats the field's name here
            if field in docstrings:
                properties["description"] = _flat(docstrings[field])
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


# -- the command line --------------------------------------------------------------------------


def commands() -> Iterator[tuple[str, Any]]:
    """Yield every command with its full name; a group comes before its commands."""
    root = typer.main.get_command(app)

    def walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
        yield name, command
        for child, inner in getattr(command, "commands", {}).items():
            yield from walk(f"{name} {child}", inner)

    yield from walk("shotladder", root)


def cli_page() -> str:
    """Return the text of ``cli.md``: every command and every option."""
    parts = [
        "# Command line",
        "<!-- written by docs/generate.py; do not edit -->",
        "Commands write data to stdout, and progress and errors to stderr. With `--json`, stdout "
        "is [NDJSON](formats.md#ndjson).",
        _table(
            ("exit status", "when"),
            [
                ("0", "The command succeeded. No other case ends with 0."),
                ("1", "A tool or the store failed, or a package does not verify."),
                ("2", "The user can correct the mistake; one line on stderr says how."),
                ("130, 143", "Ctrl-C or SIGTERM stopped the command; run it again to continue."),
                ("141", "The program that read stdout closed the pipe."),
            ],
        ),
        *(part for name, command in commands() for part in _command(name, command)),
    ]
    return "\n\n".join(parts) + "\n"


def _command(name: str, command: Any) -> Iterator[str]:
    yield f"## `{name}`"
    yield inspect.cleandoc(command.help or "")
    shown = [p for p in command.params if not getattr(p, "hidden", False) and p.name != "help"]
    inner = getattr(command, "commands", {})
    arguments = " ".join(_metavar(p) for p in shown if p.param_type_name == "argument")
    usage = f"{name} [OPTIONS] {'COMMAND ...' if inner else arguments}".rstrip()
    yield f"```\n{usage}\n```"
    rows = [(_spelled(p), _help(p)) for p in shown]
    if rows:
        yield _table(("", ""), rows)


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _spelled(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{_metavar(parameter)}`"
    value = "" if parameter.is_flag else f" {_metavar(parameter)}"
    return ", ".join(f"`{option}{value}`" for option in parameter.opts)


def _help(parameter: Any) -> str:
    text = parameter.help or ""
    default = parameter.default
    if not callable(default) and default not in (None, False, True, [], ()):
        text += f" Default: `{default}`."
    if parameter.envvar:
        text += f" Environment: `{parameter.envvar}`."
    # Typer writes a default in brackets, for terminals.
    return text.replace("[default: ", "Default: ").replace("]", ".") if "[" in text else text


# -- events ------------------------------------------------------------------------------------


def events_page() -> str:
    """Return the text of ``events.md``: what a command with ``--json`` reports while it works."""
    parts = [
        "# Events",
        "<!-- written by docs/generate.py; do not edit -->",
        "With `--json`, commands that work on media (`run`, `shots SOURCE`, `verify`) report these "
        "events on stdout while they work. " + _guarantees(),
    ]
    for kind in get_args(events.Event):
        parts += [f"## `{kind.type}`", inspect.cleandoc(kind.__doc__ or "")]
        rows = list(_fields(kind))
        if rows:
            parts.append(_table(("field", "type", ""), rows))
    return "\n\n".join(parts) + "\n"


def _guarantees() -> str:
    """Return the last paragraph of the events module's docstring, which states the guarantees."""
    paragraphs = inspect.cleandoc(events.__doc__ or "").split("\n\n")
    return _flat(paragraphs[-1])


def _fields(kind: Any) -> Iterator[tuple[str, str, str]]:
    docstrings = _attribute_docstrings(kind)
    for field in dataclasses.fields(kind):
        yield f"`{field.name}`", _json_type(str(field.type)), _flat(docstrings.get(field.name, ""))


def _json_type(annotation: str) -> str:
    names = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
    first, *rest = (part.strip() for part in annotation.split("|"))
    json_name = names.get(first, "object")
    return f"{json_name}, may be missing" if "None" in rest else json_name


def _attribute_docstrings(kind: type) -> dict[str, str]:
    """Return the strings under a class's fields, from its source: Python drops them at run time."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(body, ast.ClassDef)
    docstrings = {}
    for statement, after in zip(body.body, body.body[1:], strict=False):
        match statement, after:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                docstrings[name] = text
    return docstrings


def _document_docstrings(kind: type) -> dict[str, str]:
    """Return a document's attribute docstrings, including those that it inherits."""
    bases = (base for base in reversed(kind.__mro__) if issubclass(base, Document))
    return {name: text for base in bases for name, text in _attribute_docstrings(base).items()}


def _flat(text: str) -> str:
    """Return a docstring as one line of Markdown."""
    return re.sub(r":\w+:(`[^`]+`)", r"\1", " ".join(text.replace("``", "`").split()))


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def main() -> None:
    """Write every generated file."""
    for path, text in generated().items():
        target = DOCS / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        print(f"docs/{path}")


if __name__ == "__main__":
    main()
