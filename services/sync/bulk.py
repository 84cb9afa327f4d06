"""Many rows in one statement: all of them as one JSON parameter, instead of a statement, or an array, a column.

The statements are made once: to put one of these together takes longer than to send it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from shared.database.engine import Write

# The server looks a foreign key up for each row by itself, and where plans are not kept (docs/decisions/0017) it plans
# that for each row, too, which costs more than the row. A plan that goes by the key's index is right for any size.
_PLANS: Final = sa.text("SELECT set_config('plan_cache_mode', :kept, true), set_config('enable_seqscan', :scans, true)")


def rows(table: sa.Table, columns: Sequence[str], parameter: str = "given") -> sa.TextualSelect:
    """What `encoded` gives for that parameter, as a relation with the table's own types."""
    names = ", ".join(columns)
    text = sa.text(f"SELECT {names} FROM json_populate_recordset(NULL::{table.fullname}, CAST(:{parameter} AS json))")  # noqa: S608 - names of our own columns
    return text.columns(*(sa.column(name, table.c[name].type) for name in columns))


def encoded(columns: Sequence[str], values: Iterable[Mapping[str, Any]]) -> str:
    """These columns of the values. One that is missing is a fault here, and no NULL there."""
    return msgspec.json.encode([{name: one[name] for name in columns} for one in values]).decode()


async def insert(tx: Write, table: sa.Table, values: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows that all have the same columns."""
    if not values:
        return
    columns = tuple(values[0])
    if table.foreign_keys:
        await tx.execute(_PLANS, {"kept": "force_generic_plan", "scans": "off"})
    await tx.execute(_insert(table, columns), {"given": encoded(columns, values)})
    if table.foreign_keys:
        await tx.execute(_PLANS, {"kept": "force_custom_plan", "scans": "on"})


@cache
def _insert(table: sa.Table, columns: tuple[str, ...]) -> sa.Insert:
    return sa.insert(table).from_select(columns, rows(table, columns))


async def update(
    tx: Write, table: sa.Table, key: tuple[str, ...], columns: tuple[str, ...], values: Sequence[Mapping[str, Any]]
) -> None:
    """Set `columns` of each row that has this key."""
    if values:
        await tx.execute(_update(table, key, columns), {"given": encoded((*key, *columns), values)})


@cache
def _update(table: sa.Table, key: tuple[str, ...], columns: tuple[str, ...]) -> sa.Update:
    new = rows(table, (*key, *columns)).cte("new")
    return (
        sa.update(table)
        .where(*(table.c[name] == new.c[name] for name in key))
        .values({name: new.c[name] for name in columns})
    )


def among(table: sa.FromClause) -> sa.ColumnElement[bool]:
    """Whether a row is about one of `these` transactions of SteVe.

    The bounds say nothing that the list does not. But the server believes for a minute that a table is as small as it
    was, and a list alone it then answers by reading all that SteVe ever recorded.
    """
    pk = table.c.transaction_pk
    return sa.and_(
        table.c.steve_id == sa.bindparam("its_steve"),
        pk.between(sa.bindparam("first_pk"), sa.bindparam("last_pk")),
        pk == sa.any_(sa.cast(sa.bindparam("pks", type_=sa.Text), sa.ARRAY(sa.BigInteger))),
    )


def these(steve_id: str, pks: Collection[int]) -> dict[str, Any]:
    """The parameters of `among`."""
    return {
        "its_steve": steve_id,
        "first_pk": min(pks, default=0),
        "last_pk": max(pks, default=-1),
        # Written out: an array is dumped element by element.
        "pks": f"{{{','.join(map(str, pks))}}}",
    }
