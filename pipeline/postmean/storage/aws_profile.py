"""Credentials from the AWS command line's files, for machines without them in the environment."""

import configparser
import os
from pathlib import Path


def profile_settings() -> dict[str, str]:
    """Those settings of the profile AWS_PROFILE (else `default`) that the environment does not set.

    Reads ~/.aws/credentials and ~/.aws/config, or the files in AWS_SHARED_CREDENTIALS_FILE and AWS_CONFIG_FILE.
    Only static keys, region and endpoint: roles of machines and pods need no file.
    """
    name = os.environ.get("AWS_PROFILE", "default")
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
    settings = {}
    if "AWS_REGION" not in os.environ and "AWS_DEFAULT_REGION" not in os.environ and "region" in profile:
        settings["region"] = profile["region"]
    if "AWS_ENDPOINT_URL" not in os.environ and "endpoint_url" in profile:
        settings["endpoint"] = profile["endpoint_url"]
    keys = ("aws_access_key_id", "aws_secret_access_key")
    if "AWS_ACCESS_KEY_ID" not in os.environ and all(key in profile for key in keys):
        settings["access_key_id"], settings["secret_access_key"] = (profile[key] for key in keys)
        if "aws_session_token" in profile:
            settings["session_token"] = profile["aws_session_token"]
    return settings
