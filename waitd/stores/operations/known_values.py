"""Which values of a label costs have been added up by: remembered, so that their number can be bounded without asking each time."""

from sqlalchemy import Text, bindparam, select

from waitd.stores.schema import costs
from waitd.stores.sqlite.connection_thread import ConnectionThread
from waitd.stores.sqlite.statements import Statement

#: For how many days the known values are remembered: ends come in with today's date, or with yesterday's around midnight.
_DAYS = 3
VALUES = Statement(
    select(costs.c.value)
    .distinct()
    .where(
        costs.c.label == bindparam("label", type_=Text),
        costs.c.namespace == bindparam("namespace", type_=Text),
        costs.c.day == bindparam("day", type_=Text),
    )
)


class KnownValues:
    """The values of each label that have rows, by (label, namespace, day). One a writer; a transaction that fails leaves too many, at worst."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str, str], set[str]] = {}

    async def of(self, link: ConnectionThread, label: str, namespace: str, day: str) -> set[str]:
        """Those of one label, to be added to."""
        place = (label, namespace, day)
        if place not in self._values:
            oldest = sorted({day for _, _, day in self._values})[1 - _DAYS :]
            self._values = {known: values for known, values in self._values.items() if known[2] in oldest}
            rows = await VALUES.run(link, label=label, namespace=namespace, day=day)
            self._values[place] = {value for (value,) in rows}
        return self._values[place]
