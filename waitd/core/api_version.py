"""The version of the HTTP API, by which callers and daemons of different releases recognize it."""

#: The header of every answer with the daemon's version of the API.
API_VERSION_HEADER = "Waitd-Api-Version"
#: Major and minor: the minor grows with what callers may send, the major where callers must change.
API_VERSION = (1, 0)


def format_version(api: tuple[int, int]) -> str:
    """The value of the header, e.g. `1.0`."""
    return f"{api[0]}.{api[1]}"


def serves(header: str, needed: tuple[int, int] = API_VERSION) -> bool:
    """Whether a daemon whose answers have this header serves callers of the version `needed`."""
    major, _, minor = header.partition(".")
    return major == str(needed[0]) and minor.isdecimal() and int(minor) >= needed[1]
