"""What holds for every room."""

import signal


def pytest_configure() -> None:
    """A shell lets what it starts in the background ignore SIGINT, and so would every process that a test starts and interrupts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
