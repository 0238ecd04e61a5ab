"""Statistics: what the rows of `transactions` add up to, counted in the very transaction that writes them.

By triggers, so that whoever projects counts, also a gateway of the release before this one that still runs beside it:
each row that comes adds one, each row that changes takes one away where it stood and adds one where it stands now.
"""

from __future__ import annotations

from alembic import op

revision = "0004_statistics"
down_revision = "0003_transactions"

# A call refused before acceptance may name any service there could be: only those that there are get a row of theirs.
COUNT = """
INSERT INTO statistics AS s (span, begins_at, consumer, provider, service, version, adapter, mode, state,
                             failure_class, code, bucket, count, last_success_at)
SELECT span, date_bin(length, t.accepted_at, '2000-01-01T00:00:00+07'), t.consumer,
       CASE WHEN known THEN t.provider ELSE '' END, CASE WHEN known THEN t.service ELSE '' END,
       CASE WHEN known THEN t.version ELSE '' END, t.adapter, t.mode, t.state, coalesce(t.failure_class, ''),
       coalesce(t.code, ''),
       CASE WHEN t.agreement_version > 0 AND t.duration_us IS NOT NULL
            THEN floor(ln(greatest(t.duration_us, 1)::double precision) * 8 / ln(2::double precision)) ELSE -1 END,
       sum(t.n), max(t.ended_at) FILTER (
           WHERE t.n > 0 AND (t.state = 'succeeded' OR t.state = 'resolved' AND t.failure_class IS NULL))
FROM ({changes}) t
CROSS JOIN LATERAL (SELECT t.agreement_version > 0 OR EXISTS (
    SELECT 1 FROM services k WHERE k.path = t.provider || '/' || t.service || '/' || t.version) AS known) named
CROSS JOIN (VALUES ('hour', interval '1 hour'), ('day', interval '1 day')) spans (span, length)
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 HAVING sum(t.n) <> 0
ON CONFLICT ON CONSTRAINT pk_statistics DO UPDATE SET
    count = s.count + excluded.count, last_success_at = greatest(s.last_success_at, excluded.last_success_at)"""
COUNT_DOSSIERS = """
INSERT INTO statistics_dossiers AS d (begins_at, consumer, provider, service, version, seen)
SELECT date_bin('1 day', t.accepted_at, '2000-01-01T00:00:00+07'), t.consumer, t.provider, t.service, t.version,
       ngsp_seen(array_agg(DISTINCT hashtextextended(t.dossier, 0)))
FROM {rows} t WHERE t.dossier IS NOT NULL AND t.agreement_version > 0 GROUP BY 1, 2, 3, 4, 5
ON CONFLICT ON CONSTRAINT pk_statistics_dossiers DO UPDATE SET seen = d.seen | excluded.seen"""
ADDED = "SELECT a.*, 1 AS n FROM {rows} a"
CHANGED = "SELECT a.*, 1 AS n FROM added a UNION ALL SELECT r.*, -1 AS n FROM removed r"

STATEMENTS = (
    """CREATE TABLE statistics (
        span text NOT NULL, begins_at timestamptz NOT NULL, consumer text NOT NULL, provider text NOT NULL,
        service text NOT NULL, version text NOT NULL, adapter text NOT NULL, mode text NOT NULL, state text NOT NULL,
        failure_class text NOT NULL, code text NOT NULL, bucket smallint NOT NULL, count bigint NOT NULL,
        last_success_at timestamptz, CONSTRAINT pk_statistics PRIMARY KEY (span, begins_at, consumer, provider,
            service, version, adapter, mode, state, failure_class, code, bucket))""",
    """CREATE TABLE statistics_dossiers (
        begins_at timestamptz NOT NULL, consumer text NOT NULL, provider text NOT NULL, service text NOT NULL,
        version text NOT NULL, seen bit(32768) NOT NULL, CONSTRAINT pk_statistics_dossiers PRIMARY KEY (
            begins_at, consumer, provider, service, version))""",
    # Of each hash the lowest ten bits choose one of 1,024 columns, the zeros that follow choose one of 32 rows.
    """CREATE FUNCTION ngsp_seen(hashes bigint[]) RETURNS bit(32768) LANGUAGE plpgsql IMMUTABLE AS $$
        DECLARE
            seen bit(32768) := repeat('0', 32768)::bit(32768);
            hash bigint;
            rest bigint;
        BEGIN
            FOREACH hash IN ARRAY hashes LOOP
                rest := (hash >> 10) & 4294967295 | 2147483648;
                seen := set_bit(seen, (round(ln((rest & -rest)::double precision) / ln(2::double precision)) * 1024)
                                ::integer + (hash & 1023)::integer, 1);
            END LOOP;
            RETURN seen;
        END $$""",
    f"""CREATE FUNCTION ngsp_count_added() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            {COUNT.format(changes=ADDED.format(rows="added"))};
            {COUNT_DOSSIERS.format(rows="added")};
            RETURN NULL;
        END $$""",
    f"""CREATE FUNCTION ngsp_count_changed() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            {COUNT.format(changes=CHANGED)};
            RETURN NULL;
        END $$""",
    # Until this migration is committed nobody projects, and then everybody counts: nothing twice, nothing passed over.
    "LOCK TABLE transactions IN SHARE ROW EXCLUSIVE MODE",
    COUNT.format(changes=ADDED.format(rows="transactions")),
    COUNT_DOSSIERS.format(rows="transactions"),
    """CREATE TRIGGER transactions_counted AFTER INSERT ON transactions REFERENCING NEW TABLE AS added
        FOR EACH STATEMENT EXECUTE FUNCTION ngsp_count_added()""",
    """CREATE TRIGGER transactions_recounted AFTER UPDATE ON transactions
        REFERENCING OLD TABLE AS removed NEW TABLE AS added
        FOR EACH STATEMENT EXECUTE FUNCTION ngsp_count_changed()""",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TRIGGER transactions_counted ON transactions")
    op.execute("DROP TRIGGER transactions_recounted ON transactions")
    op.execute("DROP FUNCTION ngsp_count_added()")
    op.execute("DROP FUNCTION ngsp_count_changed()")
    op.execute("DROP FUNCTION ngsp_seen(bigint[])")
    op.execute("DROP TABLE statistics_dossiers, statistics")
