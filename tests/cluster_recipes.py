"""Runs the recipes of `configs/cluster/` on this machine, with stand-ins for what a cluster brings."""

import os
import re
import socket
import stat
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ROOT / "configs" / "cluster"

# As Slurm's: runs the command once for each task, with the task's number in the environment and, with
# --label, before every line of output; stops with the first status that is not zero.
_SRUN = """#!/bin/bash
label=
while [[ $1 == --* ]]; do
  [[ $1 == --label ]] && label=1
  shift
done
pids=()
for ((task = SLURM_NTASKS - 1; task >= 0; task--)); do
  if [[ $label ]]; then
    SLURM_PROCID=$task "$@" | sed "s/^/$task: /" &
  else
    SLURM_PROCID=$task "$@" &
  fi
  pids+=($!)
done
trap 'kill "${pids[@]}"' TERM
status=0
for pid in "${pids[@]}"; do wait "$pid" || status=$?; done
exit $status
"""
_HOSTNAME = "#!/bin/sh\necho localhost\n"


def sbatch_options(script: Path) -> dict[str, str]:
    """What a script asks Slurm for: option -> value."""
    return dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(.*))?$", script.read_text(), re.MULTILINE))


def slurm_environment(folder: Path, tasks: int, job: int, **variables: str) -> dict[str, str]:
    """The environment of a job with some tasks on this machine, and `srun` and `hostname` on its PATH.

    Args:
        folder: gets the stand-ins.
        tasks: number of tasks.
        job: its number.
        **variables: further ones.
    """
    for name, text in (("srun", _SRUN), ("hostname", _HOSTNAME)):
        write_program(folder / name, text)
    slurm = {"SLURM_JOB_ID": str(job), "SLURM_NTASKS": str(tasks), "SLURM_CPUS_PER_TASK": "1"}
    return environment(folder) | slurm | variables


def environment(*folders: Path) -> dict[str, str]:
    """This process's environment, with this Python and what is in folders first on the PATH."""
    places = [*map(str, folders), str(Path(sys.executable).parent), os.environ["PATH"]]
    return os.environ | {"PATH": os.pathsep.join(places), "PYTHONPATH": str(ROOT)}


def write_program(path: Path, text: str) -> None:
    """Writes an executable script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def job_with_free_ports(count: int) -> int:
    """Number of a Slurm job for which the recipes take ports, one after the other, that nobody listens on."""
    return next(job for job in range(os.getpid() % 10000, 20000) if all(map(_is_free, _ports(job, count))))


def _ports(job: int, count: int) -> range:
    return range(20000 + job, 20000 + job + count)


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        return listener.connect_ex(("localhost", port)) != 0


class Manifests:
    """The objects of a Kubernetes recipe, with texts replaced: places of the cluster by places here."""

    def __init__(self, name: str, replaced: dict[str, str]):
        text = (RECIPES / "kubernetes" / name).read_text()
        for old, new in replaced.items():
            assert old in text, f"{name} does not say {old}"
            text = text.replace(old, new)
        self._objects = [item for item in yaml.safe_load_all(text) if item]

    def object(self, kind: str, name: str) -> dict:
        """An object by kind and name."""
        [found] = [o for o in self._objects if (o["kind"], o["metadata"]["name"]) == (kind, name)]
        return found

    def container(self, kind: str, name: str) -> dict:
        """The only container of the pods of a Job or Deployment."""
        [container] = self.object(kind, name)["spec"]["template"]["spec"]["containers"]
        return container


def container_command(container: dict, index: int | None = None) -> tuple[list[str], dict[str, str]]:
    """What Kubernetes would start: command and environment.

    Args:
        container: of a manifest.
        index: of the pod in its Indexed Job.
    """
    variables = {}
    for variable in container.get("env", ()):
        if "valueFrom" in variable:
            path = variable["valueFrom"]["fieldRef"]["fieldPath"]
            assert path == "metadata.annotations['batch.kubernetes.io/job-completion-index']"
            value = str(index)
        else:  # may refer to variables listed before
            value = _expanded(variable["value"], variables)
        variables[variable["name"]] = value
    return [_expanded(word, variables) for word in container["command"]], variables


def _expanded(text: str, variables: dict[str, str]) -> str:
    return re.sub(r"\$\((\w+)\)", lambda match: variables.get(match[1], match[0]), text)
