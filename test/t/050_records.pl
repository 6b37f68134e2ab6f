# Records come back as they were put in, whatever is in them; what is given up leaves
# nothing, and a reading that is given up leaves its trace.
use strict;
use warnings;

use ApmTest;
use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = apm_node('hospital', settings => { log_temp_files => 0, log_statement => 'none', max_prepared_transactions => 5 });
my $module = "$FindBin::RealBin/../modules/test_records";

$node->safe_psql('clinic', qq{
	CREATE ROLE doctor; GRANT apm_clinician TO doctor;
	CREATE ROLE clerk; GRANT apm_registrar TO clerk;
	CREATE FUNCTION test_run_first(text, bigint) RETURNS void LANGUAGE c AS '$module', 'test_run_first';});

my $arrived = q{SELECT NOT EXISTS (SELECT FROM apm.waiting WHERE reason = 'new') AND NOT EXISTS (SELECT FROM apm.queue) AND NOT EXISTS (SELECT FROM apm.pool)
	AND NOT EXISTS (SELECT FROM apm.final_queue)};

sub doctor
{
	return query($node, 'clinic', $_[0], 'doctor');
}

sub count_of
{
	my ($what) = @_;

	return $node->safe_psql('clinic', "SELECT count(*) FROM $what");
}
my $queries = 'apm.leaf WHERE kind = 3';

query($node, 'clinic', q{SELECT apm_register_patient(pid, '{"Firstname": "Amina"}') FROM (VALUES ('p1'), ('p2')) AS v (pid)}, 'clerk');

# whatever is in them
$node->safe_psql('clinic', <<'EOSQL');
CREATE TABLE sample (rid uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text, record jsonb);
GRANT SELECT ON sample TO doctor;
INSERT INTO sample (name, record) VALUES
	('one byte', '7'),
	('a boolean', 'false'),
	('an empty text', '""'),
	('an empty array', '[]'),
	('Arabic', '{"التشخيص": "حمى موسمية مرتبطة بنزلة برد"}'),
	('quotes', '{"a\"b": "c''d\"e\\f", "$$": "{\"not\": \"parsed\"}", "''": "''''"}'),
	('U+1F600', '{"mood": "😀", "escaped": "\ud83d\ude00"}'),
	('controls', '{"t": "\u0001\b\f\n\r\t\u001f\u007f", "slash": "\/"}'),
	('names', jsonb_build_object('__proto__', 1, 'constructor', 2, repeat('long', 30), 3, '', 4, 'rid', 5, 'pid', 6)),
	('numbers', '[0, -0.0, 1.50, 1e400, -1e-400, 12345678901234567890.123456789]'),
	('nested', '{"a": [1, {"b": [[], {}, null, {"c": {"d": [true]}}]}], "e": {"f": {}}}'),
	('duplicate keys', '{"a": 1, "a": 2}'),
	('deep', (repeat('[', 3000) || repeat(']', 3000))::jsonb),
	('wide', (SELECT jsonb_object_agg('key' || g, g) FROM generate_series(1, 20000) AS g)),
	('10 MB', jsonb_build_object('text', repeat('0123456789', 1024 * 1024)));
EOSQL
doctor(q{INSERT INTO apm.patient_record (pid, record, rid) SELECT 'p1', record, rid FROM sample});
wait_for($node, 'clinic', $arrived, 'the samples arrived');
is(doctor(q{SELECT string_agg(s.name, ', ') FROM sample AS s LEFT JOIN apm_fetch('p1') AS f USING (rid)
	WHERE f.record IS DISTINCT FROM CASE jsonb_typeof(s.record)
		WHEN 'object' THEN s.record || '{"Firstname": "Amina"}' ELSE s.record END}), '', 'each came back as it was');
is(doctor(q{SELECT count(*) = (SELECT count(*) FROM sample) FROM apm_fetch('p1')}), 't', 'and no other');
doctor(q{SELECT apm_submit('p1', to_jsonb(repeat('5', 50 * 1024 * 1024)))});
wait_for($node, 'clinic', $arrived, '50 MB arrived');
is(doctor(q{SELECT max(length(record #>> '{}')) FROM apm_fetch('p1') WHERE jsonb_typeof(record) = 'string'}),
	50 * 1024 * 1024, '50 MB came back');
my $log = -s $node->logfile;
is(doctor(q{SET work_mem = '64kB'; SELECT count(*) = (SELECT count(*) + 1 FROM sample) FROM apm_fetch('p1')}), 't',
	'more than work_mem');
unlike(slurp_file($node->logfile, $log), qr/temporary file/, 'nothing of it went through a temporary file');

# what JSON itself does not allow is refused by PostgreSQL; the log does not repeat it
$log = -s $node->logfile;
fails_with($node, 'clinic', qq{SELECT apm_submit('p1', '{"secretvalue": "$_"}')}, '22P0' . (/0000/ ? '5' : '2'), qr/./, "no JSON: $_",
	'doctor')
  foreach ('\u0000', '\ud83d', '\x');
unlike(slurp_file($node->logfile, $log), qr/secretvalue/, 'the log does not hold it');

# given up
my $submitted = count_of('apm.submission');
fails_with($node, 'clinic', q{SET statement_timeout = '700ms';
	INSERT INTO apm.patient_record (pid, record) SELECT 'p1', jsonb_build_object('n', g) FROM generate_series(1, 1000000) AS g},
	'57014', qr/statement timeout/, 'a great many rows, cancelled half-way', 'doctor');
fails_with($node, 'clinic', q{INSERT INTO apm.patient_record (pid, record)
	SELECT CASE WHEN g = 2500 THEN '' ELSE 'p1' END, to_jsonb(g) FROM generate_series(1, 5000) AS g},
	'22023', qr/pid must not be empty/, 'one bad row among many', 'doctor');
fails_with($node, 'clinic', q{BEGIN; SELECT apm_submit('p1', '1'); PREPARE TRANSACTION 'later'}, '0A000', qr/./,
	'a transaction with records is not prepared', 'doctor');
is(count_of('apm.submission'), $submitted, 'leave nothing');
is(count_of('apm.queue'), 0, 'not in the queue either');

# not run to its end: committed all the same
doctor(q{INSERT INTO apm.patient_record VALUES ('p1', '"a"') RETURNING rid});
my $two = q{INSERT INTO apm.patient_record VALUES ('p1', '"first"'), ('p1', '"second"') RETURNING rid};
doctor(qq{SELECT test_run_first(\$\$ $two \$\$, 1)});
is(count_of('apm.submission'), $submitted + 2, 'the row that a statement got to is submitted, the other is not');
fails_with($node, 'clinic', qq{BEGIN; SELECT test_run_first(\$\$ $two \$\$, 1); PREPARE TRANSACTION 'later'}, '0A000', qr/./,
	'nor is it prepared away', 'doctor');
doctor(qq{BEGIN; SELECT test_run_first(\$\$ $two \$\$, 1); ROLLBACK});
is(count_of('apm.submission'), $submitted + 2, 'rolled back, it is gone');

# readings leave their trace
doctor(q{INSERT INTO apm.patient_record (pid, record) SELECT 'p2', to_jsonb(g) FROM generate_series(1, 50) AS g});
wait_for($node, 'clinic', $arrived, 'all arrived');
sub leaves_a_trace
{
	my ($name, $sql, $fails) = @_;
	my $before = count_of($queries);

	if ($fails)
	{
		my ($state) = sqlstate($node, 'clinic', $sql, 'doctor');
		isnt($state, '00000', "$name fails");
	}
	else
	{
		doctor($sql);
	}
	return is(count_of($queries), $before + 1, "$name leaves a trace");
}
leaves_a_trace('BEGIN, ROLLBACK', q{BEGIN; SELECT count(*) FROM apm_fetch('p2'); ROLLBACK});
leaves_a_trace('a savepoint', q{BEGIN; SAVEPOINT a; SELECT count(*) FROM apm_fetch('p2'); ROLLBACK TO a; COMMIT});
leaves_a_trace('an exception block', q{DO $$ BEGIN PERFORM * FROM apm_fetch('p2'); RAISE 'undo'; EXCEPTION WHEN OTHERS THEN NULL; END $$});
leaves_a_trace('a failing statement', q{SELECT count(*) / 0 FROM apm_fetch('p2')}, 1);
leaves_a_trace('a read-only transaction', q{BEGIN READ ONLY; SELECT count(*) FROM apm_fetch('p2'); COMMIT});
leaves_a_trace('a serializable transaction', q{BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM apm_fetch('p2'); COMMIT});
leaves_a_trace('a cursor with hold', q{BEGIN; DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT * FROM apm_fetch('p2'); COMMIT; CLOSE c});
leaves_a_trace('forced parallel query', q{SET force_parallel_mode = on; SELECT count(*) FROM apm_fetch('p2')});
leaves_a_trace('synchronous_commit = off', q{SET synchronous_commit = off; SELECT count(*) FROM apm_fetch('p2', 'audit')});
leaves_a_trace('the select list', q{SELECT apm_fetch('p2') LIMIT 1});
leaves_a_trace('WHERE', q{SELECT 1 WHERE EXISTS (SELECT FROM apm_fetch('p2'))});
leaves_a_trace('an unknown patient', q{SELECT * FROM apm_fetch('nobody')}, 1);
my $before = count_of($queries);
doctor(q{EXPLAIN SELECT * FROM apm_fetch('p2')});
doctor(q{PREPARE p AS SELECT * FROM apm_fetch('p2')});
is(count_of($queries), $before, 'EXPLAIN and PREPARE read nothing');

# a snapshot of before is no way around: neither to miss records nor to miss a profile
my $old = $node->background_psql('clinic', on_error_stop => 1);
$old->query_safe(q{SET ROLE doctor; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1});
query($node, 'clinic', q{SELECT apm_update_patient('p2', '{"Firstname": "Aminah"}')}, 'clerk');
doctor(q{SELECT apm_submit('p2', '{"new": true}')});
wait_for($node, 'clinic', $arrived, 'the new record arrived');
is($old->query_safe(q{SELECT record FROM apm_fetch('p2') WHERE record ? 'new'}), '{"new": true, "Firstname": "Aminah"}',
	'an old snapshot reads what is there now');
$old->query_safe('COMMIT');
$old->quit;

# a reader who has submitted in the same transaction does not wait for himself
is(doctor(q{BEGIN; SELECT length(apm_submit('p2', '{"mine": 1}')::text); SELECT count(*) > 0 FROM apm_fetch('p2'); COMMIT}),
	"36\nt", 'submitting and fetching in one transaction');

# a waiting record that cannot be opened keeps neither its patient from being registered nor the others from being sent
$node->safe_psql('clinic', 'CREATE ROLE gateway; GRANT apm_sensor TO gateway');
query($node, 'clinic', qq(SELECT apm_submit('late', '{"n": $_}')), 'gateway') foreach (1 .. 3);
wait_for($node, 'clinic', q(SELECT count(*) = 3 FROM apm.waiting WHERE reason = 'patient'), 'records wait for their patient');
$node->safe_psql('clinic', q(UPDATE apm.waiting SET sealed = 'nonsense' WHERE rid = (SELECT rid FROM apm.waiting ORDER BY rid LIMIT 1);
	SELECT apm_accept_rollback()));
query($node, 'clinic', q(SELECT apm_register_patient('late', '{"Firstname": "Late"}')), 'clerk');
wait_for($node, 'clinic', $arrived, 'what waited arrived');
is(doctor(q{SELECT string_agg(record->>'n', ',' ORDER BY record->>'n') FROM apm_fetch('late')}), '2,3', 'but for one, which nobody can open');
is($node->safe_psql('clinic', 'SELECT reason FROM apm.waiting'), 'failed', 'and which goes on waiting');
is($node->safe_psql('clinic', q(SELECT last_error_code FROM apm.status WHERE worker = 'apm reception')), 'AP004', 'as the status says');

done_testing();
