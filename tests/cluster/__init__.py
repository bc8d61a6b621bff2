# SPDX-License-Identifier: Apache-2.0
"""Tests against a real etcd, kube-apiserver and kube-controller-manager on loopback."""
