"""Makes jobset.json, the schema of a JobSet with its Pods, as strict as an API server.

    pip install kubeflow-trainer-api==2.3.0 && python tests/launch_schemas/make.py

That package (Apache-2.0) has the OpenAPI definitions of Kubernetes and JobSet as models. Kept of
them are names, types, what is required and what can be chosen from.
"""

import json
import re
from pathlib import Path
from typing import Any

from kubeflow_trainer_api import models

# Either of two types, which the models say in words of their own.
EITHER = {"Quantity": ["number", "string"], "IntOrString": ["integer", "string"]}


def choices(description: str) -> list[str]:
    """What a field can be, where its description says so in one of two ways."""
    if "Possible enum values:" in description:
        return re.findall(r'`"(\w*)"`', description.partition("Possible enum values:")[2])
    found = re.search(r"Valid values are ((?:\w+, )+\w+)\.", description)
    return found.group(1).split(", ") if found else []


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema without prose, that refuses fields it does not list, and null."""
    for name, types in EITHER.items():
        if schema.get("title", "").endswith(name):
            return {"type": types}
    kept = {k: schema[k] for k in ("$ref", "type", "required", "const") if k in schema}
    given = [s for s in schema.get("anyOf", []) if s != {"type": "null"}]
    if given:
        (only,) = given
        kept |= strict(only)
    if isinstance(schema.get("items"), dict):
        kept["items"] = strict(schema["items"])
    if isinstance(schema.get("additionalProperties"), dict):
        kept["additionalProperties"] = strict(schema["additionalProperties"])
    if "properties" in schema:
        kept["properties"] = {k: strict(v) for k, v in schema["properties"].items()}
        kept["additionalProperties"] = False
    if kept.get("type") == "string" and choices(schema.get("description", "")):
        kept["enum"] = choices(schema["description"])
    return kept


def main():
    """Writes jobset.json beside this file."""
    whole = models.JobsetV1alpha2JobSet.model_json_schema(by_alias=True)
    made = strict(whole)
    del made["properties"]["status"]  # which a cluster writes
    made["properties"]["apiVersion"] = {"const": "jobset.x-k8s.io/v1alpha2"}
    made["properties"]["kind"] = {"const": "JobSet"}
    made["required"] = ["apiVersion", "kind", "metadata", "spec"]
    made["$comment"] = "Made by make.py from kubeflow-trainer-api 2.3.0, Apache-2.0"
    made["$defs"] = {k: strict(v) for k, v in whole["$defs"].items() if not k.endswith("Status")}
    text = json.dumps(made, sort_keys=True, separators=(",", ":"))
    Path(__file__).with_name("jobset.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
