"""Dataclasses in Arrow and back: the schema of a dataclass, its instances as a table, and an instance from a record.

    str, Literal[...]          string
    bool                       bool
    int                        int64; Int8, Int16 and Int32 are narrower
    float                      double
    X | None                   the type of X: every Arrow field may be null
    tuple[X, ...]              a list of X
    another dataclass          a struct of its fields

Each field is declared only in its dataclass. rows.py derives its schemas and its readers here.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, fields, is_dataclass
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import pyarrow as pa

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Int8 = Annotated[int, pa.int8()]
Int16 = Annotated[int, pa.int16()]
Int32 = Annotated[int, pa.int32()]

_D = TypeVar("_D", bound="DataclassInstance")
_Convert = Callable[[Any], Any]
_SIMPLE = {str: pa.string(), bool: pa.bool_(), int: pa.int64(), float: pa.float64()}


def schema_of(cls: "type[DataclassInstance]") -> pa.Schema:
    """The Arrow schema of a dataclass. Raises TypeError for a field type that is not listed above."""
    return pa.schema(_arrow_fields(cls))


def table_of(instances: "Iterable[DataclassInstance]", schema: pa.Schema) -> pa.Table:
    """Instances of one dataclass as a table."""
    return pa.Table.from_pylist([asdict(instance) for instance in instances], schema=schema)


def reader_of(cls: type[_D]) -> Callable[[Mapping[str, Any]], _D]:
    """A function from the record that Arrow gives back to the instance.

    A field that the record lacks, as in an older artifact, takes its default. A column that is no field is ignored.
    """
    names = [field.name for field in fields(cls)]
    converters = _converters(cls)

    def read(record: Mapping[str, Any]) -> _D:
        values = {name: record[name] for name in names if name in record}
        for name, convert in converters.items():
            if name in values:
                values[name] = convert(values[name])
        return cls(**values)

    return read


def _arrow_fields(cls: "type[DataclassInstance]") -> list[tuple[str, pa.DataType]]:
    types = get_type_hints(cls, include_extras=True)
    return [(field.name, _arrow_type(types[field.name])) for field in fields(cls)]


def _arrow_type(annotation: Any) -> pa.DataType:
    annotation = _required(annotation)
    if get_origin(annotation) is Annotated:
        width: pa.DataType = annotation.__metadata__[0]
        return width
    if get_origin(annotation) is Literal:
        return pa.string()
    if item := _item(annotation):
        return pa.list_(_arrow_type(item))
    if is_dataclass(annotation) and isinstance(annotation, type):
        return pa.struct(_arrow_fields(annotation))
    if annotation not in _SIMPLE:
        raise TypeError(f"{annotation}: no Arrow type is known for it")
    return _SIMPLE[annotation]


def _converters(cls: "type[DataclassInstance]") -> dict[str, _Convert]:
    """How the values of a dataclass's fields are read, by field; strings, numbers and booleans need nothing."""
    converters = {name: _converter(annotation) for name, annotation in get_type_hints(cls).items()}
    return {name: convert for name, convert in converters.items() if convert}


def _converter(annotation: Any) -> _Convert | None:
    if (required := _required(annotation)) is not annotation:
        convert = _converter(required)
        return convert and (lambda value: None if value is None else convert(value))
    if item := _item(annotation):
        convert_item = _converter(item)
        return (lambda values: tuple(map(convert_item, values))) if convert_item else tuple
    if not is_dataclass(annotation) or not isinstance(annotation, type):
        return None
    if _converters(annotation):
        return reader_of(annotation)
    return lambda record: annotation(**record)  # no field needs more: half the time, for 15 judgments a row


def _required(annotation: Any) -> Any:
    """X of an annotation `X | None`; any other as it is."""
    if get_origin(annotation) not in (Union, UnionType):
        return annotation
    (required,) = (option for option in get_args(annotation) if option is not NoneType)
    return required


def _item(annotation: Any) -> Any:
    """X of an annotation `tuple[X, ...]`; None for any other."""
    return get_args(annotation)[0] if get_origin(annotation) is tuple else None
