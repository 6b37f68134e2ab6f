
=pod

=head1 NAME

ApmTest - servers with apm, and what tests ask of them

=head1 SYNOPSIS

  use ApmTest;

  my $node = apm_node('hospital', databases => ['clinic']);	# runs, extension and keys made, chain set up
  wait_for($node, 'clinic', q(SELECT count(*) = 1 FROM apm.block), 'the genesis block is there');
  fails_with($node, 'clinic', q(SELECT apm_keygen()), '42501', qr/permission denied/, 'outsiders make no keys');

=head1 DESCRIPTION

Built on PostgreSQL::Test::Cluster.  A node's keys lie beside its data directory, not
in it.  Nothing here waits for time; wait_for polls for a condition and gives up with
the test's timeout (PG_TEST_TIMEOUT_DEFAULT).

=cut

package ApmTest;

use strict;
use warnings;

use Exporter 'import';
use IPC::Run;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes;

our @EXPORT = qw(apm_node attach_cloud key_directory wait_for query sqlstate fails_with in_session in_session_state fails_in_session
  worker_pid set_and_reload poll);

# Ended by a signal, a test still stops its servers: PostgreSQL::Test::Cluster does it at exit.
my $test_pid = $$;
$SIG{$_} = sub { $$ == $test_pid ? exit(1) : POSIX::_exit(1) }
  foreach qw(HUP INT TERM);

# apm_node(name, option => value...): a running server with apm preloaded.
#
#	databases    names of databases to make, in which the workers run (['clinic'])
#	settings     further lines of postgresql.conf, { name => value }
#	extension    0: do not create the extension (implies keygen => 0, setup => 0)
#	keygen       0: do not make keys (implies setup => 0)
#	setup        0: do not set up the chain
#	start        0: initialize only, do not start (implies the others 0)
sub apm_node
{
	my ($name, %option) = @_;
	my @databases = @{ $option{databases} // ['clinic'] };
	my %settings = (
		'shared_preload_libraries' => 'apm',
		'apm.databases' => join(', ', @databases),
		'apm.salting_rounds' => 4,
		'max_worker_processes' => 24,
		%{ $option{settings} // {} });
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init(allows_streaming => 1);
	mkdir(key_directory($node), 0700) or die "key directory: $!";
	$settings{'apm.key_directory'} //= key_directory($node);
	$node->append_conf('postgresql.conf', join('', map { "$_ = '$settings{$_}'\n" } sort keys %settings));
	return $node unless $option{start} // 1;

	$node->start;
	foreach my $database (@databases)
	{
		$node->safe_psql('postgres', qq(CREATE DATABASE "$database"));
		next unless $option{extension} // 1;
		$node->safe_psql($database, 'CREATE EXTENSION apm CASCADE');
		next unless $option{keygen} // 1;
		$node->safe_psql($database, 'SELECT apm_keygen()');
		next unless $option{setup} // 1;
		$node->safe_psql($database, 'SELECT apm_setup()');
	}
	return $node;
}

# Makes the table ehr of another server this node's cloud, through postgres_fdw.  The mapped user needs SELECT, INSERT and
# DELETE on it; an index on apid makes removals fast.
sub attach_cloud
{
	my ($node, $cloud, $database) = @_;

	$node->safe_psql($database // 'clinic', sprintf(q(
		CREATE EXTENSION IF NOT EXISTS postgres_fdw;
		CREATE SERVER cloud FOREIGN DATA WRAPPER postgres_fdw
			OPTIONS (host '%s', port '%d', dbname 'postgres', batch_size '100', connect_timeout '3');
		CREATE USER MAPPING FOR apm_worker SERVER cloud OPTIONS (user '%s', password_required 'false');
		CREATE FOREIGN TABLE ehr (rid uuid NOT NULL, apid text COLLATE "C" NOT NULL, apr bytea NOT NULL, tokens bytea[] NOT NULL)
			SERVER cloud OPTIONS (table_name 'ehr');
		SELECT apm_cloud_attach('ehr')),
		$cloud->host, $cloud->port, scalar getpwuid($<)));
	return;
}

# Where a node's keys are.
sub key_directory
{
	my ($node) = @_;
	return $node->basedir . '/keys';
}

# Changes a setting and waits until new sessions have it.
sub set_and_reload
{
	my ($node, $name, $value) = @_;

	$node->safe_psql('postgres', "ALTER SYSTEM SET $name = '$value'");
	$node->reload;
	poll($node, 'postgres', "SELECT current_setting('$name') = '$value'")
	  or die "setting $name did not change";
	return;
}

# Waits until a query answers t (or another expected text); a test that passes or fails.
sub wait_for
{
	my ($node, $database, $sql, $name, $expected) = @_;

	return ok(poll($node, $database, $sql, $expected), $name);
}

# Waits until a query answers t (or another expected text); false when the test's time is up.
#
# The server may go down and come up meanwhile.  PostgreSQL::Test::Cluster's own
# poll_query_until writes the query into psql's standard input and dies of the broken pipe if
# psql found no server and has gone.
sub poll
{
	my ($node, $database, $sql, $expected) = @_;
	my $deadline = time() + $PostgreSQL::Test::Utils::timeout_default;
	my ($out, $err);

	$expected //= 't';
	while (time() < $deadline)
	{
		IPC::Run::run([ 'psql', '-XAt', '-d', $node->connstr($database), '-c', $sql ], '>', \$out, '2>', \$err);
		chomp($out);
		return 1 if $out eq $expected;
		Time::HiRes::usleep(50_000);
	}
	diag("waited for '$expected' from: $sql\nlast answer: $out\n$err");
	return 0;
}

# The answer of a query, which must succeed; as some role if one is given.
sub query
{
	my ($node, $database, $sql, $role) = @_;

	$sql = qq(SET ROLE "$role"; $sql) if defined $role;
	return $node->safe_psql($database, $sql);
}

# What an SQL text fails with: (SQLSTATE, message), or ('00000', '') if it succeeds.
sub sqlstate
{
	my ($node, $database, $sql, $role) = @_;
	my ($stdout, $stderr);

	$sql = qq(SET ROLE "$role"; $sql) if defined $role;
	$node->psql(
		$database, $sql,
		stdout => \$stdout,
		stderr => \$stderr,
		on_error_stop => 1,
		extra_params => [ '--set', 'VERBOSITY=verbose' ]);
	return error_of($stderr);
}

sub error_of
{
	my ($stderr) = @_;
	return $stderr =~ /(?:ERROR|FATAL):  (\w{5}): (.*)/s ? ($1, $2) : ('00000', $stderr);
}

# An SQL text must fail with this SQLSTATE, its message (with detail and hint) matching a pattern.
sub fails_with
{
	my ($node, $database, $sql, $state, $pattern, $name, $role) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is_error([ sqlstate($node, $database, $sql, $role) ], $state, $pattern, $name);
}

sub is_error
{
	my ($got, $state, $pattern, $name) = @_;
	my ($got_state, $message) = @$got;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return subtest $name => sub {
		is($got_state, $state, 'SQLSTATE') or diag($message);
		like($message, $pattern, 'message');
	};
}

# The same three for a session of a role's own, which has logged in as itself.
sub in_session
{
	my ($node, $database, $role, $sql) = @_;

	return $node->safe_psql($database, $sql, connstr => $node->connstr($database) . " user=$role");
}

sub in_session_state
{
	my ($node, $database, $role, $sql) = @_;
	my ($stdout, $stderr);

	$node->psql(
		$database, $sql,
		connstr => $node->connstr($database) . " user=$role",
		stdout => \$stdout,
		stderr => \$stderr,
		on_error_stop => 1,
		extra_params => [ '--set', 'VERBOSITY=verbose' ]);
	return error_of($stderr);
}

sub fails_in_session
{
	my ($node, $database, $role, $sql, $state, $pattern, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is_error([ in_session_state($node, $database, $role, $sql) ], $state, $pattern, $name);
}

# The process id of the worker of that backend type ("apm miner", ...) in a database, or ''.
sub worker_pid
{
	my ($node, $database, $type) = @_;

	return $node->safe_psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type = '$type' AND datname = '$database'");
}

1;
