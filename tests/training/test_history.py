"""The log of a run, and its picture."""

import cv2

from portrait_anim.training import history
from portrait_anim.training.history import Log, plot, read_log


def test_lines_are_means_and_those_of_later_steps_are_taken_out(tmp_path, monkeypatch):
    path = tmp_path / "log.jsonl"
    log = Log(path, 0)
    for step in (1, 2, 3):
        log.add({"step": step, "l1": float(step)} | ({"look": 4.0} if step == 2 else {}), done=step == 3)
    log.write({"step": 3, "held-out L1": 7.0})
    assert read_log(path) == [{"step": 3, "l1": 2.0, "look": 4.0}, {"step": 3, "held-out L1": 7.0}]
    path.write_text(path.read_text() + '{"step": 9, "l1": 1.0}\n{"step": 1')
    Log(path, 3)
    assert [row["step"] for row in read_log(path)] == [3, 3]
    monkeypatch.setattr(history, "LOGGED", 0.0)
    log.add({"step": 4, "l1": 1.0}, done=False)
    assert read_log(path)[-1] == {"step": 4, "l1": 1.0}


def test_the_picture_has_a_place_for_every_number(tmp_path):
    rows = [{"step": n, "seconds": n, "l1": 1 / (n + 1), "face": 2.0} for n in range(50)]
    plot(rows, tmp_path / "few.png")
    plot(rows + [{"step": 50, **{f"held-out {n}": float(n) for n in range(9)}}], tmp_path / "many.png")
    few, many = (cv2.imread(str(tmp_path / f"{name}.png")) for name in ("few", "many"))
    assert many.shape[0] == 3 * few.shape[0] and few.std() > 1
