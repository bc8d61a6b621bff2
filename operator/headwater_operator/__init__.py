# SPDX-License-Identifier: Apache-2.0
"""The platform's side: tenants' accounts, streams and credentials."""
