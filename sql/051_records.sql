-- Submitting records: apm_submit() and the view, repetition, amendments, sensors.
-- Goes on where 050_patients ended.
-- what everything on its way needs to arrive
CREATE PROCEDURE regress_settle() LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. 3000 LOOP
		COMMIT;
		IF NOT EXISTS (SELECT FROM apm.waiting WHERE reason = 'new')
			AND NOT EXISTS (SELECT FROM apm.queue WHERE not_before IS NULL OR not_before < now() + interval '1 hour')
			AND NOT EXISTS (SELECT FROM apm.pool) AND NOT EXISTS (SELECT FROM apm.final_queue) THEN
			RETURN;
		END IF;
		PERFORM pg_sleep(0.02);
	END LOOP;
	RAISE 'records did not arrive';
END $$;

SET ROLE regress_apm_registrar;
SELECT apm_register_patient('r1', '{"Firstname": "Ahmed", "Lastname": "Ali"}', '{"Age": 22, "Sex": "Male"}');

-- who may
SELECT regress_fails($$ SELECT apm_submit('r1', '{"a": 1}') $$) AS registrar;
SELECT regress_fails($$ INSERT INTO apm.patient_record VALUES ('r1', '{"a": 1}') $$) AS registrar;
SET ROLE regress_apm_outsider;
SELECT regress_fails($$ SELECT apm_submit('r1', '{"a": 1}') $$) AS outsider;
SELECT regress_fails($$ INSERT INTO apm.patient_record VALUES ('r1', '{"a": 1}') $$) AS outsider;
RESET ROLE;
SELECT regress_fails($$ SELECT apm_submit('r1', '{"a": 1}') $$) AS superuser_alone;

-- what is no record
SET ROLE regress_apm_doctor;
SELECT regress_fails($$ SELECT apm_submit('r1', NULL) $$);
SELECT regress_fails($$ SELECT apm_submit(NULL, '{"a": 1}') $$);
SELECT regress_fails($$ SELECT apm_submit('', '{"a": 1}') $$);
SELECT regress_fails($$ SELECT apm_submit('r1', 'null') $$);
SELECT regress_fails($$ SELECT apm_submit('r1', '{}') $$);
SELECT regress_fails($$ SELECT apm_submit(repeat('p', 1000000), '{"a": 1}') $$);
SELECT regress_fails($$ SELECT apm_submit('r1', to_jsonb(repeat('x', 70000000))) $$);
SELECT regress_fails($$ INSERT INTO apm.patient_record (pid) VALUES ('r1') $$);
SELECT regress_fails($$ INSERT INTO apm.patient_record (record) VALUES ('{"a": 1}') $$);
SELECT regress_fails($$ SELECT apm_submit('r1', '{"a": 1, "Firstname": {"x": "Secret"}}') $$);
SELECT regress_fails($$ SELECT apm_submit('r1', '{"a": 1, "Firstname": "Secret"}') $$) AS another_name;
SELECT regress_fails($$ SELECT apm_submit('r1', '{"a": 1, "Passport": "Secret"}') $$) AS a_name_more;
SELECT regress_fails($$ SELECT apm_submit('nobody', '{"a": 1}') $$) AS unknown;

-- the view: every way in, and only in
INSERT INTO apm.patient_record (pid, record) VALUES ('r1', '{"n": 1}'), ('r1', '{"n": 2, "Lastname": "Ali"}');
INSERT INTO apm.patient_record (pid, record, rid) VALUES ('r1', '{"n": 3}', '01890000-0000-7000-8000-000000000003')
	RETURNING pid, record, rid;
COPY apm.patient_record (pid, record) FROM stdin;
r1	{"n": 4}
r1	{"n": 5}
\.
INSERT INTO apm.patient_record (pid, record) SELECT 'r1', jsonb_build_object('many', g) FROM generate_series(1, 2500) AS g;
SELECT * FROM apm.patient_record;
SELECT regress_fails($$ UPDATE apm.patient_record SET pid = 'r2' $$);
RESET ROLE;
SELECT regress_fails($$ UPDATE apm.patient_record SET pid = 'r2' $$);
SELECT regress_fails($$ DELETE FROM apm.patient_record $$);
SELECT regress_fails($$ TRUNCATE apm.patient_record $$);
-- its trigger functions serve nobody else
CREATE TABLE regress_stranger (pid text, record jsonb, rid uuid);
CREATE TRIGGER t BEFORE INSERT ON regress_stranger FOR EACH ROW EXECUTE FUNCTION apm.record_insert();
SELECT regress_fails($$ INSERT INTO regress_stranger VALUES ('r1', '{"a": 1}') $$);
CREATE VIEW regress_view AS SELECT * FROM regress_stranger;
CREATE TRIGGER t INSTEAD OF INSERT ON regress_view FOR EACH ROW EXECUTE FUNCTION apm.record_insert();
SELECT regress_fails($$ INSERT INTO regress_view VALUES ('r1', '{"a": 1}') $$);
SELECT regress_fails($$ SELECT apm.record_insert() $$);
DROP VIEW regress_view;
DROP TABLE regress_stranger;

-- forgotten with its subtransaction, and only with it
SELECT count(*) AS submitted FROM apm.submission \gset
SET ROLE regress_apm_doctor;
CREATE FUNCTION pg_temp.nested(good boolean) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO apm.patient_record VALUES ('r1', '{"nested": true}');
	IF NOT good THEN
		RAISE 'undo';
	END IF;
	RETURN true;
EXCEPTION WHEN raise_exception THEN
	RETURN false;
END $$;
INSERT INTO apm.patient_record (pid, record)
	SELECT 'r1', jsonb_build_object('nests', pg_temp.nested(g % 2 = 0)) FROM generate_series(1, 10) AS g;
BEGIN;
SAVEPOINT a;
INSERT INTO apm.patient_record VALUES ('r1', '{"undone": 1}');
ROLLBACK TO a;
INSERT INTO apm.patient_record VALUES ('r1', '{"done": 1}');
RELEASE a;
COMMIT;
BEGIN;
INSERT INTO apm.patient_record VALUES ('r1', '{"undone": 2}');
ROLLBACK;
RESET ROLE;
SELECT count(*) - :submitted AS ten_and_five_and_one FROM apm.submission;

-- the same Rid again
SET ROLE regress_apm_doctor;
SELECT apm_submit('r1', '{"a": 1, "b": 2}', '01890000-0000-7000-8000-000000000010');
SELECT apm_submit('r1', '{"b": 2, "a": 1}', '01890000-0000-7000-8000-000000000010') AS same;
INSERT INTO apm.patient_record VALUES ('r1', '{"b": 2, "a": 1}', '01890000-0000-7000-8000-000000000010') RETURNING rid;
SELECT regress_fails($$ SELECT apm_submit('r1', '{"a": 1, "b": 3}', '01890000-0000-7000-8000-000000000010') $$) AS other_record;
SELECT regress_fails($$ SELECT apm_submit('p1', '{"a": 1, "b": 2}', '01890000-0000-7000-8000-000000000010') $$) AS other_patient;
SELECT regress_fails($$ SELECT apm_submit('r1', '{"a": 1, "b": 2}', '01890000-0000-7000-8000-000000000010',
	'01890000-0000-7000-8000-000000000003') $$) AS other_amends;
INSERT INTO apm.patient_record VALUES ('r1', '{"twice": 1}', '01890000-0000-7000-8000-000000000011'),
	('r1', '{"twice": 1}', '01890000-0000-7000-8000-000000000011');
SELECT regress_fails($$ INSERT INTO apm.patient_record VALUES ('r1', '{"twice": 1}', '01890000-0000-7000-8000-000000000012'),
	('r1', '{"twice": 2}', '01890000-0000-7000-8000-000000000012') $$) AS within_a_statement;
RESET ROLE;
SELECT count(*), count(tid) FROM apm.submission WHERE rid::text LIKE '01890000-0000-7000-8000-00000000001_';

-- amending
SET ROLE regress_apm_doctor;
SELECT apm_submit('r1', '{"n": "3, amended"}', '01890000-0000-7000-8000-000000000020', '01890000-0000-7000-8000-000000000003');
SELECT regress_fails($$ SELECT apm_submit('r1', '{"a": 1}', amends => '01890000-0000-7000-8000-0000000000ff') $$);
RESET ROLE;
CALL regress_settle();
SET ROLE regress_apm_doctor;
SELECT record FROM apm_fetch('r1') WHERE record ? 'n' ORDER BY record ->> 'n';
-- amended once is enough: accepted, and the contract refuses it
SELECT apm_submit('r1', '{"n": "3, amended again"}', '01890000-0000-7000-8000-000000000021', '01890000-0000-7000-8000-000000000003');
RESET ROLE;
CALL regress_settle();
SELECT f.rule FROM apm.final_transaction AS f JOIN apm.submission AS s USING (tid)
	WHERE s.rid = '01890000-0000-7000-8000-000000000021';

-- a record that registers its patient
SET ROLE regress_apm_doctor;
SELECT apm_submit('r2', '{"Firstname": "Bilal", "Lastname": "B", "Age": 40, "Finding": "Fever"}') IS NOT NULL AS registered;
SELECT apm_submit('r2', '{"Finding": "none"}') IS NOT NULL AS known;
INSERT INTO apm.patient_record (pid, record) SELECT 'bulk' || g % 20, jsonb_build_object('Firstname', 'F' || g % 20, 'g', g)
	FROM generate_series(1, 60) AS g;
RESET ROLE;
CALL regress_settle();
SET ROLE regress_apm_doctor;
SELECT record FROM apm_fetch('r2');
SELECT record FROM apm_fetch('bulk7');
RESET ROLE;

-- a sensor: the same answer whatever it names
SET ROLE regress_apm_sensor;
SELECT apm_submit('r1', '{"pulse": 61}', '01890000-0000-7000-8000-000000000031') AS known;
SELECT apm_submit('s1', '{"pulse": 62}', '01890000-0000-7000-8000-000000000032') AS unknown;
SELECT apm_submit('s1', '{"pulse": 63, "Firstname": "Right"}', '01890000-0000-7000-8000-000000000033') AS unknown_named;
SELECT apm_submit('s1', '{"pulse": 64, "Firstname": "Wrong"}', '01890000-0000-7000-8000-000000000034') AS unknown_misnamed;
SELECT apm_submit('r1', '{"pulse": 65, "Firstname": "Wrong"}', '01890000-0000-7000-8000-000000000035') AS known_misnamed;
INSERT INTO apm.patient_record VALUES ('s1', '{"pulse": 66}'), ('s2', '{"pulse": 67}'), ('r1', '{"pulse": 68}');
SELECT apm_submit('s1', '{"pulse": 62}', '01890000-0000-7000-8000-000000000032') AS again;
SELECT regress_fails($$ SELECT apm_submit('s1', '{"pulse": 0}', '01890000-0000-7000-8000-000000000032') $$) AS waiting_and_other;
SELECT regress_fails($$ SELECT apm_submit('r1', '{"pulse": 0}', '01890000-0000-7000-8000-000000000031') $$) AS sent_and_other;
SELECT regress_fails($$ SELECT apm_submit('s1', '{"Firstname": []}') $$) = regress_fails($$ SELECT apm_submit('r1', '{"Firstname": []}') $$) AS alike;
SELECT regress_fails($$ SELECT * FROM apm_fetch('r1') $$);
RESET ROLE;
CALL regress_settle();
SELECT reason, count(*) FROM apm.waiting GROUP BY reason ORDER BY reason;
SELECT count(*) AS waits FROM apm.submission WHERE tid IS NULL;
-- what waits for the registration goes with it, what is another's name goes on waiting
SET ROLE regress_apm_registrar;
SELECT apm_register_patient('s1', '{"Firstname": "Right"}');
RESET ROLE;
CALL regress_settle();
SELECT reason, count(*) FROM apm.waiting GROUP BY reason ORDER BY reason;
SET ROLE regress_apm_registrar;
SELECT apm_update_patient('r1', '{"Firstname": "Wrong", "Lastname": "Ali"}');
RESET ROLE;
CALL regress_settle();
SELECT reason, count(*) FROM apm.waiting GROUP BY reason ORDER BY reason;
SET ROLE regress_apm_doctor;
SELECT record ->> 'pulse' AS pulse, record ->> 'Firstname' AS name FROM apm_fetch('s1') ORDER BY 1;
SELECT record ->> 'pulse' AS pulse, record ->> 'Firstname' AS name FROM apm_fetch('r1') WHERE record ? 'pulse' ORDER BY 1;
RESET ROLE;

-- nothing was lost, doubled or put aside
SELECT count(*) FILTER (WHERE f.rule = 0) = count(*) - 1 AS all_but_one, count(DISTINCT l.rid) = count(*) - 1 AS recorded
	FROM apm.submission AS s JOIN apm.final_transaction AS f USING (tid) LEFT JOIN apm.ledger_record AS l ON l.rid = s.rid;
SELECT count(*) AS quarantined FROM apm.quarantine;

DROP FUNCTION regress_register(), regress_fails(text), pg_temp.nested(boolean);
DROP PROCEDURE regress_settle();
DROP ROLE regress_apm_registrar, regress_apm_admin, regress_apm_doctor, regress_apm_sensor, regress_apm_outsider;
