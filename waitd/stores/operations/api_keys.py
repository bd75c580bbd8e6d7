"""Saves and deletes API keys: their digests, never their secrets."""

from collections.abc import Sequence

from sqlalchemy import delete as delete_from

from waitd.core.auth.api_key import ApiKey
from waitd.stores import bulk
from waitd.stores.operations.commands import DeleteApiKeys, SaveApiKeys
from waitd.stores.operations.transaction import Transaction
from waitd.stores.schema import api_keys
from waitd.stores.statements import Statement, one_of, text_list

_SAVE = bulk.insert_into(api_keys, on_conflict=bulk.OnConflict.REPLACE)
_DELETE = Statement(delete_from(api_keys).where(one_of(api_keys.c.id, "ids")))


def save(transaction: Transaction, commands: Sequence[SaveApiKeys]) -> None:
    """Saves keys, new or changed; of two versions of a key, the later."""
    latest = {key.id: _row(key) for command in commands for key in command.keys}
    transaction.connection.defer_rows(_SAVE, list(latest.values()))


def delete(transaction: Transaction, commands: Sequence[DeleteApiKeys]) -> None:
    """Deletes keys."""
    for command in commands:
        _DELETE.defer(transaction.connection, ids=text_list(command.ids))


def _row(key: ApiKey) -> tuple[object, ...]:
    times = (key.expires_at, key.revoked_at, key.used_at)
    return (key.id, key.digest, key.role.title, key.namespace, key.created_at, key.created_by, *times)
