"""Parses untrusted JSON into dataclasses and checks the type of each value."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def typed(kind: type[T], told: Any, where: str = "it") -> T:
    """Returns the value as a `kind`: a dataclass of numbers, texts, tuples, mappings by name, and such dataclasses. A
    whole number is accepted for a float. `where` names the value in messages.

    Raises:
        ValueError: something is missing, unknown, or of another type.
    """
    return _value(kind, told, where)  # type: ignore[no-any-return]


def _value(kind: Any, told: Any, where: str) -> Any:
    if type(told) is kind:  # first, since most values are
        if kind is str:
            told.encode()  # raises for half of a surrogate pair, which is allowed in JSON but not in files
        return told
    origin, inner, is_record = _shape(kind)
    if is_record:
        return _record(kind, told, where)
    if origin in (Union, UnionType):
        return _one_of(inner, told, where)
    if origin is Literal:
        if isinstance(told, str) and told in inner:
            return told
        raise ValueError(f"{where} is not one of {', '.join(map(repr, inner))}")
    if origin in (tuple, Sequence) and isinstance(told, list):
        return tuple(_value(inner[0], each, f"{where}[{number}]") for number, each in enumerate(told))
    if origin in (dict, Mapping) and isinstance(told, dict):
        return {name: _value(inner[1], each, f"{where}.{name}") for name, each in told.items()}
    if kind is float and type(told) is int and abs(told) < 1 << 53:
        return float(told)
    raise ValueError(f"{where} is not of the kind {getattr(origin, '__name__', kind)}")


@cache
def _shape(kind: Any) -> tuple[Any, tuple[Any, ...], bool]:
    """Returns a type's origin and arguments, and whether it is a dataclass."""
    return get_origin(kind) or kind, get_args(kind), is_dataclass(kind)


def _one_of(kinds: tuple[Any, ...], told: Any, where: str) -> Any:
    if told is None and NoneType in kinds:
        return None
    *others, last = (kind for kind in kinds if kind is not NoneType)
    for kind in others:
        try:
            return _value(kind, told, where)
        except ValueError:
            continue
    return _value(last, told, where)


def _record(kind: Any, told: Any, where: str) -> Any:
    if not isinstance(told, dict):
        raise ValueError(f"{where} is not an object")
    kinds, needed = _fields(kind)
    if not needed <= told.keys() <= kinds.keys():
        missing, odd = sorted(needed - told.keys()), sorted(told.keys() - kinds.keys())
        raise ValueError(f"{where} has no {missing[0]}" if missing else f"{where} has an unknown {odd[0]!r}")
    return kind(**{name: _value(kinds[name], each, f"{where}.{name}") for name, each in told.items()})


@cache
def _fields(kind: Any) -> tuple[dict[str, Any], frozenset[str]]:
    """Returns the types of a dataclass's fields by name, and the fields without a default."""
    needed = (each.name for each in fields(kind) if each.default is MISSING and each.default_factory is MISSING)
    return get_type_hints(kind), frozenset(needed)
