# Workers that run once, from SQL: that they work without preload and hand their errors
# to the caller; and that resident workers and mailbox say plainly that they cannot.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use ApmTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = apm_node('once', setup => 0, settings => { 'shared_preload_libraries' => '', 'apm.databases' => '' });
my @functions = qw(apm_run_network_server apm_run_miner apm_run_cloud_sync);

is($node->safe_psql('postgres', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'apm %')),
	'0', 'without preload nothing runs by itself');
foreach my $function (@functions)
{
	is(query($node, 'clinic', "SELECT $function()"), '', "$function runs");
	is(query($node, 'clinic', "SELECT $function()", 'apm_admin'), '', "$function runs for apm_admin");
	fails_with($node, 'clinic', "SELECT $function()", '42501', qr/permission denied/, "$function is not for others",
		'apm_clinician');
}
is($node->safe_psql('postgres', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'apm %')),
	'0', 'nothing is left running');
is(query($node, 'clinic', q(SELECT DISTINCT state FROM apm_worker_status())), 'off', 'status says that there are no workers');

# --- an error comes back, without the values in it
$node->safe_psql('clinic', q(
	CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'CANARY' USING ERRCODE = '23514'; END$$;
	CREATE TRIGGER spoil BEFORE DELETE ON apm.queue FOR EACH STATEMENT EXECUTE FUNCTION spoil();));
my ($state, $message) = sqlstate($node, 'clinic', 'SELECT apm_run_network_server()');
SKIP:
{
	skip 'the network server does not touch an empty queue', 2 if $state eq '00000';
	is($state, '55000', 'a worker that fails fails its caller');
	unlike($message, qr/CANARY/, 'in words without values');
}
$node->safe_psql('clinic', 'DROP FUNCTION spoil() CASCADE');

# --- a worker that waits for a lock goes with its caller
$node->safe_psql('clinic', 'ALTER DATABASE clinic SET statement_timeout = 0');
my $blocker = $node->background_psql('clinic');
$blocker->query_safe('BEGIN; LOCK TABLE apm.queue, apm.pool, apm.outbox');
fails_with($node, 'clinic', q(SET statement_timeout = '300ms'; SELECT apm_run_network_server()), '57014', qr/statement timeout/,
	'the caller can be cancelled');
wait_for($node, 'postgres', q(SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type LIKE 'apm %'),
	'and the worker ends with it');
$blocker->query_safe('COMMIT');
$blocker->quit;

# --- the extension is not there for the worker
$node->safe_psql('postgres', 'CREATE DATABASE bare');
fails_with($node, 'bare', 'BEGIN; CREATE EXTENSION apm CASCADE; SELECT apm_run_miner()', '55000',
	qr/does not see the extension/, 'nor an extension that is not committed');

$node->stop;
done_testing();
