"""The files in deploy/ agree with the programs and with each other: versions, ports, configurations."""

import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest
import yaml
from holdfast_testing.proxy import build_bin

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
VERSION = re.search(r"project\(holdfast VERSION (\S+)", (ROOT / "CMakeLists.txt").read_text())[1]
PODS = ("Deployment", "StatefulSet", "DaemonSet", "Job")


def documents(path):
    return [each for each in yaml.safe_load_all(path.read_text()) if each]


def kubernetes():
    for path in sorted([*DEPLOY.glob("kubernetes/*.yaml"), *DEPLOY.glob("efk/*.yaml")]):
        yield path, documents(path)


def own_containers():
    """(file, pod, container) of each holdfastd."""
    for path, objects in kubernetes():
        for each in objects:
            if each["kind"] in PODS:
                pod = each["spec"]["template"]["spec"]
                for container in pod["containers"]:
                    if container["name"] == "holdfast":
                        yield path, each, container, objects


def test_every_yaml_file_can_be_read():
    files = [path for path in DEPLOY.rglob("*.yaml") if "templates" not in path.parts]
    assert len(files) > 12
    for path in [*files, DEPLOY / "prometheus/prometheus.yml"]:
        assert documents(path), path


def test_the_version_is_that_of_the_programs():
    """CMakeLists.txt has it; a chart, an image's tag and the README say the same."""
    chart = yaml.safe_load((DEPLOY / "helm/holdfast/Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (VERSION, VERSION)
    texts = {path: path.read_text() for path in DEPLOY.rglob("*.yaml")}
    images = [
        (path, found)
        for path, text in texts.items()
        for found in re.findall(r"image: \"?(?:holdfast|holdfast-sample):([\w.]+)", text)
    ]
    assert len(images) >= 4
    assert {tag for _, tag in images} == {VERSION}, images
    assert f"Version {VERSION}" in (ROOT / "README.md").read_text()
    named = re.findall(r"holdfast[:_](\d[\d.]*\d)", (ROOT / "docs/INSTALL.md").read_text())
    assert named and set(named) == {VERSION}
    said = subprocess.run([build_bin() / "holdfastd", "--version"], capture_output=True, text=True)
    assert said.stdout == f"holdfastd {VERSION}\n"


def configurations():
    """Every configuration of holdfastd that deploy/ ships: (where, text)."""
    yield "conf", (ROOT / "conf/holdfast.yaml").read_text()
    yield "compose", (DEPLOY / "docker/holdfast.yaml").read_text()
    values = yaml.safe_load((DEPLOY / "helm/holdfast/values.yaml").read_text())
    yield "chart", yaml.safe_dump(values["config"])
    for path, objects in kubernetes():
        for each in objects:
            if "holdfast.yaml" in each.get("data", {}):
                yield path.name, each["data"]["holdfast.yaml"]


@pytest.mark.parametrize(
    "where,text", list(configurations()), ids=lambda value: value.split("\n")[0][:20]
)
def test_holdfastd_takes_each_configuration(where, text, tmp_path):
    file = tmp_path / "holdfast.yaml"
    file.write_text(text)
    environment = {**os.environ, "HOLDFAST_ADMIN_TOKEN": 32 * "x"}  # of a Secret
    if "uri" not in yaml.safe_load(text)["upstream"]:
        environment["HOLDFAST_UPSTREAM_URI"] = "mongodb://mongodb:27017"
    check = [build_bin() / "holdfastd", "--config", file, "--check-config"]
    done = subprocess.run(check, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, f"{where}: {done.stderr}"


def test_ports_and_probes_are_those_of_the_configuration():
    found = list(own_containers())
    assert len(found) == 2
    for path, pod, container, objects in found:
        (mounted,) = [each for each in objects if "holdfast.yaml" in each.get("data", {})]
        config = yaml.safe_load(mounted["data"]["holdfast.yaml"])
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        configured = {config[group]["listen"].rpartition(":")[2] for group in ("net", "admin")}
        assert set(map(str, ports.values())) == configured, path
        assert str(ports["admin"]) == config["admin"]["listen"].rpartition(":")[2]
        for probe, answer in (("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
            asked = container[probe]["httpGet"]
            assert (asked["port"], asked["path"]) == ("admin", answer), path
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert any(config["wal"]["directory"].startswith(place) for place in mounts), path
        assert container["args"] == ["--config", "/etc/holdfast/mounted/holdfast.yaml"]
        # A drain of ten seconds, and what is rolled back after it, must fit.
        assert pod["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= 60


def test_secrets_are_no_part_of_a_configuration():
    """They come by the environment from a Secret, of which nothing is in the repository."""
    for path, _, container, objects in own_containers():
        assert not [each for each in objects if each["kind"] == "Secret"], path
        given = {each["name"]: each["valueFrom"]["secretKeyRef"] for each in container["env"]}
        assert given["HOLDFAST_ADMIN_TOKEN"]["key"] == "adminToken", path
    compose = yaml.safe_load((DEPLOY / "docker/compose.yaml").read_text())
    token = compose["services"]["holdfast"]["environment"]["HOLDFAST_ADMIN_TOKEN"]
    assert token.startswith("${HOLDFAST_ADMIN_TOKEN:?")


def test_services_and_policies_find_their_pods():
    for path, objects in kubernetes():
        pods = [each["spec"]["template"] for each in objects if each["kind"] in PODS]
        for each in objects:
            spec = each.get("spec", {})
            if each["kind"] == "Service":
                wanted, names = spec["selector"], [port["targetPort"] for port in spec["ports"]]
            elif each["kind"] in ("NetworkPolicy", "PodDisruptionBudget"):
                selector = spec.get("podSelector") or spec.get("selector")
                wanted = selector["matchLabels"]
                rules = spec.get("ingress", [])
                names = [port["port"] for rule in rules for port in rule["ports"]]
            else:
                continue
            found = [
                pod
                for pod in pods
                if wanted.items() <= pod.get("metadata", {}).get("labels", {}).items()
            ]
            assert len(found) == 1, f"{path}: {each['kind']} {each['metadata']['name']}"
            ports = {
                port["name"] for c in found[0]["spec"]["containers"] for port in c.get("ports", [])
            }
            assert set(names) <= ports, f"{path}: {names} of {ports}"


def test_a_journal_has_one_owner():
    """No rollout starts a second holdfastd beside the first, and none is on a network file system."""
    for path, pod, _, _ in own_containers():
        assert pod["spec"]["replicas"] == 1, path
        if pod["kind"] == "Deployment":
            assert pod["spec"]["strategy"] == {"type": "Recreate"}, path
    for path, objects in kubernetes():
        for each in objects:
            if each["kind"] == "PersistentVolume" and "nfs" in each["spec"]:
                assert "journal" not in each["metadata"]["name"], path


def test_compose_mounts_what_is_there():
    compose = yaml.safe_load((DEPLOY / "docker/compose.yaml").read_text())
    for name, service in compose["services"].items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / "docker" / source).exists(), f"{name}: {source}"
            else:
                assert source in compose["volumes"], f"{name}: {source}"
        if "build" in service:
            context = DEPLOY / "docker" / service["build"]["context"]
            assert (context / service["build"]["dockerfile"]).exists(), name
            command = service.get("command", [])
            if command[0].endswith(".py"):
                assert (DEPLOY / "sample" / command[0]).exists(), name
    config = yaml.safe_load((DEPLOY / "docker/holdfast.yaml").read_text())
    published = {port.split(":")[2] for port in compose["services"]["holdfast"]["ports"]}
    assert published == {"27018", "8080"}
    assert config["net"]["listen"].endswith(":27018")
    samples = {service["name"]: service for service in config["services"]}
    for name, service in samples.items():
        command = compose["services"][name]["command"]
        assert service["service"].endswith(":" + command[command.index("--listen") + 1])
        assert service["mongo"] in command[command.index("--mongo") + 1]
        if "--placement" in command:
            inside = command[command.index("--placement") + 1]
            assert samples["placement"]["inside"].endswith(":" + inside)


def test_fluent_bit_looks_for_the_container_and_the_fields():
    (config,) = [
        each for each in documents(DEPLOY / "efk/fluent-bit.yaml") if each["kind"] == "ConfigMap"
    ]
    pipeline = yaml.safe_load(config["data"]["fluent-bit.yaml"])["pipeline"]
    assert "_holdfast-" in pipeline["inputs"][0]["path"]  # NAME_NAMESPACE_CONTAINER-ID.log
    assert all(container["name"] == "holdfast" for _, _, container, _ in own_containers())
    parser = pipeline["filters"][1]["parser"]
    assert re.search(rf"Name +{parser}\n", config["data"]["parsers.conf"])
    (index,) = [
        each for each in documents(DEPLOY / "efk/elasticsearch.yaml") if each["kind"] == "ConfigMap"
    ]
    template = json.loads(index["data"]["template.json"])
    assert json.loads(index["data"]["policy.json"])
    assert template["index_patterns"] == [pipeline["outputs"][0]["index"] + "*"]
    assert {"s", "c", "msg", "attr"} <= set(template["template"]["mappings"]["properties"])


def test_the_unit_is_what_systemd_takes():
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here")
    done = subprocess.run([ROOT / "tests/deploy/verify_unit"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
