"""A pinned kustomize: Debian's build, downloaded once and checked against its digest."""

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
from pathlib import Path
from typing import Any

import yaml
from installation import not_installable

VERSION = "5.6.0+ds-1+b2"
#: Its path on a Debian mirror; all releases share one pool.
PACKAGE = "pool/main/k/kustomize/kustomize_{version}_{architecture}.deb"
SHA256 = {
    "amd64": "552bbe5563b522685b10f75a9a226bfbee9778fc313b205d595fdbb7e9c70e33",
    "arm64": "32d0e1959b5fc257101c8d6139da72af38ff7ce777089666f9d1c916810f1800",
}
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
DIRECTORY = Path(sys.prefix) / "share" / "waitd-tests" / f"kustomize-{VERSION}"


def kustomize_program() -> Path:
    """The program, which the first call downloads."""
    program = DIRECTORY / "kustomize"
    if not program.exists():
        DIRECTORY.mkdir(parents=True, exist_ok=True)
        partial = DIRECTORY / f"partial-{os.getpid()}"
        partial.write_bytes(_download())
        partial.write_bytes(_extract(partial))
        partial.chmod(0o755)
        partial.rename(program)
    return program


def _mirror() -> str:
    """Returns the first mirror that apt uses on this machine."""
    try:
        targets = subprocess.run(
            ["apt-get", "indextargets", "--format", "$(REPO_URI)"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        not_installable(f"kustomize is a Debian package, and apt cannot name its mirror: {error}")
    mirrors = [line for line in targets.stdout.split() if "security" not in line]
    if not mirrors:
        not_installable("kustomize is a Debian package, and apt has no mirror here")
    return mirrors[0].rstrip("/") + "/"


def _download(attempts: int = 3) -> bytes:
    url = _mirror() + PACKAGE.format(version=VERSION, architecture=ARCHITECTURE)
    for attempt in range(1, attempts + 1):
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                package = bytes(answer.read())
            break
        except OSError:
            if attempt == attempts:
                raise
            time.sleep(attempt)
    digest = hashlib.sha256(package).hexdigest()
    assert digest == SHA256[ARCHITECTURE], f"{url} does not have the pinned digest: {digest}"
    return package


def _extract(package: Path) -> bytes:
    """Returns usr/bin/kustomize from a Debian package."""
    tree = subprocess.run(["dpkg-deb", "--fsys-tarfile", package], capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(tree.stdout)) as files:
        program = files.extractfile("./usr/bin/kustomize")
        assert program is not None
        return program.read()


def build(folder: Path) -> list[dict[str, Any]]:
    """The objects that `kustomize build` builds from a folder."""
    done = subprocess.run(
        [kustomize_program(), "build", str(folder)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return list(yaml.safe_load_all(done.stdout))
