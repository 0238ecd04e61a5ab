"""The registry: members, clients, adapters, services, agreements, and the revision that every change of them moves."""

from alembic import op

revision = "0001_registry"
down_revision = None

TABLES = """
CREATE TABLE registry_revision (
    id smallint NOT NULL CONSTRAINT pk_registry_revision PRIMARY KEY,
    revision bigint NOT NULL,
    CONSTRAINT ck_registry_revision_one_row CHECK (id = 1)
);
INSERT INTO registry_revision (id, revision) VALUES (1, 0);

CREATE TABLE members (
    code text NOT NULL CONSTRAINT pk_members PRIMARY KEY,
    old_code text NOT NULL,
    name_vi text NOT NULL,
    name_en text NOT NULL,
    valid_from date NOT NULL,
    valid_to date,
    zone text NOT NULL,
    row_version integer NOT NULL,
    revision bigint NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX ix_members_revision ON members (revision);

CREATE TABLE clients (
    id text NOT NULL CONSTRAINT pk_clients PRIMARY KEY,
    member text NOT NULL CONSTRAINT fk_clients_member_members REFERENCES members (code),
    name_vi text NOT NULL,
    name_en text NOT NULL,
    scopes text[] NOT NULL,
    active boolean NOT NULL,
    secret_hash text NOT NULL,
    tokens_valid_from timestamptz,
    row_version integer NOT NULL,
    revision bigint NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX ix_clients_member ON clients (member);
CREATE INDEX ix_clients_revision ON clients (revision);

CREATE TABLE client_keys (
    client text NOT NULL CONSTRAINT fk_client_keys_client_clients REFERENCES clients (id),
    kid text NOT NULL,
    alg text NOT NULL,
    jwk jsonb NOT NULL,
    valid_from timestamptz NOT NULL,
    valid_to timestamptz,
    revoked_at timestamptz,
    CONSTRAINT pk_client_keys PRIMARY KEY (client, kid)
);

CREATE TABLE adapters (
    id text NOT NULL CONSTRAINT pk_adapters PRIMARY KEY,
    provider text NOT NULL CONSTRAINT fk_adapters_provider_members REFERENCES members (code),
    registered_by text NOT NULL,
    registered_at timestamptz NOT NULL,
    row_version integer NOT NULL,
    seen_at timestamptz,
    build text NOT NULL,
    seen_schemas jsonb NOT NULL
);
CREATE INDEX ix_adapters_provider ON adapters (provider);

CREATE TABLE services (
    path text NOT NULL CONSTRAINT pk_services PRIMARY KEY,
    provider text NOT NULL CONSTRAINT fk_services_provider_members REFERENCES members (code),
    name text NOT NULL,
    version text NOT NULL,
    adapter text NOT NULL CONSTRAINT fk_services_adapter_adapters REFERENCES adapters (id),
    title_vi text NOT NULL,
    title_en text NOT NULL,
    description_vi text NOT NULL,
    description_en text NOT NULL,
    mode text NOT NULL,
    effect text NOT NULL,
    deadline_s double precision NOT NULL,
    max_body_bytes integer NOT NULL,
    request_schema jsonb NOT NULL,
    request_digest text NOT NULL,
    reply_schema jsonb NOT NULL,
    reply_digest text NOT NULL,
    subjects text[] NOT NULL,
    officer_required boolean NOT NULL,
    examples jsonb NOT NULL,
    state text NOT NULL,
    revision bigint NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT uq_services_provider_name_version UNIQUE (provider, name, version)
);
CREATE INDEX ix_services_adapter ON services (adapter);
CREATE INDEX ix_services_revision ON services (revision);

CREATE TABLE agreements (
    id uuid NOT NULL CONSTRAINT pk_agreements PRIMARY KEY,
    reference text,
    consumer text NOT NULL CONSTRAINT fk_agreements_consumer_members REFERENCES members (code),
    provider text NOT NULL CONSTRAINT fk_agreements_provider_members REFERENCES members (code),
    service text NOT NULL CONSTRAINT fk_agreements_service_services REFERENCES services (path),
    row_version integer NOT NULL,
    revision bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT uq_agreements_consumer_reference UNIQUE (consumer, reference)
);
CREATE INDEX ix_agreements_consumer ON agreements (consumer);
CREATE INDEX ix_agreements_provider ON agreements (provider);
CREATE INDEX ix_agreements_service ON agreements (service);
CREATE INDEX ix_agreements_revision ON agreements (revision);

CREATE TABLE agreement_versions (
    agreement uuid NOT NULL CONSTRAINT fk_agreement_versions_agreement_agreements REFERENCES agreements (id),
    version integer NOT NULL,
    proposed_by text NOT NULL CONSTRAINT fk_agreement_versions_proposed_by_members REFERENCES members (code),
    purposes text[] NOT NULL,
    legal_basis text NOT NULL,
    fields text[] NOT NULL,
    quota_per_minute integer,
    quota_per_day integer,
    valid_from timestamptz NOT NULL,
    valid_to timestamptz,
    consent_required boolean NOT NULL,
    state text NOT NULL,
    ends_at timestamptz,
    CONSTRAINT pk_agreement_versions PRIMARY KEY (agreement, version)
);

CREATE TABLE agreement_events (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT pk_agreement_events PRIMARY KEY,
    agreement uuid NOT NULL,
    version integer NOT NULL,
    event text NOT NULL,
    at timestamptz NOT NULL,
    client text NOT NULL,
    member text NOT NULL,
    reason text NOT NULL,
    legal_basis text NOT NULL,
    CONSTRAINT fk_agreement_events_agreement_version_agreement_versions
        FOREIGN KEY (agreement, version) REFERENCES agreement_versions (agreement, version)
);
CREATE INDEX ix_agreement_events_agreement_id ON agreement_events (agreement, id);
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    for table in (
        "agreement_events",
        "agreement_versions",
        "agreements",
        "services",
        "adapters",
        "client_keys",
        "clients",
        "members",
        "registry_revision",
    ):
        op.execute(f"DROP TABLE {table}")
