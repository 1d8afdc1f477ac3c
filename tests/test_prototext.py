"""The reader of pipeline configs: notations, and what it refuses."""

import pytest

from deepmac.core.errors import InputError
from deepmac.interop.prototext import read_prototext

MODEL = """model { center_net {
  feature_extractor {} image_resizer { keep_aspect_ratio_resizer { pad_to_max_dimension: true } }
  object_detection_task { localization_loss { l1_localization_loss {} } }
  object_center_params { classification_loss { penalty_reduced_logistic_focal_loss { alpha: 2 beta: 4 } } }
  deepmac_mask_estimation { classification_loss { weighted_sigmoid {} } }
} }
"""


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Reads a text, from a file called so."""
    monkeypatch.chdir(tmp_path)

    def run(text):
        (tmp_path / "text").write_text(text)
        return read_prototext("text")

    return run


def test_reads_every_notation_and_notes_what_has_no_effect(read):
    root, _, ignored = read(
        MODEL
        + """
        # a comment
        train_config: <
          batch_size: 0x10;  # and another
          fine_tune_checkpoint: 'it''s' "\\x21"
          optimizer { adam_optimizer { epsilon: 1.5e-3f, learning_rate {
            manual_step_learning_rate { schedule [ { step: 1 }, { step: 2 } ] schedule { step: 3 } } } } }
          data_augmentation_options { random_horizontal_flip {
            keypoint_flip_permutation: [1, 0,
              2]
            keypoint_flip_permutation: 3 keypoint_flip_permutation: [] } }
        >
        train_input_reader { tf_record_input_reader { input_path: "a" input_path: ["b", "c"] }
          shuffle: False }
        """
    )
    train = root.train_config
    assert (train.batch_size, train.fine_tune_checkpoint) == (16, "its!")
    assert train.optimizer.adam_optimizer.epsilon == 1.5e-3
    schedule = train.optimizer.adam_optimizer.learning_rate.manual_step_learning_rate.schedule
    assert [step.step for step in schedule] == [1, 2, 3]
    assert list(root.train_input_reader.tf_record_input_reader.input_path) == ["a", "b", "c"]
    assert root.train_input_reader.shuffle is False
    flip = "train_config.data_augmentation_options[0].random_horizontal_flip"
    assert ignored == [f"{flip}.keypoint_flip_permutation[{index}]" for index in range(4)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train_config {\n  batch_size: 1\n", 'text:2: Expected "}"'),
        ("model {}\n}", "text:2: "),
        ("\n\nmodel ? 2", "text:3: "),
        ("train_config { batch_size 1 }", 'Expected ":"'),
        ("train_config {\n batch_size: ] }", "text:2: "),
        ('train_config { fine_tune_checkpoint: "open', "text:1: "),
        ('train_config { fine_tune_checkpoint: "\\xff" }', "text:1: "),
        ("train_config { batch_size: x }", "Couldn't parse integer: x"),
        ("train_config { batch_size: 1.5 }", "Couldn't parse integer: 1.5"),
        ('train_config { batch_size: "1" }', "Couldn't parse integer"),
        ("train_config { use_bfloat16: 2 }", "text:1: "),
        ("train_config { fine_tune_checkpoint: x }", "text:1: "),
        ("train_input_reader { mask_type: PNG }", "has no value named PNG"),
        ("train_config { batch_size {} }", "text:1: "),
        ("train_config: 1", 'Expected "{"'),
        ("train_config { optimizer {} batch_size: 1\n batch_size: 2 }", 'text:2: .* multiple "batch_size"'),
        (MODEL.replace("feature_extractor {}", ""), "text: model.center_net.feature_extractor is missing"),
        (MODEL.replace("weighted_sigmoid {}", ""), "weighted_sigmoid or weighted_dice.* is missing"),
        (
            MODEL.replace("weighted_sigmoid {}", "weighted_sigmoid {} weighted_sigmoid_focal {}"),
            "text:5: .*another member of oneof",
        ),
        (
            MODEL + "eval_config { recall_lower_bound: 0.5 }",
            "text: eval_config.recall_lower_bound: only 0.0 is",
        ),
        (
            "model {\n center_net {\n num_clases: 1 } }\nx: 1",
            "text:3: .*CenterNet.* no field named .num_clases",
        ),
        ("train_config { x { y: 1 } }", "text:1: .* no field named .x"),
    ],
)
def test_what_cannot_be_read_names_line_or_field(read, text, expected):
    with pytest.raises(InputError, match=f"^text:.*{expected.removeprefix('text:')}"):
        read(text)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_prototext(tmp_path / "missing")
    (tmp_path / "binary").write_bytes(b"\xff\x00")
    with pytest.raises(InputError, match="binary:1: "):
        read_prototext(tmp_path / "binary")
