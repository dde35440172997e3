"""What is said about deployment in files that no program here reads agrees with the service."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from service.app import create_app
from service.command import _parser
from service.metrics import Metrics
from service.settings import ServeSettings, ServiceSettings

yaml: Any = import_module("yaml")  # it has no types of its own

ROOT = Path(__file__).parents[1]
PORT = 8000


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def kinds() -> dict[str, Any]:
    documents = list(yaml.safe_load_all(read("deploy/kubernetes.yaml")))
    return {document["kind"]: document for document in documents}


@pytest.fixture(scope="module")
def pod(kinds: dict[str, Any]) -> Any:
    return kinds["Deployment"]["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def container(pod: Any) -> Any:
    (only,) = pod["containers"]
    return only


@pytest.fixture(scope="module")
def composed() -> Any:
    return yaml.safe_load(read("deploy/compose.yaml"))["services"]["detector"]


@pytest.fixture(scope="module")
def routes() -> set[str]:
    return set(create_app({}).openapi()["paths"])


def in_force(arguments: Sequence[str]) -> ServiceSettings:
    """The service's settings under a command line, which must be one that the command takes."""
    parsed = _parser().parse_args(arguments)
    assert parsed.host == "0.0.0.0", "a container's loopback is reached by nobody else"
    assert parsed.port == PORT
    return ServeSettings.read(assignments=parsed.assignments).service


def instructions(name: str) -> list[str]:
    """What the Dockerfile gives to an instruction, for each time it stands there."""
    joined = read("Dockerfile").replace("\\\n", " ")
    return re.findall(rf"^{name}\s+(.+)$", joined, re.MULTILINE)


def test_dockerfile_ends_as_nobody_in_particular() -> None:
    last_stage = read("Dockerfile").rpartition("\nFROM ")[2]
    users = re.findall(r"^USER (\d+):(\d+)$", last_stage, re.MULTILINE)
    assert users
    assert all(int(number) > 0 for number in users[-1])
    assert instructions("USER")[-1] == ":".join(users[-1])


def test_dockerfile_starts_the_service() -> None:
    entry, command = (json.loads(instructions(name)[-1]) for name in ("ENTRYPOINT", "CMD"))
    assert entry == [_parser().prog]
    in_force(command)
    assert instructions("EXPOSE") == [str(PORT)]
    assert instructions("STOPSIGNAL") == ["SIGTERM"]


def test_dockerfile_checks_a_path_that_is_there(routes: set[str]) -> None:
    (check,) = instructions("HEALTHCHECK")
    assert re.findall(rf"127\.0\.0\.1:{PORT}(/\w+)", check) == ["/healthz"]
    assert "/healthz" in routes
    compile(json.loads(check[check.index("[") :])[2], "HEALTHCHECK", "exec")


def test_context_has_what_the_wheel_is_made_of() -> None:
    kept = {line[1:] for line in read(".dockerignore").splitlines() if line.startswith("!")}
    assert {"detector", "proposals", "service", "configs", "constraints.txt"} <= kept
    assert all((ROOT / name).exists() for name in kept)


def test_compose_agrees_with_the_service(composed: Any, routes: set[str]) -> None:
    settings = in_force(composed["command"])
    assert composed["ports"][0].endswith(f":{PORT}")
    assert seconds(composed["stop_grace_period"]) > settings.drain_notice + settings.drain
    (path,) = re.findall(rf"127\.0\.0\.1:{PORT}(/\w+)", composed["healthcheck"]["test"][-1])
    assert path in routes


def test_compose_gives_no_rights(composed: Any) -> None:
    assert composed["read_only"]
    assert composed["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in composed["security_opt"]
    assert any(mount.startswith("/tmp") for mount in composed["tmpfs"])


def test_pod_agrees_with_the_service(pod: Any, container: Any) -> None:
    settings = in_force(container["args"])
    assert pod["terminationGracePeriodSeconds"] > settings.drain_notice + settings.drain
    assert container["ports"] == [{"name": "http", "containerPort": PORT}]


@pytest.mark.parametrize(
    ("probe", "path"), [("startup", "/healthz"), ("readiness", "/readyz"), ("liveness", "/healthz")]
)
def test_probe(probe: str, path: str, container: Any, routes: set[str]) -> None:
    found = container[f"{probe}Probe"]
    assert found["httpGet"] == {"path": path, "port": "http"}
    assert path in routes
    assert found["timeoutSeconds"] > 1, "a busy process may need longer"


def test_pod_has_no_rights(pod: Any, container: Any) -> None:
    assert pod["securityContext"]["runAsNonRoot"]
    assert f"{pod['securityContext']['runAsUser']}" == instructions("USER")[-1].partition(":")[0]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "/tmp" in [mount["mountPath"] for mount in container["volumeMounts"]]


def test_kubernetes_objects_find_each_other(kinds: dict[str, Any]) -> None:
    deployment = kinds["Deployment"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert kinds["Service"]["spec"]["selector"] == labels
    assert kinds["Service"]["spec"]["ports"][0]["targetPort"] == "http"
    assert kinds["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    target = kinds["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", deployment["metadata"]["name"])


def test_settings_are_all_documented() -> None:
    (table,) = re.findall(r"\| `\[service\]`.*?\n\n", read("docs/operations.md"), re.DOTALL)
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", table, re.MULTILINE))
    defaults = ServiceSettings().model_dump(mode="json")
    assert rows == {
        name: "not set" if value is None else f"`{json.dumps(value)}`"
        for name, value in defaults.items()
    }


def test_metrics_in_the_documentation_exist() -> None:
    text = Metrics().text().decode()
    exposed = set()
    for name, kind in re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE):
        endings = ("", "_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        exposed |= {name + ending for ending in endings}
    named = set(re.findall(r"\bdetector_\w+", read("docs/operations.md")))
    assert named
    assert named <= exposed


def test_alerts_are_rules() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", read("docs/operations.md"), re.DOTALL)
    (group,) = yaml.safe_load(block)["groups"]
    assert all({"alert", "expr"} <= rule.keys() for rule in group["rules"])


def seconds(text: str) -> float:
    """Of a duration as compose writes it, "60s"."""
    return float(text.removesuffix("s"))
