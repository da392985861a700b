"""A certificate that a server makes for itself, and by whose fingerprint clients know it."""

from __future__ import annotations

import datetime
import ipaddress
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hpctf.common.files import PRIVATE_FILE, write_atomic

_DAYS = 400


def make_certificate(folder: Path, host: str) -> tuple[Path, Path, str]:
    """Write a self-signed certificate for a host and its key, which the owner alone may read.

    Returns
    -------
    tuple
        The certificate's file, the key's, and the SHA-256 fingerprint in hexadecimal digits.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))  # clocks differ between hosts
        .not_valid_after(now + datetime.timedelta(days=_DAYS))
        .add_extension(x509.SubjectAlternativeName(_names(host)), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, private = folder / "certificate.pem", folder / "key.pem"
    pem, no_password = serialization.Encoding.PEM, serialization.NoEncryption()
    text = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, no_password)
    write_atomic(private, text, PRIVATE_FILE)
    write_atomic(certificate, made.public_bytes(pem))
    return certificate, private, made.fingerprint(hashes.SHA256()).hex()


def _names(host: str) -> list[x509.GeneralName]:
    """Return what clients may call the host: its name, or its address, and through a tunnel."""
    found: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.DNSName(os.uname().nodename)]
    for address in {host, "127.0.0.1"}:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(address)))
        except ValueError:
            found.append(x509.DNSName(address))
    return found
