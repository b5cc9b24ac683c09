"""The Kubernetes files match each other, the container file, KubeRay's fields and the real command line.

Nothing here asks a Kubernetes cluster: the field names are those of KubeRay's API reference, version 1.7.
"""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from postmean.base.environment import STORE_CACHE
from postmean.base.errors import ConfigError
from postmean.cli.generate import COMMAND
from postmean.runs.config import GenerateConfig

ROOT = Path(__file__).parents[2]
KUBERAY = ROOT / "infra" / "kuberay"
CONTAINERFILE = (ROOT / "infra" / "Containerfile").read_text()

JOB = yaml.safe_load((KUBERAY / "rayjob.yaml").read_text())
CLUSTER = yaml.safe_load((KUBERAY / "raycluster.yaml").read_text())
POLICY = yaml.safe_load((KUBERAY / "networkpolicy.yaml").read_text())["spec"]
CLUSTER_SPECS = {"rayjob": JOB["spec"]["rayClusterSpec"], "raycluster": CLUSTER["spec"]}

JOB_FIELDS = {"entrypoint", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "backoffLimit", "rayClusterSpec"}
CLUSTER_FIELDS = {
    *("rayVersion", "authOptions", "enableInTreeAutoscaling", "autoscalerOptions"),
    *("headGroupSpec", "workerGroupSpecs"),
}
HEAD_FIELDS = {"rayStartParams", "template"}
WORKER_FIELDS = {"groupName", "replicas", "minReplicas", "maxReplicas", *HEAD_FIELDS}

each_cluster = pytest.mark.parametrize("spec", CLUSTER_SPECS.values(), ids=CLUSTER_SPECS.keys())


def templates(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Pod templates of a cluster, the head's first."""
    return [group["template"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]


def group(spec: dict[str, Any], name: str) -> dict[str, Any]:
    return next(found for found in spec["workerGroupSpecs"] if found["groupName"] == name)


def generate_config(command: str) -> GenerateConfig:
    """`postmean generate ...` parsed by the real parser; exits if a flag is unknown."""
    program, verb, *argv = shlex.split(command)
    assert (program, verb) == ("postmean", "generate")
    return COMMAND.parse(argv)[0]


def test_the_files_are_the_kinds_that_they_are_named_after() -> None:
    assert (JOB["apiVersion"], JOB["kind"]) == ("ray.io/v1", "RayJob")
    assert (CLUSTER["apiVersion"], CLUSTER["kind"]) == ("ray.io/v1", "RayCluster")
    assert set(JOB["spec"]) == JOB_FIELDS
    assert JOB["spec"]["shutdownAfterJobFinishes"] is True  # without it, ttlSecondsAfterFinished is refused
    assert {found["groupName"] for found in CLUSTER["spec"]["workerGroupSpecs"]} == {"estimator", "trainer"}


@each_cluster
def test_clusters_use_fields_that_kuberay_has(spec: dict[str, Any]) -> None:
    assert set(spec) == CLUSTER_FIELDS
    assert set(spec["headGroupSpec"]) == HEAD_FIELDS
    for found in spec["workerGroupSpecs"]:
        assert set(found) == WORKER_FIELDS
        assert 0 <= found["minReplicas"] <= found["replicas"] <= found["maxReplicas"]
    for found in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        assert all(isinstance(value, str) for value in found["rayStartParams"].values())


@each_cluster
def test_token_authentication_is_on(spec: dict[str, Any]) -> None:
    assert spec["authOptions"] == {"mode": "token"}
    # 2.52 has tokens; from 2.53 KubeRay asks for health by HTTP, and the image needs no wget
    assert tuple(int(part) for part in spec["rayVersion"].split(".")) >= (2, 53)


@each_cluster
def test_the_head_runs_no_actor_and_workers_come_with_the_work(spec: dict[str, Any]) -> None:
    assert spec["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    assert spec["enableInTreeAutoscaling"] is True
    estimator = group(spec, "estimator")
    assert (estimator["minReplicas"], estimator["maxReplicas"]) == (0, 16)


@each_cluster
def test_pods_run_the_image_of_the_container_file_as_its_user(spec: dict[str, Any]) -> None:
    image = re.search(r"docker build .* -t (\S+)", CONTAINERFILE)
    user = re.search(r"useradd .*--uid (\d+)", CONTAINERFILE)
    assert image and user
    for template in templates(spec):
        pod = template["spec"]
        assert pod["securityContext"]["runAsUser"] == int(user[1])
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            assert container["image"] == image[1] + ":latest"
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert "command" not in container  # KubeRay supplies `ray start`, found on the image's PATH
            assert container["resources"]["requests"] == container["resources"]["limits"]
    assert re.search(r"^ENV PATH=\S*/\.venv/bin", CONTAINERFILE, re.MULTILINE)


def test_the_entrypoint_is_a_generation_that_the_cluster_has_room_for() -> None:
    config = generate_config(JOB["spec"]["entrypoint"])
    estimator = group(JOB["spec"]["rayClusterSpec"], "estimator")
    limits = estimator["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert config.actor.device == "cuda"
    assert config.fleet.actors is not None
    assert config.fleet.actors <= estimator["maxReplicas"] * limits["nvidia.com/gpu"]
    assert config.actor.threads_per_actor <= int(limits["cpu"])


def test_an_unknown_flag_in_an_entrypoint_would_be_noticed() -> None:
    with pytest.raises(ConfigError, match="no flag --gpus"):
        generate_config(JOB["spec"]["entrypoint"] + " --gpus 4")


@each_cluster
def test_pods_share_no_disk_and_each_keeps_a_copy_of_the_store(spec: dict[str, Any]) -> None:
    config = generate_config(JOB["spec"]["entrypoint"])
    assert str(config.store).startswith("s3://") and config.out.startswith("s3://")
    for template in templates(spec):
        pod = template["spec"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert "emptyDir" in volumes["stores"]
        (container,) = pod["containers"]
        mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert {"name": STORE_CACHE, "value": mounted["stores"]} in container["env"]
        assert container["envFrom"] == [{"secretRef": {"name": "postmean-store", "optional": True}}]
        assert volumes.keys() == mounted.keys()


def test_only_the_trainer_has_a_disk_that_stays() -> None:
    claims = [
        [volume["persistentVolumeClaim"]["claimName"] for volume in template["spec"]["volumes"][1:]]
        for template in templates(CLUSTER["spec"])
    ]
    assert claims == [[], [], ["postmean-models"]]


@pytest.mark.parametrize("path", sorted((ROOT / "infra").rglob("*.*")), ids=lambda path: path.name)
def test_no_secret_is_written_down(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"\b[0-9a-fA-F]{20,}\b|AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY", text)
    assert not re.search(r"^kind: Secret|stringData|(TOKEN|SECRET|PASSWORD|_KEY)=[\"']?[^\s$\"'/]", text, re.MULTILINE)
    assert not re.search(r"name: \w*(TOKEN|SECRET|PASSWORD|_KEY)", text)  # KubeRay hands the token to the pods


@each_cluster
def test_the_network_policy_selects_every_pod_of_the_cluster(spec: dict[str, Any]) -> None:
    for template in templates(spec):
        assert POLICY["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()


def test_only_the_clusters_own_pods_reach_rays_ports() -> None:
    own = {"podSelector": POLICY["podSelector"]}
    assert POLICY["policyTypes"] == ["Ingress", "Egress"]
    within, dashboard, metrics = POLICY["ingress"]
    assert within == {"from": [own]}
    assert dashboard["ports"] == [{"protocol": "TCP", "port": 8265}]
    namespace, operator = dashboard["from"]
    assert namespace == {"podSelector": {}}  # any pod, but only of this namespace
    assert operator["podSelector"]["matchLabels"] and operator["namespaceSelector"]["matchLabels"]
    assert metrics["ports"] == [{"protocol": "TCP", "port": 8080}]
    (prometheus,) = metrics["from"]
    assert prometheus["podSelector"]["matchLabels"] and prometheus["namespaceSelector"]["matchLabels"]


def test_the_clusters_pods_reach_each_other_dns_and_https() -> None:
    within, dns, https = POLICY["egress"]
    assert within == {"to": [{"podSelector": POLICY["podSelector"]}]}
    assert {(port["protocol"], port["port"]) for port in dns["ports"]} == {("UDP", 53), ("TCP", 53)}
    assert {port["port"] for port in https["ports"]} == {443, 6443}


def test_no_actor_is_placed_on_the_trainer() -> None:
    params = group(CLUSTER["spec"], "trainer")["rayStartParams"]
    assert params["num-cpus"] == "0" and json.loads(json.loads(params["resources"])) == {"trainer": 1}


@each_cluster
def test_rays_version_is_that_of_the_image(spec: dict[str, Any]) -> None:
    assert f"\nray=={spec['rayVersion']}\n" in (ROOT / "infra" / "constraints.txt").read_text()


def test_generations_shown_on_the_cluster_page_parse() -> None:
    page = (ROOT / "docs" / "running.md").read_text().replace("\\\n", " ")
    shown = re.findall(r"""postmean generate [a-z][^'"`\n]*--out[^'"`\n]*""", page)
    assert len(shown) > 3
    for command in shown:
        generate_config(command)
