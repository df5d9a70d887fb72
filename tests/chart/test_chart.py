"""The charts as Helm and an API server see them. `run` brings both; KUBECONFIG points at a server without nodes."""

import json
import pathlib
import re
import subprocess
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).parents[2]
CHART = ROOT / "charts/skein"
CRDS = ROOT / "charts/skein-crds"
NAMESPACE = "chart-test"
VALUES = [None, *sorted(CHART.glob("ci/*-values.yaml"))]


def run(*words: str, input: str | None = None, check: bool = True) -> subprocess.CompletedProcess:
    done = subprocess.run([str(word) for word in words], input=input, capture_output=True, text=True, cwd=ROOT)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, words))} ended with {done.returncode}: {done.stderr}{done.stdout}")
    return done


def rendered(*words: str, chart: pathlib.Path = CHART, release: str = "skein", values: pathlib.Path | None = None) -> str:
    files = ["--values", values] if values else []
    return run("helm", "template", release, chart, "--namespace", NAMESPACE, *files, *words).stdout


def judged(manifests: str) -> list[dict]:
    """What an API server would store; it takes no unknown field and gives no warning."""
    done = run("kubectl", "create", "--dry-run=server", "--validate=strict", "-o", "json", "-f", "-", input=manifests)
    if done.stderr:
        raise AssertionError(f"the API server warns: {done.stderr}")
    # One object after another, or a list of them.
    decoder, text, found = json.JSONDecoder(), done.stdout.strip(), []
    while text:
        thing, end = decoder.raw_decode(text)
        found.extend(thing["items"] if thing["kind"] == "List" else [thing])
        text = text[end:].lstrip()
    return found


def pods(things: list[dict]) -> dict[str, dict]:
    """The pod specs, by component."""
    return {thing["metadata"]["labels"]["app.kubernetes.io/component"]: thing["spec"]["template"]["spec"]
            for thing in things if thing["kind"] in ("Deployment", "StatefulSet")}


def only(things: list[dict], kind: str, component: str | None = None) -> dict:
    found = [thing for thing in things if thing["kind"] == kind and component in (None, thing["metadata"]["labels"]["app.kubernetes.io/component"])]
    assert len(found) == 1, f"{len(found)} of {kind} {component}"
    return found[0]


def environment(container: dict) -> dict[str, str | None]:
    return {variable["name"]: variable.get("value") for variable in container["env"]}


def setUpModule():
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": {
        "pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}}}
    run("kubectl", "apply", "-f", "-", input=json.dumps(namespace))
    run("kubectl", "apply", "-f", ROOT / "crds", "-f", pathlib.Path(__file__).parent / "monitoring.yaml")
    # A definition that is too young to have conditions is an error to `kubectl wait`.
    ends = time.monotonic() + 30
    while run("kubectl", "wait", "--for=condition=Established", "--all", "crd", "--timeout=30s", check=False).returncode != 0:
        assert time.monotonic() < ends, "the definitions are not established"
        time.sleep(0.1)


class Objects(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.all = {values.stem if values else "defaults": judged(rendered(values=values)) for values in VALUES}

    def test_every_object_says_what_it_belongs_to(self):
        for name, things in self.all.items():
            with self.subTest(values=name):
                for thing in things:
                    labels = thing["metadata"]["labels"]
                    self.assertEqual(labels["app.kubernetes.io/name"], "skein")
                    self.assertEqual(labels["app.kubernetes.io/part-of"], "skein")
                    self.assertEqual(labels["app.kubernetes.io/instance"], "skein")
                    self.assertEqual(labels["app.kubernetes.io/managed-by"], "Helm")
                    for label in ("app.kubernetes.io/component", "app.kubernetes.io/version", "helm.sh/chart"):
                        self.assertTrue(labels.get(label), f"{thing['kind']} has no {label}")

    def test_a_selector_finds_the_pods_of_its_component_and_no_others(self):
        for name, things in self.all.items():
            with self.subTest(values=name):
                templates = [thing["spec"]["template"] for thing in things if thing["kind"] in ("Deployment", "StatefulSet")]
                for thing in things:
                    if thing["kind"] in ("ServiceMonitor", "PodMonitor"):
                        continue
                    selector = thing.get("spec", {}).get("selector") or thing.get("spec", {}).get("podSelector")
                    if not selector:
                        continue
                    selector = selector.get("matchLabels", selector)
                    found = [template for template in templates if selector.items() <= template["metadata"]["labels"].items()]
                    component = thing["metadata"]["labels"]["app.kubernetes.io/component"].removesuffix("-metrics")
                    self.assertEqual([template["metadata"]["labels"]["app.kubernetes.io/component"] for template in found], [component], thing["kind"])

    def test_rights_are_spelt_out(self):
        for name, things in self.all.items():
            with self.subTest(values=name):
                for thing in things:
                    for rule in thing.get("rules", []):
                        self.assertNotIn("*", [*rule["apiGroups"], *rule["resources"], *rule["verbs"]], thing["metadata"]["name"])
                        self.assertFalse({"secrets", "configmaps", "nodes", "roles", "clusterroles", "pods/exec"} & set(rule["resources"]))
                        self.assertFalse({"escalate", "bind", "impersonate"} & set(rule["verbs"]))
                bound = {subject["name"] for thing in things for subject in thing.get("subjects", [])}
                self.assertEqual(len(bound), 1)
                self.assertTrue(bound.pop().endswith("-controller"))

    def test_only_the_controller_has_a_token(self):
        for name, things in self.all.items():
            with self.subTest(values=name):
                for thing in things:
                    if thing["kind"] == "ServiceAccount":
                        self.assertIs(thing["automountServiceAccountToken"], False)
                tokens = {component: pod["automountServiceAccountToken"] for component, pod in pods(things).items()}
                self.assertEqual(tokens, {"controller": True} | {component: False for component in tokens if component != "controller"})
                accounts = [pod["serviceAccountName"] for pod in pods(things).values()]
                self.assertEqual(len(set(accounts)), len(accounts), "an account is shared")

    def test_pods_have_probes_limits_and_no_rights(self):
        for name, things in self.all.items():
            with self.subTest(values=name):
                for component, pod in pods(things).items():
                    (container,) = pod["containers"]
                    self.assertEqual(container["securityContext"], {
                        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}})
                    self.assertIs(pod["securityContext"]["runAsNonRoot"], True)
                    self.assertEqual(pod["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
                    self.assertIs(pod["enableServiceLinks"], False, "SKEIN_* of a Service would be taken for settings")
                    self.assertTrue(container["resources"]["limits"]["memory"] and container["resources"]["requests"]["memory"])
                    ports = {port["name"] for port in container["ports"]}
                    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                        self.assertIn(container[probe]["httpGet"]["port"], ports, component)

    def test_the_program_knows_every_setting_that_it_is_given(self):
        known = set(re.findall(r'env = "(SKEIN_[A-Z_]+)"', (ROOT / "src/cli.rs").read_text()))
        for name, things in self.all.items():
            with self.subTest(values=name):
                for component in ("controller", "gateway"):
                    (container,) = pods(things)[component]["containers"]
                    names = [variable["name"] for variable in container["env"]]
                    self.assertEqual(len(names), len(set(names)), "a variable is set twice")
                    self.assertEqual({name for name in names if name.startswith("SKEIN_")} - known, set())

    def test_a_name_is_no_longer_than_a_label(self):
        things = judged(rendered(release="r" * 53))
        for thing in things:
            self.assertLessEqual(len(thing["metadata"]["name"]), 63)
        # A StatefulSet's pods carry its name and a hash of eleven characters in one label.
        self.assertLessEqual(len(only(things, "StatefulSet")["metadata"]["name"]), 52)

    def test_each_release_has_names_of_its_own(self):
        names = [{(thing["kind"], thing["metadata"]["name"]) for thing in judged(rendered(release=release))} for release in ("skein", "other")]
        self.assertEqual(names[0] & names[1], set())
        self.assertIn(("Deployment", "skein-controller"), names[0])
        self.assertIn(("Deployment", "other-skein-controller"), names[1])


class Values(unittest.TestCase):
    """What the values do."""

    def test_lint(self):
        for chart, files in ((CRDS, [None]), (CHART, VALUES)):
            for values in files:
                run("helm", "lint", "--strict", chart, *(["--values", values] if values else []))

    def test_what_the_schema_refuses(self):
        refused = {
            "unknown=1": "additional properties 'unknown' not allowed",
            "controller.replica=3": "additional properties 'replica' not allowed",
            "nats.storage.sise=1Gi": "additional properties 'sise' not allowed",
            "controller.resources.limit.memory=1Gi": "additional properties 'limit' not allowed",
            "gateway.tolerations[0].kee=a": "additional properties 'kee' not allowed",
            "gateway.affinity.podAfinity={}": "additional properties 'podAfinity' not allowed",
            "controller.replicas=two": "at '/controller/replicas': got string, want integer",
            "controller.replicas=-1": "minimum: got -1, want 0",
            "image.pullPolicy=Sometimes": "at '/image/pullPolicy'",
            "image.digest=latest": "does not match pattern",
            "logs.format=xml": "at '/logs/format'",
            "nats.storage.size=10GB": "does not match pattern",
            "nats.maxPayloadBytes=1": "minimum: got 1, want 65,536",
            "nats.enabled=false": "at '/nats/url': minLength: got 0, want 1",
            "nats.url=nats://mine:4222": "at '/nats/url': value must be ''",
            "nats.enabled=false,nats.url=mine:4222": "at '/nats/url': 'mine:4222' does not match pattern",
            "podSecurityContext.runAsNonRoot=false": "at '/podSecurityContext/runAsNonRoot'",
            "podSecurityContext.runAsUser=0": "minimum: got 0, want 1",
            "fullnameOverride=Upper": "does not match pattern",
        }
        for setting, message in refused.items():
            with self.subTest(setting):
                done = run("helm", "template", "skein", CHART, "--set", setting, check=False)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(message, done.stderr)

    def test_the_schema_is_closed(self):
        """An object whose fields are listed takes no others."""
        def walk(path: str, schema):
            if isinstance(schema, dict):
                if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
                    self.assertIs(schema.get("additionalProperties"), False, path)
                for key, value in schema.items():
                    walk(f"{path}/{key}", value)
        for chart in (CHART, CRDS):
            walk(chart.name, json.loads((chart / "values.schema.json").read_text()))

    def test_every_value_is_in_the_schema_the_templates_and_the_readme(self):
        """What is only in one of them is ignored in silence, or unknown to users."""
        chart = json.loads(run("helm", "install", "skein", CHART, "--dry-run=client", "-o", "json").stdout)["chart"]
        schema = json.loads((CHART / "values.schema.json").read_text())

        def resolve(node: dict) -> dict:
            return schema["definitions"][node["$ref"].split("/")[-1]] if "$ref" in node else node

        def leaves(values: dict, node: dict, path: str = ""):
            properties = resolve(node)["properties"]
            for key in sorted({*values, *properties} - {"global"}):
                here = f"{path}{key}"
                self.assertIn(key, properties, f"{here} is not in the schema")
                child = resolve(properties[key])
                value = values.get(key)
                if "properties" in child and here not in whole and not here.endswith((".resources", ".affinity")):
                    yield from leaves(value or {}, child, f"{here}.")
                else:
                    self.assertIn(key, values, f"{here} is not in values.yaml")
                    yield here, value

        whole = {"podSecurityContext"}
        values = dict(leaves(chart["values"], schema))
        templates = "".join(file.read_text() for file in (CHART / "templates").iterdir())
        used = {"image.": "$image.", "controller.": "$values.", "gateway.": "$values.", "nats.": "$values.", "nats.image.": "$image."}
        for path in values:
            spellings = [f".Values.{path}", *(f"{there}{path.removeprefix(here)}" for here, there in used.items() if path.startswith(here))]
            spellings += [f"(index . 1).{path.split('.', 1)[-1]}"]
            self.assertTrue(any(re.search(re.escape(spelling) + r"\b", templates) for spelling in spellings), f"no template uses {path}")

        table = dict(re.findall(r"^\| `([^`]+)` \| (.*?) \|", (CHART / "README.md").read_text(), re.MULTILINE))
        self.assertEqual(set(table), set(values), "the README's table and the values differ")
        for path, value in values.items():
            if path in whole or path.endswith(".resources"):
                continue
            shown = {"": "", True: "`true`", False: "`false`"}.get(value) if isinstance(value, (str, bool)) else None
            shown = f"`{value if isinstance(value, str) else json.dumps(value)}`" if shown is None else shown
            self.assertEqual(table[path], shown, f"the README's default of {path}")

    def test_the_sidecars_are_of_the_controllers_own_image(self):
        for settings, image in ((["image.tag=1.2"], "localhost/skein:1.2"), (["image.tag="], "localhost/skein:0.1.0"),
                                (["image.repository=r/s", "image.digest=sha256:" + "0" * 64], "r/s@sha256:" + "0" * 64)):
            words = [word for setting in settings for word in ("--set-string", setting)]
            things = pods(judged(rendered(*words)))
            for component in ("controller", "gateway"):
                self.assertEqual(things[component]["containers"][0]["image"], image)
            self.assertEqual(environment(things["controller"]["containers"][0])["SKEIN_SIDECAR_IMAGE"], image)

    def test_the_bus_is_this_releases_or_the_users(self):
        things = judged(rendered())
        settings = environment(pods(things)["controller"]["containers"][0])
        self.assertEqual(settings["SKEIN_NATS_URL"], f"nats://skein-nats.{NAMESPACE}.svc:4222")
        self.assertEqual(settings["SKEIN_AGENT_NATS_URL"], settings["SKEIN_NATS_URL"])
        self.assertEqual(only(things, "Service", "nats")["metadata"]["name"], "skein-nats")

        things = judged(rendered(values=CHART / "ci/own-nats-values.yaml"))
        self.assertEqual({thing["kind"] for thing in things} & {"StatefulSet", "ConfigMap"}, set())
        settings = environment(pods(things)["controller"]["containers"][0])
        self.assertEqual(settings["SKEIN_NATS_URL"], "nats://nats-0.messaging:4222,nats://nats-1.messaging:4222")
        self.assertEqual(settings["SKEIN_AGENT_NATS_URL"], "nats://nats.messaging.svc:4222")

    def test_the_broker_takes_its_configuration(self):
        for values in (None, CHART / "ci/everything-values.yaml", CHART / "ci/small-values.yaml"):
            things = judged(rendered(values=values))
            with tempfile.TemporaryDirectory() as directory:
                file = pathlib.Path(directory) / "nats.conf"
                configuration = only(things, "ConfigMap")["data"]["nats.conf"]
                file.write_text(configuration)
                run("nats-server", "-t", "-c", file)
        self.assertIn(f"max_file_store: {512 * 2**20 * 9 // 10}\n", configuration)
        self.assertIn(f"max_memory_store: {64 * 2**20}\n", configuration)

    def test_a_changed_configuration_restarts_the_broker_and_a_new_release_does_not(self):
        def template(*words: str) -> dict:
            return only(judged(rendered(*words)), "StatefulSet")["spec"]["template"]
        before = template()
        self.assertNotEqual(before, template("--set", "nats.maxPayloadBytes=1048576"))
        self.assertEqual(before, template("--set", "image.tag=next", "--set", "podAnnotations.build=new"))
        self.assertNotIn("app.kubernetes.io/version", before["metadata"]["labels"])

    def test_metrics_are_scraped_one_way_or_the_other(self):
        def annotations(things: list[dict]) -> set[bool]:
            return {"prometheus.io/scrape" in thing["spec"]["template"]["metadata"].get("annotations", {}) for thing in things if thing["kind"] == "Deployment"}
        things = judged(rendered())
        self.assertEqual(annotations(things), {True})
        self.assertFalse([thing for thing in things if thing["kind"].endswith("Monitor")])
        things = judged(rendered("--set", "monitoring.serviceMonitor.enabled=true", "--set", "monitoring.podMonitor.enabled=true"))
        self.assertEqual(annotations(things), {False})
        services = {(label, value) for thing in things if thing["kind"] == "Service" for label, value in thing["metadata"]["labels"].items()}
        for monitor in (thing for thing in things if thing["kind"] == "ServiceMonitor"):
            self.assertLessEqual(set(monitor["spec"]["selector"]["matchLabels"].items()), services)
        self.assertEqual(only(things, "PodMonitor")["spec"]["namespaceSelector"], {"any": True})

    def test_only_skein_reaches_the_broker(self):
        policy = [thing for thing in judged(rendered()) if thing["kind"] == "NetworkPolicy" and thing["metadata"]["name"] == "skein-nats"][0]["spec"]
        (rule,) = policy["ingress"]
        self.assertEqual(rule["ports"], [{"port": "nats", "protocol": "TCP"}])
        ours, agents = rule["from"]
        self.assertNotIn("namespaceSelector", ours)
        self.assertEqual(ours["podSelector"]["matchExpressions"], [{"key": "app.kubernetes.io/component", "operator": "In", "values": ["controller", "gateway"]}])
        self.assertEqual(agents["namespaceSelector"], {})
        self.assertEqual(agents["podSelector"]["matchExpressions"], [{"key": "skein.dev/pool", "operator": "Exists"}])

    def test_the_notes_say_what_to_do_next(self):
        notes = run("helm", "install", "skein", CHART, "--namespace", NAMESPACE, "--dry-run=client").stdout
        self.assertIn("kubectl apply -f crds/", notes, "without an API server the definitions are not known to be there")
        self.assertIn("kubectl skein submit hello-team --to hello", notes)
        notes = run("helm", "install", "skein", CHART, "--namespace", NAMESPACE, "--dry-run=server").stdout
        self.assertNotIn("kubectl apply -f crds/", notes)


class Files(unittest.TestCase):
    """What is made from the charts and the definitions, and what goes with them."""

    maxDiff = None

    def test_the_crd_chart_holds_the_definitions_and_keeps_them(self):
        self.assertTrue((CRDS / "files").samefile(ROOT / "crds"))
        things = judged(re.sub(r"(?m)^  name: (\w+)\.skein\.dev$", r"  name: \1.skein.dev", rendered(chart=CRDS)).replace("skein.dev", "chart.example"))
        self.assertEqual({thing["metadata"]["name"] for thing in things}, {"agentpools.chart.example", "topologies.chart.example"})
        for thing in things:
            self.assertEqual(thing["metadata"]["annotations"]["helm.sh/resource-policy"], "keep")
            plural = thing["spec"]["names"]["plural"]
            original = (ROOT / f"crds/{plural}.yaml").read_text().replace("skein.dev", "chart.example")
            (original,) = judged(original)
            self.assertEqual(thing["spec"], original["spec"])

    def test_the_plain_manifests_are_current(self):
        wanted = run("deploy/render").stdout
        self.assertTrue((ROOT / "deploy/manifests/skein.yaml").read_text() == wanted, "deploy/manifests/skein.yaml is stale: run `make manifests`")

    def test_the_plain_manifests_can_be_applied(self):
        text = run("deploy/render").stdout
        self.assertNotIn("Helm\n", text.split("---", 1)[1])
        namespace = run("kubectl", "apply", "-f", "-", input=text.split("\n---\n", 1)[0])
        self.assertIn("namespace/skein-system", namespace.stdout)
        run("kubectl", "apply", "--dry-run=server", "--validate=strict", "-f", ROOT / "deploy/manifests/skein.yaml")

    def test_the_samples_are_taken(self):
        run("kubectl", "apply", "--dry-run=server", "--validate=strict", "--recursive", "-n", NAMESPACE, "-f", ROOT / "deploy/samples")


if __name__ == "__main__":
    unittest.main()
