# The launcher and its workers: that they run where they should and nowhere else, come
# back after every death, stand in the way of nobody, and say what they are doing.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use ApmTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my @types = ('apm network server', 'apm miner', 'apm cloud', 'apm reception');
my $all = @types;
my $count_workers = q(SELECT count(*) FROM pg_stat_activity
	WHERE datname = '%s' AND backend_type IN ('apm network server', 'apm miner', 'apm cloud', 'apm reception'));

sub workers_are
{
	my ($node, $database, $number, $name) = @_;
	return wait_for($node, 'postgres', sprintf($count_workers, $database), $name, $number);
}

# Every worker is between turns, and has done one since it started.
sub workers_idle
{
	my ($node, $database, $name) = @_;
	return wait_for($node, $database, qq(SELECT count(*) = $all
		FROM apm_worker_status() AS s JOIN pg_stat_activity AS a USING (pid)
		WHERE s.database = '$database' AND s.state = 'idle' AND s.last_turn > a.backend_start), $name);
}

# The workers that run now, as a list for SQL.
sub worker_pids
{
	my ($node, $database) = @_;
	return $node->safe_psql('postgres', "SELECT string_agg(pid::text, ',') FROM pg_stat_activity
		WHERE datname = '$database' AND backend_type LIKE 'apm %'");
}

# None of these workers runs any more, and there are as many others.
sub workers_renewed
{
	my ($node, $database, $pids, $name) = @_;
	return wait_for($node, 'postgres', "SELECT count(*) = $all AND bool_and(pid NOT IN ($pids)) FROM pg_stat_activity
		WHERE datname = '$database' AND backend_type LIKE 'apm %'", $name);
}

# Log lines since a position that match.
sub logged
{
	my ($node, $since, $pattern) = @_;
	return scalar grep { /$pattern/ } split /\n/, substr(slurp_file($node->logfile), $since);
}

my $node = apm_node('worker', extension => 0,
	settings => { 'apm.databases' => 'clinic, ward', 'restart_after_crash' => 'on' });

# --- before the extension is there
wait_for($node, 'postgres', q(SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'apm launcher'),
	'the launcher runs');
is($node->safe_psql('postgres', q(SELECT count(*) FROM pg_roles WHERE rolname = 'apm_worker')), '0', 'there is no role apm_worker');
unlike(slurp_file($node->logfile), qr/ERROR|FATAL|WARNING|apm (miner|cloud|network|reception)/,
	'without extension and role nothing is said and nothing tried');

# --- the extension comes
$node->safe_psql('clinic', 'CREATE EXTENSION apm CASCADE');
workers_are($node, 'clinic', $all, 'CREATE EXTENSION starts the workers');
workers_idle($node, 'clinic', 'each does a turn');
workers_are($node, 'ward', 0, 'a listed database without the extension has none');
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('other', 'CREATE EXTENSION apm CASCADE');
workers_are($node, 'other', 0, 'nor has one that is not listed');
is( $node->safe_psql('other', q(SELECT string_agg(state, ',') FROM apm_worker_status() WHERE database = 'other')),
	'off,off,off,off', 'whose status says so');

# --- between turns they hold nothing
is( $node->safe_psql('clinic', q(SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
		WHERE backend_type LIKE 'apm %' AND state = 'idle')),
	'0', 'no lock');
is( $node->safe_psql('clinic', q(SELECT count(*) FROM pg_stat_activity
		WHERE backend_type LIKE 'apm %' AND state = 'idle' AND (backend_xmin IS NOT NULL OR xact_start IS NOT NULL))),
	'0', 'no snapshot and no transaction');
is( $node->safe_psql('clinic', q(SELECT DISTINCT usename FROM pg_stat_activity
		WHERE backend_type LIKE 'apm %' AND datname IS NOT NULL)),
	'apm_worker', 'they are the role apm_worker');

# --- settings that somebody attached to the database or the role do not reach a turn
$node->safe_psql('clinic', q(
	ALTER DATABASE clinic SET default_transaction_read_only = on;
	ALTER DATABASE clinic SET search_path = nowhere;
	ALTER DATABASE clinic SET session_replication_role = replica;
	ALTER ROLE apm_worker SET statement_timeout = 1;
	ALTER ROLE apm_worker SET synchronous_commit = off;));
my $since = -s $node->logfile;
my $pids = worker_pids($node, 'clinic');
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid IN ($pids)");
workers_renewed($node, 'clinic', $pids, 'workers start under hostile settings');
$node->safe_psql('postgres', 'ALTER DATABASE clinic RESET ALL; ALTER ROLE apm_worker RESET ALL');
workers_idle($node, 'clinic', 'and do turns');
is(logged($node, $since, 'ERROR'), 0, 'without an error');

# --- each death
foreach my $type (@types)
{
	my $pid = worker_pid($node, 'clinic', $type);

	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	wait_for($node, 'postgres',
		"SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = '$type' AND datname = 'clinic' AND pid <> $pid",
		"$type comes back after pg_terminate_backend");

	$pid = worker_pid($node, 'clinic', $type);
	kill('KILL', $pid);
	wait_for($node, 'postgres',
		"SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = '$type' AND datname = 'clinic' AND pid <> $pid",
		"$type comes back after kill -9");
	workers_are($node, 'clinic', $all, 'and there is one of each');
}

# --- the launcher's own deaths: it adopts what runs
my $launcher = $node->safe_psql('postgres', q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'apm launcher'));
my $miner = worker_pid($node, 'clinic', 'apm miner');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($launcher)");
wait_for($node, 'postgres',
	"SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'apm launcher' AND pid <> $launcher",
	'the launcher comes back after pg_terminate_backend');
is(worker_pid($node, 'clinic', 'apm miner'), $miner, 'its workers went on');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($miner)");
wait_for($node, 'postgres',
	"SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'apm miner' AND pid <> $miner",
	'the new launcher notices the end of a worker that it did not start');
workers_are($node, 'clinic', $all, 'and there is one of each');

# --- the list changes
set_and_reload($node, 'apm.databases', 'other');
workers_are($node, 'clinic', 0, 'a database that leaves the list loses its workers');
workers_are($node, 'other', $all, 'one that comes gets them');
set_and_reload($node, 'apm.databases', 'clinic, ward, "no such"');
workers_are($node, 'clinic', $all, 'and back');
workers_are($node, 'other', 0, 'and forth');

# --- the extension goes and comes
$since = -s $node->logfile;
$node->safe_psql('clinic', 'DROP EXTENSION apm');
workers_are($node, 'clinic', 0, 'DROP EXTENSION ends the workers');
is(logged($node, $since, 'ERROR|FATAL|WARNING|PANIC'), 0, 'without a word in the log');
$node->safe_psql('clinic', 'CREATE EXTENSION apm');
workers_are($node, 'clinic', $all, 'CREATE EXTENSION starts them again at once');
$pids = worker_pids($node, 'clinic');
$node->safe_psql('clinic', 'BEGIN; DROP EXTENSION apm; CREATE EXTENSION apm; COMMIT');
workers_renewed($node, 'clinic', $pids, 'a new life of the extension gets new workers');
$node->safe_psql('clinic', 'BEGIN; DROP EXTENSION apm; ROLLBACK');
workers_idle($node, 'clinic', 'a DROP EXTENSION that is rolled back leaves them running');

# --- the database goes
foreach my $round (1 .. 3)
{
	$node->safe_psql('postgres', 'DROP DATABASE IF EXISTS ward');
	$node->safe_psql('postgres', 'CREATE DATABASE ward');
	$node->safe_psql('ward', 'CREATE EXTENSION apm CASCADE');
	workers_are($node, 'ward', $all, "round $round: a new database of a listed name gets workers");
	my ($state) = sqlstate($node, 'postgres', 'DROP DATABASE ward');
	is($state, '00000', "round $round: DROP DATABASE is not held up by them");
}
is($node->safe_psql('clinic', q(SELECT count(*) FROM apm_worker_status() WHERE database = 'ward')),
	'0', 'nobody speaks of it any more');

# --- who may look
fails_with($node, 'clinic', 'SELECT * FROM apm_worker_status()', '42501', qr/permission denied/,
	'status is not for everybody', 'apm_clinician');
is(query($node, 'clinic', q(SELECT count(*) FROM apm_worker_status() WHERE database = 'clinic'), 'apm_admin'),
	$all, 'but for apm_admin');

# --- a standby
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('worker_standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'apm %')),
	'0', 'no worker and no launcher on a standby');
fails_with($standby, 'clinic', 'SELECT apm_run_miner()', '25006', qr/standby/, 'nor a worker for once');
$standby->promote;
workers_are($standby, 'clinic', $all, 'workers start at promotion');
$standby->stop;

# --- no slot: PostgreSQL has a launcher of its own, we have one, and one slot is left
$node->append_conf('postgresql.conf', "max_worker_processes = 3\n");
$node->restart;
$node->wait_for_log(qr/no slot is free for the workers of apm/);
workers_are($node, 'clinic', 1, 'one worker finds a slot');
set_and_reload($node, 'apm.databases', 'clinic');
is(scalar(() = slurp_file($node->logfile) =~ /no slot is free for the workers of apm/g), 1, 'the launcher says once that there are too few');
fails_with($node, 'clinic', 'SELECT apm_run_miner()', '53000', qr/max_worker_processes/, 'a worker for once says so, too');

# --- the end
$since = -s $node->logfile;
$node->stop('fast');
is(logged($node, $since, 'FATAL:.*apm|terminating background worker "apm (miner|cloud|network|reception)'), 0, 'workers end quietly');

done_testing();
