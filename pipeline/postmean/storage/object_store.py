"""Storage in an object store: s3:// (and compatible servers), gs:// and az://.

A PUT is atomic: it writes the whole object or nothing, and readers see the new object as soon as it returns.
Credentials come from the environment, the AWS profile files or the machine's role; they are never part of the URL, so
they appear in no manifest, log or error.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError
from obstore.store import AzureStore, GCSStore, S3Store

from postmean.base.errors import ConfigError, ShardError
from postmean.base.files import is_temporary
from postmean.storage.aws_profile import profile_settings
from postmean.storage.backoff import Transient, deadline_seconds
from postmean.storage.object_errors import CLIENT_ERRORS, VARIABLES, Missing, Unsupported, translate
from postmean.storage.object_requests import PART, ObjectRequests
from postmean.storage.storage import check_path

_UPLOADS = 4  # parts at once
_PAGE = 1000  # objects; a store lists no more in one answer
_REQUEST_SECONDS, _CONNECT_SECONDS = 60.0, 5.0
_PART_SECONDS, _PART_RETRIES = 240.0, 100  # a request is signed once for all its retries, for five minutes
_LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


class ObjectStorage:
    """Objects below a prefix of a bucket.

    Transient errors (5xx, 429, timeouts, broken connections) are retried with back-off until the operation's deadline;
    permanent ones (no such bucket, access denied) are raised at once.

    Args:
        url: `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`; the prefix may be empty. For s3,
            AWS_ENDPOINT_URL or the AWS profile's endpoint_url selects another server; plain http needs
            AWS_ALLOW_HTTP=true, except for a server on this machine.
        seconds: deadline of one operation (of each part of a large object), all attempts together; None takes
            POSTMEAN_STORAGE_DEADLINE or 300.

    Raises:
        ConfigError: the URL names no bucket, or has a user, password, port, query or a prefix that is no plain path;
            or settings from the environment are unusable.
    """

    def __init__(self, url: str, seconds: float | None = None) -> None:
        scheme, bucket, prefix = _split(url)
        seconds = deadline_seconds() if seconds is None else seconds
        root = f"{scheme}://{bucket}"
        self.url = f"{root}/{prefix}" if prefix else root
        self._store = _connect(scheme, bucket, prefix, seconds, retries=3)
        # without the client's own retries, which would hide whether its first attempt created the object
        self._once = _connect(scheme, bucket, prefix, seconds, retries=0)
        # with all of them: the client repeats a part, while an attempt of ours would begin with the first one
        self._by_part = partial(_connect, scheme, bucket, prefix, seconds, _PART_RETRIES, _PART_SECONDS)
        self._requests = ObjectRequests(self._store, self.url, seconds, lambda error: translate(error, root))
        self._bucket_seen = False

    def put(self, path: str, data: bytes) -> None:
        self._put(self._store, path, lambda: data)

    def put_file(self, path: str, file: Path, progress: Callable[[int], None] = lambda done: None) -> None:
        """In parts, each of which is sent again until the deadline if it fails.

        A kill leaves no object, and the next call sends all parts again.
        """
        if file.stat().st_size <= PART:
            self.put(path, file.read_bytes())
            return progress(file.stat().st_size)
        store = self._by_part()

        def parts() -> Iterator[bytes]:
            with file.open("rb") as opened:
                while part := opened.read(PART):
                    yield part
                    progress(opened.tell())

        self._put(store, path, parts)

    def _put(self, store: Any, path: str, data: Callable[[], Any]) -> None:
        check_path(path)

        def attempt(_: int) -> None:
            try:
                obstore.put(store, path, data(), chunk_size=PART, max_concurrency=_UPLOADS)
            except CLIENT_ERRORS as error:
                # a missing bucket has another error: here the end of an upload in parts was carried out and its answer
                # lost, so that the client's next attempt finds no upload
                if isinstance(translate(error, self.url), Missing):
                    raise Transient("the upload in parts is gone") from None
                raise

        self._requests.run(path, attempt)

    def create(self, path: str, data: bytes) -> bool:
        """Atomic if the store supports conditional writes (If-None-Match), as S3, GCS, Azure, R2 and MinIO do.

        If the store answers that it does not, this checks for the object and then writes: two simultaneous writers
        may then both believe that they created it.
        """
        check_path(path)

        def attempt(number: int) -> bool:
            try:
                obstore.put(self._once, path, data, mode="create")
            except AlreadyExistsError:
                # the object may be our own, from an earlier attempt whose answer was lost
                return number > 0 and self.get(path) == data
            return True

        try:
            return self._requests.run(path, attempt)
        except Unsupported:
            if self.exists(path):
                return False
            self.put(path, data)
            return self.get(path) == data

    def get(self, path: str) -> bytes:
        return self._requests.get(path)

    def get_range(self, path: str, start: int, length: int) -> bytes:
        return self._requests.get_range(path, start, length)

    def size(self, path: str) -> int:
        return self._requests.size(path)

    def exists(self, path: str) -> bool:
        check_path(path)
        try:
            self._requests.run(path, lambda _: obstore.head(self._store, path))
        except Missing:
            self._check_bucket()
            return False
        return True

    def list(self, prefix: str) -> list[str]:
        return sorted(self.each(prefix))

    def each(self, prefix: str) -> Iterator[str]:
        """One request a thousand objects; each has its own deadline."""
        below = f"{check_path(prefix)}/" if prefix else ""
        pages, last = self._pages(prefix, None), None

        def attempt(number: int) -> Any:
            nonlocal pages
            if number > 0:
                pages = self._pages(prefix, last)
            return next(pages, [])

        while page := self._requests.run(prefix, attempt):
            last = page[-1]["path"]
            for path in (item["path"] for item in page):
                if path.startswith(below) and not is_temporary(path.rpartition("/")[2]):
                    yield path
        self._bucket_seen = True

    def delete(self, path: str) -> None:
        check_path(path)
        with suppress(Missing):
            self._requests.run(path, lambda _: obstore.delete(self._store, path))

    def clean_temporary(self) -> int:
        """Nothing to do: an object appears whole or not at all.

        If a writer is killed during a multipart upload, its parts stay in the bucket, invisible but billed, until a
        life cycle rule of the bucket (abort incomplete multipart uploads) removes them: only the bucket's owner can
        know which uploads are dead.
        """
        return 0

    def _pages(self, prefix: str, after: str | None) -> Iterator[Any]:
        """Pages of the objects whose path begins with the prefix, those behind the path `after`."""
        return iter(obstore.list(self._store, prefix or None, offset=after, chunk_size=_PAGE))

    def _check_bucket(self) -> None:
        """StorageError if there is no bucket: the answer to HEAD does not distinguish that from a missing object."""
        if not self._bucket_seen:
            self._requests.run("", lambda _: next(iter(obstore.list(self._store, chunk_size=1)), None))
            self._bucket_seen = True


def _split(url: str) -> tuple[str, str, str]:
    """Scheme, bucket and prefix."""
    parts = urlsplit(url)
    if "@" in parts.netloc or ":" in parts.netloc or parts.query or parts.fragment:
        # the message does not repeat the URL: it may hold a secret
        raise ConfigError(
            f"{parts.scheme}:// URL with a user, password, port or query: pass just {parts.scheme}://bucket/prefix "
            "and credentials in the environment"
        )
    prefix = parts.path.strip("/")
    if not parts.netloc or (prefix and not _is_plain(prefix)):
        raise ConfigError(f"{url}: expected {parts.scheme}://bucket/prefix, with a prefix free of '..' and '//'")
    return parts.scheme, parts.netloc, prefix


def _is_plain(prefix: str) -> bool:
    try:
        check_path(prefix)
    except ShardError:
        return False
    return True


def _connect(
    scheme: str, bucket: str, prefix: str, seconds: float, retries: int, retry_seconds: float = _REQUEST_SECONDS
) -> Any:
    options: dict[str, Any] = {
        "prefix": prefix or None,
        "client_options": {
            "timeout": timedelta(seconds=min(_REQUEST_SECONDS, seconds)),
            "connect_timeout": timedelta(seconds=min(_CONNECT_SECONDS, seconds)),
        },
        "retry_config": {
            "max_retries": retries,
            "retry_timeout": timedelta(seconds=min(retry_seconds, seconds)),
        },
    }
    try:
        if scheme == "s3":
            settings, options["client_options"]["allow_http"] = _s3_settings()
            return S3Store(bucket, **settings, **options)
        return GCSStore(bucket, **options) if scheme == "gs" else AzureStore(bucket, **options)
    except CLIENT_ERRORS as error:
        reason = "no account" if "Account must be" in str(error) else "credentials that cannot be used"
        raise ConfigError(f"{scheme}://{bucket}: {reason}: set {VARIABLES[scheme]}") from None


def client_settings(scheme: str) -> dict[str, Any]:
    """Arguments for `obstore.fsspec.FsspecStore`: the settings of `ObjectStorage`.

    Raises:
        ConfigError: the endpoint uses plain http, which is not allowed.
    """
    limit = timedelta(seconds=deadline_seconds())
    timeouts = {"connect_timeout": timedelta(seconds=_CONNECT_SECONDS), "timeout": limit}
    if scheme != "s3":
        return {"client_options": timeouts}
    settings, allow_http = _s3_settings()
    return {"config": settings, "client_options": {**timeouts, "allow_http": allow_http}}


def _s3_settings() -> tuple[dict[str, str], bool]:
    """Settings of the profile, and whether the endpoint may use plain http."""
    settings = profile_settings()
    return settings, _plain_http(settings.get("endpoint") or os.environ.get("AWS_ENDPOINT_URL", ""))


def _plain_http(endpoint: str) -> bool:
    """Whether the endpoint uses plain http; ConfigError if that is not allowed."""
    parts = urlsplit(endpoint)
    if parts.scheme != "http":
        return False
    if parts.hostname in _LOCAL_HOSTS or os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("true", "1"):
        return True
    raise ConfigError(
        f"endpoint http://{parts.hostname}: keys and images would cross the network in the clear: "
        "use https, or set AWS_ALLOW_HTTP=true"
    )
