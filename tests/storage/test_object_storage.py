"""ObjectStorage: refusals in one line, faults of network and server survived, credentials never shown."""

import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.exceptions import NotFoundError

from postmean.base.errors import ConfigError, ShardError, StorageError
from postmean.storage.aws_profile import profile_settings
from postmean.storage.backoff import GivenUp, Transient, deadline_seconds, retried
from postmean.storage.object_store import ObjectStorage
from postmean.storage.open import open_storage
from tests.support.faulty_proxy import FAULTS, Fault, faulty_proxy, share_of
from tests.support.s3_objects import put_many

SECRETS = ("AKIATHEKEYOFTHETESTS", "the/secret+of/the/tests")


def every_use(storage: ObjectStorage) -> list[Callable[[], object]]:
    return [
        lambda: storage.put("a", b""),
        lambda: storage.create("a", b""),
        lambda: storage.get("a"),
        lambda: storage.get_range("a", 0, 1),
        lambda: storage.exists("a"),
        lambda: storage.list(""),
        lambda: storage.delete("a"),
    ]


def refused(use: Callable[[], object], *parts: str) -> None:
    """Check that `use` raises a StorageError of one line with these parts and no secret."""
    with pytest.raises(StorageError) as caught:
        use()
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message
    assert not any(secret in message for secret in SECRETS)


def test_a_listing_is_a_request_a_thousand_objects_and_goes_on_where_it_failed(
    s3_url: str, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [f"commits/{n:06d}.json" for n in range(2001)]
    put_many(s3_url, dict.fromkeys(paths, b""))
    asked: list[str] = []

    def fail_once(request: BaseHTTPRequestHandler) -> Fault:
        asked.append(request.path)
        return (500, b"") if len(asked) in (2, 3, 4, 5) else None  # the client itself tries four times

    with faulty_proxy(s3_server, fail_once) as (endpoint, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        assert list(ObjectStorage(s3_url, seconds=60).each("commits")) == paths
    assert len(asked) == 3 + 4
    assert "start-after" not in asked[0] + asked[1]
    assert "start-after" in asked[5], "the listing is not begun again"


def test_a_prefix_keeps_runs_apart(s3_url: str) -> None:
    bucket = s3_url.removesuffix("/some/prefix")
    open_storage(f"{bucket}/run").put("a", b"1")
    open_storage(f"{bucket}/run2/").put("a", b"2")
    assert open_storage(f"{bucket}/run").list("") == ["a"]
    assert open_storage(f"{bucket}/run2").get("a") == b"2"
    assert open_storage(bucket).list("") == ["run/a", "run2/a"]
    assert open_storage(f"{bucket}/run2/").url == f"{bucket}/run2"


def test_no_bucket_is_one_line_whatever_is_asked(s3_url: str) -> None:
    for use in every_use(ObjectStorage("s3://no-such-bucket-here/run"))[:-1]:  # deleting is refused or does nothing
        refused(use, "s3://no-such-bucket-here: no such bucket: make it")


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (403, "InvalidAccessKeyId", "credentials refused (403 InvalidAccessKeyId): renew them"),
        (403, "SignatureDoesNotMatch", "access denied (403 SignatureDoesNotMatch): check the credentials"),
        (403, "AccessDenied", "access denied (403 AccessDenied)"),
        (400, "ExpiredToken", "credentials refused (400 ExpiredToken)"),
        (301, "PermanentRedirect", "another region: set AWS_REGION"),
        (400, "InvalidArgument", "request refused (400 InvalidArgument)"),
    ],
)
def test_a_refusal_is_one_line_at_once(
    s3_url: str, monkeypatch: pytest.MonkeyPatch, status: int, code: str, says: str
) -> None:
    body = f"<Error><Code>{code}</Code><AWSAccessKeyId>{SECRETS[0]}</AWSAccessKeyId></Error>".encode()
    with faulty_proxy("http://nowhere", lambda _: (status, body)) as (endpoint, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        began = time.monotonic()
        uses = every_use(ObjectStorage(s3_url))
        for use in (*uses[:4], uses[5]):
            refused(use, s3_url.split("/some")[0], says)
        if status == 403:
            refused(uses[4], "access denied")  # an answer to HEAD has no body
        assert time.monotonic() - began < 20


def test_no_credentials_at_all_is_one_line(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    refused(lambda: ObjectStorage(s3_url, seconds=3).put("a", b""), "credentials")


def test_keys_come_from_the_profile_file(s3_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.delenv(name)
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id = A\naws_secret_access_key = B\n"
        "[lab]\naws_access_key_id = C\naws_secret_access_key = D%x\naws_session_token = E\n"
    )
    (tmp_path / "config").write_text("[profile lab]\nregion = eu-north-1\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    assert profile_settings() == {"access_key_id": "A", "secret_access_key": "B"}
    open_storage(s3_url).put("a", b"by profile")
    assert open_storage(s3_url).get("a") == b"by profile"
    monkeypatch.setenv("AWS_PROFILE", "lab")
    keys = {"access_key_id": "C", "secret_access_key": "D%x", "session_token": "E"}
    assert profile_settings() == keys | {"region": "eu-north-1"}
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of the environment")
    assert profile_settings() == {"region": "eu-north-1"}


def test_keys_that_a_process_prints_come_through_boto3(
    s3_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    keys = {"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "B"}
    (tmp_path / "keys.json").write_text(json.dumps(keys))
    (tmp_path / "config").write_text(
        f"[profile lab]\ncredential_process = cat {tmp_path}/keys.json\n[profile none]\ncredential_process = false\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    assert profile_settings()["credential_provider"]()["secret_access_key"] == "B"
    open_storage(s3_url).put("a", b"by a process")
    assert open_storage(s3_url).get("a") == b"by a process"
    monkeypatch.setenv("AWS_PROFILE", "none")
    with pytest.raises(
        ConfigError, match=r"^AWS profile none: no keys \(.*\): renew them, such as with `aws sso login`$"
    ):
        open_storage(s3_url)
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(ConfigError, match=r"^needs boto3: pip install 'postmean\[aws\]'$"):
        open_storage(s3_url)


def test_a_share_of_failing_requests_loses_and_corrupts_nothing(
    s3_url: str, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("postmean.storage.object_store._REQUEST_SECONDS", 2.0)
    with faulty_proxy(s3_server, share_of(0.25), slow_seconds=2.5) as (endpoint, injected):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        storage = ObjectStorage(s3_url, seconds=60)
        data = {f"shards/{n}": os.urandom(20_000 + n) for n in range(40)}
        data["large"] = os.urandom(1 << 20) * 20

        def use(path: str) -> None:
            storage.put(path, data[path])
            assert storage.create(f"commits/{path}", path.encode())
            assert not storage.create(f"commits/{path}", b"another")
            assert storage.get(path) == data[path]
            assert storage.get_range(path, 7, 9000) == data[path][7:9007]
            assert storage.exists(path)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(use, data))
        assert storage.list("shards") == sorted(path for path in data if path != "large")
        assert set(injected) > set(FAULTS), injected
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    plain = open_storage(s3_url)
    assert {path: plain.get(path) for path in data} == data
    assert {path: plain.get(f"commits/{path}") for path in data} == {path: path.encode() for path in data}


@pytest.mark.parametrize("lost", ["503 after", "reset after"])
def test_an_object_whose_answer_was_lost_counts_as_created(
    s3_url: str, s3_server: str, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    answers = iter([lost])
    with faulty_proxy(s3_server, lambda _: next(answers, None)) as (endpoint, injected):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        assert ObjectStorage(s3_url).create("lease", b"mine")
        answers = iter([lost])
        assert not ObjectStorage(s3_url).create("lease", b"theirs")
        assert injected[lost] == 2
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    assert open_storage(s3_url).get("lease") == b"mine"


def test_a_store_without_conditional_writes_is_asked_first(
    s3_url: str, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(request: BaseHTTPRequestHandler) -> Fault:
        return (501, b"<Error><Code>NotImplemented</Code></Error>") if request.headers["If-None-Match"] else None

    with faulty_proxy(s3_server, unsupported) as (endpoint, injected):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        storage = ObjectStorage(s3_url)
        assert storage.create("a", b"first")
        assert not storage.create("a", b"second")
        assert injected.total() > injected["none"]
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    assert open_storage(s3_url).get("a") == b"first"


@pytest.mark.parametrize(
    ("fault", "last"),
    [("503", "503 SlowDown"), ("reset", "connection broken"), ("slow", "timed out"), ("cut", "connection broken")],
)
def test_a_store_that_fails_for_good_is_an_error_at_the_deadline(
    s3_url: str, s3_server: str, monkeypatch: pytest.MonkeyPatch, fault: str, last: str
) -> None:
    open_storage(s3_url).put("a", b"12345")
    with faulty_proxy(s3_server, share_of(1.0, (fault,)), slow_seconds=2) as (endpoint, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        put, create, get, *_ = every_use(ObjectStorage(s3_url, seconds=0.8))
        for use in {"503": (put, create), "reset": (create, get), "slow": (put,), "cut": (get,)}[fault]:
            began = time.monotonic()
            refused(use, f"{s3_url}/a: no success within 0.8 s (last: {last})", "run the same command again")
            assert time.monotonic() - began < 30


def test_a_store_that_is_not_there_is_an_error_at_the_deadline(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    refused(lambda: ObjectStorage(s3_url, seconds=1).get("a"), "no success within 1 s (last: no connection)")


@pytest.mark.parametrize(
    "url", ["s3://key:hunter2@bucket/run", "s3://bucket/run?sig=hunter2", "s3://hunter2@bucket", "az://c/p#hunter2"]
)
def test_a_url_with_a_secret_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigError, match="credentials in the environment") as caught:
        open_storage(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["s3://", "s3:///run", "s3://bucket/a/../b", "s3://bucket/a//b"])
def test_a_url_without_a_bucket_or_with_odd_paths_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="expected s3://bucket/prefix"):
        open_storage(url)


def test_every_kind_of_url_opens_its_store(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="AZURE_STORAGE_ACCOUNT_NAME"):
        open_storage("az://container/run")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    for url in ("s3://bucket/run", "gs://bucket/run", "az://container/run"):
        assert open_storage(url).url == url


@pytest.mark.parametrize(
    ("url", "settings", "says"),
    [
        ("gs://bucket/run", {"GOOGLE_APPLICATION_CREDENTIALS": "/no/such/hunter2.json"}, "set GOOGLE_APPLICATION_CRED"),
        ("gs://bucket/run", {"GOOGLE_SERVICE_ACCOUNT_KEY": '{"private_key": "hunter2"}'}, "credentials that cannot be"),
        ("az://c/run", {}, "no account: set AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ACCOUNT_KEY or"),
        ("az://c/run", {"AZURE_STORAGE_ACCOUNT_NAME": "a", "AZURE_STORAGE_ACCOUNT_KEY": "hunter2!"}, "that cannot be"),
    ],
)
def test_credentials_of_google_or_azure_that_cannot_be_used_are_one_line(
    url: str, settings: dict[str, str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith(("GOOGLE_", "AZURE_"))]:
        monkeypatch.delenv(name)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        open_storage(url)
    message = str(caught.value)
    assert says in message and "\n" not in message and "hunter2" not in message


def test_plain_http_across_the_network_needs_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store.example:9000")
    with pytest.raises(ConfigError, match="use https, or set AWS_ALLOW_HTTP=true"):
        open_storage("s3://bucket/run")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    assert open_storage("s3://bucket/run").url == "s3://bucket/run"


def test_nothing_shows_the_credentials(s3_url: str) -> None:
    storage = ObjectStorage(s3_url)
    shown = f"{storage!r} {storage.url} {vars(storage)} {storage._store.config} {storage._store!r}"
    assert not any(secret in shown for secret in SECRETS)


def test_pauses_grow_and_stop_at_the_deadline() -> None:
    calls: list[float] = []

    def fail(_: int) -> None:
        calls.append(time.monotonic())
        raise Transient("503")

    with pytest.raises(GivenUp, match="503"):
        retried(fail, 1.0)
    assert 3 <= len(calls) <= 6
    assert retried(lambda attempt: attempt, 1.0) == 0


@pytest.mark.parametrize("text", ["", "soon", "0", "-1", "nan"])
def test_a_deadline_that_is_no_number_of_seconds_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTMEAN_STORAGE_DEADLINE", text)
    with pytest.raises(ConfigError, match="POSTMEAN_STORAGE_DEADLINE"):
        deadline_seconds()


def test_a_missing_object_is_no_reason_to_wait(s3_url: str) -> None:
    began = time.monotonic()
    with pytest.raises(ShardError, match="missing"):
        ObjectStorage(s3_url).get("a")
    assert time.monotonic() - began < 10


def test_an_upload_in_parts_whose_end_was_carried_out_and_not_heard_is_made_again(
    s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, data = ObjectStorage(s3_url), os.urandom(20 << 20)
    whole, calls = obstore.put, []

    def lost_once(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise NotFoundError("Server returned non-2xx status code: 404 Not Found: <Code>NoSuchUpload</Code>")
        return whole(*arguments, **options)

    monkeypatch.setattr("postmean.storage.object_store.obstore.put", lost_once)
    storage.put("large", data)
    assert len(calls) == 2
    assert storage.get("large") == data
