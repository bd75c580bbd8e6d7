"""A pinned kustomize: Debian's own build, fetched once into the test environment and checked
against its digest.
"""

import hashlib
import io
import os
import platform
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

VERSION = "5.6.0+ds-1+b2"
#: Below the machine's own mirror of Debian's packages, whatever its release: all releases share one
#: pool.
PACKAGE = "pool/main/k/kustomize/kustomize_{version}_{architecture}.deb"
SHA256 = {
    "amd64": "552bbe5563b522685b10f75a9a226bfbee9778fc313b205d595fdbb7e9c70e33",
    "arm64": "32d0e1959b5fc257101c8d6139da72af38ff7ce777089666f9d1c916810f1800",
}
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
PLACE = Path(sys.prefix) / "share" / "waitd-tests" / f"kustomize-{VERSION}"


def installed() -> Path:
    """The program; fetched at the first call."""
    program = PLACE / "kustomize"
    if not program.exists():
        PLACE.mkdir(parents=True, exist_ok=True)
        partial = PLACE / f"partial-{os.getpid()}"
        partial.write_bytes(_program(_fetched()))
        partial.chmod(0o755)
        partial.rename(program)
    return program


def _mirror() -> str:
    """The first mirror that this machine's apt is set up with."""
    try:
        listed = subprocess.run(
            ["apt-get", "indextargets", "--format", "$(REPO_URI)"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"kustomize comes as a Debian package, and apt cannot say from where: {error}")
    mirrors = [line for line in listed.stdout.split() if "security" not in line]
    if not mirrors:
        pytest.skip("kustomize comes as a Debian package, and apt knows no mirror here")
    return mirrors[0].rstrip("/") + "/"


def _fetched(tries: int = 3) -> bytes:
    url = _mirror() + PACKAGE.format(version=VERSION, architecture=ARCHITECTURE)
    for attempt in range(1, tries + 1):
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                package = bytes(answer.read())
            break
        except OSError:
            if attempt == tries:
                raise
            time.sleep(attempt)
    found = hashlib.sha256(package).hexdigest()
    assert found == SHA256[ARCHITECTURE], f"{url} is not what was pinned: {found}"
    return package


def _program(package: bytes) -> bytes:
    """usr/bin/kustomize out of a Debian package: an ar archive with a tar in it."""
    for name, content in _members(package):
        if name.startswith("data.tar"):
            with tarfile.open(fileobj=io.BytesIO(content)) as tree:
                file = tree.extractfile("./usr/bin/kustomize")
                assert file is not None
                return file.read()
    raise AssertionError("the package holds no data.tar")


def _members(archive: bytes) -> Iterator[tuple[str, bytes]]:
    """The files of an ar archive: after its magic, each a header of 60 bytes and its content,
    padded to an even length.
    """
    assert archive.startswith(b"!<arch>\n")
    at = 8
    while at < len(archive):
        header = archive[at : at + 60].decode("ascii")
        size = int(header[48:58])
        yield header[:16].strip().rstrip("/"), archive[at + 60 : at + 60 + size]
        at += 60 + size + size % 2


def build(folder: Path) -> list[dict[str, Any]]:
    """The objects that `kustomize build` makes of a folder."""
    done = subprocess.run(
        [installed(), "build", str(folder)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return list(yaml.safe_load_all(done.stdout))
