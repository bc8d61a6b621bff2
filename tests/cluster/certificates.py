# SPDX-License-Identifier: Apache-2.0
"""The certificate authority of one control plane: who may speak, and as whom.

Why: the API server knows people and components by their client certificates, so a test that is to
be refused needs one of its own. Keys live as long as the control plane. Called by `control_plane`.
"""

import datetime
import ipaddress
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALIDITY = datetime.timedelta(days=2)
"""Longer than any session; a forgotten key is worth nothing the day after."""


class Authority:
    """A fresh authority; what it makes are files `<name>.crt` and `<name>.key` in a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "headwater-tests")])
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        # A strict client asks an authority for all of these.
        builder = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
        )
        self._write("ca", self._key, builder.sign(self._key, hashes.SHA256()))

    def issue(self, file: str, user: str, *groups: str, addresses: tuple[str, ...] = ()) -> None:
        """Make `<file>.crt` and `<file>.key` for a user; with addresses it can serve as well."""
        names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        names.append(x509.NameAttribute(NameOID.COMMON_NAME, user))
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if addresses:
            usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(x509.Name(names), key.public_key()).add_extension(
            x509.ExtendedKeyUsage(usages), critical=False
        )
        if addresses:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_general_name(each) for each in addresses]),
                critical=False,
            )
        self._write(file, key, builder.sign(self._key, hashes.SHA256()))

    def key_pair(self, file: str) -> None:
        """Make `<file>.key` and `<file>.pub`: a key without a certificate, for signing tokens."""
        key = ec.generate_private_key(ec.SECP256R1())
        self._write_key(file, key)
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        (self._directory / f"{file}.pub").write_bytes(public)

    def _builder(
        self, subject: x509.Name, public: ec.EllipticCurvePublicKey
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        own = self._key.public_key()
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + VALIDITY)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(own), critical=False)
        )

    def _write(
        self, file: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate
    ) -> None:
        self._write_key(file, key)
        (self._directory / f"{file}.crt").write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
        )

    def _write_key(self, file: str, key: ec.EllipticCurvePrivateKey) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        descriptor = os.open(self._directory / f"{file}.key", flags, 0o600)
        with open(descriptor, "wb") as stream:
            stream.write(
                key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.TraditionalOpenSSL,
                    serialization.NoEncryption(),
                )
            )


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
