"""Groups of options: a parameter of a command whose type is a dataclass stands for its fields.

Typer reads the options of a command from its signature. :func:`grouped` gives it a signature in
which each group is replaced by the options that its fields declare, and hands the command the group
as one value. Options that several commands share are thereby declared once, and a new option does
not touch the commands that take its group.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Iterator
from typing import Annotated, Any, TypeVar

_T = TypeVar("_T")


def grouped(command: Callable[..., _T]) -> Callable[..., _T]:
    """Declare the fields of a command's groups as its options.

    A field that is a tuple is an option that may be repeated. An option with a ``parser`` may have
    any type.
    """
    hints = typing.get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {
        name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)
    }
    options: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name in groups:
            options += _fields(groups[name])
        else:
            options.append(_option(name, hints[name], parameter.default))

    @functools.wraps(command)
    def with_groups(**given: Any) -> _T:
        values = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in given.items()
        }
        for name, group in groups.items():
            fields = dataclasses.fields(group)
            values[name] = group(**{field.name: values.pop(field.name) for field in fields})
        return command(**values)

    with_groups.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    with_groups.__annotations__ = {option.name: option.annotation for option in options}
    return with_groups


def _fields(group: Any) -> Iterator[inspect.Parameter]:
    hints = typing.get_type_hints(group, include_extras=True)
    for field in dataclasses.fields(group):
        required = field.default is dataclasses.MISSING
        default = inspect.Parameter.empty if required else field.default
        yield _option(field.name, hints[field.name], default)


def _option(name: str, hint: Any, default: Any) -> inspect.Parameter:
    if typing.get_origin(hint) is Annotated:
        kind, info = typing.get_args(hint)
        if getattr(info, "parser", None) is not None:
            hint = Annotated[Any, info]  # Typer would refuse a type that it cannot parse itself
        elif typing.get_origin(kind) is tuple:
            hint = Annotated[list[typing.get_args(kind)[0]], info]  # type: ignore[misc]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)
