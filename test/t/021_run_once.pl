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
my @functions = qw(apm_run_network_server apm_run_miner apm_run_cloud_sync apm_run_reception);

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
like(query($node, 'clinic', q(SELECT DISTINCT refusal FROM apm_worker_status())), qr/not in shared_preload_libraries/, 'and why');

# --- an error comes back, as a class of errors: the message may hold values
$node->safe_psql('clinic', 'ALTER TABLE apm.chain RENAME TO canary');
my ($state, $message) = sqlstate($node, 'clinic', 'SELECT apm_run_miner()');
is($state, '55000', 'a worker that fails fails its caller');
like($message, qr/worker "apm miner" failed: syntax error or access rule violation.*42P01/s, 'who learns what kind of error it was');
unlike($message, qr/apm\.chain/, 'but not its message');
like(slurp_file($node->logfile), qr/ERROR:  relation "apm.chain" does not exist/, 'which is in the log');
$node->safe_psql('clinic', 'ALTER TABLE apm.canary RENAME TO chain');

# --- a worker that waits for a lock goes with its caller
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
