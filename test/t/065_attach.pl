# A table that is there already: each row that is inserted becomes one record, in the same
# transaction, whatever way it is inserted and whatever becomes of the table.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use ApmTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = apm_node('hospital', settings => { max_prepared_transactions => 5 });
my $arrived = q(SELECT NOT EXISTS (SELECT FROM apm.queue) AND NOT EXISTS (SELECT FROM apm.pool)
	AND NOT EXISTS (SELECT FROM apm.final_queue) AND NOT EXISTS (SELECT FROM apm.waiting WHERE reason = 'new'));

sub sql { return query($node, 'clinic', @_) }
sub dba { return sql($_[0], 'dba') }
sub app { return sql($_[0], 'app') }

# who the tests run as: servers have no other superuser
my $superuser = sql('SELECT current_user');

sub refused { my ($sql, $state, $pattern, $name, $role) = @_; return fails_with($node, 'clinic', $sql, $state, $pattern, $name, $role // 'dba') }
sub submitted { return sql('SELECT count(*) FROM apm.submission') }

# So many records come of what is done.
sub submits
{
	my ($expected, $name, $sql, $role) = @_;
	my $before = submitted();

	sql($sql, $role // 'app');
	return is(submitted() - $before, $expected, $name);
}

sql(q(
	CREATE ROLE dba; GRANT apm_admin TO dba;
	CREATE ROLE owner;
	CREATE ROLE app; GRANT apm_clinician TO app;
	CREATE ROLE gateway; GRANT apm_sensor TO gateway;
	CREATE ROLE stranger;
	CREATE SCHEMA clinic AUTHORIZATION dba;
	GRANT ALL ON SCHEMA clinic TO app, gateway, stranger, owner;
	ALTER DEFAULT PRIVILEGES FOR ROLE dba IN SCHEMA clinic GRANT ALL ON TABLES TO app, gateway, stranger));
dba(q(
	CREATE TABLE clinic.visit (gone integer, id bigint PRIMARY KEY, mrn varchar(20), "Firstname" text, diagnosis text,
		details jsonb, seen timestamptz, remark text);
	ALTER TABLE clinic.visit DROP COLUMN gone;
	SECURITY LABEL FOR apm ON COLUMN clinic.visit."Firstname" IS 'identifying';
	SECURITY LABEL FOR apm ON COLUMN clinic.visit.diagnosis IS 'searchable,  exportable';
	SECURITY LABEL FOR apm ON COLUMN clinic.visit.remark IS 'omit';
	SELECT apm_attach('clinic.visit', 'mrn', 'seen')));

# --- what becomes of a row
is(sql(q(SELECT class, searchable, exportable FROM apm.attribute WHERE name = 'diagnosis')), 'other|t|t', 'a label declares the attribute');
app(q(INSERT INTO clinic.visit VALUES (1, 'p1', 'Amina', 'flu', '{"a": null}', now(), 'not for apm')));
app(q(INSERT INTO clinic.visit VALUES (2, 'p1', 'Amina', NULL, NULL, '2020-02-03', NULL)));
wait_for($node, 'clinic', $arrived, 'two visits arrived');
is(app(q(SELECT (record - 'seen')::text || ' ' || coalesce(flags::text, 'none') FROM apm_fetch('p1', 'treatment') ORDER BY record->'id')),
	qq({"id": 1, "details": {"a": null}, "Firstname": "Amina", "diagnosis": "flu"} {}\n{"id": 2, "Firstname": "Amina"} {late}),
	'all but patient, what is left out and what is null; the first row registers the patient, whose profile has his name only; an old row is late');
is(app(q(SELECT count(*) FROM clinic.visit AS v JOIN apm_fetch('p1', 'treatment') AS f ON f.rid = apm_attached_rid(v) AND (f.record->>'id')::bigint = v.id)),
	'2', 'a row tells its Rid');
is(app(q(SELECT bool_and((f.record->>'seen')::timestamptz = v.seen) FROM clinic.visit AS v JOIN apm_fetch('p1', 'treatment') AS f ON f.rid = apm_attached_rid(v))),
	't', 'and its time');

# --- ways to insert
sql(q(SELECT count(apm_register_patient('p' || g, '{"Firstname": "Any"}')) FROM generate_series(2, 9) AS g), 'dba');
submits(3500, 'INSERT ... SELECT', q(INSERT INTO clinic.visit SELECT g, 'p' || 2 + g % 5, NULL, 'x' FROM generate_series(1001, 4500) AS g));
submits(2, 'COPY', qq(COPY clinic.visit (id, mrn) FROM stdin;\n5001\tp2\n5002\tp3\n\\.\n));
submits(1, 'ON CONFLICT DO NOTHING', q(INSERT INTO clinic.visit (id, mrn) VALUES (5001, 'p2'), (5003, 'p2') ON CONFLICT DO NOTHING));
submits(1, 'ON CONFLICT DO UPDATE', q(INSERT INTO clinic.visit (id, mrn) VALUES (5001, 'p2'), (5004, 'p2')
	ON CONFLICT (id) DO UPDATE SET mrn = EXCLUDED.mrn, diagnosis = 'again'));
submits(1, 'MERGE', q(MERGE INTO clinic.visit AS v USING (VALUES (5001), (5005)) AS n (id) ON v.id = n.id
	WHEN MATCHED THEN UPDATE SET diagnosis = 'merged' WHEN NOT MATCHED THEN INSERT (id, mrn) VALUES (n.id, 'p2')));
submits(2, 'a common table expression', q(WITH new AS (INSERT INTO clinic.visit (id, mrn) VALUES (5006, 'p2'), (5007, 'p2') RETURNING *) SELECT * FROM new));
submits(0, 'UPDATE, DELETE', q(UPDATE clinic.visit SET mrn = 'p3', seen = now(), id = id + 100000 WHERE id > 5005; DELETE FROM clinic.visit WHERE id > 100000));

# --- what is given up, and what nests
submits(0, 'a transaction that is rolled back', q(BEGIN; INSERT INTO clinic.visit (id, mrn) VALUES (6001, 'p2'); ROLLBACK));
submits(2, 'a savepoint that is', q(BEGIN; INSERT INTO clinic.visit (id, mrn) VALUES (6002, 'p2'); SAVEPOINT s;
	INSERT INTO clinic.visit (id, mrn) VALUES (6003, 'p2'); ROLLBACK TO s; INSERT INTO clinic.visit (id, mrn) VALUES (6004, 'p2'); COMMIT));
submits(1, 'an exception block', q(DO $$ BEGIN
	INSERT INTO clinic.visit (id, mrn) VALUES (6005, 'p2');
	BEGIN INSERT INTO clinic.visit (id, mrn) VALUES (6006, 'p2'), (6005, 'p2'); EXCEPTION WHEN unique_violation THEN NULL; END;
	END $$));
sql(q(CREATE FUNCTION clinic.insert_inside(n bigint) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN
	IF n % 2 = 0 THEN INSERT INTO clinic.visit (id, mrn) VALUES (n + 1000, 'p4');
	ELSE BEGIN INSERT INTO clinic.visit (id, mrn) VALUES (n + 1000, 'p4'); RAISE 'undo'; EXCEPTION WHEN OTHERS THEN NULL; END; END IF;
	RETURN n; END $$), 'app');
submits(15, 'statements in a statement', q(INSERT INTO clinic.visit (id, mrn) SELECT clinic.insert_inside(g), 'p2' FROM generate_series(7001, 7010) AS g));
my $before = submitted();
refused(q(INSERT INTO clinic.visit (id, mrn) SELECT g, CASE WHEN g < 19999 THEN 'p2' ELSE 'nobody' END FROM generate_series(18001, 19999) AS g),
	'AP009', qr/no such patient is registered/, 'a patient whom nobody knows', 'app');
refused(q(INSERT INTO clinic.visit (id, mrn) VALUES (18000, NULL)), '23502', qr/column "mrn", which names the patient, must not be null/, 'no patient', 'app');
refused(q(BEGIN; INSERT INTO clinic.visit (id, mrn) VALUES (18000, 'p2'); PREPARE TRANSACTION 'later'), '0A000', qr/./, 'a prepared transaction', 'app');
refused(q(INSERT INTO clinic.visit (id, mrn) VALUES (18000, 'p2')), '42501', qr/permission denied to submit records/, 'a role that may not submit', 'stranger');
is(submitted(), $before, 'leave nothing');
is(sql('SELECT count(*) FROM clinic.visit WHERE id BETWEEN 18000 AND 19999'), '0', 'in the table neither');

# --- a key that comes again is another record, and only then
submits(1, 'a key deleted and inserted again', q(DELETE FROM clinic.visit WHERE id = 5001; INSERT INTO clinic.visit (id, mrn) VALUES (5001, 'p2')));
submits(3, 'more than once in a transaction', q(BEGIN; INSERT INTO clinic.visit (id, mrn, diagnosis) VALUES (5100, 'p2', 'a');
	DELETE FROM clinic.visit WHERE id = 5100; INSERT INTO clinic.visit (id, mrn, diagnosis) VALUES (5100, 'p2', 'b');
	DELETE FROM clinic.visit WHERE id = 5100; INSERT INTO clinic.visit (id, mrn, diagnosis) VALUES (5100, 'p2', 'b'); COMMIT));
submits(0, 'a backfill finds nothing to do', q(CALL apm_backfill('clinic.visit')), 'dba');
submits(2, 'after TRUNCATE', q(BEGIN; TRUNCATE clinic.visit; INSERT INTO clinic.visit (id, mrn) VALUES (1, 'p2'), (2, 'p2'); COMMIT), 'dba');

# --- sensors
submits(2, 'a sensor', q(INSERT INTO clinic.visit (id, mrn) VALUES (300, 'p2'), (301, 'unknown')), 'gateway');
wait_for($node, 'clinic', $arrived, 'reception has looked at them');
is(sql('SELECT string_agg(reason, $$,$$) FROM apm.waiting'), 'patient', 'its record of an unknown patient waits');

# --- partitions
dba(q(
	CREATE TABLE clinic.reading (device integer, at date, mrn text, value numeric, PRIMARY KEY (device, at)) PARTITION BY RANGE (at);
	CREATE TABLE clinic.reading_1 PARTITION OF clinic.reading FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
	CREATE TABLE clinic.reading_2 (value numeric, gone text, mrn text, at date NOT NULL, device integer NOT NULL);
	ALTER TABLE clinic.reading_2 DROP COLUMN gone;
	SECURITY LABEL FOR apm ON COLUMN clinic.reading.device IS 'omit';
	SELECT apm_attach('clinic.reading', 'mrn', 'at')));
sql(q(ALTER TABLE clinic.reading OWNER TO owner; ALTER TABLE clinic.reading_1 OWNER TO owner; ALTER TABLE clinic.reading_2 OWNER TO owner));
sql('ALTER TABLE clinic.reading ATTACH PARTITION clinic.reading_2 FOR VALUES FROM (\'2021-01-01\') TO (\'2022-01-01\')', 'owner');
sql(q(CREATE TABLE clinic.reading_3 PARTITION OF clinic.reading DEFAULT; GRANT ALL ON clinic.reading, clinic.reading_2, clinic.reading_3 TO app), 'owner');
submits(3, 'rows of partitions', q(INSERT INTO clinic.reading VALUES (1, '2020-05-05', 'p6', 1.5), (1, '2021-05-05', 'p6', 2.5), (1, '2025-05-05', 'p6', 3.5)));
submits(2, 'rows of a named partition', q(INSERT INTO clinic.reading_2 (device, at, mrn, value) VALUES (2, '2021-05-05', 'p6', 4.5), (2, '2021-05-06', 'p6', 5.5)));
refused(q(INSERT INTO clinic.reading_2 (device, at, mrn) VALUES (3, '2021-05-05', 'nobody')), 'AP009', qr/no such patient/, 'of a patient whom nobody knows', 'app');
wait_for($node, 'clinic', $arrived, 'readings arrived');
is(app(q(SELECT string_agg(record::text, ' ' ORDER BY record->'value') FROM apm_fetch('p6', 'treatment') WHERE record ? 'value')), join(' ', map { qq({"at": "$_->[0]", "value": $_->[1], "Firstname": "Any"}) }
	['2020-05-05', '1.5'], ['2021-05-05', '2.5'], ['2025-05-05', '3.5'], ['2021-05-05', '4.5'], ['2021-05-06', '5.5']),
	'whatever order the columns of a partition have');
is(app(q(SELECT count(*) FROM clinic.reading AS r JOIN apm_fetch('p6', 'treatment') AS f ON f.rid = apm_attached_rid(r))), '5', 'the whole table tells the Rids');
is(app(q(SELECT count(*) FROM clinic.reading_2 AS r JOIN apm_fetch('p6', 'treatment') AS f ON f.rid = apm_attached_rid(r))), '3', 'and so does a partition');
sql('DROP TABLE clinic.reading');
is(sql(q(SELECT count(*) FROM apm.attachment)), '1', 'a table that was dropped is not shown');

# --- hostile names, and types whose text depends on settings
dba(q(
	CREATE TABLE clinic."t'; DROP ""x" (t timestamptz, "key pid" float8, "order" text, "na'me" text, "table" bytea, PRIMARY KEY ("table", t, "key pid"));
	SELECT apm_attach('clinic."t''; DROP ""x"', 'order')));
submits(1, 'a table with such names', q(SET timezone = 'Asia/Tokyo'; SET datestyle = 'SQL, DMY'; SET extra_float_digits = -10; SET bytea_output = 'escape';
	INSERT INTO clinic."t'; DROP ""x" VALUES ('2024-01-02 03:04:05+00', 0.1::float8 + 0.2, 'p7', 'x', '\xff00')));
submits(0, 'one that is known in a session with other settings', q(SET timezone = 'America/New_York'; CALL apm_backfill('clinic."t''; DROP ""x"')), 'dba');
is(dba(q(SELECT pid_column, coalesce(time_column, 'none') FROM apm.attachment WHERE relation = 'clinic."t''; DROP ""x"'::regclass)), 'order|none', 'the view shows it');

# --- what cannot be attached
dba(q(CREATE TABLE clinic.bare (mrn text); CREATE TABLE clinic.later (id integer PRIMARY KEY DEFERRABLE, mrn text); CREATE VIEW clinic.seen AS SELECT * FROM clinic.visit;
	CREATE TABLE clinic.parted (id integer PRIMARY KEY, mrn text) PARTITION BY HASH (id); CREATE TABLE clinic.part PARTITION OF clinic.parted FOR VALUES WITH (MODULUS 1, REMAINDER 0);
	CREATE TABLE clinic.plain (id integer PRIMARY KEY, mrn text, at text)));
sql(q(CREATE TABLE clinic.foreigners (id integer PRIMARY KEY, mrn text)), 'owner');
refused(q(SELECT apm_attach('clinic.bare', 'mrn')), '42P17', qr/has no primary key.*HINT:.*PRIMARY KEY/s, 'a table without a primary key');
refused(q(SELECT apm_attach('clinic.later', 'mrn')), '42P17', qr/has no primary key.*not deferrable/s, 'one with a deferrable key');
refused(q(SELECT apm_attach('clinic.seen', 'mrn')), '42809', qr/"seen" is not a table/, 'a view');
refused(q(SELECT apm_attach('clinic.part', 'mrn')), '42809', qr/is a partition.*HINT:  Attach the partitioned table/s, 'a partition');
refused(q(CREATE TEMP TABLE t (id integer PRIMARY KEY, mrn text); SELECT apm_attach('t', 'mrn')), '42809', qr/temporary/, 'a temporary table');
refused(q(SELECT apm_attach('clinic.plain', 'nothing')), '42703', qr/table "plain" has no column "nothing"/, 'no such column');
refused(q(SELECT apm_attach('clinic.plain', 'ctid')), '42703', qr/no column "ctid"/, 'a system column');
refused(q(SELECT apm_attach('clinic.plain', 'mrn', 'at')), '42804', qr/column "at" is no time/, 'a text for a time');
refused(q(SELECT apm_attach('clinic.plain', NULL)), '22004', qr/must not be null/, 'no column');
refused(q(SELECT apm_attach('clinic.visit', 'mrn')), '42710', qr/attached already/, 'an attached table');
refused(q(SELECT apm_attach('clinic.foreigners', 'mrn')), '42501', qr/must be owner of table foreigners/, 'somebody else\'s table');
refused(q(SELECT apm_attach('clinic.foreigners', 'mrn')), '42501', qr/permission denied/, 'an owner who is no administrator', 'owner');
refused(q(SELECT apm_detach('clinic.plain')), '55000', qr/is not attached/, 'a table that is not attached cannot be detached');
refused(q(CALL apm_backfill('clinic.plain')), '55000', qr/is not attached/, 'nor backfilled');
refused(q(BEGIN; CALL apm_backfill('clinic.visit')), '2D000', qr/cannot run in a transaction block/, 'a backfill in a transaction block');
refused(q(CALL apm_backfill('clinic.visit', 0)), '22023', qr/a batch has 1 to/, 'no rows');

# --- labels
refused(qq(SECURITY LABEL FOR apm ON COLUMN clinic.plain.mrn IS '$_'), '22023', qr/no such security label of apm/, "label '$_'")
  foreach ('', 'secret', 'Omit', 'omit, searchable', 'identifying,exportable', 'searchable, searchable', 'searchable,', ',', 'searchable exportable');
refused(q(SECURITY LABEL FOR apm ON TABLE clinic.plain IS 'omit'), '42809', qr/columns of tables only/, 'a table\'s label');
refused(q(SECURITY LABEL FOR apm ON SCHEMA clinic IS 'omit'), '42809', qr/columns of tables only/, 'a schema\'s');
refused(q(SECURITY LABEL FOR apm ON COLUMN clinic.seen.mrn IS 'omit'), '42809', qr/columns of tables only/, 'a view\'s column\'s');
refused(q(SECURITY LABEL FOR apm ON COLUMN clinic.plain.mrn IS 'omit'), '42501', qr/must be owner/, 'a stranger\'s', 'stranger');
refused(q(SECURITY LABEL FOR apm ON COLUMN clinic.visit.mrn IS 'searchable'), '22023', qr/names the patient can be neither/, 'the pid\'s');
dba(q(SECURITY LABEL FOR apm ON COLUMN clinic.visit.mrn IS 'identifying'));
refused(q(SECURITY LABEL FOR apm ON COLUMN clinic.visit.diagnosis IS 'searchable'), '55000', qr/attribute "diagnosis" is not declared.*HINT:.*apm_declare_attribute/s,
	'another label than the attribute\'s declaration');
refused(q(SECURITY LABEL FOR apm ON COLUMN clinic.visit.diagnosis IS NULL), '55000', qr/attribute "diagnosis" is not declared/, 'none');
dba(q(SELECT apm_declare_attribute('diagnosis', 'other', searchable => true); SECURITY LABEL FOR apm ON COLUMN clinic.visit.diagnosis IS 'searchable'));
dba(q(SECURITY LABEL FOR apm ON COLUMN clinic.plain.at IS 'exportable'; SELECT apm_declare_attribute('at', 'identifying')));
refused(q(SELECT apm_attach('clinic.plain', 'mrn')), '55000', qr/attribute "at" is not declared/, 'a table whose label is not what is declared');
dba(q(SECURITY LABEL FOR apm ON COLUMN clinic.visit.details IS 'omit'; SECURITY LABEL FOR apm ON COLUMN clinic.visit.remark IS NULL));
app(q(INSERT INTO clinic.visit VALUES (400, 'p8', NULL, NULL, '{"omitted": 1}', NULL, 'kept now')));
wait_for($node, 'clinic', $arrived, 'a visit arrived');
is(app(q(SELECT record FROM apm_fetch('p8', 'treatment'))), '{"id": 400, "remark": "kept now", "Firstname": "Any"}', 'labels of an attached table hold at once');
sql(q(ALTER TABLE clinic.visit OWNER TO owner));
refused(q(SECURITY LABEL FOR apm ON COLUMN clinic.visit.remark IS 'omit'), '42501', qr/permission denied to change what an attached table submits/,
	'an owner who is no administrator changes none', 'owner');
sql(q(ALTER TABLE clinic.visit OWNER TO dba));

# --- what becomes of the table
submits(1, 'renamed, it is the same', q(ALTER TABLE clinic.visit RENAME COLUMN mrn TO "Patient"; ALTER TABLE clinic.visit RENAME COLUMN id TO visit_no;
	ALTER TABLE clinic.visit RENAME TO encounter; ALTER TABLE clinic.encounter ADD COLUMN ward text DEFAULT 'A'; SET ROLE app;
	INSERT INTO clinic.encounter (visit_no, "Patient") VALUES (401, 'p9')), 'dba');
submits(0, 'and so are its rows', q(CALL apm_backfill('clinic.encounter')), 'dba');
wait_for($node, 'clinic', $arrived, 'another visit arrived');
is(app(q(SELECT record FROM apm_fetch('p9', 'treatment'))), '{"ward": "A", "visit_no": 401, "Firstname": "Any"}', 'a new column is part of new records');
refused(q(ALTER TABLE clinic.encounter DROP COLUMN "Patient"), '2BP01', qr/trigger apm_attached/, 'the patient\'s column stays');
refused(q(ALTER TABLE clinic.encounter ALTER COLUMN "Patient" TYPE text), '0A000', qr/column used in a trigger/, 'and its type');
dba(q(DROP VIEW clinic.seen; ALTER TABLE clinic.encounter DROP COLUMN diagnosis; ALTER TABLE clinic.encounter DROP CONSTRAINT visit_pkey));
refused(q(INSERT INTO clinic.encounter (visit_no, "Patient") VALUES (402, 'p9')), '55000', qr/primary key of table "encounter" is not the one.*apm_detach/s,
	'without its key nothing is inserted', 'app');
dba(q(SELECT apm_detach('clinic.encounter')));
submits(0, 'detached, it is as before', q(INSERT INTO clinic.encounter (visit_no, "Patient") VALUES (402, 'nobody')));
dba(q(DELETE FROM clinic.encounter WHERE visit_no = 402; INSERT INTO clinic.encounter (visit_no, "Patient") VALUES (403, 'p9');
	ALTER TABLE clinic.encounter ADD PRIMARY KEY (visit_no)));
is(sql(q(SELECT attached, detached_at IS NOT NULL FROM apm.attachment WHERE relation = 'clinic.encounter'::regclass)), 'f|t', 'as the view shows');
submits(1, 'attached again, its rows are known', q(SELECT apm_attach('clinic.encounter', 'Patient'); CALL apm_backfill('clinic.encounter')), 'dba');
my ($ok, $out, $warning) = $node->psql('clinic', q(SET ROLE dba; SELECT apm_detach('clinic.encounter'); ALTER TABLE clinic.encounter DROP CONSTRAINT encounter_pkey;
	ALTER TABLE clinic.encounter ADD PRIMARY KEY ("Patient", visit_no); SELECT apm_attach('clinic.encounter', 'Patient')));
like($warning, qr/WARNING:  the table was attached before, with another primary key/, 'with another key they are others, with a warning');

# --- whose rights
sql(q(CREATE TABLE clinic.stolen (visit_no bigint, "Patient" text, PRIMARY KEY ("Patient", visit_no)); ALTER TABLE clinic.stolen OWNER TO stranger));
my $trigger = sql(q(SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname = 'apm_attached' AND tgrelid = 'clinic.encounter'::regclass)) =~ s/clinic\.encounter/clinic.stolen/r;
refused($trigger, '42501', qr/permission denied for schema apm/, 'a stranger cannot name the trigger function', 'stranger');
sql($trigger);
sql(q(GRANT ALL ON clinic.stolen TO app));
refused(q(INSERT INTO clinic.stolen VALUES (1, 'p9')), '55000', qr/table "stolen" is not attached/, 'and a table that was given it is not attached by that', 'app');
refused(q(SELECT apm_attached_rid(s) FROM (VALUES (1)) AS s), '42804', qr/not a row of an attached table/, 'any row has no Rid');
refused(q(SELECT apm_attached_rid(a) FROM apm.attachment AS a), '55000', qr/is not attached/, 'nor has a view\'s');
refused(q(SELECT apm_attached_rid(jsonb_populate_record(NULL::clinic.encounter, '{"Patient": "p9"}'))), '22004', qr/"visit_no".*must not be null/, 'nor a row without a whole key', $_)
  foreach qw(dba app);
refused(q(SELECT apm_attached_rid(jsonb_populate_record(NULL::clinic.encounter, '{"visit_no": 1}'))), '22004', qr/"Patient".*must not be null/, 'whatever is missing of it');
sql(q(
	CREATE TYPE clinic.mood AS ENUM ('good', 'bad');
	CREATE FUNCTION clinic.mood_json(clinic.mood) RETURNS json LANGUAGE sql AS $$ SELECT to_json(current_user::text) $$;
	CREATE CAST (clinic.mood AS json) WITH FUNCTION clinic.mood_json(clinic.mood);
	CREATE TABLE clinic.feeling (id integer PRIMARY KEY, mrn text, mood clinic.mood); ALTER TABLE clinic.feeling OWNER TO owner; GRANT ALL ON clinic.feeling TO app;
	INSERT INTO clinic.feeling VALUES (1, 'p5', 'good');
	GRANT apm_admin TO CURRENT_USER;
	SELECT apm_attach('clinic.feeling', 'mrn'); INSERT INTO clinic.feeling VALUES (2, 'p5', 'good'); CALL apm_backfill('clinic.feeling')));
app(q(INSERT INTO clinic.feeling VALUES (3, 'p5', 'good')));
wait_for($node, 'clinic', $arrived, 'feelings arrived');
is(app(q(SELECT string_agg(record->>'mood', ' ' ORDER BY record->'id') FROM apm_fetch('p5', 'treatment') WHERE record ? 'mood')), "owner $superuser app",
	'functions of the user\'s run with the rights of who inserts, or in a backfill of who owns the table: never with ours');
sql(q(ALTER TABLE clinic.feeling ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY));
refused(q(CALL apm_backfill('clinic.feeling')), '42501', qr/affected by row-level security/, 'a backfill does not overlook rows that a policy hides from the owner', $superuser);

# --- dump and restore
my $copy = $node->basedir . '/dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $copy, $node->connstr('clinic') ], 'dump');
sql('CREATE DATABASE copy');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('copy'), $copy ], 'restore');
my $state = q(SELECT a.relation::text, pid_column, attached, rows_done, (SELECT string_agg(objname || ' ' || label, ', ' ORDER BY objname) FROM pg_seclabels
	WHERE provider = 'apm' AND objoid = a.relation) FROM apm.attachment AS a ORDER BY a.relation::text);
is($node->safe_psql('copy', $state), sql($state), 'triggers, labels and attachments are those of before');
$before = $node->safe_psql('copy', 'SELECT count(*) FROM apm.submission');
is($before, submitted(), 'the restore submits nothing');
is($node->safe_psql('copy', q(ALTER TABLE clinic.feeling NO FORCE ROW LEVEL SECURITY; INSERT INTO clinic.feeling VALUES (4, 'p5', 'bad'); CALL apm_backfill('clinic.feeling'); SELECT count(*) FROM apm.submission)), $before + 1,
	'a row that is inserted there is submitted, those of before are known');

# --- and its end
refused(q(DROP EXTENSION apm), '2BP01', qr/trigger apm_attached on table/, 'the extension is not dropped from under a table', $superuser);
sql(q(DROP EXTENSION apm CASCADE));
is(sql(q(INSERT INTO clinic.feeling VALUES (5, 'p5', 'bad'); SELECT count(*) FROM clinic.feeling)), '4', 'but with CASCADE; the table goes on without it');
sql(q(SECURITY LABEL FOR apm ON COLUMN clinic.feeling.mood IS 'omit'));

$node->stop;
done_testing();
