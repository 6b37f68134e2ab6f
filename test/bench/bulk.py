"""S1: records in bulk, from INSERT ... SELECT to the second server, beside CHAIN.

Two clients submit a statement of 1,000 rows after the other, as CHAIN's two clients move batches of 1,000.  The clock runs
until the last record is in the second server.
"""

import time

import plain
from measuring import RECORDS, alternate, cloud, curve, hospital, line, pgbench, processor_seconds, record, register, scaled, wait_until_quiet

PATIENTS = scaled(1000)
SUBMITTED = 2 * RECORDS		# a round: the wait for the last ones must not outweigh
BATCH = 1000
CLIENTS = 2
STEP = 0.1				# seconds, of the curve


def submit_in_bulk(server, records):
	"""Two clients' statements, and the wait for the last record: records a second."""
	batches = max(1, records // (BATCH * CLIENTS))
	started = time.monotonic()
	pgbench(server, "INSERT INTO apm.patient_record (pid, record) SELECT pid, record FROM source;\n", CLIENTS, "-t", str(batches))
	wait_until_quiet(server)
	return batches * BATCH * CLIENTS / (time.monotonic() - started)


def source(server):
	"""The records of one statement, made before anybody looks at the clock."""
	server.run(f"""CREATE UNLOGGED TABLE source AS SELECT 'P' || (1 + i % {PATIENTS}) AS pid, {record()} AS record
		FROM generate_series(1, {BATCH}) AS i; GRANT SELECT ON source TO doctor;""")


def over_time(server):
	"""Records that arrived in the second server, a second, over the last round."""
	rows = server.run(f"""WITH last AS (SELECT tid, submitted_at FROM apm.submission ORDER BY submitted_at DESC LIMIT {SUBMITTED}),
			since AS (SELECT min(submitted_at) AS first FROM last)
		SELECT floor(extract(epoch FROM f.stored_at - since.first) / {STEP}), count(*) / {STEP}
		FROM since, last JOIN apm.final_transaction AS f USING (tid) GROUP BY 1 ORDER BY 1;""")
	return [(round(float(at) * STEP, 3), float(rate)) for at, rate in rows]


def run(root):
	server = hospital(root)
	other = None
	try:
		other = cloud(root, server)
		plain.prepare(server)
		register(server, PATIENTS)
		source(server)
		spent = processor_seconds(server, other)
		submit_in_bulk(server, SUBMITTED)
		spent = processor_seconds(server, other) - spent
		ours, theirs = alternate(lambda: submit_in_bulk(server, SUBMITTED), lambda: plain.chain(server, SUBMITTED))
		points = over_time(server)
	finally:
		server.stop()
		if other:
			other.stop()
	return {
		"what": "records in bulk, from INSERT ... SELECT to the second server",
		"settings": {"records": SUBMITTED, "patients": PATIENTS, "clients": CLIENTS, "rows a statement": BATCH},
		"lines": [
			line("S1", "end to end in bulk", "records/s", ours, theirs, "CHAIN", at_least=0.2, aim=0.45),
			line("S1", "end to end in bulk", "records/s", ours, [5000], "5,000 records/s", at_least=1),
			line("S1", "processor time", "µs/record", [spent / SUBMITTED * 1e6])],
		"curves": [curve("throughput", "Records arriving in the second server, submitted in bulk", "seconds since the first was submitted",
						 "records/s", {"apm": points})],
	}
