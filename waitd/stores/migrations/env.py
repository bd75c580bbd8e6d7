"""Alembic's entry point: migrates over the connection that the store passes, in its transaction."""

from alembic import context

from waitd.stores.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
