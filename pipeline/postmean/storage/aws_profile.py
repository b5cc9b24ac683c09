"""Credentials from the AWS command line's files, for machines without them in the environment.

Static keys are read here: that takes thirty lines, boto3 and botocore are 25 MB. Profiles that have none (a role, IAM
Identity Center, a process that prints keys) are boto3's, through obstore's provider, which renews what expires.
"""

import configparser
import os
from pathlib import Path
from typing import Any

from postmean.base.errors import ConfigError
from postmean.base.extras import needs

_KEYS = ("aws_access_key_id", "aws_secret_access_key")
_MAKES_KEYS = ("role_arn", "sso_session", "sso_start_url", "credential_process", "login_session")
"""Settings of a profile from which boto3 gets keys."""


def profile_settings() -> dict[str, Any]:
    """Those settings of the profile AWS_PROFILE (else `default`) that the environment does not set.

    Reads ~/.aws/credentials and ~/.aws/config, or the files in AWS_SHARED_CREDENTIALS_FILE and AWS_CONFIG_FILE.
    Roles of machines and pods need no file: obstore knows them.

    Raises:
        ConfigError: the profile's keys come from elsewhere, and boto3 is missing or gets none.
    """
    name = os.environ.get("AWS_PROFILE", "default")
    profile = _read(name)
    settings: dict[str, Any] = {}
    if "AWS_REGION" not in os.environ and "AWS_DEFAULT_REGION" not in os.environ and "region" in profile:
        settings["region"] = profile["region"]
    if "AWS_ENDPOINT_URL" not in os.environ and "endpoint_url" in profile:
        settings["endpoint"] = profile["endpoint_url"]
    if "AWS_ACCESS_KEY_ID" in os.environ:
        return settings
    if any(key in profile for key in _MAKES_KEYS):
        settings["credential_provider"] = _provider(name)
    elif all(key in profile for key in _KEYS):
        settings["access_key_id"], settings["secret_access_key"] = (profile[key] for key in _KEYS)
        if "aws_session_token" in profile:
            settings["session_token"] = profile["aws_session_token"]
    return settings


def _read(name: str) -> dict[str, str]:
    """All settings of a profile."""
    profile: dict[str, str] = {}
    for variable, default, section in (
        ("AWS_CONFIG_FILE", "config", name if name == "default" else f"profile {name}"),
        ("AWS_SHARED_CREDENTIALS_FILE", "credentials", name),
    ):
        parser = configparser.RawConfigParser()
        path = Path(os.path.expanduser(os.environ.get(variable) or f"~/.aws/{default}"))
        try:
            parser.read_string(path.read_text())
        except (OSError, UnicodeDecodeError, configparser.Error):
            continue  # absent or not such a file: requests without credentials fail with an error that says what to do
        if parser.has_section(section):
            profile |= dict(parser[section])
    return profile


def _provider(name: str) -> Any:
    """obstore's provider of a profile's keys, once it has given some: inside the client its errors would be lost."""
    with needs("aws"):
        import boto3
    from botocore.exceptions import BotoCoreError, ClientError
    from obstore.auth.boto3 import Boto3CredentialProvider

    try:
        provider = Boto3CredentialProvider(boto3.Session(profile_name=name))
        provider()
    except (BotoCoreError, ClientError, ValueError, AssertionError) as error:
        said = " ".join(str(error).split())
        raise ConfigError(f"AWS profile {name}: no keys ({said}): renew them, such as with `aws sso login`") from None
    return provider
