"""Reads the compose file and the manifests for tests/deployment.rs, and compares them with their schemas.

Arguments: the repository, and the schema of the compose specification.
Prints one JSON object: `compose` (the file), `manifests` (every object, with its file), `errors` (a list of sentences).
"""

import json
import re
import sys
from pathlib import Path

import jsonschema
import kubernetes_validate
import yaml

# The oldest release whose every field here is there without a feature gate.
KUBERNETES = "1.33"


def interpolated(text):
    """As compose does it where no variable is set: `${NAME:-default}` is the default."""
    return re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", text)


def compose_errors(compose, schema):
    schema = json.loads(Path(schema).read_text())
    errors = jsonschema.Draft202012Validator(schema).iter_errors(compose)
    return [f"compose.yaml: {error.json_path}: {error.message}" for error in errors]


def manifest_errors(manifests):
    for manifest in manifests:
        if manifest["object"]["kind"] == "Kustomization":
            continue
        try:
            kubernetes_validate.validate(manifest["object"], KUBERNETES, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"{manifest['file']}: {'.'.join(str(part) for part in error.path)}: {error.message}"


def main(root, schema):
    compose = yaml.safe_load(interpolated((root / "compose.yaml").read_text()))
    files = sorted((root / "deploy/kubernetes").glob("*.yaml"))
    manifests = [
        {"file": path.name, "object": item}
        for path in files
        for item in yaml.safe_load_all(path.read_text())
        if item
    ]
    errors = compose_errors(compose, schema) + list(manifest_errors(manifests))
    print(json.dumps({"compose": compose, "manifests": manifests, "errors": errors}))


main(Path(sys.argv[1]), sys.argv[2])
