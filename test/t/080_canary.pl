# Nothing identifying outside the APM.
#
# A patient whose pid, names and record are canaries goes through everything that an
# application can do and everything that can go wrong with it: refused, failing, cancelled
# and timed-out statements, a broken COPY, a backend killed with -9, an answer of 50 MB.
# Then nothing on either server may hold a canary: no file below the data directories (heaps,
# WAL, statistics, temporary files), no log, no dump, no statistics view.  A canary is looked for raw, in
# base64 at each alignment, and in hex.  Compressible text would hide behind pglz's control
# bytes, so one record consists of many short tokens, of which some stay whole.
#
# Logging is left at the server's defaults.  What stays with the operator, and is not tried
# here, is in the README: the primary message of a syntax error or of a literal that its type does
# not accept, and log_min_duration_statement.

use strict;
use warnings;

use lib 'test/perl';
use ApmTest;
use File::Find;
use IPC::Run;
use MIME::Base64;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my %canary = map { $_ => "$_" . random_text(28) } qw(pid first last disease note unknown);
my @short = map { random_text(6) } 1 .. 60;
my $compressible = join(' ', map { ($_) x 40 } @short);
my $pattern = pattern();

my $cloud = PostgreSQL::Test::Cluster->new('cloud');
$cloud->init;
$cloud->start;
$cloud->safe_psql('postgres', 'CREATE TABLE ehr (rid uuid PRIMARY KEY, apid text NOT NULL, apr bytea NOT NULL, tokens bytea[] NOT NULL)');

my $hospital = apm_node('hospital',
	settings => {
		'shared_preload_libraries' => 'apm, pg_stat_statements',
		'restart_after_crash' => 'on',
		'wal_keep_size' => '4GB',
		'max_wal_size' => '4GB',
		'log_statement' => 'none',
		'log_min_error_statement' => 'error' });
attach_cloud($hospital, $cloud);
$hospital->safe_psql('clinic', 'CREATE EXTENSION pg_stat_statements; CREATE ROLE app LOGIN; GRANT apm_clinician, apm_admin TO app;
	CREATE ROLE clerk LOGIN; GRANT apm_registrar TO clerk; CREATE ROLE auditor LOGIN; GRANT apm_auditor TO auditor');

# --- What goes well, with parameters, as the README asks ---------------------------------

my @names = (first => $canary{first}, last => $canary{last});
ok(with_parameters(q(SELECT apm_register_patient(:pid, jsonb_build_object('Firstname', :first::text, 'Lastname', :last::text))),
		pid => $canary{pid}, @names), 'patient registered');
ok(with_parameters(q(INSERT INTO apm.patient_record (pid, record)
			VALUES (:pid, jsonb_build_object('Disease', :disease::text, 'Note', :note::text))),
		pid => $canary{pid}, disease => $canary{disease}, note => $canary{note}), 'record stored');
ok(with_parameters(q(INSERT INTO apm.patient_record (pid, record) VALUES (:pid, jsonb_build_object('Story', :story::text))),
		pid => $canary{pid}, story => $compressible), 'compressible record stored');
ok(with_parameters(q(SELECT apm_submit(:pid, jsonb_build_object('Scan', repeat(:note, 1600000)))),
		pid => $canary{pid}, note => $canary{note}), 'record of 50 MB submitted');
arrived();
is(query($hospital, 'clinic', 'SELECT count(*) FROM apm.ledger_record'), '3', 'three records in the ledger');
ok(fetch_without_files(), 'all read back, and no temporary file held a plaintext meanwhile');
ok(with_parameters(q(BEGIN; SELECT apm_fetch(:pid, 'treatment'); ROLLBACK), pid => $canary{pid}), 'read and rolled back');
ok(with_parameters(q(SELECT count(*) FROM apm_break_glass(:pid, 'unconscious', :note)), pid => $canary{pid}, note => $canary{note}),
	'read in an emergency, with a note');
is(found_in_statistics(), '', 'no canary in the statistics views after what went well');

# --- What goes wrong, with literals ------------------------------------------------------

my $insert = "INSERT INTO apm.patient_record (pid, record, rid)";
my $record = qq('{"Disease": "$canary{disease}", "Note": "$canary{note}"}');
my $rid = '00000000-0000-7000-8000-000000000001';

fails("SELECT * FROM apm_fetch('$canary{unknown}', 'treatment')", 'a read is refused');
fails("$insert VALUES ('$canary{unknown}', $record, NULL)", 'a record for an unknown patient is refused');
works("$insert VALUES ('$canary{pid}', $record, '$rid')", 'a record with a Rid');
fails("$insert VALUES ('$canary{pid}', '{\"Disease\": \"$canary{disease}2\"}', '$rid')", 'other content for the same Rid is refused');
fails("$insert SELECT '$canary{pid}', $record, NULL FROM generate_series(1, 10) AS n WHERE 1 / (n - 7) < 5", 'a statement fails half-way');
fails("$insert VALUES ('$canary{pid}', '{\"Disease\": \"$canary{disease}', NULL)", 'a record that is no JSON');
fails("$insert VALUES ('$canary{pid}', '{\"Note\": \"$canary{note}\\u0000\"}', NULL)", 'a record with a NUL');
fails("SELECT apm_register_patient('$canary{pid}', '{\"Firstname\": \"$canary{first}\", \"Lastname\": \"$canary{last}\"}')", 'a patient twice');
fails("SELECT apm_register_patient('$canary{unknown}', '[\"$canary{first}\"]')", 'names that are no object');
fails("SET statement_timeout = '200ms'; $insert SELECT '$canary{pid}', $record, NULL FROM pg_sleep(60)", 'a statement times out');
fails("COPY apm.patient_record (pid, record) FROM STDIN;\n$canary{pid}\t{\"Disease\": \"$canary{disease}\"}\n$canary{pid}\t{\"Note\": \"$canary{note}\n\\.\n", 'a COPY breaks');
fails("SELECT apm_deanonymize('$canary{note}'::bytea)", 'an aPR that is none');
fails("SELECT * FROM apm_break_glass('$canary{unknown}', 'unconscious', '$canary{note}')", 'an emergency of nobody');
fails("SELECT * FROM apm_break_glass('$canary{pid}', '$canary{disease}', '$canary{note}')", 'an emergency without a reason');
fails("SELECT * FROM apm_break_glass('$canary{pid}', 'unconscious', repeat('$canary{note}', 1000))", 'a note that is too long');
fails("SELECT * FROM apm_access_history('$canary{pid}')", 'a history that is not for him');
fails("SELECT apm_grant_access('$canary{pid}', 'app')", 'consent that is not for him to enter');
fails("SELECT apm_grant_access('$canary{unknown}', 'app')", 'consent of nobody', 'clerk');
fails("SELECT apm_grant_access('$canary{pid}', '$canary{first}')", 'consent for nobody', 'clerk');
fails("SELECT apm_revoke_access('$canary{pid}', fields => '{\"$canary{first}\": 1}')", 'a public field that is none', 'clerk');
interrupted("$insert SELECT '$canary{pid}', $record, NULL FROM pg_sleep(60)",
	sub { $hospital->safe_psql('postgres', "SELECT pg_cancel_backend($_[0])") }, 'a statement is cancelled');
interrupted("$insert SELECT '$canary{pid}', $record, NULL FROM pg_sleep(60)",
	sub { kill('KILL', $_[0]) }, 'a backend is killed with -9');
poll($hospital, 'clinic', 'SELECT true');
arrived();

# --- A sensor's records, which a worker opens ---------------------------------------------------

my $sensor = "SET ROLE gateway; INSERT INTO apm.patient_record (pid, record)";
my $profiles = "UPDATE apm.profile SET sealed = set_byte(sealed, 40, get_byte(sealed, 40) # 1)";

$hospital->safe_psql('clinic', 'CREATE ROLE gateway IN ROLE apm_sensor; GRANT gateway TO app');
works(qq($sensor VALUES ('$canary{pid}', '{"Firstname": "$canary{first}", "Note": "$canary{note}"}')), 'a record that fits');
works(qq($sensor VALUES ('$canary{pid}', '{"Firstname": "$canary{last}", "Note": "$canary{note}"}')), 'one of another name');
works(qq($sensor VALUES ('$canary{unknown}', '{"Firstname": "$canary{first}", "Note": "$canary{note}"}')), 'one of nobody');
fails(qq($sensor VALUES ('$canary{unknown}', '{"Firstname": ["$canary{first}"]}')), 'one that is refused');
arrived();
$hospital->safe_psql('clinic', $profiles);
works(qq($sensor VALUES ('$canary{pid}', '{"Disease": "$canary{disease}"}')), 'one that reception stumbles over');
arrived();
my $waiting = "SELECT string_agg(reason, ',' ORDER BY reason) FROM apm.waiting";
is($hospital->safe_psql('clinic', $waiting), 'failed,identity,patient', 'three of them wait');
$hospital->safe_psql('clinic', $profiles);
kill('KILL', worker_pid($hospital, 'clinic', 'apm reception'));
wait_for($hospital, 'clinic', $waiting, 'and two, when another reception has tried again what failed', 'identity,patient');

# --- A session that stays open after each of its statements -----------------------------------

foreach my $statement (
	"SELECT apm_submit('$canary{pid}', $record)",
	"$insert VALUES ('$canary{pid}', $record, NULL)",
	"SELECT count(record) FROM apm_fetch('$canary{pid}', 'treatment')",
	"SELECT apm_register_patient('$canary{unknown}', '{\"Firstname\": \"$canary{first}\", \"Lastname\": \"$canary{last}\"}')",
	"SELECT apm_update_patient('$canary{pid}', attributes => '{\"Note\": \"$canary{note}\"}')",
	"SELECT length(apm_anonymize('$canary{pid}', $record))",
	"SELECT apm_deanonymize(apm_anonymize('$canary{pid}', $record), 'treatment') IS NULL",
	"SELECT count(record) FROM apm_break_glass('$canary{pid}', 'disaster', '$canary{note}')",
	"SELECT count(*) FROM apm_access_history('$canary{pid}')",
	"SELECT apm_revoke_access('$canary{pid}', purpose => 'payment')",
	"SELECT apm_grant_access('$canary{pid}', 'app')")
{
	my $user = $statement =~ /history/ ? 'auditor' : $statement =~ /_access/ ? 'clerk' : 'app';
	my ($open, $in, $out) = ({}, '', '');
	$open = IPC::Run::start([ 'psql', '-XAtq', '-d', $hospital->connstr('clinic') . " user=$user" ], '<', \$in, '>', \$out, '2>', \my $err);
	$in = "$statement;\n\\echo done\n";
	$open->pump until $out =~ /done/;
	unlike($hospital->safe_psql('postgres', 'SELECT query FROM pg_stat_activity'), $pattern,
		'an open session does not show ' . ($statement =~ /^(?:SELECT )?(?:length\(|count\(.*?\) FROM )?(\w+)/)[0]);
	$in .= "\\q\n";
	$open->finish;
	is($err, '', 'and the statement went well');
}
arrived();

# --- The search --------------------------------------------------------------------------

is(found_in_statistics(), '', 'no canary in the statistics views');
my ($dumped, undef) = run_command([ 'pg_dump', '-d', $hospital->connstr('clinic') ]);
unlike($dumped, $pattern, 'no canary in a dump of the hospital');
like($dumped, qr/COPY apm\.leaf/, 'the dump has the ledger');
($dumped, undef) = run_command([ 'pg_dump', '-d', $cloud->connstr('postgres') ]);
unlike($dumped, $pattern, 'no canary in a dump of the cloud');
like($dumped, qr/COPY public\.ehr/, 'the dump has the records');

$hospital->safe_psql('postgres', 'CHECKPOINT');
is(join("\n", found_in_files($hospital)), '', 'no canary in a file or the log of the hospital');
is(join("\n", found_in_files($cloud)), '', 'no canary in a file or the log of the cloud');

# --- The control: what is planted is found ------------------------------------------------

$hospital->safe_psql('clinic', qq(
	CREATE TABLE planted (plain text, packed text);
	INSERT INTO planted VALUES (encode('$canary{pid}', 'hex'), '$compressible');
	CHECKPOINT));
$hospital->psql('postgres', qq(DO \$\$ BEGIN RAISE WARNING '%', encode('$canary{note}', 'base64'); END \$\$));
my @found = found_in_files($hospital);
ok((grep { m{/base/} } @found), 'a planted canary is found in a heap');
ok((grep { m{/pg_wal/} } @found), 'a planted canary is found in the WAL');
ok((grep { m{\.log} } @found), 'a planted canary is found in the log');
($dumped, undef) = run_command([ 'pg_dump', '-d', $hospital->connstr('clinic') ]);
like($dumped, $pattern, 'a planted canary is found in a dump');

$hospital->stop;
$cloud->stop;
done_testing();

sub random_text
{
	my ($length) = @_;
	return join('', map { ('A' .. 'Z', 'a' .. 'z', '0' .. '9')[ int(rand(62)) ] } 1 .. $length);
}

# One expression for every form of every canary.
sub pattern
{
	my @forms = @short;

	foreach my $text (values %canary)
	{
		push @forms, $text, unpack('H*', $text), uc(unpack('H*', $text));
		foreach my $shift (0 .. 2)
		{
			# what of the base64 depends on this text alone
			my $coded = encode_base64(('x' x $shift) . $text, '');
			push @forms, substr($coded, 4, 32);
		}
	}
	my $any = join('|', map { quotemeta } @forms);
	return qr/$any/;
}

# One statement (or several) with values as parameters of the extended protocol, as the application's role.
sub with_parameters
{
	my ($sql, %value) = @_;
	my $script = PostgreSQL::Test::Utils::tempdir() . '/script.sql';

	append_to_file($script, join('', map { "$_;\n" } split(/;\s*/, $sql)));
	my $result = IPC::Run::run(
		[
			'pgbench', '-n', '-t', '1', '-M', 'extended', '-U', 'app', '-h', $hospital->host, '-p', $hospital->port,
			'-f', $script, (map { ('-D', "$_=$value{$_}") } sort keys %value), 'clinic'
		],
		'>', \my $out, '2>', \my $err);

	diag($err) unless $result;
	unlink($script);
	return $result;
}

sub run_sql
{
	my ($sql, $user) = @_;
	return IPC::Run::run([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $hospital->connstr('clinic') . " user=$user" ],
		'<', \$sql, '>', \my $out, '2>', \my $err);
}

sub works
{
	my ($sql, $name) = @_;
	ok(run_sql("$sql;\n", 'app'), $name);
	return;
}

sub fails
{
	my ($sql, $name, $user) = @_;
	ok(!run_sql("$sql;\n", $user // 'app'), $name);
	return;
}

# Runs a statement, waits until it is at work, and interrupts it: $how gets the backend's pid.
sub interrupted
{
	my ($sql, $how, $name) = @_;
	my $psql = IPC::Run::start([ 'psql', '-XAtq', '-d', $hospital->connstr('clinic') . ' user=app', '-c', $sql ],
		'>', \my $out, '2>', \my $err);
	my $find = "SELECT pid FROM pg_stat_activity WHERE usename = 'app' AND wait_event = 'PgSleep'";

	poll($hospital, 'postgres', "SELECT count(*) = 1 FROM ($find) AS b") or die 'statement does not run';
	$how->($hospital->safe_psql('postgres', $find));
	$psql->finish;
	like($err, qr/ERROR|FATAL|WARNING|connection/, $name);
	return;
}

# Reads everything of the patient, while another eye watches for temporary files.
sub fetch_without_files
{
	my $directory = $hospital->data_dir . '/base/pgsql_tmp';
	my $script = PostgreSQL::Test::Utils::tempdir() . '/fetch.sql';
	my $files = 0;

	append_to_file($script, "SELECT count(record) FROM apm_fetch(:pid, 'treatment');\n");
	my $fetch = IPC::Run::start(
		[
			'pgbench', '-n', '-t', '1', '-M', 'extended', '-U', 'app', '-h', $hospital->host, '-p', $hospital->port,
			'-f', $script, '-D', "pid=$canary{pid}", 'clinic'
		],
		'>', \my $out, '2>', \my $err);
	while ($fetch->pumpable)
	{
		$files++ foreach glob("$directory/*");
		$fetch->pump_nb;
	}
	my $result = $fetch->finish;
	diag($err) unless $result;
	return $result && $files == 0;
}

sub arrived
{
	poll($hospital, 'clinic', q(SELECT NOT EXISTS (SELECT FROM apm.waiting WHERE reason = 'new') AND NOT EXISTS (SELECT FROM apm.queue) AND NOT EXISTS (SELECT FROM apm.pool)
		AND NOT EXISTS (SELECT FROM apm.final_queue) AND NOT EXISTS (SELECT FROM apm.outbox)))
	  or die 'records do not arrive';
	return;
}

# Names of the statistics views whose text matches.
sub found_in_statistics
{
	my @views = split(/\n/, $hospital->safe_psql('clinic',
		q(SELECT oid::regclass FROM pg_class WHERE relname LIKE 'pg\_stat%' AND relkind = 'v' AND relnamespace IN ('pg_catalog'::regnamespace, 'public'::regnamespace))));
	my @found = grep { $hospital->safe_psql('clinic', "SELECT * FROM $_") =~ $pattern } @views;

	return join(' ', @found);
}

# Files below the data directory, and the log, that match.
sub found_in_files
{
	my ($node) = @_;
	my @found;

	find({ no_chdir => 1, wanted => sub { push @found, $File::Find::name if -f && file_matches($File::Find::name) } },
		$node->data_dir, $node->logfile);
	return @found;
}

sub file_matches
{
	my ($name) = @_;
	my $overlap = '';

	open(my $file, '<:raw', $name) or return 0;
	while (read($file, my $chunk, 8 * 1024 * 1024))
	{
		return 1 if "$overlap$chunk" =~ $pattern;
		$overlap = substr($chunk, -128);
	}
	return 0;
}
