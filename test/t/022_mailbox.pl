# The mailbox: that every request ends with its own answer or an error, whoever is
# cancelled, terminated or killed meanwhile.

use strict;
use warnings;

use FindBin;
use IPC::Run;
use lib "$FindBin::RealBin/../perl";

use ApmTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $library = "$FindBin::RealBin/../modules/test_mailbox.so";
my $node = apm_node('mailbox', keygen => 0, settings => { 'apm.databases' => '', 'restart_after_crash' => 'on' });

$node->safe_psql('clinic', qq(
	CREATE FUNCTION test_worker_start(text) RETURNS integer LANGUAGE c STRICT AS '$library';
	CREATE FUNCTION test_call(text) RETURNS bytea LANGUAGE c STRICT AS '$library';
	CREATE FUNCTION ask(request text) RETURNS text LANGUAGE sql AS \$\$
		SELECT convert_from(test_call(request), 'UTF8') \$\$;
	CREATE FUNCTION ask_and_check(request text) RETURNS void LANGUAGE plpgsql AS \$\$
		BEGIN
			IF ask(request) <> request THEN
				RAISE 'MIXED ANSWER';
			END IF;
		END \$\$;));

# A worker of ours in place of the cloud worker.
sub start_worker
{
	my ($name) = @_;

	$node->safe_psql('clinic', "SELECT test_worker_start('$library')");
	return wait_for($node, 'clinic', q(SELECT state = 'idle' AND turns > 0 FROM apm_worker_status()
		WHERE database = 'clinic' AND worker = 'apm cloud'), $name);
}

# A session beside this one that runs a script, whatever fails in it.
my $scripts = 0;
sub start_caller
{
	my ($script) = @_;
	my $file = $node->basedir . '/script' . $scripts++;
	my $out = '';

	append_to_file($file, $script);
	return IPC::Run::start([ 'psql', '-XqAt', '-d', $node->connstr('clinic'), '-f', $file ], '<', \undef, '>', \$out, '2>&1');
}

sub still_answers
{
	my ($name) = @_;
	return is(query($node, 'clinic', q(SELECT ask('echo there'))), 'echo there', $name);
}

fails_with($node, 'clinic', q(SELECT ask('echo a')), '57P03', qr/not running.*HINT/s, 'no worker');
start_worker('a worker starts');
still_answers('it answers');
is(query($node, 'clinic', q(SELECT ask('echo ' || repeat('ä', 1000000)) = 'echo ' || repeat('ä', 1000000))), 't',
	'a long letter and a long answer');
is(query($node, 'clinic', q(SELECT length(test_call('size 0'))::text || ' ' || length(test_call('size 2048'))
		|| ' ' || length(test_call('size 2049')) || ' ' || length(test_call('size 52428800')))),
	'0 2048 2049 52428800', 'answers of every size');
fails_with($node, 'clinic', q(SELECT ask('fail')), 'AP010', qr/asked to fail.*Ask for something else/s,
	'a failure comes with SQLSTATE, message and hint');

# --- callers that leave
fails_with($node, 'clinic', q(SET statement_timeout = '100ms'; SELECT ask('slow 1000000')), '57014', qr/statement timeout/,
	'a caller runs into its timeout');
still_answers('the worker goes on');
is([ $node->psql('clinic', q(SET statement_timeout = '50ms'; SELECT ask('late 300');
		SET statement_timeout = 0; SELECT ask('late 600')), on_error_stop => 0) ]->[1],
	'late 600', 'what was asked before does not answer what is asked after');
is(query($node, 'clinic', q(BEGIN; SELECT ask('echo in a transaction'); ROLLBACK)), 'echo in a transaction',
	'in a transaction that is rolled back');

my $caught = q(DO $$
	BEGIN
		SET LOCAL statement_timeout = 0;
		PERFORM ask('fail');
	EXCEPTION WHEN OTHERS THEN
		PERFORM ask('echo in the handler');
	END $$);
is(query($node, 'clinic', $caught), '', 'a call after one that failed');

my $waiting = $node->background_psql('clinic', on_error_stop => 0);
$waiting->query_until(qr/begun/, "\\echo begun\nSELECT ask('slow 1000000');\n");
wait_for($node, 'clinic', q(SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE '%slow%' AND wait_event = 'Extension'
		AND backend_type = 'client backend'), 'a caller waits');
query($node, 'clinic', q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%slow%' AND pid <> pg_backend_pid()));
wait_for($node, 'clinic', q(SELECT count(*) = 0 FROM pg_stat_activity WHERE query LIKE '%slow%' AND pid <> pg_backend_pid()),
	'a caller that is terminated goes at once');
$waiting->{run}->finish;
still_answers('the worker goes on');

# --- a storm: many callers, cancelled and terminated at random
my $storm = join('', map { my $ms = $_ % 7;
	"SELECT ask_and_check('echo storm ' || pg_backend_pid() || ' $_');\nSELECT length(test_call('size ' || 3000 * $ms));\n"
	  . ($_ % 10 == 0 ? "SELECT ask_and_check('slow $ms');\n" : '') } 1 .. 1000);
my @callers = map { start_caller($storm) } 1 .. 8;
wait_for($node, 'postgres', q(SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = 'clinic' AND query LIKE '%storm%'),
	'callers begin');
my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
my $active = q(FROM pg_stat_activity WHERE datname = 'clinic' AND backend_type = 'client backend');
my $disturb = qq(DO \$\$
	BEGIN
		FOR i IN 1 .. 100 LOOP
			PERFORM pg_cancel_backend(pid) FROM (SELECT pid $active AND state = 'active' ORDER BY random() LIMIT 1) AS victim;
			PERFORM pg_sleep(random() * 0.004), pg_stat_clear_snapshot();
		END LOOP;
		PERFORM pg_terminate_backend(pid) FROM (SELECT pid $active ORDER BY random() LIMIT 1) AS victim;
	END \$\$);
query($node, 'postgres', $disturb) while time < $deadline && query($node, 'postgres', "SELECT count(*) $active") > 0;
cmp_ok(time, '<', $deadline, 'the storm ends');
$_->finish foreach @callers;
like(slurp_file($node->logfile), qr/canceling statement due to user request/, 'some in the middle');
unlike(slurp_file($node->logfile), qr/ERROR:  MIXED ANSWER/, 'nobody got the answer to another');
still_answers('the worker goes on');

# --- workers that leave
fails_with($node, 'clinic', q(SELECT ask('error')), '57P03', qr/ended before it had answered/, 'a worker fails in its turn');
is(query($node, 'clinic', q(SELECT errors || ' ' || last_error_code || ' ' || last_error FROM apm_worker_status()
		WHERE database = 'clinic' AND worker = 'apm cloud')),
	'1 22000 data exception', 'which leaves a trace without values');
start_worker('a worker starts again');
fails_with($node, 'clinic', q(SELECT ask('exit')), '57P03', qr/ended before it had answered/, 'a worker exits in its turn');
start_worker('a worker starts again');

# --- kill -9 of a caller whose letter is taken restarts the server
my $victim = start_caller("SELECT ask('slow 1000000');\n");
wait_for($node, 'clinic', q(SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE '%slow%' AND wait_event = 'Extension'
		AND backend_type = 'client backend'), 'a caller waits');
kill('KILL', query($node, 'clinic', q(SELECT pid FROM pg_stat_activity WHERE query LIKE '%slow%' AND pid <> pg_backend_pid())));
$victim->finish;
poll($node, 'clinic', 'SELECT true');
start_worker('a worker starts after the crash');
still_answers('it answers');

$node->stop;
done_testing();
