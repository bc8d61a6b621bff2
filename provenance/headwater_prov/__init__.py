# SPDX-License-Identifier: Apache-2.0
"""The record model of Headwater: words, ids, documents, writers, lineage and validation.

Everything imports this package and it imports none of the others, so whoever writes an auditor
needs nothing else. It is pure: no server, no kernel, no clock of its own.

Made by the agent, with :mod:`.vocabulary`, :mod:`.identifiers`, :mod:`.escaping`, :mod:`.times` and
:mod:`.stream`; then read the other way round, in this order:

* :mod:`.reading`: text to documents; :mod:`.document`: many documents to one
* :mod:`.balance`, :mod:`.validation`: whether anything is missing or out of order (G2, G4)
* :mod:`.graph`, :mod:`.catalogue`, :mod:`.relevance`, :mod:`.summary`: what is what
* :mod:`.lineage`, :mod:`.answer`: where a file came from, in words
* :mod:`.picture`, :mod:`.writers`: documents in every format

:mod:`.policy` is apart: what is to be captured. :mod:`.schema` makes the format's JSON Schemas.
"""
