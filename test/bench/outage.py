"""S12: the cloud's server is down while records come in, and comes back.

Three spans of one steady load: the cloud there, the cloud down, and the cloud back until the outbox is empty.  While it is
down, nothing but the outbox may notice: clients' statements and the chain are held against the first span.  When it is back,
what is stored is held against what comes in.
"""

import statistics
import time

import measuring
from load import Site, arrivals, parts, steady

PATIENTS = 500
RATE = 1000						# records a second
WARM = 5						# seconds
CALM = 20
DOWN = 600 if measuring.LONG else 60
PATIENCE = DOWN + 120			# for the outbox to be empty


def waiting(server):
	return int(server.value("SELECT count(*) FROM apm.outbox;"))


def drain(site):
	"""From the cloud's return until the outbox holds no more than comes in within a second: from when to when."""
	site.cloud.start()
	start = time.time()
	while waiting(site.hospital) > RATE:
		if time.time() - start > PATIENCE:
			raise RuntimeError("the outbox does not get empty")
		time.sleep(0.1)
	return start, time.time()


def go_and_come_back(site):
	"""When the calm began, the cloud went, came back, and had everything; how many records had waited; the clients."""
	load = steady(site.hospital, RATE, WARM + CALM + DOWN + PATIENCE, PATIENTS)
	time.sleep(WARM)
	calm = time.time()
	time.sleep(CALM)
	site.cloud.stop()
	down = time.time()
	time.sleep(DOWN)
	waited = waiting(site.hospital)
	back, done = drain(site)
	load.stop()
	measuring.wait_until_quiet(site.hospital)
	return (calm, down, back, done), waited, load


def medians(latencies, edges):
	"""Median milliseconds of what ended from each edge to the next."""
	return [statistics.median(ms for at, ms in latencies if start <= at < end) for start, end in zip(edges, edges[1:])]


def run(root):
	with Site(root) as site:
		measuring.register(site.hospital, PATIENTS)
		measuring.submit(site.hospital, PATIENTS, PATIENTS)
		(calm, down, back, done), waited, load = go_and_come_back(site)
		while_down = parts(down, back, 5)
		whole = parts(calm, done, 60)
		stored = arrivals(site.hospital, [back, done], "stored_at")
		final = arrivals(site.hospital, while_down, "validated_at")
		final_before = arrivals(site.hospital, [calm, down], "validated_at")
		series = {name: zip([(at - calm) / 60 for at in whole[1:]], arrivals(site.hospital, whole, column))
				  for name, column in (("final on the chain", "validated_at"), ("stored in the cloud", "stored_at"))}
	latencies = load.latencies()
	return {
		"what": f"{RATE:,} records a second, while the cloud's server is down for {DOWN} s",
		"settings": {"seconds before": CALM, "seconds down": DOWN},
		"lines": [
			measuring.line("S12", "records stored, from the cloud's return to an empty outbox", "records/s", stored, [RATE], "what comes in",
						   at_least=3.0, aim=10.0),
			measuring.line("S12", "records that become final, cloud down", "records/s", final, final_before, "cloud up",
						   at_least=0.9),
			measuring.line("S12", "a client's statement of ten records, cloud down", "ms", medians(latencies, while_down),
						   medians(latencies, [calm, down]), "cloud up", at_most=1.1)],
		"curves": [measuring.curve("outage", "The cloud goes and comes back", "minutes", "records/s", series)],
		"notes": [f"{waited:,} records waited when the cloud came back; {done - back:.1f} s later none that was older than a second."],
	}
