"""Signatures with an Azure Storage account's key, as azure-storage-blob 12 makes them."""

from calendar import timegm

import pytest

from waitd.core.connections.azure_signature import parse_shared_key, string_to_sign

#: The public key of Microsoft's emulator.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
NOW = timegm((2026, 11, 21, 2, 41, 7))
BASE = "https://myaccount.blob.core.windows.net"


@pytest.mark.parametrize(
    ("method", "url", "headers", "body", "signature"),
    [
        ("HEAD", f"{BASE}/landing/a%20b/c%2Fd.csv", {}, None, "XOww4EQAOiKuvSEQ62FLe1DiBtcyhrB19QhARe7tC7k="),
        ("GET", f"{BASE}/landing?restype=container&comp=list&prefix=a%20b%2F&include=snapshots&timeout=20", None, None,
         "KxcxPlRhQM4Zg6DM/WpGGxVDB7tf2RkSpspanubB4LU="),
        ("PUT", f"{BASE}/landing/x", {"x-ms-blob-type": "BlockBlob", "Content-Type": "text/plain", "If-None-Match": " * "}, b"12345",
         "OFDPhQD2MVjRZ7A40lmHUml2BqoHoN4/NrSxPHUi2yA="),
    ],
)  # fmt: skip
def test_a_signature_equals_that_of_azures_library(
    method: str, url: str, headers: dict[str, str] | None, body: bytes | None, signature: str
) -> None:
    assert parse_shared_key("myaccount", KEY).headers(method, url, headers, body, now=NOW) == {
        "x-ms-date": "Sat, 21 Nov 2026 02:41:07 GMT",
        "x-ms-version": "2021-12-02",
        "Authorization": f"SharedKey myaccount:{signature}",
    }


def test_the_requests_own_version_is_kept() -> None:
    own = parse_shared_key("a", KEY).headers(
        "HEAD", f"{BASE}/x", {"X-MS-Version": "2015-02-21"}, None, now=NOW
    )
    assert own.keys() == {"x-ms-date", "Authorization"}


def test_the_signed_text_is_the_documented_one() -> None:
    headers = {"x-ms-date": "Fri, 26 Jun 2015 23:39:12 GMT", "x-ms-version": "2015-02-21", "accept": "*/*"}
    url = f"{BASE}/mycontainer?restype=container&comp=metadata&timeout=20"
    assert string_to_sign("myaccount", "GET", url, headers) == (
        "GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\nx-ms-version:2015-02-21\n"
        "/myaccount/mycontainer\ncomp:metadata\nrestype:container\ntimeout:20"
    )


def test_a_repeated_parameter_is_one_line_and_the_root_has_a_path() -> None:
    text = string_to_sign("a", "GET", f"{BASE}?Include=x&include=b&empty=", {})
    assert text.endswith("\n/a/\nempty:\ninclude:b,x")


@pytest.mark.parametrize("key", ["planted", "planted!", "plänted"])
def test_an_invalid_key_is_refused_and_not_quoted(key: str) -> None:
    with pytest.raises(ValueError, match="base64") as raised:
        parse_shared_key("a", key)
    assert key not in str(raised.value)
    assert "planted" not in repr(parse_shared_key("a", "cGxhbnRlZA=="))
