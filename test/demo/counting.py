"""The books are balanced: every station is counted, and the ledger verified."""

from telling import check, show, title
from visits import PATIENTS


def counts(demo):
	title("Every station, counted")
	demo.wait_until_quiet()
	records = demo.records
	wanted = [
		("patients in the hospital", "SELECT count(*) FROM apm.patient", PATIENTS),
		("patients on the chain", "SELECT count(*) FROM apm.ledger_patient", PATIENTS + 1),
		("of them, forgotten", "SELECT count(erased_height) FROM apm.ledger_patient", 1),
		("records acknowledged", "SELECT count(*) FROM apm.submission", records + 1),
		("records waiting in the queue", "SELECT count(*) FROM apm.queue", 0),
		("transactions in the pool", "SELECT count(*) FROM apm.pool", 0),
		("valid records on the chain", "SELECT count(*) FROM apm.ledger_record", records - demo.erased),
		("final transactions of records", "SELECT count(*) FROM apm.final_transaction WHERE kind = 2 AND rule = 0", records),
		("of them, stored in the cloud", "SELECT count(stored_at) FROM apm.final_transaction WHERE kind = 2 AND rule = 0", records),
		("records in the outbox", "SELECT count(*) FROM apm.outbox", 0),
		("transactions refused, with their rule", "SELECT count(*) FROM apm.refused", demo.refusals),
		("queries on the chain", "SELECT count(*) FROM apm.leaf WHERE kind = 3", demo.queries),
		("rows in quarantine", "SELECT count(*) FROM apm.quarantine", 0)]
	rows = []
	for what, text, must in wanted:
		found = int(demo.hospital.value(text))
		rows.append((what, found, must))
		check(what, found, must)
	found = int(demo.cloud.value("SELECT count(*) FROM health_record"))
	rows.append(("rows in the cloud", found, records - demo.erased))
	check("rows in the cloud", found, records - demo.erased)
	show(["station", "is", "must be"], rows)
	check("the cloud holds what the ledger says", demo.hospital.value("SELECT ok FROM apm_verify_cloud()"), "t")
	check("the ledger verifies", demo.hospital.value("SELECT ok FROM apm_verify()"), "t")
