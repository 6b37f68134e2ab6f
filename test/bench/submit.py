"""S2: acknowledged submissions, one row a commit, beside a plain INSERT and a hash chain in plpgsql.

The workers take the records on while clients submit; what they have not finished when the clients stop is waited for
outside the measurement, so that no yardstick shares the machine with it.
"""

import time

import plain
from measuring import alternate, hospital, line, pgbench, record, register, scaled, wait_until_quiet

PATIENTS = scaled(1000)
SECONDS = max(1, scaled(4))
MANY = 8


def single_rows(server, clients, stored):
	"""Acknowledged rows a second; appends to stored the rate at which they reached the cloud."""
	started = time.monotonic()
	rate = pgbench(server, f"\\set i random(1, 1000000000)\n\\set p random(1, {PATIENTS})\n"
				   f"INSERT INTO apm.patient_record (pid, record) SELECT 'P' || :p::int, {record(':i::int')};\n", clients, "-T", str(SECONDS))
	wait_until_quiet(server)
	stored.append(rate * SECONDS / (time.monotonic() - started))
	return rate


def run(root):
	server = hospital(root)
	try:
		plain.prepare(server)
		register(server, PATIENTS)
		stored = {1: [], MANY: []}
		one, one_plain, many, many_plain, many_chained = alternate(
			lambda: single_rows(server, 1, stored[1]),
			lambda: plain.single(server, 1, SECONDS),
			lambda: single_rows(server, MANY, stored[MANY]),
			lambda: plain.single(server, MANY, SECONDS),
			lambda: plain.hash_chain(server, MANY, SECONDS))
	finally:
		server.stop()
	return {
		"what": "submissions of one row a commit",
		"settings": {"patients": PATIENTS, "seconds": SECONDS},
		"lines": [
			line("S2", "acknowledged, 1 client", "rows/s", one, one_plain, "plain INSERT", at_least=0.6, aim=0.85),
			line("S2", f"acknowledged, {MANY} clients", "rows/s", many, many_plain, "plain INSERT", at_least=0.6, aim=0.85),
			line("S2", f"acknowledged, {MANY} clients", "rows/s", many, many_chained, "hash chain in plpgsql", at_least=2, aim=3.5),
			line("S2", "until the last is in the cloud, 1 client", "rows/s", stored[1]),
			line("S2", f"until the last is in the cloud, {MANY} clients", "rows/s", stored[MANY])],
	}
