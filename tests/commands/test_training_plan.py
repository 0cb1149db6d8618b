"""Settings that the flags of `d2lite train` change."""

from d2lite import commands
from tests.commands.tiny import write_config


def test_epochs_follow_the_images_and_the_batch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = write_config(tmp_path)
    # shapes_train has 2000 images: 2000 * 0.004 / 4 = 2 iterations.
    commands.main(["train", "--config", config, "--epochs", "0.004", "--batch", "4"])
    text = (tmp_path / "runs/train-1/config.yaml").read_text()
    assert "MAX_ITER: 2\n" in text
    assert "IMS_PER_BATCH: 4\n" in text
    assert "BASE_LR: 0.004\n" in text  # twice the batch, twice the rate
