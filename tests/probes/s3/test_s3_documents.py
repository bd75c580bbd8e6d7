"""Documents that would cost the parser much time or memory are refused before they are parsed."""

from xml.etree import ElementTree as ET

import pytest

from waitd.probes.s3.xml import parse_list_page

KEYS = 1000
#: A key of 1,024 bytes, percent-encoded, with all fields that S3 lists.
CONTENTS = (
    "<Contents><Key>" + "%C3%A9" * 512 + "</Key><LastModified>2026-11-21T02:41:00.000Z</LastModified>"
    "<ETag>&quot;d41d8cd98f00b204e9800998ecf8427e&quot;</ETag><Size>1</Size><StorageClass>GLACIER</StorageClass>"
    "<ChecksumAlgorithm>CRC32</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType>"
    "<Owner><ID>" + "a" * 64 + "</ID><DisplayName>owner</DisplayName></Owner><RestoreStatus>"
    "<IsRestoreInProgress>false</IsRestoreInProgress><RestoreExpiryDate>2026-12-21T00:00:00Z</RestoreExpiryDate>"
    "</RestoreStatus></Contents>\r\n"
)  # fmt: skip
ROOT = (
    '<ListBucketResult xmlns:xsd="http://www.w3.org/2001/XMLSchema" '
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
)
LONG = "a" * 8_000_000
EXPENSIVE = {
    "a long name": f"<{LONG}/>",
    "a long name at the end": f"<a></{LONG}>",
    "a long instruction": f"<?{LONG}?><a/>",
    "a long attribute": f"<a {LONG}='1'/>",
    "long names": "".join(f"<a{n:0>100}>" for n in range(39_000)),
    "nesting": "<a>" * 59_000,
    "a long namespace": f"<a xmlns='{LONG}'>" + "<b/>" * 1_000,
    "a long namespace with a prefix": f"<c:a xmlns:c='{LONG}'>" + "<c:b/>" * 1_000,
    "a long namespace after a space": f"<a xmlns\n='{LONG}'>" + "<b/>" * 1_000,
    "a long namespace with a bracket": f"<a xmlns='>{LONG}'>" + "<b/>" * 1_000,
    "a namespace of some length": f"<a xmlns='{'>' * 1_000}'>" + "".join(f"<b{n}/>" for n in range(39_000)),
    "line feeds": "<a>" + "\n" * 8_000_000 + "</a>",
    "carriage returns": "<a>" + "\r" * 8_000_000 + "</a>",
}  # fmt: skip


@pytest.mark.parametrize("name", EXPENSIVE)
def test_an_expensive_document_is_not_parsed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ET, "fromstring", lambda *_: pytest.fail("it was parsed"))
    with pytest.raises(ValueError, match=r"^(too many elements|too many lines|a long name)"):
        parse_list_page(EXPENSIVE[name].encode())


def test_a_full_page_is_parsed() -> None:
    page = parse_list_page(
        f"{ROOT}<EncodingType>url</EncodingType>\r\n{CONTENTS * KEYS}</ListBucketResult>".encode(), extra=True
    )
    assert [each.key for each in page.objects] == ["é" * 512] * KEYS
    assert page.objects[0].fields["Owner"] == {"ID": "a" * 64, "DisplayName": "owner"}


def test_a_key_that_no_object_has_is_refused() -> None:
    key = "%41" * 1_025
    text = "<ListBucketResult><EncodingType>url</EncodingType><Contents><Key>{}</Key><Size>1</Size></Contents></ListBucketResult>"
    with pytest.raises(ValueError, match="key"):
        parse_list_page(text.format(key).encode())
    assert parse_list_page(text.format(key[3:]).encode()).objects[0].key == "A" * 1_024
