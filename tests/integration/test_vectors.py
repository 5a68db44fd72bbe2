"""Every vector gives the answer that the contract's index names, over the real socket of a real station."""

from __future__ import annotations

import json

import pytest
from station_fixture import VECTORS, FixedClock, index, serving

GROUPS = sorted({vector["group"] for vector in index()["vectors"]})


@pytest.mark.parametrize("group", GROUPS)
def test_every_vector_gives_its_answer(tmp_path, group):
    vectors = [vector for vector in index()["vectors"] if vector["group"] == group]
    clock = FixedClock(vectors[0]["now"]) if "now" in vectors[0] else None
    wrong = []
    with serving(tmp_path, clock=clock) as client:
        for vector in vectors:
            if clock is not None:
                clock.wall = vector["now"]
            raw = (VECTORS / vector["file"]).read_bytes()
            status, body = client.call("POST", "/v1/messages", raw, kind="application/jose")
            answer = json.loads(body)
            problem = answer["type"] if status >= 300 else None
            if (status, problem) != (vector["status"], vector["type"]):
                wrong.append((vector["name"], status, problem))
            if vector.get("state"):
                job = client.get(f"/v1/jobs/{vector['job']}")
                reasons = set(job["reasons"])
                if (
                    job["state"] != vector["state"]
                    or not set(vector.get("reasons", [])) <= reasons
                    or set(vector.get("without", [])) & reasons
                    or vector.get("book", job["book"]) != job["book"]
                ):
                    wrong.append((vector["name"], job["state"], job["reasons"]))
    assert wrong == []


def test_a_batch_is_accepted_line_by_line_and_leaves_no_holder_data(tmp_path):
    batch = index()["batch"]
    with serving(tmp_path) as client:
        raw = (VECTORS / batch["file"]).read_bytes()
        status, body = client.call("POST", "/v1/messages", raw, kind="application/jose-seq")
        rows = json.loads(body)
        assert status == 207
        assert [row["status"] for row in rows] == [201] * batch["count"]
        again = json.loads(client.call("POST", "/v1/messages", raw, kind="application/jose-seq")[1])
        assert {row["status"] for row in again} == {200}
    secrets = [secret.encode() for secret in batch["secrets"]]
    for path in (tmp_path / "s").rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not [secret for secret in secrets if secret in data], path.name
