"""Certificates for 127.0.0.1 from an authority that only these tests trust."""

import ssl
from functools import cache
from pathlib import Path

import trustme


@cache
def authority() -> trustme.CA:
    return trustme.CA()


@cache
def _certificate() -> trustme.LeafCert:
    return authority().issue_cert("127.0.0.1")


def server_files(directory: Path) -> tuple[Path, Path]:
    """The certificate and its key as files."""
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    _certificate().cert_chain_pems[0].write_to_path(certificate)
    _certificate().private_key_pem.write_to_path(key)
    return certificate, key


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _certificate().configure_cert(context)
    return context
