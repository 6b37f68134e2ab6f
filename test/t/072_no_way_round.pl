# There is no way round the gate: whoever gets a patient's record out of the server is in the
# ledger with the query, as the one that he acts as.
#
# What lends rights in PostgreSQL lends none here: definer functions, views, index expressions run
# by the owner of the server, SET ROLE; and what takes work back takes no trace back:
# ROLLBACK, exception blocks, timeouts at any moment, prepared transactions, a killed backend.

use strict;
use warnings;

use lib 'test/perl';
use ApmTest;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = apm_node('hospital', settings => { max_prepared_transactions => 2 });
my $queries = q(SELECT count(*) FROM apm.leaf WHERE kind = 3);
my $fetch = q(SELECT record ->> 'Disease' FROM apm_fetch('p1', 'treatment'));

$node->safe_psql('clinic', q(
	CREATE ROLE doctor LOGIN; GRANT apm_clinician TO doctor;
	CREATE ROLE clerk IN ROLE apm_registrar;
	CREATE ROLE outsider LOGIN;
	CREATE ROLE reserved LOGIN NOINHERIT; GRANT apm_clinician, doctor TO reserved;
	GRANT CREATE ON SCHEMA public TO doctor, outsider;
	SET ROLE clerk;
	SELECT apm_register_patient('p1', '{"Firstname": "First", "Lastname": "Last"}');
	SET ROLE doctor;
	SELECT apm_submit('p1', '{"Disease": "Fever"}')));
wait_for($node, 'clinic', 'SELECT count(*) = 1 FROM apm.cloud_record', 'a record is stored');
is(query($node, 'clinic', $fetch, 'doctor'), 'Fever', 'the doctor reads it');

# --- Borrowed rights -----------------------------------------------------------------------

$node->safe_psql('clinic', q(
	SET ROLE doctor;
	CREATE FUNCTION lend(text) RETURNS bigint LANGUAGE sql SECURITY DEFINER AS $$ SELECT count(*) FROM apm_fetch($1) $$;
	CREATE FUNCTION lend_submit(text) RETURNS uuid LANGUAGE sql SECURITY DEFINER AS $$ SELECT apm_submit($1, '{"x": 1}') $$;
	CREATE VIEW lent AS SELECT * FROM apm_fetch('p1');
	GRANT SELECT ON lent TO outsider));
fails_with($node, 'clinic', q(SELECT lend('p1')), 'AP001', qr/rule "consent"/, 'a definer function does not read for others', 'outsider');
fails_with($node, 'clinic', q(SELECT lend_submit('p1')), '42501', qr/permission denied to submit/, 'nor submit', 'outsider');
fails_with($node, 'clinic', 'SELECT * FROM lent', '42501', qr/permission denied for function apm_fetch/, 'nor does a view', 'outsider');
fails_with($node, 'clinic', $fetch, 'AP001', qr/rule "consent"/, 'a superuser is no clinician');
fails_with($node, 'clinic', $fetch, '42501', qr/permission denied for function/, 'a role that does not inherit must be set', 'reserved');

my $before = query($node, 'clinic', $queries);
query($node, 'clinic', "SET SESSION AUTHORIZATION reserved; SET ROLE doctor; $fetch");
is(query($node, 'clinic', $queries), $before + 1, 'once it is, the read is in the ledger');
is(query($node, 'clinic', q(SELECT bool_and(login = current_user) FROM apm.staff WHERE acting = 'doctor')), 't',
	'with the login, whatever the session is called since');

# wherever an expression is evaluated, it is for whoever makes PostgreSQL evaluate it
$node->safe_psql('clinic', q(
	SET ROLE doctor;
	CREATE TABLE plain (n int);
	CREATE TABLE checked (n int CHECK (lend('p1') > n));
	CREATE TABLE defaulted (n bigint DEFAULT lend('p1'));
	CREATE TABLE hidden (n int);
	INSERT INTO hidden VALUES (0);
	ALTER TABLE hidden ENABLE ROW LEVEL SECURITY;
	ALTER TABLE hidden FORCE ROW LEVEL SECURITY;
	CREATE POLICY seen ON hidden USING (lend('p1') > n);
	CREATE TABLE triggered (n bigint);
	CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN NEW.n := lend('p1'); RETURN NEW; END $$;
	CREATE TRIGGER fill BEFORE INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION fill();
	GRANT SELECT, INSERT ON plain, checked, defaulted, hidden, triggered TO outsider));
foreach my $place (
	[ 'WHERE', q(SELECT 1 WHERE lend('p1') > 0) ],
	[ 'a CHECK constraint', 'INSERT INTO checked VALUES (0)' ],
	[ 'a DEFAULT', 'INSERT INTO defaulted DEFAULT VALUES' ],
	[ 'a policy', 'SELECT * FROM hidden' ],
	[ 'a trigger', 'INSERT INTO triggered VALUES (0)' ])
{
	my ($name, $sql) = @$place;
	my $was = query($node, 'clinic', $queries);

	query($node, 'clinic', $sql, 'doctor');
	is(query($node, 'clinic', $queries), $was + 1, "$name: the doctor's reading is in the ledger");
	fails_with($node, 'clinic', $sql, 'AP001', qr/rule "consent"/, "$name lends nothing to others", 'outsider');
}
query($node, 'clinic', q(CREATE MATERIALIZED VIEW drawn AS SELECT lend('p1') AS n), 'doctor');
fails_with($node, 'clinic', 'REFRESH MATERIALIZED VIEW drawn', 'AP001', qr/rule "consent"/, 'nor does a materialized view to whoever refreshes it');

# a doctor's own code, run by the superuser's maintenance
$node->safe_psql('clinic', q(
	SET ROLE doctor;
	CREATE TABLE bait (id int);
	INSERT INTO bait VALUES (1);
	CREATE FUNCTION snatch(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
	DECLARE
		state text := 'read';
	BEGIN
		BEGIN
			PERFORM * FROM public.apm_fetch('p1', 'treatment');
		EXCEPTION WHEN OTHERS THEN
			state := SQLSTATE;
		END;
		RAISE WARNING 'attempt: %', state;
		RETURN $1;
	END $$;
	CREATE INDEX ON bait (snatch(id))));
foreach my $maintenance ('ANALYZE bait', 'REINDEX TABLE bait', 'VACUUM FULL bait')
{
	my (undef, undef, $err) = $node->psql('clinic', $maintenance);

	like($err, qr/attempt: AP001/, "the superuser's $maintenance reads nothing");
	unlike($err, qr/attempt: read/, 'at no point');
}
is(query($node, 'clinic', q(
		CREATE TEMP TABLE patient (index_key bytea, apid text, wrapped_key bytea, generation int);
		CREATE TEMP TABLE unnest (x int);
		CREATE FUNCTION pg_temp.apm_rule_name(smallint) RETURNS text LANGUAGE sql AS 'SELECT 1 / 0';
		SET search_path = pg_temp, public;) . $fetch, 'doctor'), 'Fever', 'temporary tables stand in for none of ours');

# a record's content is not found by guessing what would be its repetition
my $rid = '01890000-0000-7000-8000-00000000abcd';
$node->safe_psql('clinic', 'CREATE ROLE gateway; CREATE ROLE other_gateway; GRANT apm_sensor TO gateway, other_gateway');
query($node, 'clinic', qq(SELECT apm_submit('p1', '{"Disease": "Cough"}', '$rid')), 'doctor');
fails_with($node, 'clinic', qq(SELECT apm_submit('p1', '{"Disease": "Cough"}', '$rid')), 'AP012', qr/record id was used before/,
	'a sensor that guesses right is answered as one that guesses wrong', 'gateway');
my $own = '01890000-0000-7000-8000-00000000abce';
is(query($node, 'clinic', qq(SELECT apm_submit('p1', '{"Pulse": 70}', '$own')), 'gateway'), $own, 'a sensor submits')
  foreach 1 .. 2;
fails_with($node, 'clinic', qq(SELECT apm_submit('p1', '{"Pulse": 70}', '$own')), 'AP012', qr/record id was used before/,
	'and may repeat its own only', 'other_gateway');
wait_for($node, 'clinic', 'SELECT count(*) = 3 FROM apm.cloud_record', 'which is one record');

# --- What is taken back ---------------------------------------------------------------------

foreach my $way (
	"BEGIN; $fetch; ROLLBACK",
	"BEGIN; SAVEPOINT s; $fetch; ROLLBACK TO s; COMMIT",
	"BEGIN READ ONLY; $fetch; ROLLBACK",
	"BEGIN ISOLATION LEVEL SERIALIZABLE; $fetch; ROLLBACK",
	"SET synchronous_commit = off; $fetch",
	"DO \$\$ BEGIN PERFORM * FROM apm_fetch('p1', 'treatment'); RAISE 'no'; EXCEPTION WHEN OTHERS THEN NULL; END \$\$",
	"BEGIN; $fetch; PREPARE TRANSACTION 'p'; ROLLBACK PREPARED 'p'",
	"BEGIN; DECLARE c CURSOR WITH HOLD FOR $fetch; ROLLBACK",
	"PREPARE p AS $fetch; EXECUTE p",
	"EXPLAIN ANALYZE $fetch",
	"SET force_parallel_mode = on; $fetch",
	"CREATE TEMP TABLE t AS $fetch; DROP TABLE t")
{
	my $was = query($node, 'clinic', $queries);

	query($node, 'clinic', $way, 'doctor');
	my $reads = $way =~ /DECLARE/ ? 0 : 1;    # a cursor that is rolled back unread has asked nothing
	is(query($node, 'clinic', $queries), $was + $reads, $way);
}
my $was = query($node, 'clinic', $queries);
query($node, 'clinic', "EXPLAIN $fetch", 'doctor');
is(query($node, 'clinic', $queries), $was, 'EXPLAIN alone reads nothing and asks nothing');

# Timeouts at any moment: as many queries in the ledger as reads at least.
$was = query($node, 'clinic', $queries);
my $storm = join(' ', map { "SET statement_timeout = $_; $fetch;" } map { (1 .. 12, 15, 20, 30, 50) } 1 .. 8);
my ($stdout, $stderr);
$node->psql('clinic', "SET ROLE doctor; $storm", stdout => \$stdout, stderr => \$stderr, on_error_stop => 0);
my $reads = () = $stdout =~ /Fever/g;
cmp_ok(query($node, 'clinic', $queries) - $was, '>=', $reads, "each of $reads reads among timeouts left its trace");
like($stderr, qr/statement timeout/, 'and some were cut short');

# --- A backend killed while it waits; a standby ------------------------------------------------

$node->append_conf('postgresql.conf', 'restart_after_crash = on');
$node->reload;
my $miner = worker_pid($node, 'clinic', 'apm miner');
$was = query($node, 'clinic', $queries);
kill('STOP', $miner);
my $psql = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('clinic') . ' user=doctor', '-c', $fetch ], '>', \my $out, '2>', \my $err);
my $waiting = q(SELECT pid FROM pg_stat_activity WHERE usename = 'doctor' AND wait_event_type = 'Extension');
wait_for($node, 'clinic', "SELECT count(*) = 1 FROM ($waiting) AS w", 'a reader waits for the chain');
wait_for($node, 'clinic', 'SELECT count(*) = 1 FROM apm.pool', 'and his query is in the pool');
kill('KILL', query($node, 'clinic', $waiting));
kill('CONT', $miner);
$psql->finish;
unlike($out, qr/Fever/, 'killed, he has read nothing');
wait_for($node, 'clinic', "$queries", 'and his query is in the ledger all the same', $was + 1);

$node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
fails_with($standby, 'clinic', $fetch, '25006', qr/standby/, 'a standby serves no reads', 'doctor');
fails_with($standby, 'clinic', q(SELECT apm_submit('p1', '{"x": 1}')), '25006', qr/read-only/, 'and takes no records', 'doctor');

$standby->stop;
$node->stop;
done_testing();
