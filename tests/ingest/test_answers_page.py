"""docs/answers.md names every reason for which a request is refused, with its status, and no other."""

import re
from pathlib import Path

from ingest.counters import Counters, Refusal
from ingest.http_response import STATUS_OF
from ingest.metrics import families
from schemas.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "answers.md").read_text()


def test_every_refusal_has_its_row():
    rows = re.findall(r"^\| (\d*) ?\| `(\w+)` \| .", PAGE, re.MULTILINE)
    told = {reason: status for status, reason in rows}
    assert len(told) == len(rows)
    assert told == {reason.value: str(STATUS_OF.get(reason, "")) for reason in Refusal}


def test_settings_and_metrics_that_it_names_are_there():
    settings = set(re.findall(r"`([a-z_]+_max|[a-z_]+_s)`", PAGE))
    assert len(settings) > 5
    assert settings <= Settings.model_fields.keys()
    counted = {f"{family.name}_total" for family in families(Counters().as_dict())}
    assert set(re.findall(r"`(hitstream_\w+)`", PAGE)) <= counted
