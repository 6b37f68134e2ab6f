"""S10: the queues under a steady load, while somebody holds a snapshot open.

Every row passes through queue, pool, final queue and outbox and is deleted there, and as long as the snapshot is held no
vacuum may take it away.  A stage that finds its next rows by walking past all that there were gets slower with each of them.
Measured in intervals, the first of which the others are held against: records that reach the cloud, the time of the
statements that claim (pg_stat_statements knows), and the processor time of the server.
"""

import time

import measuring
from load import Session, Site, arrivals, steady

PATIENTS = 500
RATE = 1000						# records a second
INTERVALS = 10 if measuring.LONG else 6
SECONDS = 60 if measuring.LONG else 20
WARM = 5						# seconds before the first interval

CLAIMS = ("SELECT coalesce(sum(total_exec_time), 0), coalesce(sum(calls), 0) FROM pg_stat_statements"
		  " WHERE query ~ 'FROM ONLY apm\\.(queue|pool|final_queue|outbox)\\M.* ORDER BY (\\w\\.)?(id|seq) LIMIT';")


def look(server):
	"""Now, the time in claims so far, their number, and the server's processor time."""
	milliseconds, calls = server.run(CLAIMS)[0]
	return {"at": time.time(), "ms": float(milliseconds), "calls": float(calls),
			"processor": measuring.processor_seconds(server)}


def observe(server):
	"""Looks at the ends of the intervals, the beginning of the first included."""
	start = time.time() + WARM
	seen = []
	for i in range(INTERVALS + 1):
		time.sleep(max(0, start + i * SECONDS - time.time()))
		seen.append(look(server))
	return seen


def grown(seen, what):
	"""By how much from one look to the next."""
	return [after[what] - before[what] for before, after in zip(seen, seen[1:])]


def measure(server):
	"""Of each interval: records stored a second, milliseconds of a claim, microseconds of processor time for a record."""
	holder = Session(server)
	holder.ask("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class;")
	load = steady(server, RATE, WARM + INTERVALS * SECONDS, PATIENTS)
	seen = observe(server)
	load.wait()
	holder.close()
	measuring.wait_until_quiet(server)
	stored = arrivals(server, [each["at"] for each in seen], "stored_at")
	claims = [ms / max(calls, 1) for ms, calls in zip(grown(seen, "ms"), grown(seen, "calls"))]
	processor = [1e6 * used / max(rate * took, 1) for used, rate, took in
				 zip(grown(seen, "processor"), stored, grown(seen, "at"))]
	return stored, claims, processor


def run(root):
	settings = {"shared_preload_libraries": "pg_stat_statements, apm", "pg_stat_statements.track": "all"}
	with Site(root, settings) as site:
		site.hospital.run("CREATE EXTENSION pg_stat_statements;")
		measuring.register(site.hospital, PATIENTS)
		measuring.submit(site.hospital, PATIENTS, PATIENTS)
		stored, claims, processor = measure(site.hospital)
	first = f"the first of {INTERVALS} intervals of {SECONDS} s"
	minutes = [(i + 1) * SECONDS / 60 for i in range(INTERVALS)]
	return {
		"what": f"{RATE:,} records a second, while another session holds a snapshot for {INTERVALS * SECONDS // 60} minutes",
		"settings": {"intervals": INTERVALS, "seconds of each": SECONDS},
		"lines": [
			measuring.line("S10", "records that reach the cloud", "records/s", stored[1:], stored[:1], first, at_least=0.9, aim=0.95),
			measuring.line("S10", "a claim", "ms", claims[1:], claims[:1], first, at_most=1.1, aim=1.05),
			measuring.line("S10", "processor time of the server for a record", "µs", processor[1:], processor[:1], first,
						   less_is_better=True)],
		"curves": [
			measuring.curve("queues", "Records that reach the cloud while a snapshot is held", "minutes", "records/s",
							{"stored": zip(minutes, stored)}),
			measuring.curve("queues-claim", "A claim while a snapshot is held", "minutes", "milliseconds",
							{"a claim": zip(minutes, claims)})],
		"notes": [f"A claim took {claims[0]:.2f} ms in the first interval and {claims[-1]:.2f} ms in the last, the server"
				  f" {processor[0]:.0f} and {processor[-1]:.0f} µs of processor time for a record."],
	}
