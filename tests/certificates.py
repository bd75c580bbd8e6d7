"""A certificate authority of the test's own, and the pairs that it issues for 127.0.0.1."""

import ssl
from pathlib import Path

import trustme


class Authority:
    """Issues pairs into files, and knows the context of a client that trusts only it."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self.file = folder / "ca.crt"
        self._ca.cert_pem.write_to_path(str(self.file))
        self.certificate, self.key = folder / "tls.crt", folder / "tls.key"

    def pair(self) -> tuple[bytes, bytes]:
        """A new certificate and its key, in PEM."""
        leaf = self._ca.issue_cert("127.0.0.1", "localhost")
        return leaf.cert_chain_pems[0].bytes(), leaf.private_key_pem.bytes()

    def issue(self) -> bytes:
        """Puts a new pair into the files, each at once; the certificate as a client sees it (DER)."""
        certificate, key = self.pair()
        replaced(self.certificate, certificate)
        replaced(self.key, key)
        return ssl.PEM_cert_to_DER_cert(certificate.decode())

    def context(self) -> ssl.SSLContext:
        """What a client needs."""
        return ssl.create_default_context(cafile=str(self.file))


def replaced(file: Path, content: bytes) -> None:
    """Puts the content in the place of the file's, as a mounted secret changes."""
    beside = file.with_suffix(".new")
    beside.write_bytes(content)
    beside.replace(file)
