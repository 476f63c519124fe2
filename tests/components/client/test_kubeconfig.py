"""Kubeconfigs: what is written can be read, by us and by others."""

import os
from pathlib import Path

import pytest
import yaml

from understudy.actors.startup import StartError
from understudy.components.client.kubeconfig import (
    Access,
    KubeconfigError,
    check_writable,
    kubeconfig_text,
    load_kubeconfig,
    parse_kubeconfig,
    write_kubeconfig,
)
from understudy.components.machinery.tls import Certificate

ACCESS = Access(
    "https://[::1]:6443", authority_pem=b"authority", certificate=Certificate(b"certificate", b"key")
)
TEXT = kubeconfig_text("https://[::1]:6443", b"authority", Certificate(b"certificate", b"key"))


def test_what_is_written_is_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "folder" / "kubeconfig"
    write_kubeconfig(path, TEXT)
    assert load_kubeconfig(path) == ACCESS
    monkeypatch.setenv("KUBECONFIG", str(path))
    assert load_kubeconfig() == ACCESS


def test_it_is_plain_yaml_of_kind_config() -> None:
    config = yaml.safe_load(TEXT)
    assert (config["apiVersion"], config["kind"]) == ("v1", "Config")
    assert config["current-context"] == config["contexts"][0]["name"]


def test_only_its_owner_reads_it_also_when_it_replaces_a_public_file(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(TEXT)
    path.chmod(0o644)
    write_kubeconfig(path, TEXT)
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["kubeconfig"]


def test_a_path_that_cannot_be_written_is_the_users_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "kubeconfig"):
        with pytest.raises(StartError, match="cannot write the kubeconfig"):
            check_writable(path)
        with pytest.raises(StartError, match="cannot write the kubeconfig"):
            write_kubeconfig(path, TEXT)
    assert sorted(os.listdir(tmp_path)) == ["file"]


def test_somebody_elses_kubeconfig_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("apiVersion: v1\nkind: Config\n")
    with pytest.raises(StartError, match="did not write it"):
        check_writable(path)
    with pytest.raises(StartError, match="did not write it"):
        write_kubeconfig(path, TEXT)
    assert path.read_text() == "apiVersion: v1\nkind: Config\n"


def test_files_that_it_names_are_read_from_beside_it(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(b"authority")
    (tmp_path / "token").write_text("secret\n")
    (tmp_path / "config").write_text(
        "{current-context: a, contexts: [{name: a, context: {cluster: c, user: u, namespace: n}}],"
        " clusters: [{name: c, cluster: {server: 'https://h', certificate-authority: ca.pem,"
        " tls-server-name: s}}], users: [{name: u, user: {tokenFile: token}}]}"
    )
    access = load_kubeconfig(tmp_path / "config")
    assert access == Access("https://h", b"authority", True, "s", None, "secret", "n")
    assert "secret" not in repr(access)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: [", "not YAML"),
        ("[]", "holds no kubeconfig"),
        ("{}", "no current-context"),
        ("current-context: a", "no context 'a'"),
        (TEXT.replace("server:", "other:"), "has no server"),
        (TEXT.replace("client-key-data", "x"), "belong together"),
        (TEXT.replace("client-key-data: ", "client-key-data: -"), "not base64"),
        (TEXT.replace("client-key-data: ", "client-key: "), "cannot be read"),
        (TEXT.replace("  user:\n  ", "  user:\n    exec: {command: x}\n  "), "exec credentials"),
    ],
)
def test_what_is_wrong_with_a_kubeconfig_is_said(text: str, complaint: str) -> None:
    with pytest.raises(KubeconfigError, match=complaint):
        parse_kubeconfig(text)


def test_another_context_can_be_chosen() -> None:
    with pytest.raises(KubeconfigError, match="no context 'other'"):
        parse_kubeconfig(TEXT, "other")
