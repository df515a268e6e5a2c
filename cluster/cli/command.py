"""Commands whose options and output are declared once.

Typer reads the options of a command from its signature. :func:`command` gives it a signature in
which each parameter whose type is a dataclass, a group, is replaced by the options that its fields
declare, and hands the command the group as one value. A new option does not touch the commands that
take its group. A command that takes an :class:`.output.Output` has the option ``--json``.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Iterator
from typing import Annotated, Any, TypeVar

import typer

from cluster.cli.output import Output

_T = TypeVar("_T")
_Json = Annotated[
    bool, typer.Option("--json", help="Write NDJSON to stdout; the last line is `done` or `error`.")
]


def option(default: Any, *declarations: str, **settings: Any) -> Any:
    """Declare a parameter or the field of a group as an option, as :func:`typer.Option` does."""
    return _declared(default, typer.Option(*declarations, **settings))


def argument(default: Any, **settings: Any) -> Any:
    """Declare a parameter as an argument that may be left out, as :func:`typer.Argument` does."""
    return _declared(default, typer.Argument(**settings))


def _declared(default: Any, info: Any) -> Any:
    return dataclasses.field(default=default, metadata={"info": info})


def command(function: Callable[..., _T]) -> Callable[..., _T]:
    """Declare the fields of a command's groups as its options.

    A parameter or field that is a tuple is an option that may be repeated. An option with a
    ``parser`` may have any type.
    """
    hints = typing.get_type_hints(function, include_extras=True)
    groups: dict[str, Any] = {
        name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)
    }
    options: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(function).parameters.items():
        if name in groups:
            options += _fields(groups[name])
        elif name == "output":
            options.append(_option("context", typer.Context, inspect.Parameter.empty))
        else:
            options.append(_option(name, hints[name], parameter.default))
    if "output" in hints:
        options.append(_option("json", _Json, False))

    @functools.wraps(function)
    def with_groups(**given: Any) -> _T:
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in given.items()
        }
        for name, group in groups.items():
            fields = dataclasses.fields(group)
            values[name] = group(**{field.name: values.pop(field.name) for field in fields})
        if "output" in hints:
            values["output"] = Output(values.pop("context").obj, as_json=values.pop("json"))
        return function(**values)

    with_groups.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    with_groups.__annotations__ = {option.name: option.annotation for option in options}
    return with_groups


def _fields(group: Any) -> Iterator[inspect.Parameter]:
    hints = typing.get_type_hints(group, include_extras=True)
    for field in dataclasses.fields(group):
        yield _option(field.name, hints[field.name], field)


def _option(name: str, hint: Any, default: Any) -> inspect.Parameter:
    if isinstance(default, dataclasses.Field):
        if "info" in default.metadata:
            hint = Annotated[hint, default.metadata["info"]]
        default = default.default
        if default is dataclasses.MISSING:
            default = inspect.Parameter.empty
    if typing.get_origin(hint) is Annotated:
        kind, info = typing.get_args(hint)
        if getattr(info, "parser", None) is not None:
            hint = Annotated[Any, info]  # Typer would refuse a type that it cannot parse itself
        elif typing.get_origin(kind) is tuple:
            hint = Annotated[list[typing.get_args(kind)[0]], info]  # type: ignore[misc]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)
