"""The recipes of `configs/cluster/`: their own lines, run on this machine with two processes."""

import json
import re
import shlex
import subprocess
import tomllib

import camera_traps
import cluster_recipes
import notebook_cells
import psutil
import pytest
import tiny_model
import tiny_training
import yaml
from cluster_recipes import RECIPES, ROOT, Manifests, container_command
from official.common import flags as model_garden_flags

import training_costs
from deepmac import cli

STEPS = 2
# Writes down where it ran, in the form of a notebook's results.
NOTEBOOK = """
import json, os, pathlib
pathlib.Path(results_path).write_text(json.dumps({
    "notebook": "only", "parameters": {"profile": profile}, "config_sha256": "0" * 64, "code_version": "1",
    "seconds": 1, "hardware": os.environ["TF_NUM_INTRAOP_THREADS"], "rows": [], "claims": []}))
"""


def start(command, environment, folder, log=None):
    output = (folder / log).open("w") if log else subprocess.PIPE
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT, text=True
    )


def finished(process, seconds=500):
    """The output of a process that must succeed."""
    output, _ = process.communicate(timeout=seconds)
    assert process.returncode == 0, output and output[-3000:]
    return output


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """A folder with a tiny configuration and its records, where a checkpoint to start from could be."""
    folder = tmp_path_factory.mktemp("training")
    path = tiny_training.write_config(folder, num_images=8, batch_size=4)
    config = yaml.safe_load(path.read_text())
    config["trainer"] |= {"train_steps": STEPS, "validation_interval": STEPS}
    for name in ("train_data", "validation_data"):
        del config["task"][name]["input_path"]  # the recipes say where they are
    config["task"]["validation_data"]["global_batch_size"] = 99
    del config["task"]["annotation_file"]
    path.write_text(yaml.safe_dump(config))
    return folder


def check_training(model_dir, outputs):
    """Two workers have trained together, one of which reports and writes."""
    assert "".join(outputs).count(f"step {STEPS}/{STEPS}") == 1
    assert (model_dir / f"ckpt-{STEPS}.index").is_file()
    assert len(list((model_dir / "validation").glob("events.*"))) == 1
    metrics = json.loads((model_dir / "evaluation.json").read_text())["metrics"]
    assert metrics["gt_boxes/box/AP"] == pytest.approx(100), "every picture was evaluated"


@pytest.mark.nightly
def test_slurm_starts_workers_that_train_together(training, tmp_path):
    script = RECIPES / "slurm" / "train.sbatch"
    assert cluster_recipes.sbatch_options(script)["ntasks-per-node"] == "1"
    environment = cluster_recipes.slurm_environment(
        tmp_path / "bin",
        tasks=2,
        job=cluster_recipes.job_with_free_ports(2),
        EXPERIMENT="deepmac_mini",
        CONFIG=str(training / "tiny.yaml"),
        RECORDS=str(training / "records"),
        INIT="",
        MODEL_DIR=str(tmp_path / "model"),
    )
    output = finished(start(["bash", script], environment, tmp_path))
    check_training(tmp_path / "model", [output])
    cluster = yaml.safe_load((tmp_path / "model" / "cluster.yaml").read_text())
    hosts, ports = zip(
        *(host.split(":") for host in cluster["runtime"]["worker_hosts"].split(",")), strict=True
    )
    assert hosts == ("localhost", "localhost")
    assert len(set(ports)) == 2
    assert cluster["task"]["validation_data"]["global_batch_size"] == 2


def start_pods(training, folder, **replaced):
    """Starts the two pods of the training here, with the environment that Kubernetes gives them."""
    places = {
        f"deepmac-train-{i}.deepmac-train:2222": f"localhost:{cluster_recipes.free_port()}" for i in (0, 1)
    }
    places |= {"/data/runs/deepmac_512x512_voc_only": str(folder / "model"), "/config": str(folder)}
    places |= {"/data/start": "''", "/data/tfrecords": str(training / "records")}
    places |= {"deepmac_hourglass_coco": "deepmac_mini"}
    places |= {"configs/center_net_deepmac_512x512_voc_only.yaml": str(training / "tiny.yaml")}
    manifests = Manifests("train.yaml", places | replaced)
    for name, text in manifests.object("ConfigMap", "deepmac-train")["data"].items():
        (folder / name).write_text(text)
    container = manifests.container("Job", "deepmac-train")
    pods = []
    for index in (0, 1):
        command, variables = container_command(container, index)
        assert json.loads(variables["TF_CONFIG"])["task"] == {"type": "worker", "index": index}
        pods.append(start(command, cluster_recipes.environment() | variables, folder))
    return pods


@pytest.mark.nightly
def test_kubernetes_starts_pods_that_train_together(training, tmp_path):
    pods = start_pods(training, tmp_path, **{"global_batch_size: 16": "global_batch_size: 2"})
    check_training(tmp_path / "model", [finished(pod) for pod in pods])


def test_kubernetes_training_fits_together():
    manifests = Manifests("train.yaml", {})
    job = manifests.object("Job", "deepmac-train")["spec"]
    service = manifests.object("Service", "deepmac-train")
    assert service["spec"]["selector"].items() <= job["template"]["metadata"]["labels"].items()
    assert job["template"]["spec"]["subdomain"] == service["metadata"]["name"]
    container = manifests.container("Job", "deepmac-train")
    [port] = [port["containerPort"] for port in container["ports"]]
    workers = json.loads(container_command(container, 0)[1]["TF_CONFIG"])["cluster"]["worker"]
    assert job["completions"] == job["parallelism"] == len(workers)
    assert workers == [f"deepmac-train-{i}.deepmac-train:{port}" for i in range(len(workers))]
    config = yaml.safe_load(manifests.object("ConfigMap", "deepmac-train")["data"]["cluster.yaml"])
    gpus = len(workers) * container["resources"]["limits"]["nvidia.com/gpu"]
    assert config["task"]["validation_data"]["global_batch_size"] == gpus
    assert 128 % gpus == 0, "the published batch"


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """A camera-trap collection, and its masks made in one piece."""
    folder = tmp_path_factory.mktemp("collection")
    root = camera_traps.write_release(folder / "iwildcam2022")
    return root, masks_of(make_masks(root, folder / "whole"))


def make_masks(root, out):
    from deepmac.iwildcam.make_masks import make_masks
    from deepmac.jobs.stream import ModelChoice

    detections = root / "metadata/iwildcam2022_mdv4_detections.json"
    make_masks(root, detections, out, ModelChoice(str(tiny_model.model_dir())))
    return out


def masks_of(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


@pytest.mark.slow
def test_slurm_makes_the_masks_in_parts(collection, tmp_path):
    root, expected = collection
    script = RECIPES / "slurm" / "iwildcam_masks.sbatch"
    assert re.fullmatch(r"0-\d+", cluster_recipes.sbatch_options(script)["array"]), "indices count from 0"
    tasks = []
    for index in (0, 1):
        variables = {"SLURM_ARRAY_TASK_ID": str(index), "SLURM_ARRAY_TASK_COUNT": "2"}
        variables |= {"OUT": str(tmp_path / "masks"), "MODEL": str(tiny_model.model_dir())}
        tasks.append(start(["bash", script], cluster_recipes.environment() | variables, root.parent))
    for task in tasks:
        finished(task)
    assert masks_of(tmp_path / "masks") == expected
    assert len(list((tmp_path / "masks").glob("iwildcam_masks_report_*-of-2.json"))) == 2


@pytest.mark.nightly
def test_kubernetes_makes_the_masks_in_parts(collection, tmp_path):
    root, expected = collection
    job = Manifests("iwildcam-masks.yaml", {}).object("Job", "deepmac-iwildcam")["spec"]
    assert job["completions"] == job["parallelism"] == 16
    places = {"/data/iwildcam2022/instance_masks": str(tmp_path / "masks"), "/data": str(root.parent)}
    places |= {"/16": "/2", "value: mini": f"value: {tiny_model.model_dir()}"}
    container = Manifests("iwildcam-masks.yaml", places).container("Job", "deepmac-iwildcam")
    pods = []
    for index in (0, 1):
        command, variables = container_command(container, index)
        pods.append(start(command, cluster_recipes.environment() | variables, tmp_path))
    for pod in pods:
        finished(pod)
    assert masks_of(tmp_path / "masks") == expected


@pytest.fixture
def checkout(tmp_path):
    """A checkout with one notebook, which trains nothing."""
    pytest.importorskip("distributed")
    notebook_cells.write_checkout(tmp_path, "mini", only=[NOTEBOOK])
    return tmp_path


@pytest.mark.slow
def test_slurm_reproduces_on_its_tasks(checkout):
    environment = cluster_recipes.slurm_environment(
        checkout / "bin", tasks=2, job=cluster_recipes.job_with_free_ports(1), SLURM_CPUS_PER_TASK="7"
    )
    output = finished(start(["bash", RECIPES / "slurm" / "reproduce.sbatch"], environment, checkout))
    assert "only: done" in output
    assert output.count("Starting established connection") >= 2, "workers registered"
    assert json.loads((checkout / "papermill_runs/mini/only.json").read_text())["hardware"] == "7"
    left = [p for p in psutil.process_iter(["cwd", "cmdline"]) if p.info["cwd"] == str(checkout)]
    assert not left, "scheduler and workers end with the job"


@pytest.mark.slow
def test_kubernetes_reproduces_on_its_workers(checkout):
    scheduler = f"localhost:{cluster_recipes.free_port()}"
    places = {"deepmac-scheduler:8786": scheduler, "--port=8786": f"--port={scheduler.partition(':')[2]}"}
    places |= {"/data": str(checkout / "data")}
    manifests = Manifests("reproduce.yaml", places)
    services = []
    try:
        for name in ("deepmac-scheduler", "deepmac-worker"):
            command, variables = container_command(manifests.container("Deployment", name))
            environment = cluster_recipes.environment() | variables
            services.append(start(command, environment, checkout, f"{len(services)}.log"))
        command, variables = container_command(manifests.container("Job", "deepmac-reproduce"))
        for _ in range(manifests.object("Job", "deepmac-reproduce")["spec"]["backoffLimit"]):
            job = start(command, cluster_recipes.environment() | variables, checkout)
            output, _ = job.communicate(timeout=300)
            if job.returncode == 0:
                break
            assert "no Dask scheduler at" in output
        assert "only: done" in output
    finally:
        for service in services:
            service.terminate()
            service.wait()
    results = json.loads((checkout / "data/papermill_runs/only.json").read_text())
    assert results["hardware"] == "2", "it ran where the worker's variables are"


def test_kubernetes_scheduler_is_found():
    manifests = Manifests("reproduce.yaml", {})
    service = manifests.object("Service", "deepmac-scheduler")["spec"]
    pods = manifests.object("Deployment", "deepmac-scheduler")["spec"]["template"]
    assert service["selector"].items() <= pods["metadata"]["labels"].items()
    assert service["ports"] == [{"port": 8786}]
    assert "--port=8786" in manifests.container("Deployment", "deepmac-scheduler")["command"]


_GCLOUD = """#!/bin/bash
[[ $4 == describe ]] && exit 1
printf '%s\\0' "$@" >> calls
printf '\\0' >> calls
"""
_GIT = """#!/bin/bash
touch "${3#--output=}"
"""


@pytest.mark.parametrize(
    ("tpu_type", "size", "replicas"),
    [("v3-32", 512, 32), ("v3-128", 1024, 128), ("v4-32", 512, 16), ("v4-128", 1024, 64)],
)
def test_tpu_is_created_used_and_deleted(tpu_type, size, replicas, tmp_path):
    for name, text in (("gcloud", _GCLOUD), ("git", _GIT)):
        cluster_recipes.write_program(tmp_path / "bin" / name, text)
    config = f"configs/center_net_deepmac_{size}x{size}_voc_only.yaml"
    variables = {"BUCKET": "gs://bucket", "TPU_TYPE": tpu_type, "CONFIG": config}
    environment = cluster_recipes.environment(tmp_path / "bin") | variables
    finished(start(["bash", RECIPES / "tpu.sh"], environment, tmp_path))
    calls = [call.split("\0") for call in (tmp_path / "calls").read_text().split("\0\0")[:-1]]
    assert [call[3] for call in calls] == ["create", "scp", "ssh", "ssh", "delete"]
    assert f"--accelerator-type={tpu_type}" in calls[0]

    [remote] = [word.removeprefix("--command=") for word in calls[3] if word.startswith("--command=")]
    words = shlex.split(remote)
    assert words[:6] == ["cd", "deepmac", "&&", "TPU_LOAD_LIBRARY=0", ".venv/bin/python", "-m"]
    params = parsed_training(words[7:])
    assert params.runtime.distribution_strategy == "tpu" and params.runtime.tpu == "deepmac"
    assert params.task.init_checkpoint == "gs://bucket/start"
    assert params.task.train_data.input_path == "gs://bucket/tfrecords/train2017-*"
    assert params.task.validation_data.global_batch_size == replicas
    assert params.task.train_data.global_batch_size % replicas == 0
    assert params.task.model.input_size == [size, size, 3]


def parsed_training(arguments):
    """The configuration that `python -m deepmac.train` makes of its arguments."""
    from absl import flags
    from official.core import train_utils

    from deepmac import configs  # noqa: F401  # registers the experiments

    values = flags.FlagValues()
    known = flags.FLAGS
    if "experiment" not in known:
        model_garden_flags.define_flags()
    for name in ("experiment", "mode", "model_dir", "config_file", "params_override", "tpu"):
        values[name] = known[name]
    try:
        values(["deepmac.train", *arguments])
        return train_utils.parse_configuration(values, print_return=False)
    finally:
        values.unparse_flags()


def test_files_that_are_named_exist():
    readme = (RECIPES / "README.md").read_text()
    for path in (path for path in RECIPES.rglob("*") if path.is_file()):
        assert path.name in readme or path.suffix == ".md"
        for name in re.findall(r"\bconfigs/[\w/.-]*\w", path.read_text()):
            assert (ROOT / name).exists(), f"{path.name} names {name}"
    image = (RECIPES / "Dockerfile").read_text()
    assert "FROM python:3.12-slim" in image
    for sources in re.findall(r"^COPY (.*) \S+$", image, re.MULTILINE):
        assert all((ROOT / source).exists() for source in sources.split())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [extras] = re.findall(r"'\.\[(.*?)\]'", image)
    assert set(extras.split(",")) <= set(project["optional-dependencies"])


def test_commands_of_the_page_are_accepted():
    """Those of the blocks of code; all others stand in recipes, which the tests above run."""
    blocks = re.findall(r"^```\n(.*?)^```", (RECIPES / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    for line in "".join(blocks).splitlines():
        words = shlex.split(line)
        if words[0] == "deepmac":
            cli.main.commands[words[1]].make_context(words[1], words[2:])
        else:
            assert words[:2] == ["python", "configs/cluster/training_costs.py"]
            training_costs.main.make_context(words[1], words[2:])
