"""Types of the columns carried from the inputs to the output, found out while the inputs are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.errors import UsageError
from pipeline.inputs.manifest import TEXT
from transforms.plan_reader import ERROR, SOURCE

if TYPE_CHECKING:
    import pyarrow as pa

# What a text column must look like throughout to be of that type. `007` is text: as a number it would lose its zeros.
_PATTERNS = (
    ("int64", r"^(0|-?[1-9][0-9]{0,17})$"),
    ("double", r"^-?(0|[1-9][0-9]{0,14})(\.[0-9]+)?([eE][-+]?[0-9]{1,2})?$"),  # a double has 15 digits
    ("bool", r"^(true|false|True|False|TRUE|FALSE)$"),
)


@dataclass
class _Column:
    """What is known of a column so far; None where no input has said anything."""

    typed: pa.DataType | None = None
    typed_in: str = ""
    looks_like: list[str] | None = None  # of the values of text columns; the first is the narrowest
    text_in: str = ""


@dataclass
class CarriedTypes:
    """One type for each carried column over all inputs.

    Columns that have a type (Parquet, JSON lines) are promoted as pyarrow does: int32 and int64 to int64, whole numbers
    and fractions to double. Text columns (CSV, TSV) become whole numbers, fractions or truth values when all of their
    values look like them, and follow a typed column of the same name.

    Attributes:
        names: `input.columns`.
        fixed: the types of a run that is extended; they stay.
    """

    names: Sequence[str] = ()
    fixed: pa.Schema | None = None
    _columns: dict[str, _Column] = field(default_factory=dict)
    _internal: set[str] = field(default_factory=set)

    def see(self, batch: pa.RecordBatch, source: str) -> None:
        """Take the columns of a batch into account.

        Args:
            source: what messages call the input.

        Raises:
            UsageError: a column cannot have one type.
        """
        for position, found in enumerate(batch.schema):
            if found.name in (ERROR, SOURCE):
                self._internal.add(found.name)
            elif found.name != "uri":
                column = self._columns.setdefault(found.name, _Column())
                if is_text(found):
                    column.looks_like = _narrowed(column.looks_like, batch.column(position))
                    column.text_in = source
                else:
                    self._promote(column, found, source)

    def _promote(self, column: _Column, found: pa.Field, source: str) -> None:
        import pyarrow as pa

        if column.typed is not None and column.typed != found.type:
            before = pa.schema([pa.field(found.name, column.typed)])
            try:
                both = pa.unify_schemas([before, pa.schema([found])], promote_options="permissive")
            except (pa.ArrowTypeError, pa.ArrowInvalid):
                raise clash(found.name, source, found.type, f"{column.typed} in {column.typed_in}") from None
            column.typed = both.field(0).type
        elif column.typed is None:
            column.typed = found.type
        column.typed_in = source

    def check_all_found(self, where: str) -> None:
        """Raises UsageError when no input has a column of one of the names."""
        missing = [name for name in self.names if name not in self._columns]
        if missing and self.fixed is None:
            raise UsageError(f"input.columns: no column {missing[0]!r} in {where}")

    def schema(self) -> pa.Schema:
        """Of the rows of the plan: `uri`, the carried columns in the config's order, then internal ones."""
        import pyarrow as pa

        fields = [pa.field("uri", pa.string(), nullable=False)]
        for name in self.names:
            if self.fixed is not None:
                fields.append(self.fixed.field(name))
            else:
                fields.append(pa.field(name, self._type(self._columns.get(name, _Column()))))
        return pa.schema([*fields, *(pa.field(name, pa.string()) for name in sorted(self._internal))])

    def _type(self, column: _Column) -> pa.DataType:
        import pyarrow as pa

        text = pa.type_for_alias(column.looks_like[0]) if column.looks_like else pa.string()
        if column.typed is None or pa.types.is_null(column.typed):
            return text
        if is_number(column.typed) and is_number(text):
            schemas = [pa.schema([pa.field("", type)]) for type in (column.typed, text)]
            return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
        return plain_type(column.typed)


def is_number(type: pa.DataType) -> bool:
    """Whether whole numbers and fractions can be promoted to each other."""
    import pyarrow as pa

    return pa.types.is_integer(type) or pa.types.is_floating(type)


def is_text(column: pa.Field) -> bool:
    """Whether the values of a field have no type but what they look like."""
    return bool(column.metadata and column.metadata.items() >= TEXT.items())


def conform(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """`batch` with the columns and types of `schema`; columns it does not have are null.

    Raises:
        UsageError: values of a column cannot be of its type.
    """
    import pyarrow as pa

    arrays = []
    for wanted in schema:
        position = batch.schema.get_field_index(wanted.name)
        if position < 0:
            arrays.append(pa.nulls(batch.num_rows, wanted.type))
            continue
        array = batch.column(position)
        if is_text(batch.schema.field(position)) and not pa.types.is_string(wanted.type):
            array = _null_where_empty(array)
        arrays.append(_cast(array, wanted))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _cast(array: pa.Array, wanted: pa.Field) -> pa.Array:
    import pyarrow as pa

    if array.type == wanted.type:
        return array
    try:
        return array.cast(wanted.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(
            f"input.columns: column {wanted.name!r} has values of type {array.type}, which cannot all be "
            f"{wanted.type} as others are ({reason})"
        ) from None


def clash(name: str, source: str, found: Any, others: str) -> UsageError:
    """The error of a column that has no common type."""
    return UsageError(f"input.columns: column {name!r} is {found} in {source}, and {others}; give it one type")


def plain_type(type: pa.DataType) -> pa.DataType:
    """`type` without what is only storage (dictionaries, views, extensions), and lists of any length.

    pyarrow cannot read a Parquet column of fixed-size lists back when one of the lists is null.
    """
    import pyarrow as pa

    if isinstance(type, pa.BaseExtensionType):
        return plain_type(type.storage_type)
    if pa.types.is_dictionary(type) or pa.types.is_run_end_encoded(type):
        return plain_type(type.value_type)
    if pa.types.is_string_view(type):
        return pa.string()
    if pa.types.is_binary_view(type):
        return pa.binary()
    if pa.types.is_large_list(type):
        return pa.large_list(_plain_field(type.value_field))
    if isinstance(type, (pa.ListType, pa.FixedSizeListType, pa.ListViewType, pa.LargeListViewType)):
        return pa.list_(_plain_field(type.value_field))
    if pa.types.is_struct(type):
        fields = [_plain_field(type.field(index)) for index in range(type.num_fields)]
        return pa.struct(fields or [pa.field("empty", pa.bool_())])  # Parquet has no struct without a field
    return pa.string() if pa.types.is_null(type) else type


def _plain_field(found: pa.Field) -> pa.Field:
    import pyarrow as pa

    return pa.field(found.name, plain_type(found.type), nullable=found.nullable)


def _narrowed(looks_like: list[str] | None, values: pa.StringArray) -> list[str] | None:
    """Those of the types so far that all of `values` look like; those that are empty are none."""
    import pyarrow.compute as pc

    if looks_like == []:
        return []
    given = values.filter(pc.greater(pc.binary_length(values), 0))
    if looks_like is None and not len(given):
        return None
    return [
        name
        for name, pattern in _PATTERNS
        if (looks_like is None or name in looks_like)
        and pc.all(pc.match_substring_regex(given, pattern=pattern)).as_py() is not False
    ]


def _null_where_empty(values: pa.StringArray) -> pa.StringArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.if_else(pc.equal(pc.binary_length(values), 0), pa.scalar(None, pa.string()), values)


def has_null(type: pa.DataType) -> bool:
    """Whether a type, or one inside it, is that of columns with nothing but nulls so far."""
    import pyarrow as pa

    if pa.types.is_nested(type):
        return any(has_null(type.field(index).type) for index in range(type.num_fields))
    return pa.types.is_null(type)


def times_as_text(type: pa.DataType) -> pa.DataType:
    """`type` with text in place of the times and dates that pyarrow sees in texts of JSON."""
    import pyarrow as pa

    if pa.types.is_temporal(type):
        return pa.string()
    if pa.types.is_list(type):
        return pa.list_(times_as_text(type.value_type))
    if pa.types.is_struct(type):
        fields = (type.field(index) for index in range(type.num_fields))
        return pa.struct([pa.field(found.name, times_as_text(found.type)) for found in fields])
    return type
