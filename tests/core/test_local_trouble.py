"""The daemon's own trouble is distinguished from a target's and never counts against the target."""

import errno
import socket

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from waitd.core.local_trouble import (
    LASTING_SECONDS,
    NAME_SERVERS_SILENT,
    NETWORK_UNREACHABLE,
    NO_FREE_ADDRESS,
    QUIET_SECONDS,
    SUSPECT_SECONDS,
    LocalTrouble,
    local_trouble,
    suspect_verdict,
)
from waitd.core.waits.verdict import Pending, Unreachable
from waitd.core.waits.wait import EMPTY_PROGRESS, record_local, record_verdict
from waitd.outgoing import NameUnanswered, possible_own_trouble
from waitd.probes.transport import errors

KEY = ConnectionKey("x", 80, False, True, None, None, None)


def connect_error(number: int) -> Exception:
    return aiohttp.ClientConnectorError(KEY, OSError(number, "text"))


@pytest.mark.parametrize(
    "error",
    [
        *(OSError(number, "text") for number in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC)),
        MemoryError(),
        connect_error(errno.EMFILE),
        RuntimeError("can't start new thread"),
        socket.gaierror(socket.EAI_MEMORY, "text"),
    ],
)
def test_own_trouble_is_recognized_also_inside_of_another_error(error: Exception) -> None:
    assert local_trouble(error)
    wrapped = ValueError("wrapped")
    wrapped.__context__ = error
    assert local_trouble(wrapped) == local_trouble(error)


@pytest.mark.parametrize(
    "error",
    [
        None,
        RuntimeError("another"),
        TimeoutError(),
        *map(connect_error, (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT)),
        socket.gaierror(socket.EAI_AGAIN, "text"),
    ],
)
def test_the_trouble_of_a_target_is_not_own(error: Exception | None) -> None:
    assert local_trouble(error) is None


def test_a_silent_name_server_and_an_unreachable_network_are_suspect() -> None:
    silent = aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(socket.EAI_AGAIN, "text"))
    unknown = aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(socket.EAI_NONAME, "text"))
    assert suspect_verdict(silent) is NAME_SERVERS_SILENT
    assert suspect_verdict(unknown) is None
    assert suspect_verdict(connect_error(errno.ENETUNREACH)) is NETWORK_UNREACHABLE
    assert suspect_verdict(connect_error(errno.EADDRNOTAVAIL)) is NO_FREE_ADDRESS
    assert suspect_verdict(connect_error(errno.EHOSTUNREACH)) is None
    unanswered = aiohttp.ClientConnectorDNSError(KEY, NameUnanswered())
    assert suspect_verdict(unanswered) is None, "the name servers answer about others"


@pytest.mark.parametrize("routed", [True, False])
def test_an_unreachable_network_is_suspect_only_on_a_machine_without_any_route(
    monkeypatch: pytest.MonkeyPatch, routed: bool
) -> None:
    monkeypatch.setattr("waitd.outgoing.errors.has_any_route", lambda: routed)
    verdict = errors.classify_error(connect_error(errno.ENETUNREACH))
    assert verdict.reason == "no_route"
    assert (verdict is NETWORK_UNREACHABLE) is not routed


@pytest.mark.parametrize("free", [True, False])
def test_an_address_of_ipv6_that_a_machine_without_it_cannot_use_is_the_targets(
    monkeypatch: pytest.MonkeyPatch, *, free: bool
) -> None:
    error = connect_error(errno.EADDRNOTAVAIL)  # also if a name has only such an address
    assert possible_own_trouble(error) is None, "a port is free on this machine"
    monkeypatch.setattr("waitd.outgoing.errors.has_free_port", lambda: free)
    verdict = errors.classify_error(error)
    assert verdict.reason == "no_route"
    assert (verdict is NO_FREE_ADDRESS) is not free
    assert (possible_own_trouble(error) is NO_FREE_ADDRESS) is not free


def test_what_several_origins_meet_while_none_is_reached_is_own() -> None:
    trouble = LocalTrouble()
    assert [trouble.judge(NAME_SERVERS_SILENT, name, 0.0) for name in "aab"] == [None] * 3
    assert trouble.judge(NAME_SERVERS_SILENT, "c", 1.0)
    trouble.reached_at = 2.0
    assert [trouble.judge(NAME_SERVERS_SILENT, name, 3.0) for name in "abcd"] == [None] * 4, "one works"
    assert trouble.judge(NAME_SERVERS_SILENT, "d", 2.0 + QUIET_SECONDS)
    assert trouble.judge(Unreachable("http_500"), "e", 2.0) is None
    assert trouble.judge(NETWORK_UNREACHABLE, "g", 100.0 + SUSPECT_SECONDS) is None, "those are long ago"


def test_a_trouble_lasts_for_a_while_and_is_new_once() -> None:
    trouble = LocalTrouble()
    assert trouble.current(0.0) == ""
    assert trouble.report("memory is short", 0.0)
    assert not trouble.report("memory is short", 1.0)
    assert trouble.current(LASTING_SECONDS) == "memory is short"
    assert trouble.current(2.0 + LASTING_SECONDS) == ""
    assert trouble.report("memory is short", 2.0 + LASTING_SECONDS)


def test_own_trouble_is_shown_in_the_runs_and_counts_as_no_poke() -> None:
    progress = EMPTY_PROGRESS
    for _ in range(3):
        progress = record_verdict(progress, Pending(), 1.0)
    for at in (2.0, 3.0):
        progress = record_local(progress, Unreachable("local_error"), at)
    assert (progress.pokes, progress.step) == (3, 3)
    assert [(run.reason, run.times) for run in progress.runs] == [("pending", 3), ("local_error", 2)]
    progress = record_verdict(progress, Pending(), 4.0)
    assert (progress.pokes, progress.step) == (4, 4), "the backoff goes on where it was"
