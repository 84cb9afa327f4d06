"""Many rows in one statement: an array a column, however many rows, instead of a statement a row."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from shared.database.engine import Write


def _rows(table: sa.Table, columns: Sequence[str], values: Sequence[Mapping[str, Any]]) -> sa.Select[Any]:
    """The values as a relation: parallel `unnest` gives one row an index."""
    return sa.select(
        *(
            sa.func.unnest(sa.cast([one[name] for one in values], sa.ARRAY(table.c[name].type))).label(name)
            for name in columns
        )
    )


async def insert(tx: Write, table: sa.Table, values: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows that all have the same columns, none of them an array."""
    if values:
        columns = list(values[0])
        await tx.execute(sa.insert(table).from_select(columns, _rows(table, columns, values)))


async def update(
    tx: Write, table: sa.Table, key: Sequence[str], columns: Sequence[str], values: Sequence[Mapping[str, Any]]
) -> None:
    """Set `columns` of each row that has this key."""
    if values:
        new = _rows(table, [*key, *columns], values).cte("new")
        await tx.execute(
            sa.update(table)
            .where(*(table.c[name] == new.c[name] for name in key))
            .values({name: new.c[name] for name in columns})
        )
