"""Objects in the S3 server of the tests, without a request for each, and the requests that others make."""

from collections.abc import Mapping

from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends


def put_many(url: str, objects: Mapping[str, bytes]) -> None:
    """Put objects below an s3:// URL: a thousand in some 50 ms."""
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    for path, data in objects.items():
        backend.put_object(bucket, f"{prefix}/{path}", data)
