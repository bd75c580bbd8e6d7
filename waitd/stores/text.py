"""Text that JSON and SQLite take."""


def well_formed(text: str) -> str:
    """`text` without lone surrogates; each becomes a question mark."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
