"""API keys as rows: digests, never secrets."""

from collections.abc import Sequence

from sqlalchemy import delete as delete_from
from sqlalchemy import select

from waitd.core.auth.api_key import ApiKey
from waitd.core.auth.principal import ROLES_BY_NAME
from waitd.stores.operations.requests import DeleteKeys, SaveKeys
from waitd.stores.operations.transaction import Transaction
from waitd.stores.schema import api_keys
from waitd.stores.sqlite import bulk
from waitd.stores.sqlite.connection_thread import ConnectionThread
from waitd.stores.sqlite.statements import Statement, one_of, texts

_INSERT = bulk.insert_into("api_keys", api_keys.c.keys())
_SAVE = _INSERT._replace(before=_INSERT.before.replace("INSERT", "INSERT OR REPLACE", 1))
_ALL = Statement(select(api_keys).order_by(api_keys.c.created_at))
_DELETE = Statement(delete_from(api_keys).where(one_of(api_keys.c.id, "ids")))


def save(transaction: Transaction, operations: Sequence[SaveKeys]) -> None:
    """Keeps keys, new or changed; of two versions of one, the later."""
    latest = {key.id: _row(key) for operation in operations for key in operation.keys}
    bulk.write(transaction.link, _SAVE, list(latest.values()))


def delete(transaction: Transaction, operations: Sequence[DeleteKeys]) -> None:
    """Forgets keys."""
    for operation in operations:
        _DELETE.write(transaction.link, ids=texts(operation.ids))


async def stored(link: ConnectionThread) -> list[ApiKey]:
    """Every key, the oldest first."""
    return [
        ApiKey(key_id, bytes(digest), ROLES_BY_NAME[role], *rest)
        for key_id, digest, role, *rest in await _ALL.run(link)
    ]


def _row(key: ApiKey) -> tuple[object, ...]:
    times = (key.expires_at, key.revoked_at, key.used_at)
    return (key.id, key.digest, key.role.title, key.namespace, key.created_at, key.created_by, *times)
