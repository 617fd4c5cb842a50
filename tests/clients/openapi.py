"""The OpenAPI files: `paths FILE` validates one and lists its operations, `examples SCHEMA FOLDER` holds the example
configurations against their JSON Schema, `exercise DATA KEY ADMIN` runs schemathesis against a gateway."""

import json
import pathlib
import subprocess
import sys
import tempfile

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
]
# A stream without an end, and the end of the gateway: tests/ui.rs and tests/process.rs have them.
LEFT_OUT = "^/(drain|ui/events)$"


def paths(name):
    from openapi_spec_validator import validate

    document = yaml.safe_load((ROOT / name).read_text())
    validate(document)
    found = [[method, path] for path, item in document["paths"].items() for method in item]
    print(json.dumps(found))


def examples(schema, folder):
    import jsonschema
    import tomllib

    validator = jsonschema.Draft202012Validator(json.loads((ROOT / schema).read_text()))
    wrong = 0
    for file in sorted((ROOT / folder).glob("*.toml")):
        for error in validator.iter_errors(tomllib.loads(file.read_text())):
            wrong += 1
            print(f"{file.name}: {'.'.join(map(str, error.path))}: {error.message[:200]}")
    if not list(validator.iter_errors({"endpoints": [], "no_such_key": 1})):
        sys.exit("an unknown key is accepted")
    sys.exit(1 if wrong else 0)


def narrowed(document):
    """Models that exist, beside one that does not; and time limits that can be met."""

    def walk(node):
        if isinstance(node, dict):
            members = node.get("properties")
            if isinstance(members, dict):
                if "examples" in members.get("model", {}):
                    members["model"] = {"enum": ["ollama/llama3.2", "llama3.2", "nomic-embed-text", "no-such-model"]}
                if "exclusiveMinimum" in members.get("timeout", {}):
                    members["timeout"] = {"type": "number", "minimum": 30, "maximum": 60}
            for child in node.values():
                walk(child)
        elif isinstance(node, list):
            for child in node:
                walk(child)

    walk(document["components"]["schemas"])
    return document


def run(file, url, key, folder, examples):
    shown = ["--header", f"Authorization: Bearer {key}"] if key else []
    arguments = [
        str(pathlib.Path(sys.executable).with_name("schemathesis")), "run", str(file), "--url", url,
        *shown, "--phases", "fuzzing", "--checks", ",".join(CHECKS),
        "--max-examples", str(examples), "--seed", "1", "--no-shrink", "--continue-on-failure",
        "--exclude-path-regex", LEFT_OUT, "--suppress-health-check", "all", "--warnings", "off", "--request-timeout", "20",
    ]  # fmt: skip
    return subprocess.Popen(arguments, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def exercise(data, key, admin):
    with tempfile.TemporaryDirectory() as folder:
        narrow = pathlib.Path(folder) / "openapi.yaml"
        document = yaml.safe_load((ROOT / "docs/openapi.yaml").read_text())
        narrow.write_text(yaml.safe_dump(narrowed(document)))
        runs = [
            run(narrow, data, key, folder, 3),
            run(ROOT / "docs/openapi-admin.yaml", admin, None, folder, 3),
        ]
        fine = True
        for one in runs:
            print(one.communicate()[0])
            fine = fine and one.returncode == 0
        sys.exit(0 if fine else 1)


if __name__ == "__main__":
    {"paths": paths, "examples": examples, "exercise": exercise}[sys.argv[1]](*sys.argv[2:])
