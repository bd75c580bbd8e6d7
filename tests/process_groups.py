"""Processes that are killed with all their children."""

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path


class ProcessGroups:
    """Processes of one server in a directory, each in a process group of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.processes: list[subprocess.Popen[bytes]] = []
        directory.mkdir(parents=True, exist_ok=True)

    def spawn(self, *command: object, **environment: str) -> None:
        """Starts a process, whose output goes to the log."""
        with (self.directory / "log").open("ab") as log:
            process = subprocess.Popen(
                [str(part) for part in command],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **environment},
                cwd=self.directory,
                start_new_session=True,
            )
        self.processes.append(process)

    def log(self) -> str:
        """The end of the log."""
        return (self.directory / "log").read_text(errors="replace")[-2000:]

    def kill(self) -> None:
        """SIGKILL, to the whole process group of each process."""
        while self.processes:
            process = self.processes.pop()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
