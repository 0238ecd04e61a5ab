"""The providers' systems behind the sample adapters, as the demo runs them: small programs and databases.

A program imports nothing of this project but its own folder, what such programs share (`adapters/stand_in`,
`adapters/rest_server`, `adapters/soap_server`) and the synthetic people (`adapters/g01_population/citizens.py`). Each
runs alone as `python -m MODULE --ready-file PATH`; the demo runs them in one process (`python -m adapters.stand_in`),
each on a port and with a secret of its own, and so makes the people once. Databases are filled likewise, by `python -m
adapters.stand_in.databases`, which does nothing where the data are there already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ADAPTERS = {
    "g22-catalogue": "adapters.g22_catalogue.adapter",
    "g12-enterprise": "adapters.g12_enterprise.adapter",
    "g01-population": "adapters.g01_population.adapter",
    "g01-driving-licence": "adapters.g01_driving_licence.adapter",
    "g09-civil-servants": "adapters.g09_civil_servants.adapter",
    "g10-land": "adapters.g10_land.adapter",
    "h41-civil-registry": "adapters.h41_civil_registry.adapter",
    "g24-insurance": "adapters.g24_insurance.adapter",
    "g12-customs": "adapters.g12_customs.adapter",
    "g12-tax": "adapters.g12_tax.adapter",
    "g18-health": "adapters.g18_health.adapter",
    "g15-civil-registry": "adapters.g15_civil_registry.adapter",
    "g22-procedures": "adapters.g22_procedures.adapter",
    "h41-dossiers": "adapters.h41_dossiers.adapter",
}
"""Adapter and its client → what `ngsp adapter run` is given."""

WAITING = {"geospatial": "G10/geospatial-layer/v1"}
"""Adapters that are registered and that nothing runs → their service, disabled until its legal basis is there."""


@dataclass(frozen=True, slots=True)
class Program:
    """A system that listens: `variables` of the adapters → the member of the ready file that they get."""

    name: str
    module: str
    variables: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Database:
    """A system as a database of its own: `variable` of the adapter gets its URL. `filled_by`: a module, or none.

    `user`: the role that the adapter has there, where it is not the owner.
    """

    name: str
    variable: str
    filled_by: str = ""
    user: str = ""


PROGRAMS = (
    Program(
        "enterprise-registry",
        "adapters.g12_enterprise.registry_server",
        {
            "NGSP_G12_REGISTRY_URL": "url",
            "NGSP_G12_REGISTRY_CLIENT_ID": "client_id",
            "NGSP_G12_REGISTRY_SECRET_FILE": "secret_file",
        },
    ),
    Program(
        "population",
        "adapters.g01_population.population_server",
        {
            "NGSP_G01_POPULATION_URL": "url",
            "NGSP_G01_POPULATION_USERNAME": "username",
            "NGSP_G01_POPULATION_PASSWORD_FILE": "password_file",
        },
    ),
    Program(
        "driving-licences",
        "adapters.g01_driving_licence.licence_server",
        {
            "NGSP_G01_LICENCE_URL": "url",
            "NGSP_G01_LICENCE_USERNAME": "username",
            "NGSP_G01_LICENCE_PASSWORD_FILE": "password_file",
        },
    ),
    Program(
        "insurance",
        "adapters.g24_insurance.insurance_server",
        {
            "NGSP_G24_INSURANCE_URL": "url",
            "NGSP_G24_INSURANCE_CLIENT_ID": "client_id",
            "NGSP_G24_INSURANCE_SECRET_FILE": "secret_file",
        },
    ),
    Program("customs", "adapters.g12_customs.customs_office", {"NGSP_G12_CUSTOMS_FOLDER": "folder"}),
    Program(
        "tax",
        "adapters.g12_tax.tax_server",
        {
            "NGSP_G12_TAX_URL": "url",
            "NGSP_G12_TAX_CLIENT_ID": "client_id",
            "NGSP_G12_TAX_SECRET_FILE": "secret_file",
        },
    ),
    Program(
        "health",
        "adapters.g18_health.health_server",
        {
            "NGSP_G18_HEALTH_URL": "url",
            "NGSP_G18_HEALTH_CLIENT_ID": "client_id",
            "NGSP_G18_HEALTH_SECRET_FILE": "secret_file",
        },
    ),
    Program(
        "civil",
        "adapters.g15_civil_registry.civil_server",
        {
            "NGSP_G15_CIVIL_URL": "url",
            "NGSP_G15_CIVIL_CLIENT_ID": "client_id",
            "NGSP_G15_CIVIL_SECRET_FILE": "secret_file",
        },
    ),
    Program(
        "procedure",
        "adapters.g22_procedures.procedure_server",
        {
            "NGSP_G22_PROCEDURES_URL": "url",
            "NGSP_G22_PROCEDURES_CLIENT_ID": "client_id",
            "NGSP_G22_PROCEDURES_SECRET_FILE": "secret_file",
        },
    ),
    Program(
        "dossier",
        "adapters.h41_dossiers.dossier_server",
        {
            "NGSP_H41_DOSSIERS_URL": "url",
            "NGSP_H41_DOSSIERS_CLIENT_ID": "client_id",
            "NGSP_H41_DOSSIERS_SECRET_FILE": "secret_file",
        },
    ),
)
DATABASES = (
    Database("h41_registry", "NGSP_H41_DATABASE_URL"),
    Database("g09_civil_servants", "NGSP_G09_DATABASE_URL", "adapters.g09_civil_servants.register"),
    Database("g10_land", "NGSP_G10_DATABASE_URL", "adapters.g10_land.register", user="tra_cuu_dat_dai"),
)
PROVIDER_DATABASE = "h41_registry"
"""Where the main job looks for the registered birth."""
