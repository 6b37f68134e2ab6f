"""S5: reading a patient's five records back from the cloud's server, with the trace of it in the ledger.

One reader for the latency, fifty at once for the rate.  Beside them fifty who take the sealed rows through the
same foreign table and nothing else: no trace, no contract, no block, nothing checked or opened.
"""

import statistics

import measuring
from load import Clients, Site, distribution, proof_of_work_ms

PATIENTS = measuring.scaled(500)
RECORDS = 5						# of each patient
READERS = 50
ALONE_SECONDS = 5				# of a round
TOGETHER_SECONDS = 8
BOUND_MS = 5.0
BOUND_RATE = 1500

FETCH = f"""\\set patient random(1, {PATIENTS})
SELECT count(*) FROM apm_fetch('P' || :patient, 'treatment');
"""
PLAIN = f"""\\set patient random(1, {PATIENTS})
SELECT apid FROM bench_apid WHERE number = :patient \\gset
SELECT count(c.apr) FROM cloud_record AS c WHERE c.apid = :apid;
"""


def fill(site):
	"""Patients with RECORDS each, all in the cloud, and what a plain reader finds them by."""
	measuring.register(site.hospital, PATIENTS)
	measuring.submit(site.hospital, PATIENTS * RECORDS, PATIENTS)
	# the doctor of the other benchmarks registers patients, and a registrar reads nothing
	site.hospital.run("CREATE ROLE reader LOGIN IN ROLE apm_clinician;"
					  " CREATE TABLE bench_apid (number integer PRIMARY KEY, apid text COLLATE \"C\");"
					  " INSERT INTO bench_apid SELECT row_number() OVER (), apid FROM apm.ledger_patient;"
					  " CREATE USER MAPPING FOR postgres SERVER cloud OPTIONS (user 'hospital', password_required 'false');"
					  " VACUUM ANALYZE;")
	site.cloud.run("VACUUM ANALYZE;")
	if site.hospital.value("SELECT count(*) FROM apm_fetch('P1', 'treatment');", "reader") != str(RECORDS):
		raise RuntimeError("a patient does not have the records that he should have")


def alone(server):
	"""Milliseconds of each fetch of one reader."""
	reader = Clients(server, FETCH, 1, "-T", str(ALONE_SECONDS), role="reader")
	reader.wait()
	return [ms for _, ms in reader.latencies()]


def together(server, script, role):
	"""Reads a second of all readers."""
	return Clients(server, script, READERS, "-T", str(TOGETHER_SECONDS), role=role).wait()


def run(root):
	with Site(root) as site:
		fill(site)
		together(site.hospital, FETCH, "reader")		# plans, caches
		rounds, mining = measuring.alternate(lambda: alone(site.hospital), proof_of_work_ms)
		rates, plain = measuring.alternate(lambda: together(site.hospital, FETCH, "reader"),
										   lambda: together(site.hospital, PLAIN, "postgres"))
	return {
		"what": f"apm_fetch() of one of {PATIENTS} patients with {RECORDS} records, from the cloud's server",
		"settings": {"readers": READERS, "seconds a round": TOGETHER_SECONDS},
		"lines": [
			measuring.line("S5", "fetch, one reader, p50", "ms", [statistics.median(each) for each in rounds],
						   [BOUND_MS + ms for ms in mining],
						   f"{BOUND_MS:.0f} ms and the expected time of the proof of work", at_most=1.0, aim=0.6),
			measuring.line("S5", f"{READERS} readers at once", "fetches/s", rates, [BOUND_RATE], "the bound", at_least=1.0,
						   aim=2.0),
			measuring.line("S5", f"{READERS} readers at once", "fetches/s", rates, plain,
						   "plain reads of the same rows through the foreign table")],
		"curves": [measuring.curve("fetch", "A fetch of five records, one reader", "milliseconds", "share of fetches",
								   {"apm_fetch()": distribution([ms for each in rounds for ms in each])})],
		"notes": [f"The proof of work alone takes {statistics.median(mining):.1f} ms on average, and is a matter of luck."],
	}
