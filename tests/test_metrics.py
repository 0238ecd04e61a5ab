"""Metrics count right and label by nothing personal."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

import ngsp
from ngsp.errors import ERRORS, RegistryStale
from ngsp.metrics import GAUGES, STAGES, Metrics

LABELS = ("service", "outcome", "code", "stage", "le", "topic", "adapter", "version", "python")
STAGES_US = {"admit": 250, "log_accept": 2_000, "bus": 3_500, "reply": 90, "log_outcome": 4_000_000_000}


def samples(metrics: Metrics) -> dict[str, dict[tuple[str, ...], float]]:
    """name → values of its labels → figure."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        assert family.documentation
        for sample in family.samples:
            labels = tuple(sample.labels[name] for name in LABELS if name in sample.labels)
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


def test_exchanges_are_counted_by_service_outcome_and_code() -> None:
    metrics = Metrics()
    for _ in range(3):
        metrics.exchange("G01/a/v1", "succeeded", "", STAGES_US)
    metrics.exchange("G01/a/v1", "unknown", "no-answer", {"admit": 1})
    found = samples(metrics)
    assert found["ngsp_exchanges_total"] == {("G01/a/v1", "succeeded", ""): 3, ("G01/a/v1", "unknown", "no-answer"): 1}
    counts = found["ngsp_exchange_seconds_count"]
    assert counts == {("admit",): 4, **{(stage,): 3 for stage in STAGES[1:5]}, ("total",): 4}
    assert found["ngsp_exchange_seconds_sum"][("bus",)] == pytest.approx(3 * 0.0035)
    buckets = found["ngsp_exchange_seconds_bucket"]
    assert [buckets["log_accept", bound] for bound in ("0.0015", "0.002", "30.0", "+Inf")] == [0, 3, 3, 3]
    assert [buckets["log_outcome", bound] for bound in ("30.0", "+Inf")] == [0, 3]
    assert [buckets["admit", bound] for bound in ("0.0001", "0.0002", "0.0003")] == [1, 1, 4]


def test_labels_come_from_the_registry_and_the_error_tree_alone() -> None:
    metrics = Metrics(is_service=lambda path: path == "G01/a/v1")
    for n in range(100):
        metrics.exchange(f"client-text-{n}", "succeeded", "", {})
        metrics.exchange("G01/a/v1", f"outcome-{n}", f"PROVIDER-{n}", {})
        metrics.refused(f"code-{n}")
    metrics.refused("quota-exhausted")
    found = samples(metrics)
    assert found["ngsp_exchanges_total"] == {("other", "succeeded", ""): 100, ("G01/a/v1", "other", "other"): 100}
    assert found["ngsp_refusals_total"] == {("other",): 100, ("quota-exhausted",): 1}
    assert "quota-exhausted" in ERRORS


def test_a_stale_registry_fails_no_call_that_is_counted() -> None:
    stale = True

    def is_service(path: str) -> bool:
        if stale:
            raise RegistryStale(retry_after_s=1)
        return True

    metrics = Metrics(is_service)
    metrics.exchange("G01/a/v1", "succeeded", "", STAGES_US)
    stale = False
    metrics.exchange("G01/a/v1", "succeeded", "", STAGES_US)
    assert samples(metrics)["ngsp_exchanges_total"] == {
        ("other", "succeeded", ""): 1,
        ("G01/a/v1", "succeeded", ""): 1,
    }


async def test_gauges_are_read_when_asked_and_one_that_fails_hides_no_other() -> None:
    metrics = Metrics()
    working = False

    async def outbox() -> float:
        if not working:
            raise OSError
        return 7

    async def lag() -> dict[str, float]:
        return {"ngsp.outcomes": 2, "ngsp.request.G01.a.v1": 0}

    metrics.gauge("ngsp_in_flight", lambda: 5)
    metrics.gauge("ngsp_bus_up", lambda: 1 / 0)
    metrics.slow_gauge("ngsp_outbox_open", outbox)
    metrics.slow_gauge("ngsp_consumer_lag", lag)
    with capture_logs() as lines:
        for _ in range(2):
            assert await metrics.refresh() == 0
            found = samples(metrics)
            assert found["ngsp_in_flight"] == {(): 5}
            assert found["ngsp_consumer_lag"] == {("ngsp.outcomes",): 2, ("ngsp.request.G01.a.v1",): 0}
            assert "ngsp_bus_up" not in found
            assert "ngsp_outbox_open" not in found
    assert sorted(line["what"] for line in lines) == ["ngsp_bus_up", "ngsp_outbox_open"], "once each"
    working = True
    await metrics.refresh()
    assert samples(metrics)["ngsp_outbox_open"] == {(): 7}
    working = False
    await metrics.refresh()
    assert "ngsp_outbox_open" not in samples(metrics)


def test_only_gauges_that_are_known_and_once() -> None:
    metrics = Metrics()
    with pytest.raises(ValueError, match="ngsp_of_citizen"):
        metrics.gauge("ngsp_of_citizen", lambda: 1)
    metrics.gauge("ngsp_in_flight", lambda: 1)
    with pytest.raises(ValueError, match="ngsp_in_flight"):
        metrics.gauge("ngsp_in_flight", lambda: 1)


def test_names_say_what_they_count_and_the_program_says_what_it_is() -> None:
    found = samples(Metrics())
    (versions,) = found["ngsp_build_info"]
    assert ngsp.__version__ in versions
    assert found["process_resident_memory_bytes"][()] > 0
    for name in GAUGES:
        assert name.startswith("ngsp_")
        assert not name.endswith(("_ms", "_us", "_total"))
