"""Decoding of bodies: what is accepted, and what hostile ones cost."""

import gzip
import random
import zlib

import pytest

from waitd.core.http.decoding import MAX_MEMBERS, SLICE, TooManyMembers, decoder_for

TEXT = b'{"state": "done"}' * 500


def case_id(value: object) -> str:
    return "body" if isinstance(value, bytes) else str(value)


def decoded(body: bytes, *encodings: str, limit: int = 1 << 20, step: int = SLICE) -> bytes:
    decoder = decoder_for(encodings or ("gzip",))
    assert decoder is not None
    parts: list[bytes] = []
    for start in range(0, len(body), step):
        parts.append(decoder.feed(body[start : start + step], limit - sum(map(len, parts))))
    decoder.finish()
    return b"".join(parts)


@pytest.mark.parametrize("step", [1, 7, SLICE])
@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(TEXT)),
        ("x-gzip", gzip.compress(TEXT)),
        (" GZIP ", gzip.compress(TEXT)),
        ("gzip", gzip.compress(TEXT[:100]) + gzip.compress(b"") + gzip.compress(TEXT[100:])),
        ("deflate", zlib.compress(TEXT)),
        ("deflate", zlib.compress(TEXT)[2:-4]),
        ("identity, gzip", gzip.compress(TEXT)),
        ("gzip, gzip", gzip.compress(gzip.compress(TEXT))),
        ("deflate, gzip", gzip.compress(zlib.compress(TEXT))),
        ("gzip, x-gzip, gzip", gzip.compress(gzip.compress(gzip.compress(TEXT)))),
    ],
    ids=case_id,
)
def test_a_body_is_decoded_whatever_its_slices(encoding: str, body: bytes, step: int) -> None:
    assert decoded(body, encoding, step=step) == TEXT


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (gzip.compress(TEXT)[:-1], "truncated"),
        (gzip.compress(TEXT) + gzip.compress(TEXT)[:20], "truncated"),
        (gzip.compress(TEXT)[:-8] + bytes(8), "does not match"),
        (gzip.compress(TEXT) + b"surplus", "does not match"),
        (gzip.compress(TEXT) + bytes(8), "does not match"),
        (b"\x1f\x8b\x08\x08" + b"x" * 100, "truncated"),  # a file name without end
        (zlib.compress(TEXT) + b"surplus", "does not match"),
        (b"plain text", "does not match"),
    ],
    ids=case_id,
)
def test_a_malformed_body_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decoded(body)


@pytest.mark.parametrize(
    "encodings",
    [("br",), ("zstd",), ("gzip, br",), ("gzip",) * 4, ("br", "utf-8")],
)
def test_other_and_too_many_encodings_are_refused(encodings: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="unknown Content-Encoding"):
        decoder_for(encodings)


@pytest.mark.parametrize(
    "encodings", [(), ("",), ("identity",), ("identity", " , "), ("none",), ("UTF-8",), ("*",)]
)
def test_a_body_without_an_encoding_needs_no_decoder(encodings: tuple[str, ...]) -> None:
    assert decoder_for(encodings) is None


def test_what_lies_between_two_codings_counts_against_the_whole_body() -> None:
    body = random.Random(1).randbytes(900_000)
    encoded = gzip.compress(gzip.compress(body))
    assert decoded(encoded, "gzip, gzip") == body


def test_a_bomb_is_inflated_up_to_the_limit_only() -> None:
    decoder = decoder_for(("gzip",))
    assert decoder is not None
    assert len(decoder.feed(gzip.compress(bytes(10 << 20))[:SLICE], 1000)) == 1001


def test_a_bomb_in_a_bomb_is_inflated_up_to_the_limit_only() -> None:
    bomb = gzip.compress(gzip.compress(bytes(100 << 20)))
    decoder = decoder_for(("gzip", "gzip"))
    assert decoder is not None
    size = 0
    for start in range(0, len(bomb), SLICE):
        size += len(decoder.feed(bomb[start : start + SLICE], 1000 - size))
        if size > 1000:
            break
    assert size == 1001
    with pytest.raises(ValueError, match="truncated"):
        decoded(gzip.compress(gzip.compress(TEXT)[:-1]), "gzip", "gzip")


@pytest.mark.parametrize("step", [20, SLICE])
def test_the_number_of_members_is_bounded(step: int) -> None:
    member = gzip.compress(b"")
    assert decoded(member * MAX_MEMBERS, step=step) == b""
    with pytest.raises(TooManyMembers):
        decoded(member * (MAX_MEMBERS + 1), step=step)
