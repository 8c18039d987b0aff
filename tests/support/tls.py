"""A certificate of one's own for the loopback address, for servers that speak TLS."""

from __future__ import annotations

import functools
import ssl
import tempfile
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from infra.local.loopback import HOST


@functools.cache
def _certified() -> tuple[bytes, bytes]:
    """Make a key and a certificate that it has signed itself, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(HOST))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem, certificate.public_bytes(serialization.Encoding.PEM)


def serving() -> ssl.SSLContext:
    """Give what a server with this certificate needs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(b"".join(_certified()))
        context.load_cert_chain(file.name)
    return context


def trusting() -> Future[ssl.SSLContext]:
    """Give what a client needs that trusts nobody but this certificate."""
    read: Future[ssl.SSLContext] = Future()
    read.set_result(ssl.create_default_context(cadata=_certified()[1].decode()))
    return read
