"""What others do with the same bytes: CHAIN, single-row INSERT and a hash chain in plpgsql, in a database of their own.

CHAIN is plain SQL that moves a record through five tables with a primary key each (submission in and out, transaction,
ledger, final, cloud): 1,000 records a batch, four commits, time-ordered ids, two clients.  Its records stand in an
unlogged table, made before anybody looks at the clock.
"""

from measuring import RECORD_BYTES, pgbench, record

DATABASE = "plain"
BATCH = 1000
CLIENTS = 2

CHAIN_STEPS = """
SELECT nextval('batch') * {batch} AS first \\gset
INSERT INTO submission SELECT id + :first, data FROM source;
WITH moved AS (DELETE FROM submission WHERE id BETWEEN :first AND :first + {batch} - 1 RETURNING id, data)
	INSERT INTO transaction SELECT id, data FROM moved;
INSERT INTO ledger SELECT id, data FROM transaction WHERE id BETWEEN :first AND :first + {batch} - 1;
BEGIN;
INSERT INTO final SELECT id, data FROM ledger WHERE id BETWEEN :first AND :first + {batch} - 1;
INSERT INTO cloud SELECT id, data FROM final WHERE id BETWEEN :first AND :first + {batch} - 1;
COMMIT;
"""

HASH_CHAIN = """
CREATE TABLE chained (id bigint PRIMARY KEY, data jsonb NOT NULL, hash bytea NOT NULL);
CREATE FUNCTION chain_row() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	before chained;
BEGIN
	PERFORM pg_advisory_xact_lock(1);
	SELECT * INTO before FROM chained ORDER BY id DESC LIMIT 1;
	NEW.id := coalesce(before.id, 0) + 1;
	NEW.hash := sha256(coalesce(before.hash, '') || convert_to(NEW.data::text, 'UTF8'));
	RETURN NEW;
END $$;
CREATE TRIGGER chain_row BEFORE INSERT ON chained FOR EACH ROW EXECUTE FUNCTION chain_row();
"""


def prepare(server):
	"""The tables of all three, beside the hospital's database."""
	server.run(f"CREATE DATABASE {DATABASE};", database="postgres")
	tables = "".join(f"CREATE TABLE {name} (id bigint PRIMARY KEY, data bytea NOT NULL);"
					 for name in ("submission", "transaction", "ledger", "final", "cloud"))
	server.run(f"""{tables}
		CREATE SEQUENCE batch;
		CREATE UNLOGGED TABLE source (id bigint, data bytea);
		INSERT INTO source SELECT i, decode(repeat(md5(i::text), {RECORD_BYTES * 2 // 32 + 1}), 'hex')
			FROM generate_series(0, {BATCH - 1}) AS i;
		UPDATE source SET data = substr(data, 1, {RECORD_BYTES});
		VACUUM FULL source; ANALYZE source;
		CREATE TABLE single (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, data jsonb NOT NULL);
		{HASH_CHAIN}
		GRANT ALL ON ALL TABLES IN SCHEMA public TO doctor;
		GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO doctor;""", database=DATABASE)


def chain(server, records):
	"""Moves at least so many records through CHAIN; records a second."""
	batches = -(-records // (BATCH * CLIENTS))
	return BATCH * pgbench(server, CHAIN_STEPS.format(batch=BATCH), CLIENTS, "-t", str(batches), database=DATABASE)


def single(server, clients, seconds):
	"""Rows of one INSERT and one commit each, a second."""
	return pgbench(server, f"\\set i random(1, 1000000000)\nINSERT INTO single (data) SELECT {record(':i::int')};\n",
				   clients, "-T", str(seconds), database=DATABASE)


def hash_chain(server, clients, seconds):
	"""Rows of one INSERT and one commit each into a table whose trigger chains them by hash, a second."""
	return pgbench(server, f"\\set i random(1, 1000000000)\nINSERT INTO chained (data) SELECT {record(':i::int')};\n",
				   clients, "-T", str(seconds), database=DATABASE)
