"""Many rows in one statement: all of them as one JSON parameter, instead of a statement, or an array, a column."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from shared.database.engine import Write

# The server looks a foreign key up for each row by itself, and where plans are not kept (docs/decisions/0017) it plans
# that for each row, too, which costs more than the row. A plan that goes by the key's index is right for any size.
_PLANS: Final = sa.text("SELECT set_config('plan_cache_mode', :kept, true), set_config('enable_seqscan', :scans, true)")


def rows(table: sa.Table, columns: Sequence[str], values: Iterable[Mapping[str, Any]]) -> sa.TextualSelect:
    """The values as a relation with the table's own types; each has these columns and no others."""
    names = ", ".join(columns)
    given = msgspec.json.encode(list(values)).decode()
    text = sa.text(f"SELECT {names} FROM json_populate_recordset(NULL::{table.fullname}, CAST(:given AS json))")  # noqa: S608 - names of our own columns
    return text.bindparams(sa.bindparam("given", given, unique=True)).columns(
        *(sa.column(name, table.c[name].type) for name in columns)
    )


def _only(columns: Sequence[str], values: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """A column that is missing is a fault here, and no NULL there."""
    return ({name: one[name] for name in columns} for one in values)


async def insert(tx: Write, table: sa.Table, values: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows that all have the same columns."""
    if not values:
        return
    columns = list(values[0])
    if table.foreign_keys:
        await tx.execute(_PLANS, {"kept": "force_generic_plan", "scans": "off"})
    await tx.execute(sa.insert(table).from_select(columns, rows(table, columns, _only(columns, values))))
    if table.foreign_keys:
        await tx.execute(_PLANS, {"kept": "force_custom_plan", "scans": "on"})


async def update(
    tx: Write, table: sa.Table, key: Sequence[str], columns: Sequence[str], values: Sequence[Mapping[str, Any]]
) -> None:
    """Set `columns` of each row that has this key."""
    if values:
        given = [*key, *columns]
        new = rows(table, given, _only(given, values)).cte("new")
        await tx.execute(
            sa.update(table)
            .where(*(table.c[name] == new.c[name] for name in key))
            .values({name: new.c[name] for name in columns})
        )


def among(table: sa.FromClause, steve_id: str, pks: Collection[int]) -> sa.ColumnElement[bool]:
    """Whether a row is about one of these transactions of SteVe.

    The bounds say nothing that the list does not. But the server believes for a minute that a table is as small as it
    was, and a list alone it then answers by reading all that SteVe ever recorded.
    """
    if not pks:
        return sa.false()
    pk = table.c.transaction_pk
    return sa.and_(
        table.c.steve_id == steve_id,
        pk.between(min(pks), max(pks)),
        pk == sa.any_(sa.cast(sa.literal(f"{{{','.join(map(str, pks))}}}"), sa.ARRAY(sa.BigInteger))),
    )
