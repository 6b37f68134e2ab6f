# What somebody without rights can plant gets no part in apm.
#
# These are the ways in which other extensions of this sort were broken into: planted operators, code of
# a table's owner, names that are not quoted, workers with a superuser's rights, secrets in settings.
#
# Before the extension is created: functions and operators in the schema that it goes to, which
# fit calls in its install script better than pg_catalog's own do; and roles with the
# names of apm's.  Afterwards: settings of the database and of the role, which reach a worker
# like any session.

use strict;
use warnings;

use lib 'test/perl';
use ApmTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = apm_node('hospital', extension => 0);

$node->safe_psql('clinic', q(
	CREATE ROLE mallory LOGIN;
	CREATE ROLE owner LOGIN;
	ALTER DATABASE clinic OWNER TO owner;
	GRANT CREATE ON SCHEMA public TO mallory));

# --- Functions and operators ---------------------------------------------------------------

# Argument types that a call in the script has literally, where pg_catalog has a polymorphic or wider function.
my @planted = (
	'format(text, bigint, integer) RETURNS text',
	'format(text, integer) RETURNS text',
	'format(text, text) RETURNS text',
	'format(text, text, text) RETURNS text',
	'encode(bytea, name) RETURNS text',
	'count() RETURNS bigint');
my @operators = (
	[ '*', 'bigint', 'interval', 'interval' ],
	[ '+', 'timestamptz', 'interval', 'timestamptz' ],
	[ '<>', 'smallint', 'smallint', 'boolean' ],
	[ '=', 'text', 'name', 'boolean' ],
	[ '=', 'text', 'varchar', 'boolean' ]);

my $plant = 'SET SESSION AUTHORIZATION mallory;';
foreach my $function (@planted)
{
	my ($result) = $function =~ /RETURNS (\w+)/;
	$plant .= "CREATE FUNCTION public.$function LANGUAGE sql AS 'SELECT NULL::$result';";
}
foreach my $operator (@operators)
{
	my ($name, $left, $right, $result) = @$operator;
	$plant .= "CREATE FUNCTION public.planted($left, $right) RETURNS $result LANGUAGE sql AS 'SELECT NULL::$result';"
	  . "CREATE OPERATOR public.$name (LEFTARG = $left, RIGHTARG = $right, FUNCTION = public.planted);";
}
$node->safe_psql('clinic', $plant);

# --- Roles -----------------------------------------------------------------------------------

foreach my $role (
	[ 'CREATE ROLE apm_worker LOGIN SUPERUSER CONNECTION LIMIT 0', 'a superuser' ],
	[ 'CREATE ROLE apm_worker LOGIN CONNECTION LIMIT 0; GRANT apm_worker TO mallory', 'with a member' ],
	[ 'CREATE ROLE apm_worker LOGIN CONNECTION LIMIT 0; GRANT pg_read_server_files TO apm_worker', 'a member of another role' ],
	[ 'CREATE ROLE apm_worker LOGIN', 'whom people log in as' ],
	[ 'CREATE ROLE apm_admin CREATEROLE', 'and apm_admin one that makes roles' ],
	[ 'CREATE ROLE apm_sensor; CREATE ROLE apm_clinician ROLE apm_sensor', 'and apm_sensor a clinician' ],
	[ 'CREATE ROLE apm_sensor; GRANT pg_read_server_files TO apm_sensor', 'and apm_sensor a reader of files' ])
{
	$node->safe_psql('clinic', $role->[0]);
	fails_with($node, 'clinic', 'CREATE EXTENSION apm CASCADE', '42501', qr/role apm_\w+ exists and has rights beyond/,
		"apm_worker planted $role->[1]: refused");
	$node->safe_psql('clinic', 'DROP EXTENSION IF EXISTS apm; DROP ROLE IF EXISTS apm_worker, apm_admin, apm_registrar, apm_clinician, apm_sensor, apm_researcher, apm_auditor, apm_peer');
}

$node->safe_psql('clinic', 'CREATE EXTENSION apm CASCADE');
is(query($node, 'clinic', q(
	SELECT string_agg(DISTINCT pg_describe_object(d.classid, d.objid, d.objsubid) || ' uses '
			|| pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid), '; ')
	FROM pg_depend AS d
		LEFT JOIN pg_proc AS p ON d.refclassid = 'pg_proc'::regclass AND p.oid = d.refobjid
		LEFT JOIN pg_operator AS o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
	WHERE coalesce(p.proowner, o.oprowner) = 'mallory'::regrole
	 AND d.classid NOT IN ('pg_operator'::regclass, 'pg_proc'::regclass)
	 OR p.proowner = 'mallory'::regrole AND d.objid IN (SELECT e.objid FROM pg_depend AS e
		WHERE e.deptype = 'e' AND e.refobjid = (SELECT x.oid FROM pg_extension AS x WHERE x.extname = 'apm')))),
	'', 'nothing of apm uses what was planted in its schema');

# --- Settings that reach a worker -----------------------------------------------------------

$node->safe_psql('clinic', 'SELECT apm_keygen(); SELECT apm_setup()');
my %setting = (
	exit_on_error => 'on', search_path => 'public', default_transaction_read_only => 'on', default_transaction_isolation => 'serializable',
	statement_timeout => '1', lock_timeout => '1', row_security => 'off', force_parallel_mode => 'on', enable_indexscan => 'off',
	enable_bitmapscan => 'off', enable_nestloop => 'off', plan_cache_mode => 'force_custom_plan', work_mem => '64kB',
	default_tablespace => 'nowhere', client_encoding => 'LATIN1', bytea_output => 'escape', array_nulls => 'off',
	transform_null_equals => 'on', standard_conforming_strings => 'off', quote_all_identifiers => 'on', synchronous_commit => 'off',
	datestyle => 'SQL, DMY', timezone => 'Asia/Kathmandu', idle_session_timeout => '100', client_min_messages => 'debug5',
	debug_print_plan => 'on');
foreach my $name (sort keys %setting)
{
	my ($ok, undef, $err) = $node->psql('postgres',
		"SET client_min_messages = error; SET SESSION AUTHORIZATION owner; ALTER DATABASE clinic SET $name = '$setting{$name}'");
	is($ok, 0, "the database's owner sets $name") or diag($err);
}
foreach my $name (qw(apm.max_queue apm.key_directory apm.allow_paper_profile apm.pseudonym apm.salting_rounds apm.nothing))
{
	my ($state) = sqlstate($node, 'postgres', "SET SESSION AUTHORIZATION owner; ALTER DATABASE clinic SET $name = '5'");
	like($state, qr/^(42501|55P02|42602)$/, "the database's owner cannot set $name");
}
$node->restart;

# What a session says of itself goes before what its database says.
$ENV{PGOPTIONS} = join(' ', map { "-c $_" } 'statement_timeout=0', 'idle_session_timeout=0', 'exit_on_error=off',
	'default_transaction_read_only=off', 'client_encoding=UTF8', 'client_min_messages=warning', 'lock_timeout=0',
	'default_transaction_isolation=read\\ committed', 'search_path=public', 'default_tablespace=', 'debug_print_plan=off');
$node->safe_psql('clinic', q(
	CREATE ROLE app LOGIN;
	GRANT apm_clinician TO app;
	CREATE ROLE clerk IN ROLE apm_registrar;
	CREATE FUNCTION large() RETURNS trigger LANGUAGE plpgsql
		AS $$ BEGIN RAISE EXCEPTION 'a planted fault' USING ERRCODE = 'data_corrupted'; END $$;
	CREATE TRIGGER large BEFORE INSERT ON apm.pool FOR EACH ROW WHEN (octet_length(NEW.pt) > 8192) EXECUTE FUNCTION large()));
$node->safe_psql('clinic', q(
	SET ROLE clerk;
	SELECT apm_register_patient('p1', '{"Firstname": "First", "Lastname": "Last"}');
	SET ROLE app;
	SELECT apm_submit('p1', jsonb_build_object('Disease', repeat('Fever', 2000)));
	SELECT apm_submit('p1', '{"Disease": "Fever"}')));
wait_for($node, 'clinic', 'SELECT count(*) = 1 FROM apm.cloud_record', 'a record goes its way all the same');
wait_for($node, 'clinic', 'SELECT count(*) = 1 FROM apm.quarantine', 'a row that raises an error goes to quarantine all the same');
is(query($node, 'clinic', q(SELECT record ->> 'Disease' FROM apm_fetch('p1', 'treatment')), 'app'), 'Fever', 'and is read');
is(query($node, 'clinic', q(SELECT sum(errors) FROM apm.status)), '0', 'no worker met an error');

# --- Names, and what workers are ---------------------------------------------------------------

is(query($node, 'clinic', q(SELECT string_agg(DISTINCT usename, ',') FROM pg_stat_activity WHERE backend_type LIKE 'apm %' AND datid IS NOT NULL)),
	'apm_worker', 'workers run as apm_worker');
my $evil = q("x"" (rid, apid, apr) SELECT NULL, NULL, NULL; DROP TABLE apm.outbox; --");
$node->safe_psql('clinic', qq(
	CREATE SCHEMA $evil;
	CREATE TABLE $evil.$evil (rid uuid PRIMARY KEY, apid text, apr bytea, tokens bytea[], $evil text);
	SELECT apm_cloud_attach('$evil.$evil');
	SET ROLE app;
	SELECT apm_submit('p1', '{$evil: "Cough"}')) =~ s/\{"x""/{"x/r);
wait_for($node, 'clinic', "SELECT count(*) = 2 FROM $evil.$evil", 'a name is only a name: of a schema, a table, a column, an attribute');
is(query($node, 'clinic', q(SELECT count(*) FROM apm_fetch('p1', 'treatment')), 'app'), '2', 'and records are read from there');
is(query($node, 'clinic', q(SELECT count(*) FROM pg_db_role_setting, unnest(setconfig) AS c WHERE c LIKE 'apm.%')), '0',
	'nothing of apm is kept in settings that everybody can read');

$node->stop;
done_testing();
