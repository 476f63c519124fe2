"""Kubeconfig files: writing the cluster's own, and reading anybody's.

A real adapter: it reads and writes files. The layout is that of `clientcmd/v1 Config`.
"""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EEXIST, EISDIR
from pathlib import Path
from typing import Any

from attrs import field, frozen

from understudy.actors.startup import StartError
from understudy.components.machinery.tls import Certificate

CLUSTER_NAME = "understudy"
ADMIN = "kubernetes-admin"


class KubeconfigError(Exception):
    """A kubeconfig that cannot be used; the message names the file and what is wrong."""


@frozen
class Access:
    """How to reach one API server with one identity."""

    server: str
    """https:// or http:// URL, maybe with a path."""
    authority_pem: bytes | None = None
    """None: the system's authorities."""
    verify: bool = True
    server_name: str | None = None
    """The name to check in the server's certificate, when it is not the URL's host."""
    certificate: Certificate | None = None
    token: str | None = field(default=None, repr=False)
    namespace: str = "default"


MARK = "# Written by `understudy up`, which replaces it at every start."


def kubeconfig_text(server: str, authority_pem: bytes, certificate: Certificate, user: str = ADMIN) -> str:
    """The kubeconfig of one cluster, one user and one context, as YAML."""
    context = f"{user}@{CLUSTER_NAME}"
    lines = [
        MARK,
        "apiVersion: v1",
        "kind: Config",
        "clusters:",
        f"- name: {CLUSTER_NAME}",
        "  cluster:",
        f'    server: "{server}"',
        f"    certificate-authority-data: {_base64(authority_pem)}",
        "users:",
        f"- name: {user}",
        "  user:",
        f"    client-certificate-data: {_base64(certificate.certificate_pem)}",
        f"    client-key-data: {_base64(certificate.key_pem)}",
        "contexts:",
        f"- name: {context}",
        "  context:",
        f"    cluster: {CLUSTER_NAME}",
        f"    user: {user}",
        f"current-context: {context}",
        "preferences: {}",
        "",
    ]
    return "\n".join(lines)


def write_kubeconfig(path: Path, text: str) -> None:
    """Write it, readable by its owner only, in one step; makes the folder.

    A file that somebody else wrote is not replaced: it may hold the only way to other clusters.

    Raises:
        StartError: the path cannot be written.
    """
    with _draft(path) as draft:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)


def check_writable(path: Path) -> None:
    """Find out, before anything else is started, whether `write_kubeconfig` will be able to write.

    Raises:
        StartError: it will not.
    """
    with _draft(path):
        pass


@contextmanager
def _draft(path: Path) -> Iterator[Path]:
    """An empty file beside `path` that only its owner reads; gone at the end unless it was moved."""
    try:
        path = path.absolute()
        draft = path.parent / f".{path.name}.{os.getpid()}.draft"
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(EISDIR, "it is a folder")
        if path.exists() and path.stat().st_size and not path.read_bytes().startswith(MARK.encode()):
            raise FileExistsError(EEXIST, "it exists, and `understudy up` did not write it")
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            yield draft
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise StartError(
            f"cannot write the kubeconfig {path}: {error.strerror or error}", "choose another --kubeconfig"
        ) from error


def load_kubeconfig(path: Path | None = None, context: str | None = None) -> Access:
    """Read how to reach a cluster; `path` defaults to $KUBECONFIG, then ~/.kube/config.

    Raises:
        KubeconfigError: no such file or context, or credentials of a kind that is not supported (exec
            plugins, auth providers, passwords).
    """
    if path is None:
        path = Path(os.environ.get("KUBECONFIG", "").split(os.pathsep)[0] or Path.home() / ".kube" / "config")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise KubeconfigError(f"cannot read {path}: {error}") from error
    return parse_kubeconfig(text, context, source=str(path), folder=path.parent)


def parse_kubeconfig(
    text: str, context: str | None = None, *, source: str = "the kubeconfig", folder: Path = Path(".")
) -> Access:
    """The same from text; relative paths in it start at `folder`."""
    import yaml

    try:
        config = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise KubeconfigError(f"{source} is not YAML: {error}") from error
    if not isinstance(config, dict):
        raise KubeconfigError(f"{source} holds no kubeconfig")
    name = context or config.get("current-context") or ""
    if not name:
        raise KubeconfigError(f"{source} has no current-context: name one")
    chosen = _named(config, "contexts", "context", name, source)
    cluster = _named(config, "clusters", "cluster", chosen.get("cluster", ""), source)
    user = _named(config, "users", "user", chosen.get("user", ""), source) if chosen.get("user") else {}
    if not cluster.get("server"):
        raise KubeconfigError(f"{source}: cluster {chosen.get('cluster')!r} has no server")
    for unsupported in ("exec", "auth-provider", "username", "as"):
        if user.get(unsupported):
            raise KubeconfigError(f"{source}: {unsupported} credentials are not supported")
    certificate = _data(user, "client-certificate", source, folder)
    key = _data(user, "client-key", source, folder)
    if (certificate is None) != (key is None):
        raise KubeconfigError(f"{source}: a client certificate and its key belong together")
    token = user.get("token")
    if token is None and user.get("tokenFile"):
        token = _file(folder / user["tokenFile"], source).decode("utf-8").strip()
    return Access(
        server=cluster["server"],
        authority_pem=_data(cluster, "certificate-authority", source, folder),
        verify=not cluster.get("insecure-skip-tls-verify", False),
        server_name=cluster.get("tls-server-name"),
        certificate=None if certificate is None or key is None else Certificate(certificate, key),
        token=token,
        namespace=chosen.get("namespace") or "default",
    )


def _named(config: dict[str, Any], plural: str, singular: str, name: str, source: str) -> dict[str, Any]:
    for entry in config.get(plural) or ():
        if entry.get("name") == name:
            return entry.get(singular) or {}
    raise KubeconfigError(f"{source} has no {singular} {name!r}")


def _data(entry: dict[str, Any], name: str, source: str, folder: Path) -> bytes | None:
    if data := entry.get(f"{name}-data"):
        try:
            return b64decode(data, validate=True)
        except ValueError as error:
            raise KubeconfigError(f"{source}: {name}-data is not base64: {error}") from error
    if path := entry.get(name):
        return _file(folder / path, source)
    return None


def _file(path: Path, source: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise KubeconfigError(f"{source} names {path}, which cannot be read: {error.strerror}") from error


def _base64(data: bytes) -> str:
    return b64encode(data).decode("ascii")
