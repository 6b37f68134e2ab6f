# The log hook: that nothing of a statement gets into the log or stays in
# pg_stat_activity when it fails, in the databases of apm.databases; that the client
# still gets everything; and that this test would find it (in another database it does).

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
my $canary = 'CANARYvalue';

# As PostgreSQL logs by default; the test harness would log every statement.
my $node = apm_node('log', databases => [ 'clinic', 'Odd name' ], extension => 0,
	settings => { 'apm.databases' => 'clinic, "Odd name"', 'log_statement' => 'none', 'restart_after_crash' => 'on' });
$node->safe_psql('postgres', 'CREATE DATABASE control');

# Statements that fail, each putting the canary elsewhere: [name, SQL, what the client must see of it].
my @failing = (
	[ 'statement', "SELECT 1/0, '$canary'", undef ],
	[ 'detail of a unique key', "INSERT INTO t VALUES ('$canary')", qr/DETAIL:.*$canary/ ],
	[ 'detail of JSON', "SELECT '{\"a\": $canary}'::json", qr/DETAIL:.*$canary/ ],
	[ 'context of COPY', "COPY n FROM STDIN;\n1\t$canary\tx\n\\.\n", qr/CONTEXT:.*$canary/ ],
	[ 'query in a function', "SELECT dynamic('$canary')", qr/QUERY:.*$canary|query:.*$canary/ ],
	[ 'context of a function', "SELECT nested('$canary')", qr/CONTEXT:.*$canary/s ],
	[ 'timeout', "SET statement_timeout = 50; SELECT pg_sleep(60), '$canary'", undef ],
	[ 'parameter', "PREPARE p(text) AS SELECT 1/length(substr(\$1, 100)); EXECUTE p('$canary')", undef ],
	[ 'check constraint', "INSERT INTO c VALUES ('$canary')", qr/DETAIL:.*$canary/ ],
);
my $objects = q(
	CREATE TABLE t (v text PRIMARY KEY); INSERT INTO t VALUES ('CANARYvalue');
	CREATE TABLE n (i int, v text);
	CREATE TABLE c (v text CHECK (v = 'no'));
	CREATE FUNCTION dynamic(v text) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN EXECUTE 'SELEC ' || quote_literal(v); END $$;
	CREATE FUNCTION nested(v text) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN EXECUTE 'SELECT 1/0, ' || quote_literal(v); END $$;);

# Runs the statement; answers what the client saw and what the log got.
sub try_statement
{
	my ($database, $sql) = @_;
	my $since = -s $node->logfile;
	my $stderr;

	$node->psql($database, $sql, stderr => \$stderr, on_error_stop => 0);
	return ($stderr, substr(slurp_file($node->logfile), $since));
}

foreach my $database ('clinic', 'Odd name', 'control')
{
	my $hidden = $database ne 'control';

	$node->safe_psql($database, $objects);
	foreach my $case (@failing)
	{
		my ($name, $sql, $wanted) = @$case;
		my ($client, $log) = try_statement($database, $sql);

		like($log, qr/ERROR/, "$database: $name: the error is logged");
		if ($hidden) { unlike($log, qr/$canary/, "$database: $name: its value is not") }
		else { like($log, qr/$canary/, "$database: $name: so is its value") }
		like($client, $wanted, "$database: $name: the client is told") if defined $wanted;
	}
}

# --- what others see of a session whose statement has failed
foreach my $database ('clinic', 'control')
{
	my $session = $node->background_psql($database, on_error_stop => 0);
	$session->query("SELECT 1/0, '$canary'");
	is( $node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE datname = '$database' AND query LIKE '%$canary%'"),
		$database eq 'control' ? 1 : 0, "$database: the failed statement in pg_stat_activity");
	$session->quit;
}

# --- what an entry point of ours hides while it runs
$node->safe_psql('clinic', "CREATE FUNCTION test_hide() RETURNS void LANGUAGE c AS '$library'");
my $seen = "SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid()";
is($node->safe_psql('clinic', "SELECT query FROM (SELECT test_hide() OFFSET 0) AS h, LATERAL ($seen) AS s, (SELECT '$canary') AS c"),
	'(a statement of apm)', 'a running statement that called us is hidden');

# --- where the setting does not name the database, from the first call of ours on
$node->safe_psql('control', "CREATE FUNCTION test_hide() RETURNS void LANGUAGE c AS '$library'");
my (undef, $log) = try_statement('control', "SELECT test_hide(); SELECT 1/0, '$canary'");
like($log, qr/division by zero/, 'control: after a call of ours an error is logged');
unlike($log, qr/$canary/, 'control: its value is not any more');

# --- kill -9: the postmaster says with what the process was busy
foreach my $database ('control', 'clinic')
{
	my $since = -s $node->logfile;
	my $out = '';
	my $session = IPC::Run::start([ 'psql', '-XqAt', '-d', $node->connstr($database), '-c', "SELECT pg_sleep(1000), '$canary'" ],
		'<', \undef, '>', \$out, '2>&1');

	poll($node, 'postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = '$database' AND query LIKE '%$canary%'")
	  or die 'the session does not run';
	kill('KILL', $node->safe_psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE datname = '$database' AND query LIKE '%$canary%'"));
	$session->finish;
	poll($node, 'postgres', 'SELECT true') or die 'the server does not come back';
	my $log = substr(slurp_file($node->logfile), $since);
	like($log, qr/was terminated by signal 9/, "$database: the postmaster tells of a killed process");
	unlike($log, qr/$canary/, "$database: not of what it ran");
}

$node->stop;
done_testing();
