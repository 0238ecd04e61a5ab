"""Old clients may try too: a client of the sandbox gets examples in the old shape, without an agreement."""

from __future__ import annotations

from tests.compatible.conftest import LOOK_UP, STRANGE
from tests.compatible.old_clients import NationalClient
from tests.support.gateway import Rig

EXAMPLE = {"request": {"id": "900000000001", "do": "it"}, "reply": {"did": "it", "people": [{"name": "An"}]}}


async def test_an_old_client_in_the_sandbox(rig: Rig) -> None:
    manifest = {"id": "h41-tests", "provider": "H41", "services": rig.provider.services}
    manifest["services"] = [
        declared | ({"examples": [EXAMPLE]} if declared["service"] in ("look-up", "nobody") else {})
        for declared in rig.provider.services
    ]
    operator = await rig.headers("operator")
    assert (await rig.http.put("/v1/adapters/h41-tests", json=manifest, headers=operator)).status_code == 200
    name = {"vi": "thử", "en": "trial"}
    client = {"member": "G22", "name": name, "scopes": ["exchange"], "sandbox": True}
    made = await rig.http.put("/v1/clients/old-trial", json=client, headers=operator)
    assert made.status_code == 201, made.text
    trial = NationalClient(rig.http, "old-trial", made.json()["secret"])
    answer = await trial.get(LOOK_UP, so="900000000001")
    assert (answer.status_code, answer.headers["Ngsp-Sandbox"]) == (200, "true")
    assert answer.json()["MainInformation"]["TEN"] == "An"
    accepted, ended = await rig.entries(answer.headers["Ngsp-Transaction"])
    assert (accepted["call"]["sandbox"], accepted["call"]["route"], ended["kind"]) == ("1", "look-up", "succeeded")
    refused = await trial.get(STRANGE)
    assert (refused.status_code, refused.headers["Ngsp-Sandbox"]) == (404, "true"), "no example of that shape"
    assert rig.provider.seen == []
