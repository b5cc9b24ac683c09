"""TLS of the live server."""

import ssl
from pathlib import Path
from typing import NoReturn

from postmean.base.errors import ConfigError


def tls_context(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """The server's side of TLS 1.2 or newer; None without a certificate.

    Args:
        certificate: PEM file with the server's certificate, followed by those up to its issuer.
        key: PEM file with its private key, not encrypted.
    Raises:
        ConfigError: a file cannot be read or is no such file, or the two do not belong together.
    """
    if certificate is None or key is None:
        return None
    for flag, path in (("--tls-certificate", certificate), ("--tls-key", key)):
        try:
            if not path.is_file():  # a pipe would block
                raise ConfigError(f"{flag} {path}: no such file: pass a PEM file")
            path.open("rb").close()
        except (OSError, ValueError) as error:
            raise ConfigError(f"{flag} {path}: cannot read it ({error}): pass a PEM file that can be read") from error
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        context.load_cert_chain(certificate, key, _refuse_password)
    except ssl.SSLError as error:
        reason = error.reason.lower().replace("_", " ") if error.reason else "not in PEM format"
        raise ConfigError(
            f"--tls-certificate {certificate} --tls-key {key}: {reason}: pass a PEM certificate and its private key"
        ) from error
    return context


def _refuse_password() -> NoReturn:
    raise ConfigError("--tls-key: the key is encrypted: pass one that is not, in a file with mode 0600")
