"""The schema's history, run by `waitd.stores.database` when the store opens. A released migration is never changed."""
