"""The JobSet of launch/, as launch/jobset.sh fills it in."""

import copy
import json
import os
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

from mae_jax import errors

LAUNCH = Path(__file__).parents[1] / "launch"
SCHEMA = json.loads((Path(__file__).parent / "launch_schemas/jobset.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
AGAIN = {42, 43, 137}  # codes that say: start it again
CODES = {1, 137} | {e.exit_code for e in vars(errors).values() if hasattr(e, "exit_code")}
WORDS = ["pretrain", "--config=configs/digits.py", '--workdir=/bucket/it\'s: "$HOME" # mine']
NEEDED = dict(ACCELERATOR="tpu-v5-lite-podslice", TOPOLOGY="8x8", HOSTS="16", CHIPS="4")
NEEDED |= dict(IMAGE="host:5000/mae-jax:tpu", BUCKET="mine")


def jobset(*arguments, **environment):
    """Runs the launcher."""
    return subprocess.run(
        ["bash", LAUNCH / "jobset.sh", *arguments],
        env=dict(PATH=os.environ["PATH"]) | environment,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def manifest():
    made = jobset("l16", *WORDS, **NEEDED, SLICES="2", DRY_RUN="1")
    assert made.returncode == 0, made.stderr
    return yaml.safe_load(made.stdout)


def job_of(manifest):
    (job,) = manifest["spec"]["replicatedJobs"]
    return job


def test_it_has_what_kubernetes_and_jobset_know_and_nothing_else(manifest):
    VALIDATOR.validate(manifest)


def pod_of(manifest):
    return job_of(manifest)["template"]["spec"]["template"]["spec"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda m: pod_of(m).update(nodeSelectors={}), "'nodeSelectors' was unexpected"),
        (lambda m: pod_of(m)["containers"][0].pop("name"), "'name' is a required"),
        (lambda m: pod_of(m).update(terminationGracePeriodSeconds="300"), "not of type 'integer'"),
        (lambda m: pod_of(m).update(restartPolicy="never"), "'never' is not one of"),
        (lambda m: pod_of(m)["nodeSelector"].update(a=8), "8 is not of type 'string'"),
        (lambda m: job_of(m).update(replicas=None), "None is not of type 'integer'"),
        (lambda m: m["spec"]["failurePolicy"].update(maxRestart=1), "'maxRestart' was unexpected"),
        (lambda m: m["spec"]["failurePolicy"]["rules"][0].pop("name"), "'name' is a required"),
        (lambda m: m.update(apiVersion="jobset.x-k8s.io/v1"), "'jobset.x-k8s.io/v1alpha2' was"),
    ],
)
def test_mistakes_are_seen(manifest, spoil, message):
    spoilt = copy.deepcopy(manifest)
    spoil(spoilt)
    with pytest.raises(jsonschema.ValidationError, match=message):
        VALIDATOR.validate(spoilt)


def test_it_restarts_on_the_codes_that_say_so(manifest):
    spec = job_of(manifest)["template"]["spec"]
    (rule,) = spec["podFailurePolicy"]["rules"]
    refused = set(rule["onExitCodes"]["values"])
    assert refused == CODES - AGAIN and rule["action"] == "FailJob"
    (container,) = spec["template"]["spec"]["containers"]
    assert rule["onExitCodes"]["containerName"] == container["name"]
    (ends,) = manifest["spec"]["failurePolicy"]["rules"]
    assert ends["action"] == "FailJobSet" and ends["onJobFailureReasons"] == ["PodFailurePolicy"]


def test_every_host_gets_the_command_word_by_word(manifest):
    spec = job_of(manifest)["template"]["spec"]
    assert job_of(manifest)["replicas"] == 2
    assert spec["parallelism"] == spec["completions"] == 16
    (container,) = spec["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == {"google.com/tpu": 4}
    shell, flag, command = container["command"]
    said = command.replace("exec mae-jax", "printf '%s\\n'")
    words = subprocess.run([shell, flag, said], capture_output=True, text=True, check=True)
    assert words.stdout.splitlines() == WORDS


def test_without_what_it_needs_it_says_so():
    assert jobset().returncode == 2 and "Dry run" in jobset().stderr
    for name in NEEDED:
        given = {k: v for k, v in NEEDED.items() if k != name}
        made = jobset("l16", *WORDS, **given, DRY_RUN="1")
        assert made.returncode != 0 and name in made.stderr and not made.stdout


def test_it_is_applied(tmp_path):
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(f'#!/bin/bash\necho "$@" > {tmp_path}/said\ncat > {tmp_path}/applied\n')
    kubectl.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    assert jobset("l16", *WORDS, **NEEDED | {"PATH": path}).returncode == 0
    assert (tmp_path / "said").read_text() == "apply -f -\n"
    assert yaml.safe_load((tmp_path / "applied").read_text())["metadata"]["name"] == "l16"
