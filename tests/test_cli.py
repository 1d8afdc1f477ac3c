"""Exit status and messages of the `deepmac` command, whatever the subcommand."""

import signal
import subprocess
import sys
import time

import click
import pytest
from click.testing import CliRunner

import deepmac
from deepmac.cli import ErrorReportingGroup, main
from deepmac.core.errors import InputError


def _group_that_raises(error: BaseException) -> click.Group:
    @click.group("deepmac", cls=ErrorReportingGroup)
    def group():
        pass

    @group.command()
    def work():
        raise error

    return group


def _fresh_python(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def _printed(*arguments: str) -> str:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, arguments
    return result.stdout


def test_help_and_version():
    for option in ("--help", "-h"):
        text = _printed(option)
        assert text.startswith("Usage: deepmac")
        assert all(name in text for name in main.commands)
    for name, command in main.commands.items():
        if command.add_help_option:
            assert _printed(name, "--help").startswith(f"Usage: deepmac {name}")
    assert _printed("--version") == f"deepmac, version {deepmac.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["wrok"], ["No such command 'wrok'", "`deepmac --help`"]),
        (["work", ""], ["empty", "variable"]),
        (["work", "--out="], ["empty", "variable"]),
        (["--size", "3"], ["--size", "`deepmac --help`"]),
        (["work", "--size", "3"], ["--size", "`deepmac work --help`"]),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(arguments, words):
    result = CliRunner().invoke(_group_that_raises(AssertionError("never runs")), arguments)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith("deepmac: ")
    assert all(word in result.stderr for word in words)


FREE = "; free some, and run the same command again\n"  # what to do about a full disk


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputError("box 3 is inverted:\n  give y0 < y1"), "deepmac: box 3 is inverted: give y0 < y1\n"),
        (
            FileNotFoundError(2, "No such file or directory", "a.jpg"),
            "deepmac: a.jpg: No such file or directory\n",
        ),
        (FileExistsError("out is not empty"), "deepmac: out is not empty\n"),
        (NotADirectoryError(20, "Not a directory", "b"), "deepmac: b: Not a directory\n"),
        (OSError(28, "No space left on device"), f"deepmac: No space left on device{FREE}"),
        (
            RuntimeError("records/a; No space left on device"),
            f"deepmac: records/a; No space left on device{FREE}",
        ),
        (click.ClickException("cannot do that"), "deepmac: cannot do that\n"),
        (
            ModuleNotFoundError("No module named 'papermill'", name="papermill"),
            "deepmac: this needs the package papermill: run pip install 'deepmac[notebooks]'\n",
        ),
    ],
)
def test_errors_a_user_can_mend_are_one_line_and_status_2(error, line):
    result = CliRunner().invoke(_group_that_raises(error), ["work"])
    assert (result.exit_code, result.stderr, result.stdout) == (2, line, "")


@pytest.mark.parametrize("error", [ValueError("a defect"), ModuleNotFoundError("x", name="deepmac.typo")])
def test_defects_keep_their_traceback(error):
    with pytest.raises(type(error)):
        CliRunner().invoke(_group_that_raises(error), ["work"], catch_exceptions=False)


def test_what_a_command_returns_is_no_exit_status():
    group = _group_that_raises(AssertionError)
    group.command("count")(lambda: 3)
    assert CliRunner().invoke(group, ["count"]).exit_code == 0


def test_ctrl_c_ends_with_130_and_a_word():
    code = """
import sys, time, click
from deepmac.cli import ErrorReportingGroup

@click.group(cls=ErrorReportingGroup)
def group(): pass

@group.command()
def work():
    print("working", flush=True)
    time.sleep(60)

group(["work"])
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == b"working\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.strip().startswith(b"deepmac: stopped; ") and errors.strip().count(b"\n") == 0


def test_import_and_help_leave_tensorflow_alone():
    for code in (
        "import deepmac",
        "from deepmac.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass",
    ):
        heavy = (
            "[m for m in ('tensorflow', 'tf_keras', 'numpy', 'matplotlib', 'papermill') if m in sys.modules]"
        )
        result = _fresh_python(f"{code}\nimport sys\nprint({heavy})")
        assert result.stdout.splitlines()[-1:] == ["[]"], result.stderr


def test_help_is_instant():
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "deepmac", "--help"], check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1.0
