"""Ray itself accepts the cluster file: schema, preparation, validation, and the nodes that it starts."""

import functools
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import ray
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ray.autoscaler._private.resource_demand_scheduler import _default_utilization_scorer, get_nodes_for
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]
CONFIG = yaml.safe_load((ROOT / "ray_cluster.yaml").read_text())
CONSTRAINTS = dict(re.findall(r"^(\S+)==(\S+)$", (ROOT / "infra" / "constraints.txt").read_text(), re.MULTILINE))


def nodes_hired_for(demands: list[dict[str, int]]) -> dict[str, int]:
    """What Ray's autoscaler adds to a lone head for these demands."""
    scorer = functools.partial(_default_utilization_scorer, node_availability_summary=None)
    types: dict[str, Any] = CONFIG["available_node_types"]
    hired, unmet = get_nodes_for(types, {"head": 1}, "head", CONFIG["max_workers"], demands, scorer)
    assert not unmet
    return dict(hired)


def test_ray_cluster_yaml_passes_rays_own_schema_and_validation() -> None:
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(CONFIG, schema)
    prepared = prepare_config(CONFIG)
    validate_config(prepared)
    assert set(prepared["available_node_types"]) == {"head", "estimator", "trainer"}


def test_every_node_starts_ray_with_token_authentication() -> None:
    for command in CONFIG["head_start_ray_commands"] + CONFIG["worker_start_ray_commands"]:
        assert "ray stop" in command or ("RAY_AUTH_MODE=token" in command and "chmod 600" in command)


def test_a_generation_gets_estimators_and_a_training_the_trainer() -> None:
    assert nodes_hired_for([{"CPU": 8, "GPU": 1, "memory": 3 * 10**9}] * 16) == {"estimator": 16}
    assert nodes_hired_for([{"GPU": 8, "trainer": 1}]) == {"trainer": 1}


def test_nodes_share_no_disk_but_may_use_the_bucket() -> None:
    assert not any("mount" in command for command in CONFIG["setup_commands"])
    for kind in CONFIG["available_node_types"].values():
        assert kind["node_config"]["IamInstanceProfile"]["Arn"]


def test_every_node_has_an_image_and_room_on_its_disk() -> None:
    """Ray's default image is Ubuntu 18.04, whose Python and glibc are too old."""
    for kind in CONFIG["available_node_types"].values():
        assert kind["node_config"]["ImageId"]
        assert kind["node_config"]["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] >= 100


def requirements(project: dict[str, Any], extra: str) -> list[Requirement]:
    """What an extra installs besides the core; extras of postmean itself are resolved."""
    listed = [Requirement(text) for text in project["optional-dependencies"][extra]]
    own = [name for requirement in listed if requirement.name == "postmean" for name in requirement.extras]
    return [r for r in listed if r.name != "postmean"] + [r for name in own for r in requirements(project, name)]


def test_nodes_install_the_versions_of_the_constraints_file() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [Requirement(text) for text in project["dependencies"]]
    others = {"faiss-gpu", "faiss-gpu-cuvs"}  # they exclude faiss-cpu, which nodes have
    for extra in project["optional-dependencies"].keys() - others:
        wanted += requirements(project, extra)
    for requirement in wanted:
        assert requirement.specifier.contains(CONSTRAINTS[canonicalize_name(requirement.name)]), requirement


def test_image_and_nodes_install_the_same_extras_by_the_constraints_and_no_tools_for_development() -> None:
    container = (ROOT / "infra" / "Containerfile").read_text()
    commands = [command for command in CONFIG["setup_commands"] if "uv pip install" in command]
    assert len(commands) == 1
    assert "UV_CONSTRAINT=infra/constraints.txt" in commands[0] and "UV_CONSTRAINT=infra/constraints.txt" in container
    installed = [re.findall(r"'\.\[([a-z,]+)\]'", text) for text in (container, commands[0])]
    assert installed[0] == installed[1] and len(installed[0]) == 1
    extras = set(installed[0][0].split(","))
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {"cluster", "train"} <= extras <= known.keys() - {"dev", "all", "demo"}
    assert "make" not in re.findall(r"\w+", container + " ".join(CONFIG["setup_commands"]))
