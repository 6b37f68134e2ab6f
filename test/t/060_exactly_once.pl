# An acknowledged record ends as exactly one final transaction and one row in the
# cloud, whatever dies on the way.
#
# Four clients, two of them sensors, submit records and repeat each transaction, with the same
# Rids, until its COMMIT is answered; some patients are registered only after their sensors'
# first records.  Meanwhile each worker is killed with -9 in turn (which restarts
# the whole server every time), the cloud's server is stopped for a while and the
# hospital's is restarted in immediate mode.  In the end every record is one final
# transaction, one row in the cloud, and reads back as it was put in.
#
# APM_RECORDS, APM_ROUNDS: how many records, and how many rounds of kills.

use strict;
use warnings;

use lib 'test/perl';
use ApmTest;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $records = $ENV{APM_RECORDS} // 10000;
my $rounds = $ENV{APM_ROUNDS} // 1;
my $clients = 4;
my $batch = 20;
my $patients = 40;
my $late = 8;    # further ones, of whom sensors speak before anybody registers them
my @workers = ('apm reception', 'apm network server', 'apm miner', 'apm cloud', 'apm launcher');
my @users = qw(app gateway);

my $cloud = PostgreSQL::Test::Cluster->new('cloud');
$cloud->init;
$cloud->start;
$cloud->safe_psql('postgres', 'CREATE TABLE ehr (rid uuid PRIMARY KEY, apid text NOT NULL, apr bytea NOT NULL, tokens bytea[] NOT NULL)');

my $hospital = apm_node('hospital', settings => { restart_after_crash => 'on' });
attach_cloud($hospital, $cloud);
$hospital->safe_psql('clinic', 'CREATE ROLE app LOGIN; GRANT apm_clinician TO app; CREATE ROLE gateway LOGIN IN ROLE apm_sensor;
	CREATE ROLE clerk IN ROLE apm_registrar');
register(0, $patients - 1);

my @children = map { start_client($_) } (0 .. $clients - 1);

# What happens while they work.  After each blow, records must go on arriving.
my @unregistered = ($patients .. $patients + $late - 1);
foreach my $round (1 .. $rounds)
{
	foreach my $worker (@workers)
	{
		await_progress();
		register_next();
		kill_worker($worker);
	}
	await_progress();
	$cloud->stop('fast');
	await_progress();
	$cloud->start;
	await_progress();
	$hospital->stop('immediate');
	$hospital->start;
}

cmp_ok(query($hospital, 'clinic', 'SELECT count(*) FROM apm.submission'), '<', $records, 'records were still arriving at the last blow');

register_next() while @unregistered;
foreach my $pid (@children)
{
	waitpid($pid, 0);
	is($?, 0, 'a client had all its transactions acknowledged');
}
wait_for($hospital, 'clinic', drained(), 'everything on its way arrived')
  or BAIL_OUT('records are stuck');

is(query($hospital, 'clinic',
		q(SELECT count(*) FROM apm.final_transaction WHERE kind = 2 AND rule = 0)),
	$records, 'one final transaction a record');
is(query($hospital, 'clinic', q(SELECT count(*) FROM apm.final_transaction WHERE rule <> 0)),
	'0', 'no transaction was refused');
is(query($hospital, 'clinic', q(SELECT count(*) FROM apm.quarantine)), '0', 'nothing was quarantined');
is(query($cloud, 'postgres', 'SELECT count(*) FROM ehr'), $records, 'one row in the cloud a record');
is(fetched_as_submitted(), $records, 'every record reads back as it was put in');
is(query($hospital, 'clinic', 'SELECT ok FROM apm_verify()'), 't', 'the ledger verifies');

$hospital->stop;
$cloud->stop;
done_testing();

# Registers patients; what waits for them goes on.
sub register
{
	my ($first, $last) = @_;
	return query($hospital, 'clinic',
		"SELECT count(apm_register_patient('patient-' || p, jsonb_build_object('Firstname', 'First' || p, 'Lastname', 'Last' || p)))
		 FROM generate_series($first, $last) AS p", 'clerk');
}

sub register_next
{
	my $next = shift @unregistered;

	return if !defined $next;
	poll($hospital, 'clinic', 'SELECT count(*) > 0 FROM apm.waiting') or die 'nothing waits';
	return register($next, $next);
}

# One client: its share of the records, $batch a transaction, each repeated until acknowledged.
sub start_client
{
	my ($client) = @_;
	my $pid = fork();
	die "fork: $!" unless defined $pid;
	return $pid if $pid;

	# whatever happens here, the parent's servers are not this process's to stop
	eval { submit_all($client); POSIX::_exit(0) };
	POSIX::_exit(1);
}

sub submit_all
{
	my ($client) = @_;

	for (my $first = $client * $batch; $first < $records; $first += $clients * $batch)
	{
		my $last = ($first + $batch > $records ? $records : $first + $batch) - 1;
		my $sql = sprintf(
			'INSERT INTO apm.patient_record (pid, record, rid) SELECT %s FROM generate_series(%d, %d) AS n',
			"'patient-' || " . patient_of('n') . ', ' . record_of('n') . ', ' . rid_of('n'), $first, $last);

		until (submitted($users[ $client % @users ], $sql))
		{
			# The server may be starting: ask it, not the clock.
			poll($hospital, 'clinic', 'SELECT true') or die 'server does not come back';
		}
	}
	return;
}

sub submitted
{
	my ($user, $sql) = @_;
	my $result = IPC::Run::run(
		[ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $hospital->connstr('clinic') . " user=$user", '-c', $sql ],
		'>', \my $out, '2>', \my $err);

	return $result;
}

# SQL expressions for the n-th record's patient, the record and its Rid.
sub patient_of
{
	my ($n) = @_;
	my $sensor = "$n / $batch % " . @users . ' = 1';
	return "(CASE WHEN $sensor AND $n % 4 = 0 THEN $patients + $n / 4 % $late ELSE $n % $patients END)";
}

sub record_of
{
	my ($n) = @_;
	return "jsonb_build_object('visit', $n, 'note', repeat(md5($n\::text), 8), 'nested', jsonb_build_array($n, null, 'x'))";
}

sub rid_of
{
	my ($n) = @_;
	return "('00000000-0000-7000-8000-' || lpad(to_hex($n), 12, '0'))::uuid";
}

# More records are acknowledged than a moment ago, or all of them.
sub await_progress
{
	my $sql = 'SELECT count(*) FROM apm.submission';
	my $before;

	poll($hospital, 'clinic', 'SELECT true') or die 'server does not come back';
	$before = $hospital->safe_psql('clinic', $sql);
	poll($hospital, 'clinic', "SELECT ($sql) > $before OR ($sql) = $records")
	  or die 'no record arrives any more';
	return;
}

# Not its start-up, the work of a worker is to be interrupted: wait until it runs.
sub kill_worker
{
	my ($type) = @_;
	my $find = "SELECT pid FROM pg_stat_activity WHERE backend_type = '$type'";

	poll($hospital, 'postgres', "SELECT count(*) = 1 FROM ($find) AS w")
	  or die "worker $type does not run";
	my $pid = $hospital->safe_psql('postgres', $find);
	kill('KILL', $pid) == 1 or die "cannot kill $type";
	# its death restarts the server: a backend that was there before must be gone
	poll($hospital, 'postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid");
	pass("killed $type");
	return;
}

sub drained
{
	return q(SELECT NOT EXISTS (SELECT FROM apm.waiting) AND NOT EXISTS (SELECT FROM apm.queue) AND NOT EXISTS (SELECT FROM apm.pool)
		AND NOT EXISTS (SELECT FROM apm.final_queue) AND NOT EXISTS (SELECT FROM apm.outbox));
}

# How many records come back through apm_fetch with exactly the content that was submitted.
sub fetched_as_submitted
{
	my $record = record_of('n');
	my $rid = rid_of('n');
	my $patient = patient_of('n');

	return query($hospital, 'clinic', qq(
		CREATE TEMP TABLE fetched AS
			SELECT p, f.rid, f.record FROM generate_series(0, $patients + $late - 1) AS p, apm_fetch('patient-' || p, 'treatment') AS f;
		SELECT count(*) FROM generate_series(0, $records - 1) AS n
			JOIN fetched AS f ON f.rid = $rid AND f.p = $patient
			 AND f.record = $record || jsonb_build_object('Firstname', 'First' || f.p, 'Lastname', 'Last' || f.p)
			WHERE (SELECT count(*) FROM fetched) = $records), 'app');
}
