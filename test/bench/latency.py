"""S4: how long a record takes from its client to the cloud, when it is alone.

A client submits a record now and then, so that each finds the workers asleep and has a block to itself.  It has
arrived when the cloud's server has answered that it is committed there: apm.final_transaction keeps that as stored_at. Both
servers and the client have one clock.
"""

import random
import statistics
import time

import measuring
from load import Session, Site, distribution, proof_of_work_ms

PATIENTS = 50
SAMPLES = measuring.scaled(100)	# of a round
PAUSE = (0.05, 0.15)			# seconds from one record to the next, by chance
BOUND_MS = 10.0


def submit_one(session, number):
	"""Submits a record: its Rid, and when that began."""
	note = "x" * (measuring.RECORD_BYTES - 20)
	started = time.time()
	rid = session.ask(f"SELECT apm_submit('P{1 + number % PATIENTS}', '{{\"n\": {number}, \"Note\": \"{note}\"}}');")
	return rid, started


def one_round(server, session):
	"""Milliseconds that each of SAMPLES records took."""
	started = {}
	for number in range(SAMPLES):
		rid, began = submit_one(session, number)
		started[rid] = began
		time.sleep(random.uniform(*PAUSE))
	measuring.wait_until_quiet(server)
	rows = server.run("SELECT s.rid, extract(epoch FROM f.stored_at) FROM apm.submission AS s"
					  " JOIN apm.final_transaction AS f ON f.tid = s.tid WHERE s.rid = ANY ('{" + ",".join(started) + "}');")
	if len(rows) != SAMPLES:
		raise RuntimeError("a record did not arrive")
	return [(float(stored) - started[rid]) * 1000 for rid, stored in rows]


def run(root):
	with Site(root) as site:
		measuring.register(site.hospital, PATIENTS)
		session = Session(site.hospital, "doctor")
		one_round(site.hospital, session)		# connections, plans, caches
		rounds, mining = measuring.alternate(lambda: one_round(site.hospital, session), proof_of_work_ms)
		session.close()
	return {
		"what": "one record of 600 bytes from the client to the cloud's server, nothing else going on",
		"settings": {"records a round": SAMPLES, "ms between them": f"{1000 * PAUSE[0]:.0f} to {1000 * PAUSE[1]:.0f}"},
		"lines": [measuring.line(
			"S4", "submit to cloud, p50", "ms", [statistics.median(each) for each in rounds],
			[BOUND_MS + ms for ms in mining], f"{BOUND_MS:.0f} ms and the expected time of the proof of work", at_most=1.0,
			aim=0.5)],
		"curves": [measuring.curve("latency", "From the client to the cloud, one record at a time", "milliseconds",
								   "share of records",
								   {"submit to cloud": distribution([ms for each in rounds for ms in each])})],
		"notes": [f"The proof of work alone takes {statistics.median(mining):.1f} ms on average, and is a matter of luck."],
	}
