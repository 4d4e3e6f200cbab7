"""The table of rungs: what the record of a sweep says of each, in Python and as a file."""

import json
from dataclasses import replace

import pandas as pd
import pytest
from made_up import event

from sweep.search.rung_table import rung_table, write_rungs
from sweep.search.study import Study


@pytest.fixture(params=[False, True], ids=["ends", "promotes"])
def folder(make_plan, tmp_path, request):
    """The record of a study whose values at epoch 1 are the order of the values at the end, turned round."""
    spec = make_plan(methods=["vae"], epochs=9, trials=24, searcher="random").studies[0].spec
    spec = replace(spec, spared=0.3, promotes=request.param)
    study, found = Study(spec, 3), [event("sweep", sweep="s", studies=[spec.to_record()], config={"seed": 3})]
    reached = {}
    while asked := study.ask():
        value = (asked.number * 7) % 11 + asked.number / 100
        about = {"study": spec.study, "number": asked.number, "values": asked.values, "origin": asked.origin}
        found.append(event("start", trial=asked.trial, **about))
        for epoch in (e for e in (1, 3, 9) if e > reached.get(asked.number, 0)):
            shown = 20 - value if epoch < 9 else value
            found.append(event("report", trial=asked.trial, rows=[{"epoch": epoch, "metrics": {spec.metric: shown}}]))
            if not study.report(asked.number, epoch, shown):
                break
        reached[asked.number] = epoch
        state = "complete" if epoch == 9 else study.stopped
        study.end(asked.number, state, epoch)
        found.append(event("end", trial=asked.trial, state=state, epoch=epoch))
    found.append(event("close", study=spec.study))
    (tmp_path / "record.jsonl").write_text("".join(e.model_dump_json() + "\n" for e in found))
    return tmp_path, found


def test_the_table_says_what_became_of_the_trials(folder):
    place, found = folder
    ends = [e for e in found if e.event == "end"]
    last = {e.trial: e for e in ends}.values()
    table = rung_table(place).set_index("epoch")
    for level in (1, 3):
        assert table.came[level] == sum(e.epoch >= level for e in last)
        assert table.paused[level] == sum(e.state == "paused" and e.epoch == level for e in ends)
        assert table.ended[level] == sum(e.state != "complete" and e.epoch == level for e in last)
    again = sum(e.event == "start" for e in found) - len(last)
    assert table.promoted.sum() == again and (again > 0) == any(e.state == "paused" for e in ends)
    assert table.spared.sum() >= 1 and table.correlation[1] < -0.9
    assert (table.low <= table.correlation).all()


def test_without_a_spared_trial_the_correlation_is_unknown(folder):
    record = folder[0] / "record.jsonl"
    first, *rest = record.read_text().splitlines()
    found = json.loads(first)
    del found["studies"][0]["spared"]
    kept = [line for line in rest if "-0000" in line]
    record.write_text("\n".join([json.dumps(found), *kept]) + "\n")
    table = rung_table(folder[0])
    assert (table.spared == 0).all() and table.correlation.isna().all()


def test_the_file_holds_the_table(folder):
    write_rungs(folder[0])
    pd.testing.assert_frame_equal(pd.read_csv(folder[0] / "rungs.csv"), rung_table(folder[0]), check_dtype=False)
