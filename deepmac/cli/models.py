"""Commands that bring models in and out."""

from pathlib import Path

import click

from deepmac.cli import options


@click.command("import-config")
@click.argument("pipeline_config", type=click.Path())
@click.option("--out", type=click.Path(), help="YAML file to write.  [default: standard output]")
def import_config(pipeline_config, out):
    """Convert a published pipeline.config to a YAML for `python -m deepmac.train --config_file`.

    The YAML goes on top of --experiment=deepmac_hourglass_coco. Fields that are unknown or not supported are
    errors; those without effect here are listed.
    """
    import yaml

    from deepmac.core.files import write_text
    from deepmac.interop.pipeline import read_pipeline

    overrides, ignored = read_pipeline(pipeline_config)
    for field in ignored:
        click.echo(f"without effect: {field}", err=True)
    text = yaml.safe_dump(overrides, sort_keys=False, default_flow_style=None, width=110)
    if out is None:
        click.echo(text, nl=False)
        return
    write_text(out, text)
    click.echo(f"Wrote {out}")


@click.command("import-checkpoint")
@click.argument("source")
@click.option("--out", "model_dir", required=True, type=click.Path(), help="Model directory; new or empty.")
@click.option(
    "--config-file",
    "config_files",
    multiple=True,
    type=click.Path(),
    help="YAML of the model to fill instead of the folder's pipeline.config (repeatable).",
)
@click.option("--params-override", help="Further overrides, as task.model.num_classes=5,...")
@click.option("--experiment", default="deepmac_hourglass_coco", help="Base of --config-file.")
def import_checkpoint(source, model_dir, config_files, params_override, experiment):
    """Write a published checkpoint as a model directory, to load, to evaluate, or to train on.

    SOURCE is a folder with pipeline.config and checkpoint/, or the name of a published model, such as
    deepmac_1024x1024_coco17, which is downloaded. All of it must fit the model. With --config-file or
    --params-override the model may differ, in its number of classes or its mask head: what fits is restored.
    """
    from deepmac.inference.find import PUBLISHED_MODELS, published_model
    from deepmac.interop import published

    folder = published_model(source) if source in PUBLISHED_MODELS and not Path(source).exists() else source
    config = published.target_config(folder, experiment, config_files, params_override)
    report = published.import_checkpoint(folder, config, model_dir, bool(config_files or params_override))
    click.echo(published.summary(report))
    click.echo(f"Wrote {model_dir}; {published.REPORT_NAME} there lists every tensor")


@click.command()
@click.option(
    "--model", default="mini", help="mini, deepmac_1024x1024_coco17, or a folder with a checkpoint."
)
@click.option(
    "--format",
    "file_format",
    default="saved_model",
    type=click.Choice(["saved_model", "tflite", "onnx"]),
    help="onnx needs pip install 'deepmac[export]'.",
)
@options.new_folder
@options.input_size
def export(model, file_format, out, input_size):
    """Write a model as graphs for other programs.

    Two graphs serve interactive use: `encoder` is run once for a picture, `mask_head` for every set of boxes.
    TFLite and ONNX have each as a file, a SavedModel as signatures. Its signature `serving_default` is the
    whole model, with the inputs and outputs of the published graph: pictures of any size and boxes. README.md
    and graphs.json beside them say what each takes and gives. All are compared with the model before they are
    kept.
    """
    from deepmac.export import export_model

    difference = export_model(model, out, file_format, input_size)
    click.echo(f"Largest difference from the model: {difference:.1e}")
    click.echo(f"Wrote {out}; {Path(out) / 'README.md'} says how to use it")
