"""What an object store's error means: the object is missing, try again, or a user error with its remedy.

The client's messages quote the server's answer, which may hold access keys and the signed text: only the status and
the store's error code leave this file.
"""

import re

from obstore.exceptions import BaseError, InvalidPathError, PermissionDeniedError, UnauthenticatedError

from postmean.base.errors import StorageError
from postmean.storage.backoff import Transient

CLIENT_ERRORS = (BaseError, OSError, ValueError, NotImplementedError)
"""Exceptions that obstore calls raise."""

_TRY_AGAIN_STATUS = (408, 409, 425, 429)
_TRY_AGAIN = ("RequestTimeout", "SlowDown", "InternalError", "ServiceUnavailable", "Throttling", "ThrottlingException")
_NO_BUCKET = ("NoSuchBucket", "InvalidBucketName", "ContainerNotFound", "InvalidResourceName")
_CREDENTIALS = (
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
    "InvalidAccessKeyId",
    "AuthorizationHeaderMalformed",
)
VARIABLES = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS to the key file of a service account",
    "az": "AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN",
}
"""Environment variables with the credentials of a store, by the URL's scheme."""
_METADATA_SERVICES = ("169.254.", "metadata.google.internal", "[fd00:ec2::254]")


class Missing(Exception):
    """The object does not exist; the bucket may (see `ObjectStorage._check_bucket`)."""


class Unsatisfiable(Exception):
    """The object has no byte in the requested range."""


class Unsupported(Exception):
    """The store does not implement the request."""


def translate(error: Exception, bucket: str) -> Exception:
    """The exception to raise instead of what the client raised.

    Args:
        bucket: URL of the bucket, such as s3://photos.
    Returns:
        Missing, Unsatisfiable, Unsupported, Transient, or a one-line StorageError.
    """
    text = str(error).partition("\n\nDebug source:")[0]
    answered = re.search(r"status code: (\d{3})", text)
    status = int(answered[1]) if answered else None
    named = re.search(r"<Code>(\w{1,64})</Code>", text) or re.search(r'"(?:code|reason)": "(\w{1,64})"', text)
    code = named[1] if named else None
    reason = " ".join(str(part) for part in (status, code) if part) or _connection(str(error))
    if code in _NO_BUCKET or (status == 404 and "bucket does not exist" in text):
        return StorageError(f"{bucket}: no such bucket: make it, or correct the name in the URL")
    if any(service in text for service in _METADATA_SERVICES):
        return StorageError(
            f"{bucket}: no credentials: set {VARIABLES[bucket.partition('://')[0]]}, or run where the machine has "
            "a role"
        )
    if code in _CREDENTIALS or isinstance(error, UnauthenticatedError) or status == 401:
        return StorageError(f"{bucket}: credentials refused ({reason}): renew them, and check region and endpoint")
    if isinstance(error, PermissionDeniedError) or status == 403:
        return StorageError(
            f"{bucket}: access denied ({reason}): check the credentials, and that they may list, read, write and "
            "delete there"
        )
    if status == 404 or (isinstance(error, FileNotFoundError) and status is None):
        return Missing()
    if status == 416:
        return Unsatisfiable()
    if status in (501, 405) or isinstance(error, NotImplementedError):
        return Unsupported()
    if "redirect without LOCATION" in text or (status is not None and 300 <= status < 400):
        return StorageError(f"{bucket}: it is in another region: set AWS_REGION to that of the bucket")
    if code in _TRY_AGAIN or status in _TRY_AGAIN_STATUS or (status is not None and status >= 500):
        return Transient(reason)
    if status is not None or isinstance(error, InvalidPathError | ValueError) or "builder error" in text:
        return StorageError(f"{bucket}: request refused ({reason}): check bucket, endpoint and prefix")
    return Transient(reason)


def _connection(text: str) -> str:
    """What went wrong before an answer arrived, in two words."""
    if "kind: Timeout" in text:
        return "timed out"
    return "no connection" if re.search(r"kind: Connect\b", text) else "connection broken"
