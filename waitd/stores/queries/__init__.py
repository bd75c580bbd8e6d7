"""The queries: what the store reads outside the writer."""
