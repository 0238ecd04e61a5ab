"""Settings: environment variables `NGSP_*`, each bounded, none with a secret as its default.

`docs/operations.md` has a table made from this class; every setting says its unit in its name.
"""

from __future__ import annotations

import base64
import binascii
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

Seconds = Annotated[float, Field(gt=0, le=86_400 * 400)]
Count = Annotated[int, Field(ge=1, le=10_000_000)]
Bytes = Annotated[int, Field(ge=1, le=1 << 30)]
SHORTEST_MONTH_DAYS = 28
LARGEST_BODY_BYTES = (2 << 20) - (64 << 10)
"""A topic takes messages of 2 MiB (`ngsp/bus/kafka.py`), headers and encryption included."""


class Settings(BaseSettings):
    """Everything a gateway can be told from outside."""

    model_config = SettingsConfigDict(env_prefix="NGSP_", extra="ignore", frozen=True, hide_input_in_errors=True)

    node: str = Field("VN", pattern=r"^[A-Z0-9.]{2,35}$", description="Code of this installation, kept in every entry")
    instance: str = Field(
        "gateway-1",
        pattern=r"^[a-z0-9][a-z0-9-]{0,40}$",
        description="Name of this gateway, stable over restarts and unique on the node",
    )
    issuer: str = Field(
        "http://127.0.0.1:8080",
        pattern=r"^https?://[^\s/?#]+$",
        description="Public base URL: issuer of tokens and their single audience",
    )

    database_url: SecretStr = Field(description="PostgreSQL, e.g. postgresql://user@/ngsp?host=/run/postgresql")
    database_pool_size: Annotated[int, Field(ge=2, le=100)] = Field(
        8, description="Connections for everything but the log writer, which has one of its own"
    )
    kek_file: Path | None = Field(
        None, description="File with the key-encryption keys, one a line: 32 bytes in base64; the first wraps"
    )
    kek: SecretStr | None = Field(None, description="The same key as a value; the file is the better place")

    migrate: bool = Field(True, description="Bring the schema up to date at start; off where another role does it")
    adapters: str = Field(
        "", max_length=2000, description="Modules of adapters to run inside the process (embedded bus), comma-separated"
    )
    adapter_folder: Path = Field(Path("data/adapters"), description="Folder of the inbox files of those adapters")

    bus: Literal["kafka", "embedded"] = Field("embedded", description="Where messages travel")
    kafka_bootstrap: str = Field("", max_length=1000, description="host:port[,host:port] of the brokers")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_SSL"] = Field(
        "PLAINTEXT", description="SSL and SASL_SSL outside one machine"
    )
    kafka_ca_file: Path | None = Field(None, description="Certificate authority of the brokers")
    kafka_cert_file: Path | None = Field(None, description="Client certificate for mutual TLS to the brokers")
    kafka_key_file: Path | None = Field(None, description="Its key")
    kafka_username: str = Field("", max_length=200, description="SCRAM-SHA-512 user for SASL_SSL")
    kafka_password: SecretStr | None = Field(None, description="Its password")
    kafka_replication: Annotated[int, Field(ge=1, le=9)] = Field(
        1, description="Copies of each topic; 3 where there are three brokers"
    )
    kafka_partitions: Annotated[int, Field(ge=1, le=1000)] = Field(
        4, description="Partitions of a request topic: how many adapter processes may share it"
    )
    kafka_retention_s: Seconds = Field(86_400.0, description="How long topics keep messages; SQL is the truth")

    host: str = Field("127.0.0.1", max_length=255, description="Address to listen on")
    port: Annotated[int, Field(ge=0, le=65_535)] = Field(8080, description="Port to listen on; 0 takes a free one")
    max_connections: Count = Field(2_000, description="Open connections; the surplus gets 503")
    max_header_bytes: Bytes = Field(65_536, description="Request line and headers together")
    header_timeout_s: Seconds = Field(10.0, description="Time for the whole head to arrive")
    body_timeout_s: Seconds = Field(30.0, description="Time for the whole body to arrive")
    keep_alive_s: Seconds = Field(75.0, description="Idle time before a connection is closed")
    max_body_bytes: Annotated[int, Field(ge=1, le=LARGEST_BODY_BYTES)] = Field(
        1_048_576, description="Largest body a service may allow"
    )
    trusted_proxies: str = Field(
        "", max_length=1000, description="Addresses whose X-Forwarded-For is believed, separated by commas"
    )

    max_in_flight: Count = Field(512, description="Exchanges in flight on this gateway; the surplus gets 503")
    max_client_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="Part of max_in_flight that one client may hold while others wait; over it 429"
    )
    max_log_wait_s: Seconds = Field(0.25, description="Age of the log writer's queue at which new work is refused")
    log_timeout_s: Seconds = Field(5.0, description="Wait for a durable entry before 503")
    drain_timeout_s: Seconds = Field(30.0, description="Time for requests in flight to end after SIGTERM")

    registry_poll_s: Annotated[float, Field(gt=0, le=1)] = Field(0.5, description="Poll in case a notice is lost")
    registry_stale_s: Seconds = Field(5.0, description="Age of the snapshot at which calls get 503")

    token_ttl_s: Annotated[int, Field(ge=60, le=3600)] = Field(600, description="Life of an access token")
    signing_key_days: Annotated[int, Field(ge=1, le=400)] = Field(30, description="Age at which a new key signs tokens")

    idempotency_days: Annotated[int, Field(ge=1, le=400)] = Field(30, description="Life of an idempotency key")
    reply_retention_days: Annotated[int, Field(ge=1, le=400)] = Field(30, description="Life of a stored reply")
    log_retention_months: Annotated[int, Field(ge=1, le=1200)] = Field(24, description="Life of the log's partitions")
    lease_s: Seconds = Field(10.0, description="Time after which a silent gateway is taken for dead")
    sweep_s: Seconds = Field(2.0, description="Pause between sweeps")
    relay_poll_s: Seconds = Field(0.1, description="Pause of the relay when the outbox is empty")
    relay_batch: Annotated[int, Field(ge=1, le=5_000)] = Field(200, description="Submissions published at once")
    redeliver_s: Seconds = Field(30.0, description="Wait for an outcome before a submission is published again")
    retry_min_s: Seconds = Field(1.0, description="First pause after a provider asked for a retry")
    retry_max_s: Seconds = Field(300.0, description="Longest such pause")
    project_s: Annotated[float, Field(gt=0, le=2)] = Field(0.5, description="Pause between projections of the log")
    event_window: Count = Field(256, description="Deliveries of one subscription to events that may be open at once")
    event_retention_days: Annotated[int, Field(ge=1, le=400)] = Field(
        30,
        validate_default=True,
        description="Life of a published event: how long a subscriber may be away; within that of the log",
    )
    webhook_allowed_networks: str = Field(
        "", max_length=1000, description="Networks that webhooks may be in though they are not public, e.g. 10.8.0.0/16"
    )
    webhook_ca_file: Path | None = Field(
        None, description="Certificate authorities of webhooks, trusted beside the system's"
    )

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Level of the program's own log"
    )

    @field_validator("database_url")
    @classmethod
    def _is_postgresql(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("must begin with postgresql://")
        return value

    @field_validator("event_retention_days")
    @classmethod
    def _is_within_the_log(cls, value: int, info: ValidationInfo) -> int:
        # The keys of events stand in the log: one that outlived them could be sent to nobody.
        if value > SHORTEST_MONTH_DAYS * info.data.get("log_retention_months", 1200):
            raise ValueError(f"at most {SHORTEST_MONTH_DAYS} for each of NGSP_LOG_RETENTION_MONTHS")
        return value

    @field_validator("webhook_allowed_networks")
    @classmethod
    def _is_networks(cls, value: str) -> str:
        for name in value.split(","):
            if name.strip():
                ip_network(name.strip())
        return value

    def key_encryption_keys(self) -> list[bytes]:
        """The keys of 32 bytes that wrap every record's key, one a line: the first wraps, all unwrap.

        So that a new key is put in front of the old one. ValueError where there is none or one is malformed.
        """
        if self.kek_file is not None:
            text = self.kek_file.read_text("ascii")
        elif self.kek is not None:
            text = self.kek.get_secret_value()
        else:
            raise ValueError("set NGSP_KEK_FILE or NGSP_KEK: 32 random bytes in base64")
        try:
            keys = [base64.b64decode(line, validate=True) for line in text.split()]
        except binascii.Error:
            raise ValueError("a key-encryption key is not base64") from None
        if not keys or any(len(key) != 32 for key in keys):
            raise ValueError("a key-encryption key must be 32 bytes")
        return keys
