"""The commands that wait for the writer, and which of them the next transaction carries."""

from collections import deque
from typing import Any

from waitd.core.fair_shares import FairBacklog, FairShares
from waitd.stores.operations.commands import Command, SaveAttempt, ShiftSchedules

#: Rows after which a group is complete, so that its callers need not wait for more. A larger
#: command is a group of its own.
GROUP_ROWS = 5_000
#: The same for a group of several namespaces, so that one with little to write waits for less.
SHARED_ROWS = 500
#: The flow of the commands without a caller, such as the ends of all namespaces' waits, and its
#: weight among the namespaces, which have 1.
DAEMON, DAEMON_WEIGHT = "", 10.0


class CommandQueue:
    """Queued commands. Where more is queued than one group holds, namespaces share it evenly."""

    def __init__(self) -> None:
        self._commands: deque[Command[Any]] = deque()
        #: What came before `_commands` and waits for its share.
        self._attempts: deque[SaveAttempt] = deque()
        self._backlog: FairBacklog[Command[Any]] = FairBacklog(
            FairShares(lambda flow: DAEMON_WEIGHT if flow == DAEMON else 1.0)
        )

    def __bool__(self) -> bool:
        return bool(self._commands or self._backlog or self._attempts)

    def append(self, command: Command[Any]) -> None:
        """Queues a command."""
        self._commands.append(command)

    def next_group(self) -> list[Command[Any]]:
        """Removes and returns what the next transaction carries; there must be a command.

        No command passes a `ShiftSchedules`, which moves what was scheduled before it.
        """
        if self._backlog or self._attempts:
            return self._share_out()
        commands = self._commands
        group = [commands.popleft()]
        rows = group[0].rows
        while commands and rows + commands[0].rows <= GROUP_ROWS:
            rows += commands[0].rows
            group.append(commands.popleft())
        # Most groups are small, and all that is queued.
        if rows <= SHARED_ROWS or len(group) + len(commands) == 1 or isinstance(group[0], ShiftSchedules):
            return group
        commands.extendleft(reversed(group))
        return self._share_out()

    def _share_out(self) -> list[Command[Any]]:
        commands, attempts, backlog = self._commands, self._attempts, self._backlog
        while commands and not isinstance(commands[0], ShiftSchedules):
            command = commands.popleft()
            if isinstance(command, SaveAttempt):
                attempts.append(command)
            else:
                backlog.append(DAEMON if command.by is None else command.by.principal.namespace, command)
        # Attempts before inserts, which may supersede: a delivery that was made stays delivered.
        shared: list[Command[Any]] = [attempts.popleft() for _ in range(min(len(attempts), GROUP_ROWS))]
        most = GROUP_ROWS if len(backlog.flows) == 1 else SHARED_ROWS
        rows = 0
        while backlog and (not rows or rows + backlog.peek().rows <= most):
            rows += backlog.peek().rows
            shared.append(backlog.pop(backlog.peek().rows))
        return shared
