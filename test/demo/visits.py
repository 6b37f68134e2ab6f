"""A hospital's year: many patients, many visits."""

import json
import random
import time

from servers import quote
from telling import say, show, title

PATIENTS = 200
VISITS = 1000
INFLUENZA = "Influenza"
DECLARE = """
	SELECT apm_declare_attribute('Disease', 'other', searchable => true, exportable => true);
	SELECT apm_declare_attribute(name, 'other', exportable => true)
		FROM unnest(ARRAY['Age', 'Department', 'Gender']) AS a (name);"""

FIRST = {"Female": "Amina Leila Nour Meriem Rania Dalia Ines Kenza Nadia Samira".split(),
		 "Male": "Karim Yacine Salim Tarek Hakim Farid Jamal Malik Omar Walid".split()}
LAST = ("Benali Haddad Cherif Mansouri Saidi Bouzid Hamdi Khelifi Larbi Meziane Rahmani Slimani Taleb Ziani Amrani"
		" Belkacem Djebbar Ferhat Guerfi Ouali").split()
# disease, department, description, what was given, temperature from and to
CASES = [
	(INFLUENZA, "Internal medicine", "Fever, dry cough and aching limbs since two days", ["Paracetamol 1 g", "Rest"], 38.2, 39.6),
	("Hypertension", "Cardiology", "Control of blood pressure, values at home too high in the morning", ["Amlodipine 5 mg"], 36.3, 37.0),
	("Type 2 diabetes", "Internal medicine", "Quarterly control, HbA1c 7.4 %", ["Metformin 850 mg"], 36.2, 37.1),
	("Asthma", "Pneumology", "Shortness of breath at night, wheezing on both sides", ["Salbutamol", "Budesonide"], 36.4, 37.2),
	("Sprained ankle", "Surgery", "Twisted on the stairs, swelling outside, no fracture in the X-ray", ["Ibuprofen 400 mg", "Bandage"], 36.2, 37.0),
	("Otitis media", "Otolaryngology", "Pain in the left ear since the night, drum reddened", ["Amoxicillin 1 g"], 37.4, 38.8),
	("Migraine", "Neurology", "One-sided headache with nausea, third attack this month", ["Sumatriptan 50 mg"], 36.2, 37.0),
	("Gastroenteritis", "Internal medicine", "Vomiting and diarrhoea since yesterday, no blood", ["Oral rehydration"], 37.2, 38.6),
	("Conjunctivitis", "Ophthalmology", "Both eyes red and sticky in the morning", ["Ofloxacin drops"], 36.3, 37.1),
	("Low back pain", "Orthopaedics", "Since lifting a crate, no numbness, reflexes equal", ["Naproxen 500 mg", "Exercises"], 36.2, 37.0)]


def person(rng, number):
	gender = rng.choice(sorted(FIRST))
	return {"pid": f"VISITOR-{number:03d}",
			"identifying": {"Firstname": rng.choice(FIRST[gender]), "Lastname": rng.choice(LAST)},
			"attributes": {"Age": rng.randint(1, 92), "Gender": gender}}


def visit(rng, pid):
	disease, department, description, given, low, high = rng.choice(CASES)
	record = {"Disease": disease, "Department": department, "Description": description, "Prescription": given,
			  "Visit": f"2021-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}",
			  "Vitals": {"Temperature": round(rng.uniform(low, high), 1), "Pulse": rng.randint(56, 110),
						 "Pressure": f"{rng.randint(105, 165)}/{rng.randint(62, 98)}"}}
	return pid, json.dumps(record, ensure_ascii=False)


def thousand_visits(demo):
	title(f"{VISITS} visits of {PATIENTS} further patients")
	rng = random.Random(2021)
	patients = [person(rng, n) for n in range(1, PATIENTS + 1)]
	demo.setting("apm.salting_rounds", 4)
	say(f"""For these {PATIENTS} invented patients SR is lowered from 12 to 4. At 12 their registration alone would take
		more than half a minute; a hospital pays that once a patient, over years. The administrator has said which
		attributes can be searched for, and which may leave in datasets:""")
	demo.hospital.run(DECLARE, role="chief")
	show(["attribute", "searchable", "exportable"],
		 demo.hospital.run("SELECT name, searchable, exportable FROM apm.attribute WHERE exportable ORDER BY 1"))
	start = time.monotonic()
	demo.hospital.run(f"""SELECT count(apm_register_patient(p->>'pid', p->'identifying', p->'attributes'))
		FROM jsonb_array_elements({quote(patients)}::jsonb) AS p;""", role="registrar")
	registered = time.monotonic()
	visits = [visit(rng, p["pid"]) for p in rng.choices(patients, k=VISITS)]
	lines = ["\t".join(v).replace("\\", "\\\\") for v in visits]
	demo.hospital.run("COPY apm.patient_record (pid, record) FROM STDIN;\n" + "\n".join(lines) + "\n\\.\n",
					  role="dr_salma")
	submitted = time.monotonic()
	demo.wait_until_quiet()
	stored = time.monotonic()
	demo.records += VISITS
	demo.influenza = {pid for pid, record in visits if json.loads(record)["Disease"] == INFLUENZA}
	demo.setting("apm.salting_rounds", 12)
	show(["what", "seconds"], [
		(f"{PATIENTS} patients registered", f"{registered - start:.1f}"),
		(f"{VISITS} records acknowledged, in one COPY", f"{submitted - registered:.1f}"),
		("until all of them were mined and in the cloud", f"{stored - submitted:.1f}")])
	say("The blocks that hold them, the largest first:")
	show(["height", "records", "registrations", "hash"], demo.hospital.run("""
		SELECT b.height, count(*) FILTER (WHERE l.kind = 2), count(*) FILTER (WHERE l.kind = 1), encode(b.hash, 'hex')
		FROM apm.block AS b JOIN apm.leaf AS l ON l.block = b.hash
		WHERE b.height > 0 GROUP BY b.hash, b.height ORDER BY count(*) DESC, b.height LIMIT 5"""))
	say("""And what the cloud's operator can say of a patient, whom he knows as a pseudonym only: how many records there are,
		and their lengths in steps of 256 bytes.""")
	show(["apid", "records", "bytes"], demo.cloud.run("""
		SELECT apid, count(*), string_agg(DISTINCT octet_length(apr)::text, ', ')
		FROM health_record GROUP BY apid ORDER BY count(*) DESC, apid LIMIT 3"""))
