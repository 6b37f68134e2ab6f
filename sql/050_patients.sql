-- Attributes and patients: who may declare and register, what is refused, and that no
-- message tells a value.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS apm CASCADE;
RESET client_min_messages;
SELECT count(*) > 0 AS keys FROM apm_keygen();
DO $$ BEGIN IF NOT EXISTS (SELECT FROM apm.chain) THEN PERFORM apm_setup(); END IF; END $$;
CREATE ROLE regress_apm_registrar;
CREATE ROLE regress_apm_admin;
CREATE ROLE regress_apm_doctor;
CREATE ROLE regress_apm_sensor;
CREATE ROLE regress_apm_outsider;
GRANT apm_registrar TO regress_apm_registrar;
GRANT apm_admin TO regress_apm_admin;
GRANT apm_clinician TO regress_apm_doctor;
GRANT apm_sensor TO regress_apm_sensor;

-- what a statement fails with: state, message and hint
CREATE FUNCTION regress_fails(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	hint text;
BEGIN
	EXECUTE statement;
	RETURN 'it does not fail';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(' / ', SQLSTATE, SQLERRM, NULLIF(hint, ''));
END $$;

-- declaring
SELECT * FROM apm.attribute ORDER BY name;
SET ROLE regress_apm_admin;
SELECT apm_declare_attribute('Passport', 'identifying');
SELECT apm_declare_attribute('Age', 'other');
SELECT apm_declare_attribute('Age', 'other');
SELECT regress_fails($$ SELECT apm_declare_attribute('Age', 'secret-class') $$);
SELECT regress_fails($$ SELECT apm_declare_attribute('Firstname', 'other') $$);
SELECT regress_fails($$ SELECT apm_declare_attribute('Firstname', 'identifying') $$);
SELECT regress_fails($$ SELECT apm_declare_attribute('', 'other') $$);
SELECT apm_declare_attribute('Diagnosis', 'other', searchable => true, exportable => true);
SELECT apm_declare_attribute('Smoker', 'other', searchable => true);
SELECT apm_declare_attribute('Smoker', 'other', exportable => true);
SELECT regress_fails($$ SELECT apm_declare_attribute('Passport', 'identifying', searchable => true) $$);
SELECT regress_fails($$ SELECT apm_declare_attribute('Lastname', 'identifying', exportable => true) $$);
RESET ROLE;
SELECT * FROM apm.attribute ORDER BY name;

-- who may
SET ROLE regress_apm_doctor;
SELECT regress_fails($$ SELECT apm_declare_attribute('Age', 'other') $$);
SELECT regress_fails($$ SELECT apm_register_patient('p0', '{"Firstname": "a"}') $$);
SELECT regress_fails($$ SELECT apm_update_patient('p0', '{"Firstname": "a"}') $$);
SET ROLE regress_apm_outsider;
SELECT regress_fails($$ SELECT apm_register_patient('p0', '{"Firstname": "a"}') $$);
RESET ROLE;
SELECT regress_fails($$ SELECT apm_register_patient('p0', '{"Firstname": "a"}') $$) AS superuser_alone;
-- a definer's function lends its owner's rights to nobody
CREATE FUNCTION regress_register() RETURNS void LANGUAGE sql SECURITY DEFINER
	AS $$ SELECT apm_register_patient('p0', '{"Firstname": "a"}') $$;
ALTER FUNCTION regress_register() OWNER TO regress_apm_registrar;
SET ROLE regress_apm_outsider;
SELECT regress_fails($$ SELECT regress_register() $$);
RESET ROLE;

-- registering
SET ROLE regress_apm_registrar;
SELECT apm_register_patient('p1', '{"Firstname": "Amina", "Passport": 123}', '{"Age": 30, "Sex": "Female"}');
SELECT regress_fails($$ SELECT apm_register_patient('p1', '{"Firstname": "Amina"}') $$) AS again;
SELECT regress_fails($$ SELECT apm_register_patient('p2', '{"Firstname": "Secret", "Age": 3}') $$);
SELECT regress_fails($$ SELECT apm_register_patient('p2', '{"Firstname": "Secret"}', '{"Lastname": "Secret"}') $$);
SELECT regress_fails($$ SELECT apm_register_patient('p2', '{}') $$);
SELECT regress_fails($$ SELECT apm_register_patient('p2', '["Secret"]') $$);
SELECT regress_fails($$ SELECT apm_register_patient('p2', '{"Firstname": ["Secret"]}') $$);
SELECT regress_fails($$ SELECT apm_register_patient('p2', '{"Firstname": null}') $$);
SELECT regress_fails($$ SELECT apm_register_patient('p2', '{"Firstname": ""}') $$);
SELECT regress_fails($$ SELECT apm_register_patient('p2', '{"Firstname": "Secret"}', '7') $$);
SELECT regress_fails($$ SELECT apm_register_patient('p2', '{"Firstname": "Secret"}', NULL) $$);
SELECT regress_fails($$ SELECT apm_register_patient('p2', '{"Firstname": "Secret"}', jsonb_build_object('x', repeat('s', 1100000))) $$);
SELECT regress_fails($$ SELECT apm_register_patient('', '{"Firstname": "Secret"}') $$);
SELECT regress_fails($$ SELECT apm_register_patient(NULL, '{"Firstname": "Secret"}') $$);
SELECT regress_fails($$ SELECT apm_register_patient(repeat('p', 1025), '{"Firstname": "Secret"}') $$);
SELECT regress_fails($$ SELECT apm_register_patient(repeat('p', 1000000), '{"Firstname": "Secret"}') $$);

-- bcrypt stops at 72 bytes; these are five patients all the same
SELECT apm_register_patient(repeat('p', n), '{"Firstname": "Same", "Lastname": "Name"}')
	FROM (VALUES (71), (72), (73), (256), (1024)) AS v (n);
-- one pid, whether it comes composed or not
SELECT apm_register_patient(U&'Ren\00e9', U&'{"Firstname": "Ren\00e9"}');
SELECT regress_fails($$ SELECT apm_register_patient(U&'Rene\0301', '{"Firstname": "R"}') $$);

-- a pseudonym is made of nobody's name alone
RESET ROLE;
SELECT count(*) AS patients, count(DISTINCT apid) AS apids, count(DISTINCT identity) AS identities,
	bool_and(apid LIKE '$2b$04$%' AND length(apid) = 60 AND length(identity) = 60) AS hashes
	FROM apm.patient;
SET apm.pseudonym = 'random';
SET ROLE regress_apm_registrar;
SELECT apm_register_patient('p3', '{"Firstname": "Random"}');
RESET ROLE;
RESET apm.pseudonym;
SELECT apid ~ '^r\.[A-Za-z0-9_-]{32}$' AS code, identity IS NULL AS underived FROM apm.patient WHERE apid LIKE 'r.%';

-- changing: a version more each time; null leaves a part as it is
SET ROLE regress_apm_registrar;
SELECT apm_update_patient('p1', attributes => '{"Age": 31}');
SELECT apm_update_patient('p1', '{"Firstname": "Amina", "Lastname": "B"}');
BEGIN;
SELECT apm_update_patient('p1', '{"Firstname": "Aminah", "Lastname": "B"}');
SELECT apm_update_patient('p1', attributes => '{"Age": 32}');
COMMIT;
SELECT regress_fails($$ SELECT apm_update_patient('p2', '{"Firstname": "Secret"}') $$);
SELECT regress_fails($$ SELECT apm_update_patient(NULL) $$);
SELECT regress_fails($$ SELECT apm_update_patient('p1', '{"Age": 3}') $$);
RESET ROLE;
SELECT max(version) FROM apm.profile GROUP BY apid HAVING max(version) > 1;

-- all of it gets onto the chain
SELECT count(*) AS registered FROM apm.patient \gset
DO $$ BEGIN FOR i IN 1 .. 3000 LOOP
	EXIT WHEN NOT EXISTS (SELECT FROM apm.patient AS p WHERE NOT EXISTS (SELECT FROM apm.ledger_patient AS l
		WHERE l.apid = p.apid AND l.version = (SELECT max(version) FROM apm.profile WHERE apid = p.apid)));
	COMMIT;
	PERFORM pg_sleep(0.02);
END LOOP; END $$;
SELECT count(*) = :registered AS all_of_them, max(version) FROM apm.ledger_patient;
SELECT count(*) AS refused FROM apm.final_transaction WHERE kind = 1 AND rule <> 0;

-- a patient without records, and nobody
SET ROLE regress_apm_doctor;
SELECT * FROM apm_fetch('p1');
SELECT regress_fails($$ SELECT * FROM apm_fetch('p2') $$) AS nobody;
SELECT regress_fails($$ SELECT * FROM apm_fetch('p1', 'curiosity') $$);
RESET ROLE;
