"""A certificate authority for tests, and the certificates that it issues for 127.0.0.1."""

import ssl
from pathlib import Path
from typing import Any

import trustme


class Authority:
    """Issues certificates and keys into files."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._ca = trustme.CA()
        self.file = folder / "ca.crt"
        self._ca.cert_pem.write_to_path(str(self.file))
        self.certificate, self.key = folder / "tls.crt", folder / "tls.key"

    def pair(self) -> tuple[bytes, bytes]:
        """A new certificate and its key, in PEM."""
        leaf = self._ca.issue_cert("127.0.0.1", "localhost")
        return leaf.cert_chain_pems[0].bytes(), leaf.private_key_pem.bytes()

    def issue(self) -> bytes:
        """Replaces both files atomically. Returns the certificate as a client sees it (DER)."""
        certificate, key = self.pair()
        replace_file(self.certificate, certificate)
        replace_file(self.key, key)
        return ssl.PEM_cert_to_DER_cert(certificate.decode())

    def context(self) -> ssl.SSLContext:
        """The context of a client that trusts only this authority."""
        return ssl.create_default_context(cafile=str(self.file))

    @property
    def extra(self) -> dict[str, Any]:
        """The extra of a connection that trusts this authority and has a certificate of it."""
        return {"verify": str(self.file), "cert": [str(self.certificate), str(self.key)]}

    def server_context(self) -> ssl.SSLContext:
        """The context of a server with the certificate that was issued last."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.file)
        context.load_cert_chain(self.certificate, self.key)
        return context

    def demanding_context(self) -> ssl.SSLContext:
        """The context of a server that demands a certificate of this authority."""
        context = self.server_context()
        context.verify_mode = ssl.CERT_REQUIRED
        return context


def replace_file(file: Path, content: bytes) -> None:
    """Replaces the file atomically, as a mounted secret changes."""
    new = file.with_suffix(".new")
    new.write_bytes(content)
    new.replace(file)
