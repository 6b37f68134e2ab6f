# A table of 100,000 visits is attached and backfilled while it is in use, and every row becomes
# one record, whatever ends the backfill.
#
# Two clients insert new visits all the time; a third updates old ones, and deletes some and inserts their keys
# again.  Meanwhile the backfill is cancelled, killed with the whole server, run twice side by side and cut off by an
# immediate stop, and called again each time.  The network server's queue is short, so that it has to wait.
#
# APM_VISITS: how many visits.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use ApmTest;
use IPC::Run;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $visits = $ENV{APM_VISITS} // 100_000;
my $patients = 200;
my $node = apm_node('hospital', settings => { restart_after_crash => 'on', 'apm.max_queue' => 20000, default_transaction_isolation => 'repeatable read' });
my $over = $node->basedir . '/over';
my $arrived = q(SELECT NOT EXISTS (SELECT FROM apm.queue) AND NOT EXISTS (SELECT FROM apm.pool) AND NOT EXISTS (SELECT FROM apm.final_queue));

sub sql { return query($node, 'clinic', @_) }
sub progress { return sql(q(SELECT rows_done FROM apm.attachment)) }
sub records { return sql('SELECT count(*) FROM apm.ledger_record') }

sql(qq(
	CREATE ROLE dba LOGIN; GRANT apm_admin TO dba;
	CREATE ROLE app LOGIN; GRANT apm_clinician TO app;
	CREATE TABLE visit (ward integer, id bigint, mrn text, diagnosis text, seen date, PRIMARY KEY (ward, id));
	ALTER TABLE visit OWNER TO dba; GRANT ALL ON visit TO app;
	INSERT INTO visit SELECT id % 7, id, CASE WHEN id % 1000 = 0 THEN 'again' ELSE 'p' || id % $patients END, md5(id::text), '2020-01-01'
		FROM generate_series(1, $visits) AS id));
sql(qq(SELECT count(apm_register_patient(pid, jsonb_build_object('Firstname', 'Any'))) FROM (
	SELECT 'p' || g FROM generate_series(0, $patients - 1) AS g UNION VALUES ('again')) AS p (pid)), 'dba');
wait_for($node, 'clinic', $arrived, 'the patients are registered');

# --- three rows that cannot be records
sql(q(INSERT INTO visit VALUES (3, 999999, NULL, 'x'), (3, 999998, 'stranger', 'x'), (0, 999997, 'late', 'x')), 'dba');
sql(q(SELECT apm_attach('visit', 'mrn')), 'dba');

# --- while it is in use
my $started = time;
my @clients = map { client($_) } (\&insert_visits, \&insert_visits, \&change_visits);

my $backfill = start_backfill();
await_progress(0.1);
is(sql(q(SELECT count(*) FROM (SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename = 'dba') AS c)), 1, 'a backfill is cancelled');
ends_with($backfill, qr/canceling statement/);
my $done = progress();
cmp_ok($done, '>=', $visits * 0.1, 'what it had done stays done');

$backfill = start_backfill();
await_progress(0.3);
my $pid = sql(q(SELECT pid FROM pg_stat_activity WHERE usename = 'dba'));
kill('KILL', $pid);
ends_with($backfill, qr/server closed the connection|terminating connection/);
poll($node, 'clinic', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid") or die 'server does not come back';
cmp_ok(progress(), '>=', $visits * 0.3, 'killed, it has lost nothing');

my @both = (start_backfill(), start_backfill());
await_progress(0.6);
$node->stop('immediate');
ends_with($_, qr/server closed the connection|terminating connection/) foreach @both;
$node->start;

@both = (start_backfill(), start_backfill());
$_->finish foreach @both;
unlike($_->{errors}, qr/ERROR|FATAL/, 'two backfills side by side come to the end') foreach @both;
note(sprintf('backfilled after %d s', time - $started));

append_to_file($over, 'x');
foreach my $client (@clients)
{
	waitpid($client, 0);
	is($?, 0, 'a client met no error but lost connections and a full queue');
}

# --- every row exactly once
is(sql(q(SELECT finished_at IS NOT NULL, rows_refused, rows_done >= (SELECT count(*) FROM visit WHERE id < 1000000) FROM apm.attachment)), 't|3|t', 'the view shows the end');
wait_for($node, 'clinic', $arrived, 'all is on the ledger');
note(sprintf('on the ledger after %d s', time - $started));
sql(q(CREATE TABLE derived AS SELECT id, mrn, apm_attached_rid(v) AS rid FROM visit AS v));
is(sql(q(SELECT count(*) FROM derived AS d LEFT JOIN apm.ledger_record AS r USING (rid) WHERE r.rid IS NULL)), '3', 'every row that can be a record is one');
is(sql(q(SELECT string_agg(d.id || ' ' || r.code, ', ' ORDER BY d.id) FROM apm.attachment_refused AS r JOIN derived AS d USING (rid))),
	'999997 AP009, 999998 AP009, 999999 23502', 'and those that cannot are named, with the reason');
my $again = sql(q(SELECT count(*) FROM apm_fetch('again', 'treatment')), 'app');
is(records() - $again, sql(q(SELECT count(*) - 3 FROM visit WHERE mrn IS DISTINCT FROM 'again')), 'and no row is two');
cmp_ok($again, '>=', sql(q(SELECT count(*) FROM visit WHERE mrn = 'again')), 'but for those that were deleted and inserted again');
is(sql(q(SELECT count(*) FROM visit AS v WHERE mrn = 'again' AND NOT EXISTS (SELECT FROM apm_fetch('again', 'treatment') AS f
	WHERE (f.record->>'id')::bigint = v.id AND f.record->>'diagnosis' = v.diagnosis)), 'app'), '0', 'whose last content is a record');
is(sql(q(SELECT count(*), count(DISTINCT record->'id'), bool_and(record->>'ward' = ((record->>'id')::bigint % 7)::text) FROM apm_fetch('p7', 'treatment')), 'app'),
	sql(q(SELECT count(*) || '|' || count(*) || '|t' FROM visit WHERE mrn = 'p7')), 'a patient\'s visits read back');
is(sql(q(SELECT bool_and(flags = CASE WHEN (record->>'id')::bigint < 1000000 THEN '{late}'::text[] ELSE '{}' END) FROM apm_fetch('p7', 'treatment')), 'app'),
	't', 'those of before as late ones');
is(sql(q(SELECT count(*) FROM apm.final_transaction WHERE rule <> 0)), '0', 'the contract refused nothing');

# --- once more, after the rows have been put right
note(sprintf("read after %d s", time - $started));
my $before = records();
sql(q(SELECT apm_register_patient('late', '{"Firstname": "Late"}')), 'dba');
my ($ok, $out, $warning) = $node->psql('clinic', q(CALL apm_backfill('visit', 50000)), connstr => $node->connstr('clinic') . ' user=dba');
like($warning, qr/WARNING:  2 rows could not be submitted/, 'a backfill that is called again tries them again');
wait_for($node, 'clinic', "SELECT count(*) = $before + 1 FROM apm.ledger_record", 'and no others');
is(sql(q(SELECT string_agg(code, ' ' ORDER BY code) FROM apm.attachment_refused)), '23502 AP009', 'what it took is not listed any more');
sql(q(DELETE FROM visit WHERE id IN (999998, 999999); CALL apm_backfill('visit')), 'dba');
is(sql(q(SELECT rows_refused, (SELECT count(*) FROM apm.attachment_refused) FROM apm.attachment)), '0|0', 'at last nothing is refused');

# --- nobody waits for a backfill that waits for him
sql(q(CREATE TABLE corner (id integer PRIMARY KEY, mrn text); INSERT INTO corner SELECT g, 'p1' FROM generate_series(1, 100) AS g;
	ALTER TABLE corner OWNER TO dba; GRANT ALL ON corner TO app; SET ROLE dba; SELECT apm_attach('corner', 'mrn')));
$before = sql('SELECT count(*) FROM apm.submission');
my $user = $node->background_psql('clinic', on_error_stop => 1);
$user->query_safe(q(SET ROLE app; BEGIN ISOLATION LEVEL READ COMMITTED; DELETE FROM corner WHERE id = 50; INSERT INTO corner VALUES (50, 'p1')));
$backfill = start_backfill('corner');
wait_for($node, 'clinic', q(SELECT count(*) = 1 FROM pg_stat_activity WHERE usename = 'dba' AND wait_event_type = 'Lock'), 'a backfill waits for somebody who deletes a row and inserts it again');
$user->query_safe(q(DELETE FROM corner WHERE id <> 50; INSERT INTO corner SELECT g, 'p1' FROM generate_series(1, 100) AS g WHERE g <> 50; COMMIT));
$user->quit;
$backfill->finish;
is($backfill->{errors}, '', 'who does the same with the others: they come to no deadlock');
is(sql('SELECT count(*) FROM apm.submission') - $before, 149, 'every row that there was before him, and each that there is, is one record');

$node->stop;
done_testing();

# A backfill in a session of its own; in the end ->finish, and its ->{errors}.
sub start_backfill
{
	my ($table) = @_;
	my $session = { errors => '' };

	$session->{run} = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('clinic') . ' user=dba', '-c', sprintf(q(CALL apm_backfill('%s', 500)), $table // 'visit') ],
		'<', \undef, '>', \$session->{out}, '2>', \$session->{errors},
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	return bless($session, 'Backfill');
}

sub Backfill::finish
{
	my ($session) = @_;

	return $session->{run}->finish;
}

sub ends_with
{
	my ($session, $pattern) = @_;

	$session->finish;
	return like($session->{errors}, $pattern, 'a backfill ends');
}

# Until that part of the rows is done.
sub await_progress
{
	my ($part) = @_;

	poll($node, 'clinic', "SELECT rows_done >= $part * $visits FROM apm.attachment") or die 'the backfill does not go on';
	return;
}

# A process that does something again and again until it is over.
sub client
{
	my ($do) = @_;
	my $child = fork();

	die "fork: $!" unless defined $child;
	return $child if $child;
	# whatever happens here, the parent's servers are not this process's to stop
	eval {
		my $n = 0;
		$do->($n++) until -e $over;
		POSIX::_exit(0);
	};
	print STDERR $@;
	POSIX::_exit(1);
}

# Repeats a statement until it is done, through lost connections and a full queue.
sub insist
{
	my ($statement) = @_;

	until (IPC::Run::run([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-v', 'VERBOSITY=sqlstate', '-d', $node->connstr('clinic') . ' user=app', '-c', $statement ],
			'>', \my $out, '2>', \my $err))
	{
		die "$statement: $err" if $err =~ /ERROR:  (?!53400|57P0)/;
		poll($node, 'clinic', 'SELECT true') or die 'server does not come back';
	}
	return;
}

sub insert_visits
{
	my ($n) = @_;
	my $first = $$ * 1_000_000 + $n * 10;

	return insist("INSERT INTO visit SELECT id % 7, id, 'p' || id % $patients, 'new', current_date FROM generate_series($first, $first + 9) AS id ON CONFLICT DO NOTHING");
}

sub change_visits
{
	my ($n) = @_;
	my $id = 1 + ($n * 7919) % $visits;
	my @again = map { 1000 * (1 + ($n * 37 + $_) % ($visits / 1000)) } $n % 2 ? (0, 1) : (1, 0);

	insist("UPDATE visit SET diagnosis = 'changed' WHERE id BETWEEN $id AND $id + 20 AND mrn <> 'again'");
	return insist('BEGIN ISOLATION LEVEL READ COMMITTED;'
		. join('', map { "DELETE FROM visit WHERE id = $_; INSERT INTO visit VALUES ($_ % 7, $_, 'again', 'again $n', '2020-01-01');" } @again) . 'COMMIT');
}
