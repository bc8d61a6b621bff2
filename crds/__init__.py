# SPDX-License-Identifier: Apache-2.0
"""The custom resource definitions as package data: one schema for a cluster and for local mode.

Most of each is common to several, so they are made by setup/definitions.py.

Why a package: `headwater_prov.policy.schema` reads the files from wherever Headwater is installed.
`kubectl apply -f crds/` takes the same directory; what is not YAML in it is ignored.
"""
