import torch

from d2lite.evaluation.result_files import save_results
from tests.full_disk import no_room


def test_results_that_cannot_be_written_do_not_end_the_evaluation(tmp_path, caplog):
    path = tmp_path / "inference" / "results.json"
    save_results(str(path), "[1]")
    with no_room(100):
        save_results(str(path), "[" + "1," * 500 + "1]")
        save_results(str(tmp_path / "x.pth"), lambda file: torch.save(torch.zeros(99), file))
    assert path.read_text() == "[1]" and not (tmp_path / "x.pth").exists()
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 2
    assert "results.json cannot be written" in caplog.text and "continues" in caplog.text
