"""Checkpoints: now and then a node signs how far its log has come, with a key that is not in the log.

Who can write the log but has not the key can rewrite only what follows the last checkpoint. In a mesh the key is that
of the node's certificate, so that the mesh's CA says whose log it is; a node that runs alone keeps a key of its own in
its data directory, where whoever can write the log will often find it.
"""

from __future__ import annotations

import base64
import hashlib
import os
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
    load_pem_public_key,
)

from federation.credentials import identity_of, parse_chain, vouch
from node.audit.chain import FORMAT, Head
from proto import jsons
from proto.errors import Invalid, MeshError

KEY_FILE = "audit-key.pem"

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey
PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey

_PSS = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
_ECDSA = ec.ECDSA(hashes.SHA256())


def statement(mesh: str, node: str, head: Head) -> bytes:
    """What is signed: that this node's log reached `head`."""
    said = {"format": FORMAT, "mesh": mesh, "node": node, "seq": head.seq, "hash": head.hash.hex()}
    return jsons.canonical(said)


def key_id(key: PublicKey) -> str:
    """SHA-256 of the key's SubjectPublicKeyInfo, hexadecimal: how people tell keys apart."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


class Signer:
    """A node's signing key; `certificate` is its PEM chain, empty where no authority vouches for the key."""

    def __init__(self, key: PrivateKey, certificate: bytes = b"") -> None:
        self._key = key
        self.key_id = key_id(key.public_key())
        self.public_key = key.public_key()
        der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        # What a reader needs stands beside each signature: a log may be cut, or shipped in parts.
        self._proof = (
            {"certificate": certificate.decode("ascii")}
            if certificate
            else {"public_key": base64.b64encode(der).decode()}
        )

    def __repr__(self) -> str:
        return f"Signer({self.key_id[:16]})"

    def checkpoint(self, mesh: str, node: str, head: Head) -> dict[str, Any]:
        """The facts of a checkpoint that covers everything up to `head`."""
        said = statement(mesh, node, head)
        match self._key:
            case ec.EllipticCurvePrivateKey():
                signature = self._key.sign(said, _ECDSA)
            case ed25519.Ed25519PrivateKey():
                signature = self._key.sign(said)
            case _:
                signature = self._key.sign(said, _PSS, hashes.SHA256())
        return {
            "mesh": mesh,
            "seq": head.seq,
            "hash": head.hash.hex(),
            "key_id": self.key_id,
            "signature": base64.b64encode(signature).decode(),
            **self._proof,
        }


def signer_of(key_pem: bytes, certificate_pem: bytes = b"") -> Signer:
    """Raises `Invalid` for a key that cannot be read, or not sign."""
    try:
        key = load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError) as e:
        raise Invalid(f"the audit's signing key is not an unencrypted PEM private key: {e}") from None
    if not isinstance(key, PrivateKey):
        raise Invalid(f"the audit cannot sign with a key of type {type(key).__name__}: use EC, Ed25519 or RSA")
    return Signer(key, certificate_pem)


def own_key(data_dir: Path) -> Signer:
    """Of a node that runs alone: the key in its data directory, made (0600) where there is none. Raises `Invalid`."""
    file = data_dir / KEY_FILE
    try:
        if not file.exists():
            made = ec.generate_private_key(ec.SECP256R1())
            pem = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            fresh = file.with_name(f"{file.name}.new")
            fresh.unlink(missing_ok=True)
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as f:
                f.write(pem)
                f.flush()
                os.fsync(f.fileno())
            fresh.replace(file)
        return signer_of(file.read_bytes())
    except OSError as e:
        raise Invalid(f"{file} cannot be read or made: {e.strerror or e}") from None


# ---- whose signatures count -------------------------------------------------------------------------


class Trust(Protocol):
    """Whom a reader of a log believes."""

    def believes(self, key: PublicKey, checkpoint: dict[str, Any], node: str, at: datetime) -> str:
        """Empty if this key might sign for the node at that time; otherwise why not."""


class AnyKey:
    """Believes every key, and proves little: who can rewrite a log can sign it with a key of their own."""

    def believes(self, key: PublicKey, checkpoint: dict[str, Any], node: str, at: datetime) -> str:
        return ""


class TrustedKeys:
    """Believes these keys (ids), and those whose certificate for the node `authorities` (PEM, may be empty) issued.

    A certificate must have been valid when the checkpoint says that it was made; that it has ended since is no matter.
    """

    def __init__(self, keys: frozenset[str] = frozenset(), authorities: bytes = b"") -> None:
        self._keys = keys
        self._authorities = parse_chain(authorities, "the CA") if authorities else []

    def believes(self, key: PublicKey, checkpoint: dict[str, Any], node: str, at: datetime) -> str:
        if key_id(key) in self._keys:
            return ""
        pem = checkpoint.get("certificate")
        if not self._authorities or not isinstance(pem, str):
            return "it is none of the keys that are trusted here"
        try:
            named = identity_of(parse_chain(pem.encode(), "the certificate")[0])
            vouch(pem.encode(), self._authorities, named, at)
        except MeshError as e:
            return e.message
        if named.name != node or named.trust_domain != checkpoint.get("mesh"):
            return f"its certificate is that of {named.uri}"
        return ""


def key_of(checkpoint: dict[str, Any]) -> PublicKey:
    """The public key that a checkpoint names. Raises `Invalid`."""
    try:
        if isinstance(pem := checkpoint.get("certificate"), str):
            key: Any = x509.load_pem_x509_certificate(pem.encode()).public_key()
        else:
            key = load_der_public_key(base64.b64decode(str(checkpoint.get("public_key")), validate=True))
    # A reader of hostile logs: what `cryptography` cannot read it says in many ways.
    except Exception as e:
        raise Invalid(f"the key of the checkpoint cannot be read: {type(e).__name__}") from None
    if not isinstance(key, PublicKey):
        raise Invalid(f"the checkpoint is signed with a key of type {type(key).__name__}")
    return key


def signed_wrongly(checkpoint: dict[str, Any], node: str, head: Head, at: datetime, trust: Trust) -> str:
    """Why a checkpoint does not prove that the log of `node` reached `head`; empty: it does."""
    try:
        key = key_of(checkpoint)
        signature = base64.b64decode(str(checkpoint.get("signature")), validate=True)
    except (Invalid, ValueError) as e:
        return f"its signature cannot be read ({e})"
    said = statement(str(checkpoint.get("mesh")), node, head)
    try:
        match key:
            case ec.EllipticCurvePublicKey():
                key.verify(signature, said, _ECDSA)
            case ed25519.Ed25519PublicKey():
                key.verify(signature, said)
            case _:
                key.verify(signature, said, _PSS, hashes.SHA256())
    except InvalidSignature:
        return "its signature is not one of this node over what came before"
    why = trust.believes(key, checkpoint, node, at)
    return f"it is signed by key {key_id(key)[:16]}, and {why}" if why else ""


def key_ids(pem: bytes, what: str) -> str:
    """The id of the key in a PEM file: a public key, a certificate, or the private key itself. Raises `Invalid`."""
    try:
        if b"CERTIFICATE" in pem:
            key: Any = x509.load_pem_x509_certificate(pem).public_key()
        elif b"PRIVATE" in pem:
            key = load_pem_private_key(pem, password=None).public_key()
        else:
            key = load_pem_public_key(pem)
    except (ValueError, TypeError) as e:
        raise Invalid(f"{what} holds no key that can be read: {e}") from None
    if not isinstance(key, PublicKey):
        raise Invalid(f"{what} holds a key of type {type(key).__name__}, which signs no log")
    return key_id(key)
