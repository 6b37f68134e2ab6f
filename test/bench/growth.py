"""S6: what submitting in bulk and reading cost as patients and ledger become more.

At each size, records in bulk into the second server (S1) for patients drawn from all, and the time of one fetch of a
patient with five records (S5).  Between sizes patients are registered and records submitted until the next size is there.
The short form goes to 20 times the first size, the long one to a million ledger entries.
"""

import math
import statistics
import time

from measuring import LONG, ROUNDS, cloud, curve, hospital, line, pgbench, record, register, scaled, submit, wait_until_quiet

FIRST = scaled(10000)					# patients, and ledger entries
SIZES = [(1, 1), (2, 5), (5, 20)] if not LONG else [(1, 1), (2, 5), (5, 25), (10, 50), (20, 100)]		# times FIRST: patients, entries
READ = 50						# patients who have five records each, and are read
PER_ROUND = scaled(10000)
BATCH = 1000
CLIENTS = 2
WITHIN, WITHIN_AIM = 0.15, 0.05


def register_readable(server):
	"""Patients F1 to F<READ>, and their records."""
	server.run(f"""SET ROLE clerk;
		SELECT count(apm_register_patient('F' || i, '{{"Firstname": "A", "Lastname": "B"}}')) FROM generate_series(1, {READ}) AS i;
		SET ROLE doctor;
		INSERT INTO apm.patient_record (pid, record) SELECT 'F' || (1 + i % {READ}), {record()} FROM generate_series(1, {5 * READ}) AS i;""")
	wait_until_quiet(server)


def bulk_rate(server, patients):
	"""Records a second, from two clients' statements to the last record in the second server."""
	batches = max(1, PER_ROUND // (BATCH * CLIENTS))
	server.run("TRUNCATE source;")
	server.run(f"INSERT INTO source SELECT 'P' || (1 + floor(random() * {patients}))::int, {record()}"
			   f" FROM generate_series(1, {BATCH}) AS i;")
	started = time.monotonic()
	pgbench(server, "INSERT INTO apm.patient_record (pid, record) SELECT pid, record FROM source;\n", CLIENTS, "-t", str(batches))
	wait_until_quiet(server)
	return batches * BATCH * CLIENTS / (time.monotonic() - started)


def fetch_ms(server):
	"""Median milliseconds of a fetch, over all that are read."""
	timed = server.run(f"""SET ROLE doctor;
		CREATE TEMP TABLE timed (ms float8);
		DO $$ DECLARE started timestamptz; BEGIN FOR i IN 1..{READ} LOOP
			started := clock_timestamp();
			PERFORM count(*) FROM apm_fetch('F' || i, 'treatment');
			INSERT INTO timed VALUES (1000 * extract(epoch FROM clock_timestamp() - started));
		END LOOP; END $$;
		SELECT ms FROM timed;""")
	return statistics.median(float(row[0]) for row in timed)


def grow(server, patients, entries):
	"""Registers and submits until there are so many of each."""
	there = int(server.value("SELECT count(*) FROM apm.patient"))
	register(server, patients - READ, there - READ + 1)
	missing = entries - int(server.value("SELECT count(*) FROM apm.leaf"))
	if missing > 0:
		submit(server, missing, patients - READ)
	server.run("VACUUM ANALYZE;")


def measure(server, patients, entries):
	grow(server, patients, entries)
	rates = [bulk_rate(server, patients - READ) for _ in range(ROUNDS)]
	fetches = [fetch_ms(server) for _ in range(ROUNDS)]
	return {"entries": int(server.value("SELECT count(*) FROM apm.leaf")), "patients": patients, "rates": rates, "fetches": fetches}


def hundredfold(points):
	"""
	What a cost would be at 100 times the last size: an index grows by levels, so cost is fitted as a straight line over the
	logarithm of the size.
	"""
	slope, start = statistics.linear_regression([math.log(size) for size, _ in points], [cost for _, cost in points])
	return start + slope * math.log(100 * points[-1][0])


def run(root):
	server = hospital(root)
	other = None
	try:
		other = cloud(root, server)
		server.run("CREATE UNLOGGED TABLE source (pid text, record jsonb); GRANT SELECT ON source TO doctor;")
		register_readable(server)
		found = [measure(server, FIRST * patients, FIRST * entries) for patients, entries in SIZES]
	finally:
		server.stop()
		if other:
			other.stop()
	first, last = found[0], found[-1]
	cost = [(each["entries"], 1e6 / statistics.median(each["rates"])) for each in found]
	fetch = [(each["entries"], statistics.median(each["fetches"])) for each in found]
	sizes = f"{last['patients']:,} patients, {last['entries']:,} entries"
	return {
		"what": "what submitting and reading cost as patients and ledger grow",
		"settings": {"first": f"{first['patients']:,} patients, {first['entries']:,} entries", "last": sizes},
		"lines": [
			line("S6", "end to end in bulk, at the last size", "records/s", last["rates"], first["rates"], "the first size",
				 at_least=1 - WITHIN, aim=1 - WITHIN_AIM),
			line("S6", "apm_fetch() of 5 records, at the last size", "ms", last["fetches"], first["fetches"], "the first size",
				 at_most=1 + WITHIN, aim=1 + WITHIN_AIM)],
		"curves": [
			curve("growth-submit", "Cost of a record, submitted in bulk", "ledger entries", "µs/record", {"apm": cost}, logx=True),
			curve("growth-fetch", "apm_fetch() of one patient with 5 records", "ledger entries", "ms, median", {"apm": fetch}, logx=True)],
		"notes": [f"at 100 times the last size, by the curve: {hundredfold(cost):,.0f} µs a record submitted in bulk (now {cost[-1][1]:,.0f}),"
				  f" {hundredfold(fetch):.2f} ms a fetch (now {fetch[-1][1]:.2f})"],
	}
