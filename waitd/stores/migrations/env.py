"""Alembic's entry: migrates over the connection that the store hands it, inside the store's own transaction."""

from alembic import context

from waitd.stores.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
