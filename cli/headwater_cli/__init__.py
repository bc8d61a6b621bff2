# SPDX-License-Identifier: Apache-2.0
"""The program `headwater`: local capture, its embedded NATS, and questions to the records.

It stands on top: it may import the operator's accounts, the agent and the auditor; none imports it.
"""
