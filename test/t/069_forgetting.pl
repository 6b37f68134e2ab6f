# Forgetting a patient step by step: who may ask, what is known of him meanwhile, what becomes of records that race
# with the erasure, and that it ends the same whenever the worker that carries it out is killed.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use ApmTest;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = apm_node('hospital', setup => 0, settings => { restart_after_crash => 'on' });
my $keys = key_directory($node);
my $lock;
my $settled = q(SELECT NOT EXISTS (SELECT FROM apm.queue) AND NOT EXISTS (SELECT FROM apm.pool) AND NOT EXISTS (SELECT FROM apm.final_queue)
	AND NOT EXISTS (SELECT FROM apm.outbox) AND NOT EXISTS (SELECT FROM apm.waiting WHERE reason = 'new'));

$node->safe_psql('clinic', q(SELECT apm_setup(8)));
$node->safe_psql(
	'clinic', q(
	CREATE ROLE clerk LOGIN IN ROLE apm_registrar; CREATE ROLE doctor LOGIN IN ROLE apm_clinician;
	CREATE ROLE chief LOGIN IN ROLE apm_admin; CREATE ROLE auditor LOGIN IN ROLE apm_auditor;
	CREATE ROLE gauge LOGIN IN ROLE apm_sensor; CREATE ROLE scholar LOGIN IN ROLE apm_researcher;
	SELECT apm_declare_attribute('diagnosis', 'other', searchable => true, exportable => true)));

sub as { my ($role, $sql) = @_; return in_session($node, 'clinic', $role, $sql) }
sub sql { return query($node, 'clinic', @_) }
sub fails_as { my ($role, $sql, $state, $pattern, $name) = @_; return fails_in_session($node, 'clinic', $role, $sql, $state, $pattern, $name) }

# A patient with a record, on the chain.
sub register
{
	my ($pid) = @_;

	as('clerk', "SELECT apm_register_patient('$pid', '{\"Firstname\": \"Name of $pid\"}')");
	submit($pid, 'flu');
	wait_for($node, 'clinic', $settled, "$pid is there");
	return;
}

sub submit
{
	my ($pid, $diagnosis) = @_;
	return as('doctor', "SELECT apm_submit('$pid', '{\"diagnosis\": \"$diagnosis\"}')");
}

sub forget
{
	my ($pid) = @_;
	return as('clerk', "SELECT apm_forget('$pid', 'consent-withdrawn')");
}

sub state_is
{
	my ($id, $state, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_for($node, 'clinic', "SELECT state FROM apm.erasure_request WHERE id = '$id'", $name, $state);
}

sub unknown
{
	my ($pid, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return fails_as('doctor', "SELECT * FROM apm_fetch('$pid', 'treatment')", 'AP001', qr/rule "patient"/, $name);
}

# The aPid that a pid has now; what no user sees.
sub apid { return sql(qq(SELECT apid FROM apm.patient ORDER BY registered_at DESC LIMIT 1)) }

sub session { return $node->background_psql('clinic', on_error_stop => 0) }

# Stops reception between two turns, so that what it would do next can be looked at before.
sub stop_reception
{
	my $pid = worker_pid($node, 'clinic', 'apm reception');

	for (1 .. 100)
	{
		poll($node, 'clinic', q(SELECT state = 'idle' FROM apm.status WHERE worker = 'apm reception')) or die 'reception is not idle';
		kill('STOP', $pid);
		return $pid if $node->safe_psql('clinic', "SELECT count(*) FROM pg_locks WHERE pid = $pid") eq '0';
		kill('CONT', $pid);
	}
	die 'reception is never idle';
}

# --- who may, and what for
register('p1');
fails_as('doctor', q(SELECT apm_forget('p1', 'objection')), '42501', qr/permission denied/, 'a clinician has nobody forgotten');
fails_as('gauge', q(SELECT apm_forget('p1', 'objection')), '42501', qr/permission denied/, 'nor a sensor');
fails_with($node, 'clinic', q(SELECT apm_forget('p1', 'objection')), '42501', qr/forget a patient/, 'nor a superuser as such');
fails_as('clerk', q(SELECT apm_forget('p1', 'because')), '22023', qr/no such reason for an erasure.*no-longer-needed.*legal-obligation/s, 'a reason that is not on the list');
fails_as('clerk', q(SELECT apm_forget('p1', 'unconscious')), '22023', qr/HINT:(?!.*unconscious)/s, 'a reason that is for emergencies');
fails_as('doctor', q(SELECT * FROM apm_break_glass('p1', 'objection')), '22023', qr/no such reason for an emergency/, 'and the other way round');
fails_as('clerk', q(SELECT apm_forget('nobody', 'objection')), 'AP009', qr/no such patient/, 'somebody who is not registered');
fails_as('clerk', q(SELECT apm_forget('', 'objection')), '22023', qr/must not be empty/, 'no pid');
fails_as('clerk', "SELECT apm_forget($_)", '22004', qr/must not be null/, "null: $_") foreach (q(NULL, 'objection'), q('p1', NULL));
as('clerk', q(BEGIN; SELECT apm_forget('p1', 'objection'); ROLLBACK));
is(as('doctor', q(SELECT count(*) FROM apm_fetch('p1', 'treatment'))), '1', 'what is rolled back was never asked');
is(sql('SELECT count(*) FROM apm.erasure'), '0', 'and leaves no request');
fails_as('clerk', q(BEGIN; SELECT apm_forget('p1', 'objection'); PREPARE TRANSACTION 'x'), '0A000', qr/prepare/, 'it cannot be prepared');

# --- from the commit on, before anything else has happened
my $apr = as('doctor', q(SELECT apm_anonymize('p1', '{"diagnosis": "flu"}')));
register('p2');
as('gauge', q(SELECT apm_submit('p1', '{"Firstname": "Another", "diagnosis": "waits"}', '018f0000-0000-7000-8000-000000000001')));
wait_for($node, 'clinic', q(SELECT count(*) = 1 FROM apm.waiting WHERE reason = 'identity'), 'a record waits for him');
my $stopped = stop_reception();
as('gauge', q(SELECT apm_submit('p1', '{"diagnosis": "new"}', '018f0000-0000-7000-8000-000000000002')));
my $request = forget('p1');
is(sql('SELECT count(*) FROM apm.waiting'), '0', 'what waited for him is gone');
is(sql(q(SELECT count(*), bool_and(tid IS NULL AND submitted_at IS NULL) FROM apm.submission WHERE fingerprint = decode(repeat('00', 32), 'hex'))), '2|t',
	'and of it only the Rids are known');
unknown('p1', 'he is unknown to readers');
fails_as('doctor', q(SELECT apm_submit('p1', '{"diagnosis": "flu"}')), 'AP009', qr/no such patient/, 'to who submits');
fails_as('doctor', q(SELECT apm_anonymize('p1', '{"diagnosis": "flu"}')), 'AP009', qr/no such patient/, 'to who anonymizes');
fails_as('clerk', q(SELECT apm_grant_access('p1', 'doctor')), 'AP009', qr/no such patient/, 'to who enters consent');
fails_as('clerk', q(SELECT apm_update_patient('p1', attributes => '{"a": 1}')), 'AP009', qr/no such patient/, 'to who changes his profile');
fails_as('doctor', q(SELECT * FROM apm_break_glass('p1', 'unconscious', 'help')), 'AP001', qr/rule "patient"/, 'in an emergency, too');
fails_as('auditor', q(SELECT * FROM apm_access_history('p1')), 'AP001', qr/rule "patient"/, 'his history is nobody\'s');
fails_as('doctor', "SELECT apm_deanonymize('$apr', 'treatment')", 'AP009', qr/has been forgotten/, 'a record that was kept does not open');
is(as('doctor', q(SELECT string_agg(pid, ' ') FROM apm_search('{"diagnosis": "flu"}', 'treatment'))), 'p2', 'a search leaves him out');
is(as('scholar', q(SELECT count(*) FROM apm_export('flu'))), '1', 'so does a dataset');
fails_as('clerk', q(SELECT apm_register_patient('p1', '{"Firstname": "Name"}')), '55006', qr/is being forgotten/, 'he cannot be registered');
fails_as('doctor', q(SELECT apm_submit('p1', '{"Firstname": "Name", "diagnosis": "flu"}')), '55006', qr/is being forgotten/, 'nor with a record');
fails_as('clerk', q(SELECT apm_forget('p1', 'objection')), '55006', qr/is being forgotten/, 'nor forgotten twice');
is(as('clerk', "SELECT state, reason, rule IS NULL, voided IS NULL, finished_at IS NULL, asked_at <= now() FROM apm_erasure_state('$request')"),
	'asked|consent-withdrawn|t|t|t|t', 'the registrar sees how far it is');
fails_as('doctor', "SELECT * FROM apm_erasure_state('$request')", '42501', qr/permission denied/, 'others do not');
kill('CONT', $stopped);
state_is($request, 'done', 'then he is erased');
is(as('auditor', "SELECT reason, voided, finished_at >= asked_at FROM apm.erasure_request WHERE id = '$request'"), 'consent-withdrawn|2|t',
	'with his registration and his record');
is(sql(q(SELECT count(*) FROM apm.erasure WHERE coalesce(apid, tid::text, actor::text, roles::text) IS NOT NULL)), '0', 'and the request names him no more');
is(sql(q(SELECT bool_and(t = date_trunc('day', t, 'UTC')) FROM apm.erasure, unnest(ARRAY[asked_at, finished_at]) AS t)), 't', 'nor by the moment of the erasure');
is(as('auditor', q(SELECT ok, fault, erased FROM apm_verify())), 't||2', 'the ledger verifies, and says how much of it was not run again');
fails_as('doctor', "SELECT apm_deanonymize('$apr', 'treatment')", 'AP001', qr/rule "erased"/, 'the contract refuses what was kept');

# --- Rids that were used
as('gauge', q(SELECT apm_submit('p1', '{"diagnosis": "new"}', '018f0000-0000-7000-8000-000000000002')));
is(sql('SELECT count(*) FROM apm.waiting'), '0', 'a sensor that repeats itself hears and does nothing new');
fails_as('doctor', q(SELECT apm_submit('p2', '{"diagnosis": "new"}', '018f0000-0000-7000-8000-000000000002')), 'AP012', qr/used before/, 'to others the Rid is taken');
is(as('auditor', q(SELECT string_agg(station, ' ') FROM apm_trace('018f0000-0000-7000-8000-000000000002'))), 'forgotten', 'its trace says that it was forgotten');

# --- he returns
register('p1');
is(as('doctor', q(SELECT count(*) FROM apm_fetch('p1', 'treatment'))), '1', 'who returns begins anew');

# --- a record that is under way, and comes before the erasure
register('p3');
my $blocker = $node->background_psql('clinic', on_error_stop => 1);
$blocker->query_safe('BEGIN; LOCK TABLE apm.pool IN SHARE MODE');
my $late = submit('p3', 'cold');
$request = forget('p3');
state_is($request, 'sent', 'the erasure is sent, behind a record that the ledger does not have yet');
$blocker->query_safe('COMMIT');
state_is($request, 'done', 'and is carried out');
is(sql(q(SELECT count(*) > 0 FROM apm.refused WHERE kind = 'erasure' AND rule = 'erasure')), 't', 'once the contract has refused the one that missed a record');
is(sql("SELECT voided FROM apm.erasure_request WHERE id = '$request'"), '3', 'with the record that it had missed');

# --- one that comes after it
register('p4');
my $writer = $node->background_psql('clinic', on_error_stop => 1);
$writer->query_safe('SET ROLE doctor');
$late = $writer->query_safe(q(BEGIN; SELECT apm_submit('p4', '{"diagnosis": "cold"}')));
$late =~ s/^BEGIN\s*//;
$request = forget('p4');
state_is($request, 'done', 'somebody is forgotten while a record of his is not committed');
$writer->query_safe('COMMIT');
wait_for($node, 'clinic', "SELECT tid IS NULL AND fingerprint = decode(repeat('00', 32), 'hex') FROM apm.submission WHERE rid = '$late'", 'of which only the Rid is left');
is(sql(q(SELECT count(*) FROM apm.refused WHERE kind = 'primary' AND rule = 'erased')), '1', 'when the contract has refused it');

# --- a registration that is under way
$blocker->query_safe('BEGIN; LOCK TABLE apm.pool IN SHARE MODE');
as('clerk', q(SELECT apm_register_patient('p5', '{"Firstname": "Name"}')));
$request = forget('p5');
$node->safe_psql('clinic', 'SELECT apm_run_reception()');
state_is($request, 'asked', 'who is not on the ledger yet waits for it');
$blocker->query_safe('COMMIT');
state_is($request, 'done', 'and is erased from it');
is(sql("SELECT voided FROM apm.erasure_request WHERE id = '$request'"), '1', 'with his registration');

# --- one that the contract refuses for good
register('p6');
as('gauge', q(SELECT apm_submit('p6', '{"diagnosis": "early"}')));
wait_for($node, 'clinic', $settled, 'his records are there');
$stopped = stop_reception();
$request = forget('p6');
sql('UPDATE apm.erasure SET roles = 0 WHERE apid IS NOT NULL');
as('gauge', q(SELECT apm_submit('p6', '{"diagnosis": "late"}')));
kill('CONT', $stopped);
state_is($request, 'refused', 'a request that the contract refuses has come to its end');
is(as('clerk', "SELECT rule, voided IS NULL, finished_at IS NOT NULL FROM apm_erasure_state('$request')"), 'actor|t|t', 'and says by which rule');
wait_for($node, 'clinic', $settled, 'what came meanwhile is taken up');
is(as('doctor', q(SELECT string_agg(record->>'diagnosis', ' ' ORDER BY record->>'diagnosis') FROM apm_fetch('p6', 'treatment'))), 'early flu late', 'and the patient is back');
state_is(forget('p6'), 'done', 'he can be forgotten after that');

# --- one that cannot be built for a while
register('b1');
sql("CREATE TABLE kept AS SELECT b.* FROM apm.body AS b JOIN apm.ledger_record AS r USING (tid) WHERE r.apid = '" . apid() . "'");
my $guards = sql(q(SELECT string_agg(format('ENABLE ALWAYS TRIGGER %I', tgname), ', ') FROM pg_trigger WHERE tgrelid = 'apm.body'::regclass AND NOT tgisinternal));
my $tamper = sub { sql("BEGIN; ALTER TABLE apm.body DISABLE TRIGGER ALL; $_[0]; ALTER TABLE apm.body $guards; COMMIT") };
$tamper->('DELETE FROM apm.body WHERE tid IN (SELECT tid FROM kept)');
$request = forget('b1');
wait_for($node, 'clinic', q(SELECT last_error = 'a patient who is to be forgotten cannot be' FROM apm.status WHERE worker = 'apm reception'),
	'an erasure that cannot be built is shown');
register('b2');
state_is(forget('b2'), 'done', 'and keeps nobody else waiting');
is(sql("SELECT state FROM apm.erasure_request WHERE id = '$request'"), 'asked', 'it is still asked for');
$tamper->('INSERT INTO apm.body SELECT * FROM kept');
state_is($request, 'done', 'and is built when that is possible again');

# --- somebody is at work on him
as('chief', q(SELECT apm_add_data_rule('weight', 'weight', '{"non-decreasing": true}')));
wait_for($node, 'clinic', q(SELECT count(*) = 1 FROM apm.contract WHERE name = 'weight'), 'a data rule is in force');
register('p7');
$writer->query_safe(q(BEGIN; SELECT apm_submit('p7', '{"weight": 70}')));
$request = forget('p7');
wait_for($node, 'clinic', q(SELECT count(*) = 1 FROM apm.erasure AS e JOIN apm.final_transaction AS t USING (tid) WHERE t.rule = 0), 'he is erased from the ledger while a record of his is not committed');
register('p8');
is(sql("SELECT state FROM apm.erasure_request WHERE id = '$request'"), 'sent', 'what is held is not waited for by others');
$writer->query_safe('COMMIT');
state_is($request, 'done', 'and is destroyed when it is let go');

# --- a read that an erasure overtakes
register('r1');
$lock = session();
$lock->query_safe('BEGIN; LOCK TABLE apm.cloud_record IN ACCESS EXCLUSIVE MODE');
my ($reader_out, $reader_err) = ('', '');
my $reader = IPC::Run::start([ 'psql', '-XAt', '-v', 'VERBOSITY=verbose', '-d', $node->connstr('clinic') . ' user=doctor', '-c', q(SELECT * FROM apm_fetch('r1', 'treatment')) ],
	'>', \$reader_out, '2>', \$reader_err);
wait_for($node, 'clinic', q(SELECT count(*) = 1 FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
	WHERE a.backend_type = 'apm cloud' AND NOT l.granted AND l.relation = 'apm.cloud_record'::regclass), 'a reader was let through and waits for the cloud');
state_is(forget('r1'), 'done', 'meanwhile the patient is forgotten');
$lock->query_safe('COMMIT');
$reader->finish;
like($reader_err, qr/AP009: the patient has been forgotten/, 'the reader is told that, and not that the cloud was tampered with');
is($reader_out, '', 'and gets nothing');

# --- a table that was there before
register('t1');
register('t2');
sql(q(CREATE TABLE visit (id integer PRIMARY KEY, mrn text, diagnosis text); ALTER TABLE visit OWNER TO chief; GRANT INSERT, SELECT ON visit TO doctor;
	INSERT INTO visit SELECT g, 't' || 1 + g % 2, 'seen' FROM generate_series(1, 10) AS g));
as('chief', q(SELECT apm_attach('visit', 'mrn')));
as('chief', q(CALL apm_backfill('visit')));
wait_for($node, 'clinic', $settled, 'an old table is on the ledger');
is(as('doctor', q(SELECT count(*) FROM apm_fetch('t1', 'treatment'))), '6', 'with the visits of two patients');
state_is(forget('t1'), 'done', 'of whom one is forgotten');
as('chief', q(CALL apm_backfill('visit')));
is(sql('SELECT rows_refused, finished_at IS NOT NULL FROM apm.attachment'), '0|t', 'a backfill passes over his rows');
wait_for($node, 'clinic', $settled, 'the backfill is done');
is(as('doctor', q(SELECT count(*) FROM apm_fetch('t2', 'treatment'))), '6', 'and the other has his once');
fails_as('doctor', q(INSERT INTO visit VALUES (11, 't1', 'new')), 'AP009', qr/no such patient/, 'a new row of his is refused');

# --- a journal that is lost
my ($file) = grep { /^erasure-journal-[0-9a-f]{16}$/ } slurp_dir($keys);
my @names = sort(slurp_file("$keys/$file") =~ /(\$2b\$04\$[.\/A-Za-z0-9]{53})/g);
is(scalar(@names), sql('SELECT count(*) FROM apm.ledger_patient WHERE erased_height IS NOT NULL'), 'the journal has everybody');
unlink("$keys/$file") or die $!;
register('t3');    # a turn of reception
wait_for($node, 'clinic', "SELECT (pg_stat_file('$keys/$file', true)).size = " . @names . ' * (30 + 4 + 60 + 32)', 'it is lost, and the ledger knows whom it had');
my %now = map { $_ => 1 } slurp_file("$keys/$file") =~ /(\$2b\$04\$[.\/A-Za-z0-9]{53})/g;
is_deeply([ grep { !$now{$_} } @names ], [], 'and they are in it again');

# --- killed at each step
sub kill_reception
{
	my ($name) = @_;
	my $pid = worker_pid($node, 'clinic', 'apm reception');

	kill('KILL', $pid);
	ok(poll($node, 'clinic', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid"), "killed $name");
	return;
}

# Waits until reception waits for somebody else's lock on that table.
sub waits_at
{
	my ($table, $name) = @_;
	return wait_for($node, 'clinic', "SELECT count(*) = 1 FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
		WHERE a.backend_type = 'apm reception' AND NOT l.granted AND l.relation = 'apm.$table'::regclass", $name);
}

# How often the journal has an aPid.
sub entries
{
	my ($apid) = @_;
	my ($file) = grep { /^erasure-journal-[0-9a-f]{16}$/ } slurp_dir($keys);
	my $entries = () = slurp_file("$keys/$file") =~ /\Q$apid\E/g;

	return $entries;
}

# Nothing of him is left, and it was done once.
sub gone
{
	my ($pid, $apid, $id, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	state_is($id, 'done', "$name: it is done all the same");
	unknown($pid, "$name: he is unknown");
	is(sql("SELECT count(*) FROM (SELECT apid FROM apm.patient UNION ALL SELECT apid FROM apm.profile UNION ALL SELECT apid FROM apm.last_value
		UNION ALL SELECT apid FROM apm.note UNION ALL SELECT apid FROM apm.erasure) AS x WHERE apid = '$apid'"), '0', "$name: nothing is left of him");
	is(entries($apid), 1, "$name: the journal has him once");
	is(sql("SELECT count(*) FROM apm.leaf AS l JOIN apm.ledger_void AS v ON v.erasure = l.tid WHERE v.apid = '$apid' AND v.kind = 1 AND l.rule = 0"), '1', "$name: the ledger has erased him once");
	is(as('auditor', q(SELECT ok, fault FROM apm_verify())), 't|', "$name: the ledger verifies");
	return;
}

register('k1');
my $apid = apid();
$lock = session();
$lock->query_safe('BEGIN; LOCK TABLE apm.queue IN SHARE MODE');
$request = forget('k1');
waits_at('queue', 'reception has built the erasure');
kill_reception('before it is sent');
gone('k1', $apid, $request, 'killed before it was sent');

foreach my $step (
	[ 'erasure', 'k2', 'before the final transaction is looked at' ],
	[ 'note', 'k3', 'with the journal written and nothing destroyed' ],
	[ 'submission', 'k4', 'with the patient destroyed and his submissions not' ],
	[ 'erasure', 'k5', 'with everything destroyed and the request not ended' ])
{
	my ($table, $pid, $name) = @$step;
	my $pool = session();

	register($pid);
	$apid = apid();
	$pool->query_safe('BEGIN; LOCK TABLE apm.pool IN SHARE MODE');
	$request = forget($pid);
	state_is($request, 'sent', "$pid is on his way");
	if ($pid eq 'k2')
	{
		kill_reception($name);
	}
	else
	{
		$lock = session();
		$lock->query_safe("BEGIN; LOCK TABLE apm.$table IN SHARE MODE");
		$pool->query_safe('COMMIT');
		waits_at($table, "reception has come to apm.$table");
		is(sql("SELECT count(*) FROM apm.patient WHERE apid = '$apid'"), '1', 'of what it does nothing is committed');
		is(entries($apid), 1, 'the journal has him before that');
		kill_reception($name);
	}
	gone($pid, $apid, $request, "killed $name");
}

$node->stop;
done_testing();
