"""What the adapters' tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.adapters.stand_in import StandIn


@pytest.fixture(scope="session")
async def registry(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[StandIn]:
    """One stand-in registry for the run; each test sets the fault it wants."""
    secret = tmp_path_factory.mktemp("registry") / "secret"
    async with StandIn("adapters.g12_enterprise.registry_server", "--secret-file", str(secret)) as process:
        yield process


@pytest.fixture(scope="session")
async def population_system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[StandIn]:
    """One stand-in population database for the run."""
    password = tmp_path_factory.mktemp("population") / "password"
    async with StandIn("adapters.g01_population.population_server", "--password-file", str(password)) as process:
        yield process


@pytest.fixture(scope="session")
async def insurance_system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[StandIn]:
    """One stand-in health-insurance system for the run."""
    secret = tmp_path_factory.mktemp("insurance") / "secret"
    async with StandIn("adapters.g24_insurance.insurance_server", "--secret-file", str(secret)) as process:
        yield process


@pytest.fixture(scope="session")
async def licence_system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[StandIn]:
    """One stand-in driving-licence database for the run."""
    password = tmp_path_factory.mktemp("licences") / "password"
    async with StandIn("adapters.g01_driving_licence.licence_server", "--password-file", str(password)) as process:
        yield process


@pytest.fixture(scope="session")
async def tax_system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[StandIn]:
    """One stand-in for the run: Adapter of tax obligations."""
    secret = tmp_path_factory.mktemp("g12-tax") / "secret"
    async with StandIn("adapters.g12_tax.tax_server", "--secret-file", str(secret)) as process:
        yield process


@pytest.fixture(scope="session")
async def health_system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[StandIn]:
    """One stand-in for the run: the health ministry's system of signed papers."""
    secret = tmp_path_factory.mktemp("g18-health") / "secret"
    async with StandIn("adapters.g18_health.health_server", "--secret-file", str(secret)) as process:
        yield process


@pytest.fixture(scope="session")
async def civil_system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[StandIn]:
    """One stand-in for the run: the national civil registry."""
    secret = tmp_path_factory.mktemp("g15-civil-registry") / "secret"
    async with StandIn("adapters.g15_civil_registry.civil_server", "--secret-file", str(secret)) as process:
        yield process


@pytest.fixture(scope="session")
async def procedure_system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[StandIn]:
    """One stand-in for the run: the database of administrative procedures."""
    secret = tmp_path_factory.mktemp("g22-procedures") / "secret"
    async with StandIn("adapters.g22_procedures.procedure_server", "--secret-file", str(secret)) as process:
        yield process


@pytest.fixture(scope="session")
async def dossier_system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[StandIn]:
    """One stand-in for the run: the one-stop system of Nghệ An."""
    secret = tmp_path_factory.mktemp("h41-dossiers") / "secret"
    async with StandIn("adapters.h41_dossiers.dossier_server", "--secret-file", str(secret)) as process:
        yield process
