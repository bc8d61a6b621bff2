# SPDX-License-Identifier: Apache-2.0
"""Names of vertices, relations and gaps that two tenants can never compare.

Why: a file that two tenants share must not have one id, or they could correlate what they see
(G5). So every id is a BLAKE2b under the *tenant's* key, over what makes the object unique: machine,
boot, load of the kernel programs, and the serial that the kernel gave. All fields have a fixed
width, so two different objects never hash the same bytes.

Who calls it: the agent when it renders a batch; :mod:`headwater_prov.document` takes names apart
again. The layouts below are part of the record format: changing one changes every id, and the test
vectors say so.
"""

from __future__ import annotations

from base64 import b32encode
from binascii import b2a_base64
from hashlib import blake2b
from typing import Final

KEY_BYTES: Final = 32
MACHINE_ID_BYTES: Final = 16
BOOT_ID_BYTES: Final = 16
LOAD_ID_BYTES: Final = 8

_DIGEST_BYTES = 16
_NODE_TOKEN_BYTES = 10
_SERIAL_MAX = 2**64 - 1
_URLSAFE = bytes.maketrans(b"+/", b"-_")


class ObjectIds:
    """Object ids of one tenant on one load of the kernel programs.

    Hashes the fields that stay the same once; an agent makes an id per captured object.

    Args:
        key: the tenant's key, 32 bytes.
        machine_id: ``/etc/machine-id``, 16 bytes.
        boot_id: the kernel's random boot id, 16 bytes.
        load_id: random, 8 bytes, new at every load: the kernel's serials start again then.

    Raises:
        ValueError: if a field has another length.
    """

    def __init__(self, key: bytes, machine_id: bytes, boot_id: bytes, load_id: bytes) -> None:
        _check_length("machine id", machine_id, MACHINE_ID_BYTES)
        _check_length("boot id", boot_id, BOOT_ID_BYTES)
        _check_length("load id", load_id, LOAD_ID_BYTES)
        self._common = _hash(key, b"hw-object")
        self._common.update(machine_id + boot_id + load_id)

    def __call__(self, serial: int) -> str:
        """The id of the object with this serial (1 .. 2**64 - 1): 22 characters.

        Raises:
            ValueError: if the serial is 0 (no object) or does not fit 64 bits.
        """
        if not 0 < serial <= _SERIAL_MAX:
            raise ValueError(f"object serial {serial}: must be 1 .. 2**64 - 1; 0 means no object")
        digest = self._common.copy()
        digest.update(serial.to_bytes(8, "big"))
        return _text(digest.digest())


def object_id(key: bytes, machine_id: bytes, boot_id: bytes, load_id: bytes, serial: int) -> str:
    """The id of one kernel object for one tenant; see :class:`ObjectIds`."""
    return ObjectIds(key, machine_id, boot_id, load_id)(serial)


class PathIds:
    """Ids of one tenant's path vertices on one machine: the same path is the same vertex.

    Raises:
        ValueError: if the key or the machine id has the wrong length.
    """

    def __init__(self, key: bytes, machine_id: bytes) -> None:
        _check_length("machine id", machine_id, MACHINE_ID_BYTES)
        self._common = _hash(key, b"hw-path")
        self._common.update(machine_id)

    def __call__(self, path: bytes) -> str:
        """The id of a path, given as the kernel has it, before any escaping."""
        digest = self._common.copy()
        digest.update(path)
        return _text(digest.digest())


def path_id(key: bytes, machine_id: bytes, path: bytes) -> str:
    """The id of one path for one tenant; see :class:`PathIds`."""
    return PathIds(key, machine_id)(path)


class AddressIds:
    """Ids of one tenant's socket addresses on one machine: the same address is the same vertex.

    Raises:
        ValueError: if the key or the machine id has the wrong length.
    """

    def __init__(self, key: bytes, machine_id: bytes) -> None:
        _check_length("machine id", machine_id, MACHINE_ID_BYTES)
        self._common = _hash(key, b"hw-address")
        self._common.update(machine_id)

    def __call__(self, address: bytes) -> str:
        """The id of an address, given by the bytes that make it this one and no other."""
        digest = self._common.copy()
        digest.update(address)
        return _text(digest.digest())


def address_id(key: bytes, machine_id: bytes, address: bytes) -> str:
    """The id of one address for one tenant; see :class:`AddressIds`."""
    return AddressIds(key, machine_id)(address)


class FlowIds:
    """Ids of one tenant's connections: both ends, on whatever machines, have the same one.

    Args: key: the tenant's key, 32 bytes.

    Raises:
        ValueError: if the key has the wrong length.
    """

    def __init__(self, key: bytes) -> None:
        self._common = _hash(key, b"hw-flow")

    def __call__(self, place: bytes, protocol: int, one_end: bytes, other_end: bytes) -> str:
        """The id of a connection.

        Args:
            place: machine id where an end is an address of every machine (127.0.0.1), else empty.
            protocol: IPPROTO_*.
            one_end: what tells one end from all others, in either order.
            other_end: the same of the other, in as many bytes.
        """
        digest = self._common.copy()
        digest.update(place + protocol.to_bytes(2, "big"))
        digest.update(b"".join(sorted((one_end, other_end))))
        return _text(digest.digest())


class ArgvIds:
    """Ids of the vertices of one tenant's program arguments; a compiler has a hundred to a run.

    Args:
        key: the tenant's key, 32 bytes.
        of_environment: whether they are of variables, which have other ids than arguments.

    Raises:
        ValueError: if the key has the wrong length.
    """

    def __init__(self, key: bytes, *, of_environment: bool = False) -> None:
        self._common = _hash(key, b"hw-envp" if of_environment else b"hw-argv")

    def __call__(self, memory: str, index: int) -> str:
        """The id of one argument.

        Args:
            memory: vertex id ``<object>.<version>`` of the process memory that received it.
            index: which argument, from 0.

        Raises:
            ValueError: if the index does not fit 32 bits.
        """
        if not 0 <= index < 2**32:
            raise ValueError(f"argument index {index}: must be 0 .. 2**32 - 1")
        digest = self._common.copy()
        digest.update(index.to_bytes(4, "big") + memory.encode())
        return _text(digest.digest())

    def of_program(self, memory: str, count: int) -> list[bytes]:
        """The ids, in ASCII, of a program's first arguments: as by one call for each, but faster.

        Args:
            memory: see :meth:`__call__`.
            count: how many.
        """
        suffix, copy, found = memory.encode(), self._common.copy, []
        for index in range(count):
            digest = copy()
            digest.update(index.to_bytes(4, "big") + suffix)
            found.append(b2a_base64(digest.digest(), newline=False).translate(_URLSAFE, b"="))
        return found


def argv_id(key: bytes, memory: str, index: int) -> str:
    """The id of one argument for one tenant; see :class:`ArgvIds`."""
    return ArgvIds(key)(memory, index)


def envp_id(key: bytes, memory: str, index: int) -> str:
    """The id of one variable of an environment for one tenant; see :class:`ArgvIds`."""
    return ArgvIds(key, of_environment=True)(memory, index)


def node_token(machine_id: bytes) -> str:
    """The node's name in subjects and relation keys: 16 characters of ``a-z2-7``.

    Raises:
        ValueError: if the machine id is not 16 bytes long.
    """
    _check_length("machine id", machine_id, MACHINE_ID_BYTES)
    digest = blake2b(machine_id).digest()[:_NODE_TOKEN_BYTES]
    return b32encode(digest).decode().lower()


def origin_token(node: str, load_id: bytes) -> str:
    """The name of one load on one node: sequence numbers count from 1 within it.

    Raises:
        ValueError: if the load id is not 8 bytes long.
    """
    _check_length("load id", load_id, LOAD_ID_BYTES)
    return f"{node}-{load_id.hex()}"


def vertex_name(object_: str, version: int) -> str:
    """The PROV name of one version of an object."""
    return f"hw:{object_}.{version}"


def parse_vertex_name(name: str) -> tuple[str, int]:
    """Object id and version of a PROV name made by :func:`vertex_name`.

    Raises:
        ValueError: if the name is not ``hw:<object>.<version>``.
    """
    prefix, _, local = name.partition(":")
    object_, _, version = local.rpartition(".")
    if prefix != "hw" or not object_ or not (version.isascii() and version.isdigit()):
        raise ValueError(f'vertex name "{name}" is not "hw:<object>.<version>"')
    return object_, int(version)


def relation_key(origin: str, sequence: int, index: int) -> str:
    """The PROV name of a relation.

    Args:
        origin: see :func:`origin_token`.
        sequence: number of the captured record, from 1.
        index: which of the relations that the record stands for, from 0.
    """
    return f"hw:{origin}.{sequence}.{index}"


def parse_relation_key(key: str) -> tuple[str, int, int]:
    """Origin, sequence and index of a relation's PROV name.

    Raises:
        ValueError: if the key is not ``hw:<origin>.<sequence>.<index>``.
    """
    parts = key.removeprefix("hw:").split(".")
    if (
        not key.startswith("hw:")
        or len(parts) != 3
        or not parts[0]
        or not all(part.isascii() and part.isdigit() for part in parts[1:])
    ):
        raise ValueError(f'relation key "{key}" is not "hw:<origin>.<sequence>.<index>"')
    return parts[0], int(parts[1]), int(parts[2])


def gap_key(origin: str, first: int) -> str:
    """The PROV name of a gap that begins with this sequence number."""
    return f"hw:gap.{origin}.{first}"


def _hash(key: bytes, person: bytes) -> blake2b:
    _check_length("tenant key", key, KEY_BYTES)
    return blake2b(digest_size=_DIGEST_BYTES, key=key, person=person)


def _text(digest: bytes) -> str:
    return b2a_base64(digest, newline=False).translate(_URLSAFE, b"=").decode()


def _check_length(field: str, value: bytes, length: int) -> None:
    if len(value) != length:
        raise ValueError(f"{field}: {len(value)} bytes; must be {length}")
