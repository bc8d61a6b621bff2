# SPDX-License-Identifier: Apache-2.0
"""A directory of policies: errors have file, line and field, and the last good set stays (G6)."""

import os
from pathlib import Path

import pytest
from headwater_cli.errors import Failure
from headwater_cli.policy_files import WatchedPolicies, load_policies

GOOD = """\
apiVersion: headwater.dev/v1alpha1
kind: ProvenancePolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
"""
BAD = GOOD.replace("podSelector:", "podSelektor:")


def test_bad_edit_is_reported_once_and_the_last_good_set_stays(tmp_path: Path) -> None:
    file = tmp_path / "web.yaml"
    file.write_text(GOOD)
    watched = WatchedPolicies(tmp_path)
    good = watched.current
    assert not watched.reload_if_changed()

    file.write_text(BAD)
    with pytest.raises(Failure, match=r"web\.yaml:5.*podSelektor") as failure:
        watched.reload_if_changed()
    assert failure.value.exit_code == 125
    assert watched.current is good
    assert not watched.reload_if_changed()

    file.write_text(GOOD.replace("name: web", "name: mended"))
    assert watched.reload_if_changed()
    assert watched.current.policies[0].name == "mended"


def test_replacement_by_rename_and_removal_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(GOOD)
    watched = WatchedPolicies(tmp_path)
    other = tmp_path / "web.new"
    other.write_text(GOOD.replace("app: web", "app: api"))
    os.replace(other, tmp_path / "web.yaml")
    assert watched.reload_if_changed()
    (tmp_path / "web.yaml").unlink()
    assert watched.reload_if_changed()
    assert watched.current.policies == ()


def test_files_that_are_no_policies_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(GOOD)
    watched = WatchedPolicies(tmp_path)
    (tmp_path / "notes.txt").write_text("nothing")
    (tmp_path / ".web.yaml.swp").write_text("nothing")
    assert not watched.reload_if_changed()


def test_missing_directory_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(Failure) as failure:
        load_policies(tmp_path / "none")
    assert str(tmp_path / "none") in failure.value.message
    assert failure.value.remedy
