"""The cluster file is one that Ray itself accepts: its own JSON schema, then its own preparation and validation."""

import json
from pathlib import Path

import jsonschema
import ray
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]


def test_ray_cluster_yaml_passes_rays_own_schema_and_validation() -> None:
    config = yaml.safe_load((ROOT / "ray_cluster.yaml").read_text())
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(config, schema)
    prepared = prepare_config(config)
    validate_config(prepared)
    assert set(prepared["available_node_types"]) == {"head", "estimator", "trainer"}


def test_every_node_starts_ray_with_token_authentication() -> None:
    config = yaml.safe_load((ROOT / "ray_cluster.yaml").read_text())
    for command in config["head_start_ray_commands"] + config["worker_start_ray_commands"]:
        assert "ray stop" in command or ("RAY_AUTH_MODE=token" in command and "chmod 600" in command)
