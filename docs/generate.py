"""Write the parts of ``docs/`` that follow from the code: ``python -m docs.generate``.

The command line's page comes from the Typer app, the JSON Schemas from the pydantic models, the
tables of events from their dataclasses. A test fails when what is committed is not what this
writes.
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
from recommender.prefetch import Prefetch

DOCS = Path(__file__).parent
SCHEMAS: dict[str, type[Document]] = {
    "ladder": Ladder,
    "measurements": Measurements,
    "artwork": Artwork,
    "artwork-selection": SelectedArtwork,
    "prefetch": Prefetch,
}


def generated() -> dict[Path, str]:
    """Every generated file, relative to ``docs/``, with its text."""
    return {
        Path("cli.md"): cli_page(),
        Path("events.md"): events_page(),
        **{Path("schemas") / f"{name}.json": schema(model) for name, model in SCHEMAS.items()},
    }


def schema(model: type[Document]) -> str:
    """JSON Schema of a document as it is written, not as it is built."""
    made = model.model_json_schema(by_alias=True, mode="serialization")
    module = sys.modules[model.__module__]
    for name, part in {model.__name__: made, **made["$defs"]}.items():
        said = _document_docstrings(getattr(module, name))
        part["description"] = _flat(part["description"])
        part["required"] = list(part["properties"])  # what we write has every field
        for field, properties in part["properties"].items():
            properties.pop("title", None)  # the field's name again
            if field in said:
                properties["description"] = _flat(said[field])
    return json.dumps(made, indent=2, ensure_ascii=False) + "\n"


# -- the command line --------------------------------------------------------------------------


def commands() -> Iterator[tuple[str, Any]]:
    """Every command with its full name, groups before what is in them."""
    root = typer.main.get_command(app)

    def walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
        yield name, command
        for child, inner in getattr(command, "commands", {}).items():
            yield from walk(f"{name} {child}", inner)

    yield from walk("shotladder", root)


def cli_page() -> str:
    """``cli.md``: every command and every option."""
    parts = [
        "# Command line",
        "<!-- written by docs/generate.py; do not edit -->",
        "stdout is data, stderr is progress and errors. With `--json` stdout is "
        "[NDJSON](formats.md#ndjson).",
        _table(
            ("exit status", "when"),
            [
                ("0", "success, and only then"),
                ("1", "it failed: a tool, the store, a package that does not verify"),
                ("2", "a mistake that the user can put right; one line on stderr says how"),
                ("130, 143", "stopped by Ctrl-C or SIGTERM; the same command continues"),
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
    given = parameter.default
    if not callable(given) and given not in (None, False, True, [], ()):
        text += f" Default: `{given}`."
    if parameter.envvar:
        text += f" Environment: `{parameter.envvar}`."
    # Typer's own brackets are for terminals.
    return text.replace("[default: ", "Default: ").replace("]", ".") if "[" in text else text


# -- events ------------------------------------------------------------------------------------


def events_page() -> str:
    """``events.md``: what a command with ``--json`` reports while it works."""
    parts = [
        "# Events",
        "<!-- written by docs/generate.py; do not edit -->",
        "What commands that work on media (`run`, `shots SOURCE`, `verify`) report on stdout with "
        "`--json` while they do. " + _guarantees(),
    ]
    for kind in get_args(events.Event):
        parts += [f"## `{kind.type}`", inspect.cleandoc(kind.__doc__ or "")]
        rows = list(_fields(kind))
        if rows:
            parts.append(_table(("field", "type", ""), rows))
    return "\n\n".join(parts) + "\n"


def _guarantees() -> str:
    """The paragraph of the module's docstring that promises something."""
    paragraphs = inspect.cleandoc(events.__doc__ or "").split("\n\n")
    return _flat(paragraphs[-1])


def _fields(kind: Any) -> Iterator[tuple[str, str, str]]:
    said = _attribute_docstrings(kind)
    for field in dataclasses.fields(kind):
        yield f"`{field.name}`", _json_type(str(field.type)), _flat(said.get(field.name, ""))


def _json_type(annotation: str) -> str:
    names = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
    first, *rest = (part.strip() for part in annotation.split("|"))
    named = names.get(first, "object")
    return f"{named}, may be missing" if "None" in rest else named


def _attribute_docstrings(kind: type) -> dict[str, str]:
    """Strings under the fields of a class: they are not kept at run time."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for statement, after in zip(body.body, body.body[1:], strict=False):
        match statement, after:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[name] = text
    return found


def _document_docstrings(kind: type) -> dict[str, str]:
    """As :func:`_attribute_docstrings`, those of the documents it extends included."""
    bases = (base for base in reversed(kind.__mro__) if issubclass(base, Document))
    return {name: text for base in bases for name, text in _attribute_docstrings(base).items()}


def _flat(text: str) -> str:
    """A docstring as one line of Markdown."""
    return re.sub(r":\w+:(`[^`]+`)", r"\1", " ".join(text.replace("``", "`").split()))


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def main() -> None:
    """Write all of it."""
    for path, text in generated().items():
        target = DOCS / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        print(f"docs/{path}")


if __name__ == "__main__":
    main()
