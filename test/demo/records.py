"""Records that are corrected, found, refused, and those that a table had long before."""

import json
import random

from hospital import AHMED
from servers import quote
from telling import answer, check, say, show, sqlstate, statement, title
from visits import INFLUENZA, PATIENTS

OLD_VISITS = 300
SEARCH = f"""apm_search('{{"Disease": "{INFLUENZA}"}}', 'treatment')"""


def amendment(demo):
	title("A correction")
	say("""It was influenza. Dr Nadia submits a record that takes the place of the first; nothing on the chain or in the cloud is
		overwritten.""")
	record = {"Disease": INFLUENZA, "Description": "Rapid test positive"}
	demo.enter("dr_nadia", f"""
		SELECT apm_submit({quote(AHMED)}, {quote(record)},
		    amends => {quote(demo.rid)});""")
	demo.records += 1
	say("A fetch shows what holds now; with all_versions, what held before as well:")
	fetch = f"SELECT rid, record ->> 'Disease', superseded_by FROM apm_fetch({quote(AHMED)}, 'treatment'"
	now = demo.query("dr_nadia", "records", fetch + ")")
	versions = demo.query("dr_nadia", "records", fetch + ", all_versions => true)")
	show(["asked", "rid", "disease", "superseded by"],
		 [("now", *row) for row in now] + [("all versions", *row) for row in versions])
	check("what holds is the correction", [row[1] for row in now], [INFLUENZA])
	check("all versions are both, and the old one names the new one", versions, [[demo.rid, "Fever", now[0][0]], now[0]])


def found(demo, who):
	"""A line for each patient whom the search finds, and their pids."""
	rows = demo.hospital.run(f"""SELECT pid, record ->> 'Firstname', record ->> 'Lastname', count(*)
		FROM {SEARCH} GROUP BY 1, 2, 3 ORDER BY 1""", role=who)
	return rows, {row[0] for row in rows}


def search(demo):
	title("A search")
	say("""Who had influenza? The cloud stores a blind token of each searchable value, and finds by it what it cannot read. The
		search is a query on the chain, and each patient whom it finds has one of his own. Both doctors ask:""")
	statement("SELECT * FROM " + SEARCH + ";")
	rows, nadia = found(demo, "dr_nadia")
	demo.note("dr_nadia", "match", "")
	_, salma = found(demo, "dr_salma")
	demo.note("dr_salma", "match", "consent")
	demo.note_queries(2 + 2 * len(demo.influenza))
	show(["who asks", "patients found", "Ahmed among them"],
		 [(who, len(pids), "yes" if AHMED in pids else "no") for who, pids in (("dr_nadia", nadia), ("dr_salma", salma))])
	say("""Dr Salma was not told that there was somebody to leave out. The first three of whom Dr Nadia got:""")
	show(["pid", "first name", "last name", "records"], rows[:3])
	check("the search finds everybody who has it, and nobody else", nadia, demo.influenza | {AHMED})
	check("and leaves out whom the asker may not read", salma, demo.influenza)


def data_rule(demo):
	title("A record that cannot be")
	say("The contract can also say what a record must be. The administrator adds a rule:")
	demo.enter("chief", """SELECT apm_add_data_rule('pulse-plausible', 'Pulse', '{"range": [20, 300]}');""")
	say("Dr Nadia means 71 and types 710:")
	before = demo.depth("submission")
	outcome = demo.hospital.attempt(f"""SELECT apm_submit({quote(AHMED)}, '{{"Pulse": 710}}')""", "dr_nadia")
	answer(outcome)
	check("the record violates a data rule, which is named",
		  (sqlstate(outcome), "pulse-plausible" in getattr(outcome, "message", "")), ("AP016", True))
	check("nothing of it was taken", demo.depth("submission"), before)
	say("She types again, and it is taken.")
	demo.enter("dr_nadia", f"""SELECT apm_submit({quote(AHMED)}, '{{"Pulse": 71}}');""")
	demo.records += 1
	check("the corrected record is on the chain", demo.depth("ledger_record"), demo.records)


def fill_old_table(demo):
	"""A table as a hospital has it, the administrator's; one of its rows is of nobody whom we know."""
	rng = random.Random(2019)
	mrns = [AHMED, "UNKNOWN-1"] + [f"VISITOR-{rng.randint(1, PATIENTS):03d}" for _ in range(OLD_VISITS - 2)]
	rows = [(mrn, rng.choice(["Chickenpox", "Tonsillitis", "Fracture of the wrist"]), "seen by the old system",
			 f"{rng.randint(2015, 2019)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}") for mrn in mrns]
	demo.hospital.run("CREATE SCHEMA clinic AUTHORIZATION chief;")
	demo.hospital.run(f"""
		CREATE TABLE clinic.visit (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
			mrn text NOT NULL, "Disease" text, remark text, seen date NOT NULL);
		GRANT USAGE ON SCHEMA clinic TO dr_nadia;
		GRANT SELECT, INSERT ON clinic.visit TO dr_nadia;
		INSERT INTO clinic.visit (mrn, "Disease", remark, seen)
			SELECT r ->> 0, r ->> 1, r ->> 2, (r ->> 3)::date FROM jsonb_array_elements({quote(rows)}::jsonb) AS r;""",
					  role="chief")


def existing_table(demo):
	title("A table that was there before")
	fill_old_table(demo)
	say(f"""The hospital has a table of {OLD_VISITS} visits from years ago. It is attached: from now on its new rows become records
		in the transaction that inserts them. A label keeps a column at home. Then its old rows are backfilled, each once:""")
	demo.enter("chief", """
		SECURITY LABEL FOR apm ON COLUMN clinic.visit.remark IS 'omit';
		SELECT apm_attach('clinic.visit', pid_column => 'mrn', time_column => 'seen');
		CALL apm_backfill('clinic.visit');""")
	demo.records += OLD_VISITS - 1
	rows = demo.hospital.run("SELECT relation, rows_done, rows_refused FROM apm.attachment", role="chief")
	show(["table", "rows looked at", "of them refused"], rows)
	check("all rows but one were submitted", rows, [["clinic.visit", str(OLD_VISITS), "1"]])
	rows = demo.hospital.run("""SELECT r.code, v.id, v.mrn FROM apm.attachment_refused AS r
		JOIN clinic.visit AS v ON apm_attached_rid(v) = r.rid""", role="chief")
	say("One row names somebody who was never registered:")
	show(["SQLSTATE", "id", "mrn"], rows)
	check("the row of an unknown patient is the one that was refused", rows, [["AP009", "2", "UNKNOWN-1"]])

	say("Dr Nadia uses the table as ever. Ahmed's rows in it, beside the records that the cloud holds of them:")
	demo.enter("dr_nadia", f"""
		INSERT INTO clinic.visit (mrn, "Disease", remark, seen)
		    VALUES ('{AHMED}', 'Cough', 'fit again', current_date);""")
	demo.records += 1
	rows = demo.query("dr_nadia", "records", f"""SELECT v.id, f.record, f.flags FROM clinic.visit AS v
		JOIN apm_fetch({quote(AHMED)}, 'treatment') AS f ON f.rid = apm_attached_rid(v) ORDER BY v.id""")
	show(["id", "record", "flags"], rows)
	check("the old row is a late record, the new one is not", [(row[0], row[2]) for row in rows],
		  [("1", "{late}"), (str(OLD_VISITS + 1), "{}")])
	check("what the label omits is in neither", ["remark" in json.loads(row[1]) for row in rows], [False, False])
