# SPDX-License-Identifier: Apache-2.0
"""Files and directories: all problems at once, nothing half-loaded, nothing that hangs."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from headwater_prov.policy import NamespaceWithoutTenant, PolicyErrors, Quotas, check_files
from headwater_prov.policy.loading import FILES_MAX, load_directory, load_file
from headwater_prov.policy.yaml_source import SIZE_MAX_BYTES

NOBODY = 65534


def policy(name: str, namespace: str = "shop", spec: str = "podSelector: {}") -> str:
    return (
        "apiVersion: headwater.dev/v1alpha1\n"
        "kind: ProvenancePolicy\n"
        f"metadata: {{name: {name}, namespace: {namespace}}}\n"
        f"spec: {{{spec}}}\n"
    )


def tenant(name: str, *namespaces: str) -> str:
    return (
        "apiVersion: headwater.dev/v1alpha1\n"
        "kind: ProvenanceTenant\n"
        f"metadata: {{name: {name}}}\n"
        f"spec: {{namespaces: [{', '.join(namespaces)}]}}\n"
    )


def errors_of(path: Path) -> list[str]:
    """Messages of a path that cannot be loaded, relative to the path's directory."""
    with pytest.raises(PolicyErrors) as caught:
        (load_directory if path.is_dir() or not path.suffix else load_file)(path)
    return [str(problem).replace(f"{path}/", "") for problem in caught.value.problems]


def test_directory_is_read_in_whole_and_sorted(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(policy("z") + "---\n" + policy("a", "bank"))
    (tmp_path / "a.yml").write_text(policy("x") + "---\n" + tenant("acme", "shop"))
    loaded = load_directory(tmp_path)
    assert [(one.namespace, one.name) for one in loaded.policies] == [
        ("bank", "a"),
        ("shop", "x"),
        ("shop", "z"),
    ]
    assert [one.name for one in loaded.tenants] == ["acme"]


def test_empty_directory_is_an_empty_set(tmp_path: Path) -> None:
    loaded = load_directory(tmp_path)
    assert loaded.policies == ()
    assert loaded.tenants == ()
    assert loaded.select("shop", {}) == []


def test_other_files_of_a_directory_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# not a policy")
    (tmp_path / ".hidden.yaml").write_text("}{")
    (tmp_path / "policy.yaml~").write_text("}{")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "policy.yaml").write_text("}{")
    (tmp_path / "policy.yaml").write_text(policy("all"))
    assert len(load_directory(tmp_path).policies) == 1


def test_links_are_followed_as_in_a_mounted_config_map(tmp_path: Path) -> None:
    (tmp_path / "..data").mkdir()
    (tmp_path / "..data" / "policy.yaml").write_text(policy("all"))
    (tmp_path / "policy.yaml").symlink_to(Path("..data") / "policy.yaml")
    assert len(load_directory(tmp_path).policies) == 1


def test_every_problem_of_every_file_is_reported_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(policy("all", spec="podSelector: {}, arguments: 1"))
    (tmp_path / "b.yaml").write_text("}{")
    (tmp_path / "c.yaml").write_text(policy("ALL") + "---\n" + policy("x", spec=""))
    places = [message.partition(": ")[0] for message in errors_of(tmp_path)]
    assert places == ["a.yaml:4:36", "b.yaml:1:1", "c.yaml:3:18", "c.yaml:9:7"]


def test_problems_before_a_syntax_error_are_reported_too(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(policy("ALL") + "---\n}{")
    assert [message.split(":")[1] for message in errors_of(tmp_path)] == ["3", "6"]


def test_one_broken_file_spoils_the_set(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(policy("all"))
    (tmp_path / "bad.yaml").write_text("")
    assert errors_of(tmp_path) == [
        "bad.yaml: holds no document; write a ProvenancePolicy or ProvenanceTenant, "
        "or remove the file"
    ]


def test_policy_written_in_two_files_names_both_places(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(policy("all"))
    (tmp_path / "b.yaml").write_text("# once more\n" + policy("all"))
    assert errors_of(tmp_path) == [
        "b.yaml:2:1: metadata.name: policy shop/all is already written at a.yaml:1:1; "
        "rename or remove one of them"
    ]


def test_same_name_in_two_namespaces_is_two_policies(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(policy("all") + "---\n" + policy("all", "bank"))
    assert len(load_directory(tmp_path).policies) == 2


def test_tenant_written_in_two_files_names_both_places(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(tenant("acme", "shop"))
    (tmp_path / "b.yaml").write_text(tenant("acme", "bank"))
    assert errors_of(tmp_path) == [
        "b.yaml:1:1: metadata.name: tenant acme is already written at a.yaml:1:1; "
        "rename or remove one of them"
    ]


def test_g5_namespace_claimed_by_two_tenants_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(tenant("acme", "shop", "test"))
    (tmp_path / "b.yaml").write_text(tenant("globex", "bank", "shop"))
    assert errors_of(tmp_path) == [
        'b.yaml:4:27: spec.namespaces[1]: "shop" already belongs to tenant acme (a.yaml:1:1); '
        "remove it from one of them"
    ]


def test_g5_tenant_of_a_namespace_is_its_owner_or_itself(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(tenant("acme", "shop", "test"))
    loaded = load_directory(tmp_path)
    assert loaded.tenant_of("shop").name == "acme"
    assert loaded.tenant_of("test").name == "acme"
    own = loaded.tenant_of("bank")
    assert own.name == "bank"
    assert own.namespaces == {"bank"}
    assert own.quotas == Quotas(stream_bytes=1024**3, stream_age_s=168 * 3600)


def test_g5_unclaimed_namespace_never_falls_into_a_tenant_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(tenant("shop", "bank"))
    with pytest.raises(NamespaceWithoutTenant, match=r"list it in spec\.namespaces"):
        load_directory(tmp_path).tenant_of("shop")
    (tmp_path / "b.yaml").write_text(policy("all", "shop"))
    (message,) = errors_of(tmp_path)
    assert message.startswith('b.yaml:1:1: metadata.namespace: namespace "shop" is listed by no')


def test_tenant_may_bear_the_name_of_a_namespace_of_another_tenant(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(tenant("shop", "bank") + "---\n" + tenant("bank", "shop"))
    (tmp_path / "b.yaml").write_text(policy("all", "shop"))
    assert load_directory(tmp_path).tenant_of("shop").name == "bank"


def test_quotas_are_bytes_and_seconds(tmp_path: Path) -> None:
    text = tenant("acme", "shop").replace(
        "spec: {", "spec: {quotas: {streamBytes: 3Mi, streamAge: 1h2m3s}, "
    )
    (tmp_path / "a.yaml").write_text(text)
    (acme,) = load_directory(tmp_path).tenants
    assert acme.quotas == Quotas(stream_bytes=3 * 1024**2, stream_age_s=3723)


def test_select_takes_policies_of_the_namespace_whose_selector_matches(tmp_path: Path) -> None:
    selector = "podSelector: {matchLabels: {app: web}}"
    (tmp_path / "a.yaml").write_text(
        "---\n".join(
            [policy("web", spec=selector), policy("all"), policy("other", "bank", selector)]
        )
    )
    loaded = load_directory(tmp_path)
    assert [one.name for one in loaded.select("shop", {"app": "web", "x": "y"})] == ["all", "web"]
    assert [one.name for one in loaded.select("shop", {})] == ["all"]
    assert [one.name for one in loaded.select("bank", {"app": "web"})] == ["other"]
    assert loaded.select("bank", {"app": "db"}) == []


def test_missing_file_and_directory_say_so(tmp_path: Path) -> None:
    assert errors_of(tmp_path / "gone.yaml") == [
        f"{tmp_path}/gone.yaml: cannot be read: No such file or directory; "
        "correct the path or its permissions"
    ]
    assert errors_of(tmp_path / "gone") == [
        f"{tmp_path}/gone: cannot be read: No such file or directory; "
        "name a directory of policy files"
    ]


def test_file_in_place_of_a_directory_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(policy("all"))
    with pytest.raises(PolicyErrors, match="Not a directory; name a directory"):
        load_directory(tmp_path / "a.yaml")


def test_dangling_link_is_a_problem_not_a_silence(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").symlink_to("gone.yaml")
    (message,) = errors_of(tmp_path)
    assert message.startswith("a.yaml: cannot be read: No such file")


@contextmanager
def without_privileges() -> Iterator[None]:
    """Root reads everything, so be nobody for a while."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)


def test_file_without_permission_says_so() -> None:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        file = Path(directory) / "a.yaml"
        file.write_text(policy("all"))
        file.chmod(0)
        with without_privileges():
            (message,) = errors_of(Path(directory))
    assert message.startswith("a.yaml: cannot be read: Permission denied")


def test_directory_without_permission_says_so() -> None:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0)
        with without_privileges():
            (message,) = errors_of(Path(directory))
        Path(directory).chmod(0o755)
    assert "cannot be read: Permission denied; name a directory" in message


def test_looping_link_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").symlink_to("a.yaml")
    (message,) = errors_of(tmp_path)
    assert message.startswith("a.yaml: cannot be read: Too many levels of symbolic links")


def test_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").mkdir()
    assert errors_of(tmp_path) == [
        "a.yaml: is not a regular file; name a YAML file",
        "b.yaml: is not a regular file; name a YAML file",
    ]


def test_endless_device_is_refused() -> None:
    with pytest.raises(PolicyErrors, match="is not a regular file"):
        load_file("/dev/zero")


def test_size_is_bounded(tmp_path: Path) -> None:
    text = policy("all")
    (tmp_path / "a.yaml").write_text(text + "#" * (SIZE_MAX_BYTES - len(text)))
    assert len(load_directory(tmp_path).policies) == 1
    (tmp_path / "a.yaml").write_text(text + "#" * (SIZE_MAX_BYTES - len(text) + 1))
    assert errors_of(tmp_path) == [
        "a.yaml: is larger than 1048576 bytes; split it into several files"
    ]


def test_number_of_files_is_bounded(tmp_path: Path) -> None:
    for index in range(FILES_MAX + 1):
        (tmp_path / f"{index:04}.yaml").touch()
    messages = errors_of(tmp_path)
    assert len(messages) == FILES_MAX + 1
    assert f"has {FILES_MAX + 1} policy files" in messages[0]


def test_file_name_of_any_bytes_can_be_named_in_a_message(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff.yaml")).touch()
    (message,) = errors_of(tmp_path)
    assert "holds no document" in message


def document(kind: str, name: str, spec: str) -> str:
    return (
        "apiVersion: headwater.dev/v1alpha1\n"
        f"kind: {kind}\n"
        f"metadata: {{name: {name}}}\n"
        f"spec: {{{spec}}}\n"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            document("ClusterProvenancePolicy", "all", "namespaceSelector: {}, podSelector: {}"),
            "2:7: kind: selects namespaces by labels, and a single host has none; "
            "write a ProvenancePolicy for each namespace",
        ),
        (
            document("ProvenanceAuditor", "leaks", "secretName: leaks"),
            "2:7: kind: asks the operator of a cluster for access; "
            "remove it, on a single host auditors read with the keys in --state",
        ),
        (
            document("CompiledProvenancePolicy", "a" * 64, "references: []"),
            "2:7: kind: is written by the operator of a cluster; remove it",
        ),
        (
            document("ProvenanceNode", "node-a", ""),
            "2:7: kind: is written by the operator of a cluster; remove it",
        ),
        (
            document("ProvenanceTenant", "acme", "namespaces: [shop], suspend: true"),
            "4:37: spec.suspend: switches a tenant of a cluster off; suspend its policies, or "
            "remove them",
        ),
        (
            document("ProvenanceTenant", "acme", "namespaceSelector: {}"),
            "4:27: spec.namespaceSelector: selects by labels, and namespaces of a single host have "
            "none; list their names",
        ),
    ],
)
def test_what_only_a_cluster_has_is_refused_on_a_single_host(
    text: str, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "file.yaml"
    file.write_text(policy("all") + "---\n" + text)
    assert check_files([file]).problems == ()
    line, _, rest = message.partition(":")
    assert errors_of(tmp_path) == [f"file.yaml:{int(line) + 5}:{rest}"]


def test_check_counts_good_and_bad_documents_of_files_and_directories(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(policy("a") + "---\n" + policy("b", spec="podSelector: 1"))
    (tmp_path / "README.md").write_text("# not a policy")
    (tmp_path / "c.txt").write_text(tenant("acme", "shop"))
    checked = check_files([tmp_path, tmp_path / "c.txt", tmp_path / "a.yaml"])
    assert (checked.files, checked.documents, len(checked.problems)) == (2, 3, 1)


def test_check_leaves_to_the_cluster_what_a_selector_selects(tmp_path: Path) -> None:
    file = tmp_path / "file.yaml"
    texts = [tenant("shop", "bank"), policy("all", "shop")]
    file.write_text("---\n".join(texts))
    assert len(check_files([file]).problems) == 1
    texts.append(document("ProvenanceTenant", "globex", "namespaceSelector: {}"))
    file.write_text("---\n".join(texts))
    assert check_files([file]).problems == ()


def test_check_says_that_a_directory_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("headwater_prov.policy.loading.os.scandir", refuse)
    (problem,) = check_files(["."]).problems
    assert problem.message == "cannot be read: Permission denied; name a directory of policy files"
